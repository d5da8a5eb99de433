# SPDX-License-Identifier: BSD-3-Clause
"""Makes a disk slow and unreliable, to see how a client takes it.

    nbdkit --filter=python file disk.img translator=trouble.py delay=pread:20ms error=pwrite:1%:ENOSPC seed=1

delay=OPERATION:TIME and error=OPERATION:PROBABILITY:ERRNO may be given for each of pread, pwrite, flush, trim, zero,
extents and cache. With a seed, the same requests one after the other have the same errors each time.
"""

import errno
import random

import nbdkit

OPERATIONS = ["pread", "pwrite", "flush", "trim", "zero", "extents", "cache"]
delays = {}  # operation: (seconds, nanoseconds)
errors = {}  # operation: (probability, errno)
chance = random.Random()


def config(next, key, value):
    if key not in ("delay", "error", "seed"):
        return next.config(key, value)
    if key == "seed":
        return chance.seed(value)
    operation, _, rest = value.partition(":")
    if operation not in OPERATIONS:
        raise nbdkit.Error(errno.EINVAL, f"{key}: expected one of {', '.join(OPERATIONS)}, got {operation!r}")
    if key == "delay":
        delays[operation] = nbdkit.parse_delay("delay", rest)
    else:
        probability, _, name = rest.rpartition(":")
        if not isinstance(getattr(errno, name, None), int):
            raise nbdkit.Error(errno.EINVAL, f"error: expected the name of an error such as EIO, got {name!r}")
        errors[operation] = nbdkit.parse_probability("error", probability), getattr(errno, name)


def troubled(name):
    def operation(h, next, *arguments):
        if name in delays:
            nbdkit.nanosleep(*delays[name])
        probability, err = errors.get(name, (0, 0))
        if chance.random() < probability:
            raise nbdkit.Error(err, "on purpose")
        return getattr(next, name)(*arguments)

    return operation


for name in OPERATIONS:
    globals()[name] = troubled(name)
