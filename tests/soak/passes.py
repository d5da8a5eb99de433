# SPDX-License-Identifier: BSD-3-Clause
"""A translator that hands every request on, for ./test soak --translators.

It does so with other buffers, by count, and as a generator.
"""


def open(next, readonly, export_name, is_tls):
    next.open()
    return object()


def pread(h, next, count, offset, flags):
    return next.pread(count, offset)


def pwrite(h, next, buf, offset, flags):
    next.pwrite(buf, offset, flags=flags)


def flush(h, next, flags):
    next.flush()


def trim(h, next, count, offset, flags):
    next.trim(count, offset, flags)


def zero(h, next, count, offset, flags):
    next.zero(count, offset, flags)


def extents(h, next, count, offset, flags):
    yield from next.extents(count, offset, flags)


def cache(h, next, count, offset, flags):
    next.cache(count, offset)
