# SPDX-License-Identifier: BSD-3-Clause
"""What is planted in good disks: each is a fault that a check must find, with how it is to be shown."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from check_disks import FILE, RAM, SPARSE


@dataclass(frozen=True)
class Planted:
    """A fault: `text` replaces what the disk has; the check is to say `kind`, and to need at most so many requests.

    A race needs three, but may be left with more: to leave one out can fail by chance.
    """

    disk: str
    kind: str
    requests: int
    text: str
    says: str = ""  # in the fault's text

    def script(self) -> str:
        return self.disk + "\n\n" + textwrap.dedent(self.text)


PLANTED = {
    "a write lands one byte too far": Planted(RAM, "data", 2, """
        def pwrite(h, buf, offset, flags):
            slip = 1 if offset % PAGE == 0 and offset + len(buf) < SIZE else 0
            disk[offset + slip : offset + slip + len(buf)] = buf
            holes.difference_update(touched(len(buf) + slip, offset))
    """),
    "a write is cut short": Planted(RAM, "data", 2, """
        def pwrite(h, buf, offset, flags):
            buf = buf[:PAGE]
            disk[offset : offset + len(buf)] = buf
            holes.difference_update(touched(len(buf), offset))
    """),
    "a write is cut after 1 MiB": Planted(SPARSE, "data", 2, """
        good = pwrite


        def pwrite(h, buf, offset, flags):
            good(h, buf[: 1 << 20], offset, flags)
    """),
    "a read is cut after 1 MiB": Planted(SPARSE, "data", 2, """
        good = pread


        def pread(h, buf, offset, flags):
            good(h, buf[: 1 << 20], offset, flags)
    """),
    "a write loses its start where it is not aligned": Planted(RAM, "data", 2, """
        def block_size(h):
            return 1, PAGE, 0xFFFFFFFF


        def pwrite(h, buf, offset, flags):
            skip = -offset % 512 if offset // 512 != (offset + len(buf)) // 512 else 0
            disk[offset + skip : offset + len(buf)] = buf[skip:]
            holes.difference_update(touched(len(buf), offset))
    """),
    "a small zero does nothing": Planted(RAM, "data", 3, """
        def zero(h, count, offset, flags):
            if count >= 512:
                disk[offset : offset + count] = bytes(count)
    """),
    "a zero forgets its last byte": Planted(RAM, "data", 3, """
        def zero(h, count, offset, flags):
            disk[offset : offset + count - 1] = bytes(count - 1)
    """),
    "a write of zeros is left out": Planted(RAM, "data", 3, """
        good = pwrite


        def pwrite(h, buf, offset, flags):
            if any(buf):
                good(h, buf, offset, flags)
    """),
    "a write of zeros makes a hole of all that it touches": Planted(SPARSE, "data", 3, """
        good = pwrite


        def pwrite(h, buf, offset, flags):
            if any(buf):
                good(h, buf, offset, flags)
            else:
                for number in range(offset // PAGE, -(-(offset + len(buf)) // PAGE)):
                    disk.pop(number, None)


        def zero(h, count, offset, flags):
            good(h, bytes(count), offset, flags)
    """),
    "a fast zero that is not": Planted(RAM, "data", 3, """
        def can_fast_zero(h):
            return True


        def zero(h, count, offset, flags):
            if not flags & nbdkit.FLAG_FAST_ZERO:
                disk[offset : offset + count] = bytes(count)
    """),
    "a trim takes its neighbours along": Planted(RAM, "data", 3, """
        def trim(h, count, offset, flags):
            for page in touched(count, offset):
                disk[page * PAGE : page * PAGE + PAGE] = bytes(min(PAGE, SIZE - page * PAGE))
    """),
    "a read after a trim is stale, and the next is not": Planted(RAM, "data", 4, """
        stale = {}


        def trim(h, count, offset, flags):
            for page in whole(count, offset):
                stale[page] = disk[page * PAGE : page * PAGE + PAGE]
                disk[page * PAGE : page * PAGE + PAGE] = bytes(PAGE)


        def pread(h, buf, offset, flags):
            buf[:] = disk[offset : offset + len(buf)]
            page = offset // PAGE
            if page in stale:
                part = stale.pop(page)[offset % PAGE :][: len(buf)]
                buf[: len(part)] = part
    """),
    "a trimmed page is called a hole, and has its data still": Planted(RAM, "extents", 4, """
        def trim(h, count, offset, flags):
            holes.update(whole(count, offset))
    """),
    "extents do not know of writes": Planted(RAM, "extents", 2, """
        def pwrite(h, buf, offset, flags):
            disk[offset : offset + len(buf)] = buf
    """),
    "extents forget the page that a write ends in": Planted(RAM, "extents", 3, """
        def pwrite(h, buf, offset, flags):
            disk[offset : offset + len(buf)] = buf
            holes.difference_update(range(offset // PAGE, (offset + len(buf)) // PAGE))
    """),
    "FUA is not kept": Planted(FILE, "durability", 2, """
        def done(offset, end, flags):
            pass
    """),
    "FUA is kept by half": Planted(FILE, "durability", 2, """
        def done(offset, end, flags):
            if flags & nbdkit.FLAG_FUA:
                write_back(offset, (offset + end) // 2)
    """),
    "FUA is not kept by zeros": Planted(FILE, "durability", 3, """
        def zero(h, count, offset, flags):
            data[offset : offset + count] = bytes(count)
            if not flags:
                write_back(offset, offset + count)
    """),
    "FUA is not kept by large zeros": Planted(FILE, "durability", 4, """
        def zero(h, count, offset, flags):
            data[offset : offset + count] = bytes(count)
            if count < 4096:
                done(offset, offset + count, flags)
    """),
    "a flush does nothing": Planted(FILE, "durability", 3, """
        def flush(h, flags):
            pass
    """),
    "the end forgets the second half": Planted(FILE, "restart", 3, """
        def cleanup():
            write_back(0, SIZE // 2)


        def flush(h, flags):
            pass
    """),
    "a server that was killed does not come back": Planted(FILE, "server", 3, """
        lock = ""


        def after_fork():
            global lock
            lock = path + ".lock"
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))


        def unload():
            if lock:
                os.unlink(lock)
    """, says="File exists"),
    "two writes to a page at once": Planted(RAM, "data", 6, """
        def pwrite(h, buf, offset, flags):
            first, last = offset // 512 * 512, -(-(offset + len(buf)) // 512) * 512
            block = disk[first:last]
            time.sleep(0.0005)
            block[offset - first : offset - first + len(buf)] = buf
            disk[first:last] = block
            holes.difference_update(touched(len(buf), offset))


        def zero(h, count, offset, flags):
            pwrite(h, bytes(count), offset, flags)
    """),
    "two coroutines write to a page at once": Planted(RAM, "data", 6, """
        async def pwrite(h, buf, offset, flags):
            import asyncio
            first, last = offset // 512 * 512, -(-(offset + len(buf)) // 512) * 512
            block = disk[first:last]
            await asyncio.sleep(0.0005)
            block[offset - first : offset - first + len(buf)] = buf
            disk[first:last] = block
            holes.difference_update(touched(len(buf), offset))


        async def zero(h, count, offset, flags):
            await pwrite(h, bytes(count), offset, flags)
    """),
    "a read has another one's bytes": Planted(RAM, "data", 6, """
        scratch = bytearray(SIZE)


        def pread(h, buf, offset, flags):
            scratch[: len(buf)] = disk[offset : offset + len(buf)]
            time.sleep(0.0005)
            buf[:] = scratch[: len(buf)]
    """),
    "each connection has a disk of its own": Planted(RAM, "reopen", 2, """
        def open(readonly):
            return bytearray(SIZE)


        def can_multi_conn(h):
            return False


        def pread(h, buf, offset, flags):
            buf[:] = h[offset : offset + len(buf)]


        def pwrite(h, buf, offset, flags):
            h[offset : offset + len(buf)] = buf


        zero = trim = extents = None
    """),
    "what one connection has flushed is not what another reads": Planted(RAM, "data", 4, """
        def pread(h, buf, offset, flags):
            for page in touched(len(buf), offset):
                h.setdefault(page, disk[page * PAGE : page * PAGE + PAGE])
                start, end = max(offset, page * PAGE), min(offset + len(buf), page * PAGE + PAGE)
                buf[start - offset : end - offset] = h[page][start - page * PAGE : end - page * PAGE]


        def forget(change):
            def then(h, range, offset, flags):
                h.clear()
                change(h, range, offset, flags)

            return then


        pwrite, zero, trim = map(forget, (pwrite, zero, trim))
    """),
    "an offset of 32 bits": Planted(SPARSE, "data", 3, """
        def place(number):
            return number % (1 << 20)
    """),
    "a size of one byte too much": Planted(RAM, "error", 1, """
        def get_size(h):
            return SIZE + 1
    """, says="pread"),
    "a size of one byte too much, and reads that do not mind": Planted(RAM, "data", 2, """
        def get_size(h):
            return SIZE + 1


        def pread(h, buf, offset, flags):
            part = disk[offset : offset + len(buf)][: SIZE - offset]
            buf[: len(part)] = part


        def pwrite(h, buf, offset, flags):
            part = buf[: SIZE - offset]
            disk[offset : offset + len(part)] = part
            holes.difference_update(touched(len(buf), offset))
    """),
    "an error is answered as a success": Planted(RAM, "data", 2, """
        good = pwrite


        def pwrite(h, buf, offset, flags):
            try:
                if offset > SIZE // 2:
                    raise OSError("the disk is full")
                good(h, buf, offset, flags)
            except OSError:
                pass
    """),
    "a flush that fails": Planted(RAM, "error", 1, """
        flush = None


        def can_flush(h):
            return True
    """, says="flush"),
    "an error that no client is told": Planted(RAM, "log", 0, """
        def close(h):
            raise ValueError("not closed")
    """, says="not closed"),
    "a server that dies": Planted(RAM, "server", 1, """
        def cache(h, count, offset, flags):
            if count > PAGE:
                os.abort()
    """, says="SIGABRT"),
}
