# SPDX-License-Identifier: BSD-3-Clause
"""A file as a disk whose parameters are in Xen's store, as those of a guest's block device are.

    nbdkit python xenstore_disk.py backend=/local/domain/0/backend/nbd/7/51712

The folder of the store that `backend` names is the toolstack's to write: `params` is the file's path, `mode` begins
with w or is r, `sectors` is the size in 512 bytes, which new clients see anew. While the disk is served, `state` there
is 4 (connected), then 6 (closed). Once the folder is removed, the server ends, when its clients have gone.
"""

import errno
import os

import nbdkit
import xenstore

API_VERSION = 2
SECTOR, CONNECTED, CLOSED = 512, "4", "6"
backend, file, size, writable = "", -1, 0, False  # all but the first from get_ready on
store: xenstore.Xenstore  # from after_fork on

def config(key: str, value: str) -> None:
    global backend
    if key != "backend":
        raise nbdkit.Error(errno.EINVAL, f"unknown parameter {key!r}: this disk has one, backend=PATH")
    backend = value

def get_ready() -> None:
    global file, size, writable
    if not backend:
        raise nbdkit.Error(errno.EINVAL, "backend=PATH must be given: a folder of Xen's store")
    with xenstore.Xenstore(timeout=30) as once:  # not longer, since the server may fork
        path, mode, sectors = once.read(*(f"{backend}/{name}" for name in ("params", "mode", "sectors"))).values()
    size, writable = int(sectors) * SECTOR, mode.startswith("w")
    file = os.open(path, os.O_RDWR if writable else os.O_RDONLY)

def after_fork() -> None:
    """The connection that stays, and the thread that calls changed(), start in the process that serves."""
    global store
    store = xenstore.Xenstore(timeout=30, reconnect=True)
    publish(CONNECTED)
    store.watch(backend, changed)

def publish(state: str) -> None:
    def steps(transaction: xenstore.Transaction) -> None:
        if transaction.exists(backend):  # to write would else make the folder anew
            transaction.write({f"{backend}/state": state})
    store.transact(steps)

def changed(path: str, token: str) -> None:
    """Something in the folder has changed; this is also called once at first."""
    global size
    if store.exists(backend):
        size = int(store.read(f"{backend}/sectors")) * SECTOR
    else:
        nbdkit.shutdown()

def cleanup() -> None:
    publish(CLOSED)

def open(readonly: bool) -> None:
    return None

def get_size(h: None) -> int:
    return size  # nbdkit asks once for each connection

def can_write(h: None) -> bool:
    return writable

def pread(h: None, buf: memoryview, offset: int, flags: int) -> None:
    while buf and (done := os.preadv(file, [buf], offset)):  # what is behind the file's end stays as it is: zeros
        buf, offset = buf[done:], offset + done

def pwrite(h: None, buf: memoryview, offset: int, flags: int) -> None:
    while buf:
        done = os.pwritev(file, [buf], offset)
        buf, offset = buf[done:], offset + done

def flush(h: None, flags: int) -> None:
    os.fdatasync(file)
