# SPDX-License-Identifier: BSD-3-Clause
"""A disk that does nothing: what is left is the cost of a call. It is for `floor` too, which has no nbdkit."""

API_VERSION = 2


def open(readonly):
    return None


def get_size(h):
    return 64 << 20


def can_write(h):
    return True


def can_fua(h):
    return 2  # native; or nbdkit's own plugin asks for can_flush again and again


def pread(h, buf, offset, flags):
    pass


def pwrite(h, buf, offset, flags):
    pass


def flush(h, flags):
    pass


def trim(h, count, offset, flags):
    pass


def zero(h, count, offset, flags):
    pass


def cache(h, count, offset, flags):
    pass


def extents(h, count, offset, flags):
    return [(offset, count, 0)]
