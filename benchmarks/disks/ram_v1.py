# SPDX-License-Identifier: BSD-3-Clause
"""The classic RAM disk whose pread returns its data, in API version 1.

Parameters: size=SIZE, model=NAME of a thread model.
"""

import nbdkit

API_VERSION = 1

disk = memoryview(b"")
model = nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def config(key, value):
    global disk, model
    if key == "size":
        disk = memoryview(bytearray(nbdkit.parse_size(value)))
    elif key == "model":
        model = getattr(nbdkit, f"THREAD_MODEL_{value.upper()}")
    else:
        raise ValueError(f"expected size or model, got {key}")


def thread_model():
    return model


def open(readonly):
    return None


def get_size(h):
    return len(disk)


def pread(h, count, offset):
    return disk[offset : offset + count]


def pwrite(h, buf, offset):
    disk[offset : offset + len(buf)] = buf


def zero(h, count, offset, may_trim):
    disk[offset : offset + count] = bytes(count)
