# SPDX-License-Identifier: BSD-3-Clause
"""A disk whose export "busy" computes for some 10 ms in each read.

Parameter: interval=SECONDS, Python's switch interval.
"""

import sys

import nbdkit

API_VERSION = 2
data = memoryview(bytearray(1 << 20))


def config(key, value):
    sys.setswitchinterval(float(value))


def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL


def open(readonly):
    return nbdkit.export_name()


def get_size(h):
    return len(data)


def pread(h, buf, offset, flags):
    if h == "busy":
        sum(i * i for i in range(300_000))
    buf[:] = data[offset : offset + len(buf)]
