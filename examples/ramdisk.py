# SPDX-License-Identifier: BSD-3-Clause
"""A RAM disk: its bytes are in the server's memory, zeros at first, and gone when the server stops.

    nbdkit python ramdisk.py size=64M

nbdkit is a server for the NBD protocol: its clients (the Linux kernel, QEMU, nbdcopy and others) read and write ranges
of bytes, and see a disk. This script is all that makes up the disk. nbdkit loads it once, then calls the functions
below by their names; those for `open`, `get_size` and `pread` must be there, any other may be left out. An exception
in one that serves a request fails that request only; before the server is up, it stops the start.
"""

import nbdkit

API_VERSION = 2  # which arguments the functions take; ramdisk_v1.py is this disk in version 1

# What the command line may have after the script's name: size=SIZE, as 512, 64M or 10G. The value is a number of bytes.
size = nbdkit.parameter("size", nbdkit.size, default="64M", help="The disk's size.", magic=True)
disk = memoryview(b"")

def config_complete() -> None:
    """Called once, after the last parameter."""
    global disk
    # Slices of a memoryview are windows on the bytes, not copies; and unlike a bytearray, it cannot change its length.
    disk = memoryview(bytearray(size.value))

def open(readonly: bool) -> None:
    """Called for each client that connects. What it returns is the `h` (handle) of that client's later calls."""
    return None  # every client sees the same disk: there is nothing to keep for one of them

def get_size(h: None) -> int:
    """The disk's size in bytes. nbdkit refuses requests beyond it, so no other function here has to look."""
    return size.value

def can_multi_conn(h: None) -> bool:
    """May a client open several connections? Yes: what is written through one is at once seen through all."""
    return True

def pread(h: None, buf: memoryview, offset: int, flags: int) -> None:
    """Read: fill `buf` with the bytes that start at `offset`."""
    buf[:] = disk[offset : offset + len(buf)]

# Without `pwrite` the disk would be read-only. There is no `flush`: it makes written bytes survive a power cut, and RAM
# cannot promise that. Without it, nbdkit tells clients not to ask. No two of these functions ever run at the same time,
# unless a `thread_model` function says that they may, so there are no locks either.
def pwrite(h: None, buf: memoryview, offset: int, flags: int) -> None:
    """Write `buf` at `offset`. Like every `buf`, it must not be used after the function has returned."""
    disk[offset : offset + len(buf)] = buf

def zero(h: None, count: int, offset: int, flags: int) -> None:
    """Fill a range with zeros, without a client having to send them."""
    disk[offset : offset + count] = bytes(count)

def trim(h: None, count: int, offset: int, flags: int) -> None:
    """The client no longer needs this range: whatever is there afterwards is right. Zeros are tidy."""
    disk[offset : offset + count] = bytes(count)
