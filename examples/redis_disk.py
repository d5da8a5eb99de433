# SPDX-License-Identifier: BSD-3-Clause
"""A disk in a Redis server, asked through asyncio.

    nbdkit python redis_disk.py size=1G url=redis://localhost

A callback that is `async def` runs on the plugin's loop: while it waits for Redis, others are asked. A value in
Redis is a block of the disk, and what was never written is not there. How safe it is is Redis's to say (appendfsync).
"""

from collections.abc import Iterator

import nbdkit
import redis.asyncio as redis

BLOCK = 4096  # bytes in a value
size = nbdkit.parameter("size", nbdkit.size, help="Of the disk.")
url = nbdkit.parameter("url", str, default="redis://localhost", help="Where Redis is, such as unix://PATH.")
name = nbdkit.parameter("name", str, default="disk", help="Of the disk; its blocks are NAME:0, NAME:1, ...")
server: redis.Redis  # from after_fork on

async def after_fork() -> None:  # from here on there is a loop
    global server
    server = redis.Redis.from_url(url.value)
    await server.ping()

async def cleanup() -> None:
    await server.close()

def parts(count: int, offset: int) -> Iterator[tuple[str, int, int]]:
    """The blocks of a range: their keys, and what of each is in the range."""
    while count:
        start = offset % BLOCK
        length = min(BLOCK - start, count)
        yield f"{name.value}:{offset // BLOCK}", start, length
        offset, count = offset + length, count - length

def thread_model() -> int:
    return nbdkit.THREAD_MODEL_PARALLEL  # else a request would wait until the one before is done

@nbdkit.disk
class Disk:
    """A client's connection; all see the same."""
    def __init__(self, readonly: bool) -> None: ...

    def get_size(self) -> int:
        return size.value

    async def pread(self, buf: memoryview, offset: int, flags: int) -> None:
        places = list(parts(len(buf), offset))
        blocks = await server.mget(key for key, _, _ in places)
        buf[:] = b"".join((block or b"")[start:start + length].ljust(length, b"\0")
                          for block, (_, start, length) in zip(blocks, places))

    async def pwrite(self, buf: memoryview, offset: int, flags: int) -> None:
        change = server.pipeline(transaction=True)
        for key, start, length in parts(len(buf), offset):
            change.setrange(key, start, bytes(buf[:length]))
            buf = buf[length:]
        await change.execute()

    async def zero(self, count: int, offset: int, flags: int) -> None:
        change = server.pipeline(transaction=True)
        for key, start, length in parts(count, offset):
            if length == BLOCK:
                change.unlink(key)
            else:
                change.setrange(key, start, bytes(length))
        await change.execute()

    trim = zero

    async def extents(self, count: int, offset: int, flags: int):
        places = list(parts(count, offset))
        question = server.pipeline(transaction=False)  # over one connection; with gather() each would have its own
        for key, _, _ in places[:1024]:  # as far as this goes
            question.exists(key)
        there = await question.execute()
        for exists, (_, _, length) in zip(there, places):
            yield offset, length, 0 if exists else nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO
            offset += length
