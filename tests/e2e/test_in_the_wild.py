# SPDX-License-Identifier: BSD-3-Clause
"""The shapes of scripts that people have out there, each served unchanged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from disks import disk
from harness import raises_errno, write_script

PATTERN = bytes(range(256)) * 4

READ_ONLY = """
    API_VERSION = {version}
    data = bytes(range(256)) * 4

    def open(readonly):
        return {handle}

    def get_size(h):
        assert h == {handle}
        return len(data)

    def pread({parameters}):
        assert h == {handle}
        {body}
"""


@pytest.mark.parametrize("handle", ["0", "42", "None", "'text'", "(1, [2])", "frozenset()"])
def test_a_handle_is_any_object(serve: Serve, handle: str) -> None:
    h = serve(READ_ONLY.format(version=2, handle=handle, parameters="h, buf, offset, flags",
                               body="buf[:] = data[offset : offset + len(buf)]")).connect()
    assert h.pread(len(PATTERN), 0) == PATTERN
    assert h.is_read_only()


@pytest.mark.parametrize("convert", ["bytes", "bytearray", "memoryview", "(lambda part: part + b'more')"])
@pytest.mark.parametrize(("version", "parameters", "count"), [
    (1, "h, count, offset", "count"),
    (1, "h, length, where", "length"),
    (2, "h, count, offset, flags", "count"),
    (2, "h, buf, offset, flags", "len(buf)"),
], ids=["v1", "v1 other names", "v2 count", "v2 buf"])
def test_pread_returns_a_buffer(serve: Serve, version: int, parameters: str, count: str, convert: str) -> None:
    offset = parameters.split(", ")[2]
    body = f"return {convert}(data[{offset} : {offset} + {count}])"
    h = serve(READ_ONLY.format(version=version, handle=1, parameters=parameters, body=body)).connect()
    assert h.pread(len(PATTERN), 0) == PATTERN
    assert h.pread(301, 7) == PATTERN[7:308]


@pytest.mark.parametrize(("version", "parameters"), [(1, "h, count, offset"), (2, "h, count, offset, flags")])
def test_set_error_and_early_return_from_pread(serve: Serve, version: int, parameters: str) -> None:
    """An answer that is no buffer is an error, with the errno that the script chose; nothing it said before counts."""
    body = """
        if offset == 512:
            nbdkit.set_error(errno.ENOMEM)
            return
        if offset == 513:
            return -1
        if offset == 514:
            nbdkit.set_error(errno.ENOMEM)
        return data[offset : offset + count]"""
    text = "import errno, nbdkit\n" + READ_ONLY.replace("\n    ", "\n").format(
        version=version, handle=1, parameters=parameters, body=body.strip()).replace("\n        ", "\n    ")
    server = serve(text)
    h = server.connect()
    with raises_errno(errno.ENOMEM):
        h.pread(16, 512)
    with raises_errno(errno.EIO):
        h.pread(16, 513)
    assert h.pread(16, 514) == PATTERN[2:18], "set_error without a raise is success"
    assert h.pread(16, 0) == PATTERN[:16]
    assert "pread" in server.log()


def test_set_error_and_early_return_after_filling(serve: Serve) -> None:
    """In the shape that fills a buffer, set_error without a raise is success; what was not filled reads as zeros."""
    h = serve("""
        import errno, nbdkit
        API_VERSION = 2
        def open(readonly): return 1
        def get_size(h): return 1 << 20
        def pread(h, buf, offset, flags):
            if offset == 0:
                buf[:] = b"x" * len(buf)
                return
            nbdkit.set_error(errno.EIO)
            buf[:4] = b"half"
            return
    """).connect()
    assert h.pread(4096, 0) == b"x" * 4096
    assert h.pread(4096, 4096) == b"half" + bytes(4092)


@pytest.mark.parametrize(("answer", "native"), [("True", True), ("False", False), ("nbdkit.FUA_NATIVE", True),
                                                ("nbdkit.FUA_NONE", False)])
def test_can_fua_may_be_a_bool(serve: Serve, answer: str, native: bool) -> None:
    h = serve(disk(f"""
        written = bytearray(get_size(None))
        def pread(h, count, offset, flags): return written[offset:offset + count]
        def pwrite(h, buf, offset, flags): written[offset:offset + len(buf)] = buf
        def flush(h, flags): pass
        def can_fua(h): return {answer}
    """)).connect()
    assert h.can_fua() == native
    if native:
        h.pwrite(PATTERN, 0, nbd.CMD_FLAG_FUA)
        assert h.pread(len(PATTERN), 0) == PATTERN


def test_sibling_modules_and_packages(serve: Serve, tmp_path: Path) -> None:
    write_script(tmp_path, "def blocks(count): return bytes(512 * count)", "helper.py")
    (tmp_path / "layout").mkdir()
    write_script(tmp_path / "layout", "from .sizes import SIZE", "__init__.py")
    write_script(tmp_path / "layout", "SIZE = 8 * 512", "sizes.py")
    script = write_script(tmp_path, """
        import helper
        from layout import SIZE
        def open(readonly):
            import late
            return late.HANDLE
        def get_size(h): return SIZE
        def pread(h, count, offset): return helper.blocks(8)[:count]
    """)
    write_script(tmp_path, "HANDLE = 5", "late.py")
    h = serve(script).connect()
    assert h.get_size() == 4096
    assert h.pread(512, 0) == bytes(512)


def test_a_sibling_called_nbdkit_does_not_get_in_the_way(serve: Serve, tmp_path: Path) -> None:
    write_script(tmp_path, "raise SystemExit('the mock was imported')", "nbdkit.py")
    script = write_script(tmp_path, """
        import nbdkit
        API_VERSION = 2
        def open(readonly): return nbdkit.export_name()
        def get_size(h): return 512
        def pread(h, count, offset, flags): return bytes(count)
    """)
    assert serve(script).connect().pread(512, 0) == bytes(512)


def test_a_script_that_never_imports_nbdkit(serve: Serve) -> None:
    h = serve("""
        disk = bytearray(4096)
        def open(readonly): pass
        def get_size(h): return len(disk)
        def pread(h, count, offset): return disk[offset:offset + count]
        def pwrite(h, buf, offset): disk[offset:offset + len(buf)] = buf
    """).connect()
    h.pwrite(PATTERN, 1024)
    assert h.pread(4096, 0) == bytes(1024) + PATTERN + bytes(2048)


def test_builtins_open_beside_the_callback(serve: Serve, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(4096))
    server = serve("""
        import builtins, os
        path = None
        def config(key, value):
            global path
            path = os.path.realpath(value)
        def open(readonly):
            return builtins.open(path, "rb" if readonly else "r+b")
        def close(h):
            h.close()
        def get_size(h):
            return h.seek(0, 2)
        def pread(h, count, offset):
            h.seek(offset)
            return h.read(count)
        def pwrite(h, buf, offset):
            h.seek(offset)
            h.write(buf)
            h.flush()
    """, f"file={image}")
    h = server.connect()
    h.pwrite(PATTERN, 256)
    assert h.pread(1024, 256) == PATTERN
    h.shutdown()
    assert image.read_bytes()[256:1280] == PATTERN


def test_file_and_argv_are_there_in_callbacks(serve: Serve, tmp_path: Path) -> None:
    script = write_script(tmp_path, """
        import os, sys
        def open(readonly): return os.path.dirname(os.path.abspath(__file__))
        def get_size(h): return len(pread(h, None, 0))
        def pread(h, count, offset):
            with __builtins__.open(os.path.join(h, "data"), "rb") as f:
                return f.read()
        def export_description(h): return f"{__name__} {__file__} {sys.argv}"
    """)
    (tmp_path / "data").write_bytes(PATTERN)
    # A relative name, from the folder that holds the script's folder: what callbacks see is absolute all the same.
    server = serve(os.path.relpath(script))
    h = server.connect(full_info=True)
    assert h.pread(len(PATTERN), 0) == PATTERN
    assert h.get_export_description() == f"__main__ {script} [{str(script)!r}]"


def test_multiprocessing_in_callbacks(serve: Serve) -> None:
    server = serve("""
        import multiprocessing, os, sys
        API_VERSION = 2
        def double(n): return os.getpid(), 2 * n
        def after_fork():
            global pool
            pool = multiprocessing.get_context("fork").Pool(2)
        def open(readonly): return 1
        def get_size(h): return 512
        def pread(h, count, offset, flags):
            (child, eight), = pool.map(double, [4])
            assert child != os.getpid()
            return bytes([eight]) * count
        def cleanup():
            pool.close()
            pool.join()
            print("workers have ended", file=sys.stderr)
    """)
    h = server.connect()
    assert h.pread(512, 0) == b"\x08" * 512
    h.shutdown()
    assert server.stop() == 0
    assert "workers have ended" in server.log()
    assert "Traceback" not in server.log()


def test_multiprocessing_started_in_config_complete(serve: Serve) -> None:
    server = serve("""
        import multiprocessing, sys
        def work(pipe):
            while (n := pipe.recv()) is not None:
                pipe.send(bytes(n))
        def config_complete():
            global near, worker
            near, far = multiprocessing.Pipe()
            worker = multiprocessing.get_context("fork").Process(target=work, args=(far,))
            worker.start()
        def open(readonly): return 1
        def get_size(h): return 512
        def pread(h, count, offset):
            near.send(count)
            return near.recv()
        def cleanup():
            near.send(None)
            worker.join(30)
            print(f"worker ended with {worker.exitcode}", file=sys.stderr)
    """)
    h = server.connect()
    assert h.pread(512, 0) == bytes(512)
    h.shutdown()
    assert server.stop() == 0
    assert "worker ended with 0" in server.log()


@pytest.mark.parametrize(("version", "pread"), [
    (1, "def pread(self, h, count, offset): return self.data[offset:offset + count]"),
    (2, "def pread(self, h, count, offset, flags): return self.data[offset:offset + count]"),
    (2, "def pread(self, h, buf, offset, flags): buf[:] = self.data[offset:offset + len(buf)]"),
], ids=["v1", "v2 count", "v2 buf"])
def test_bound_methods_as_callbacks(serve: Serve, version: int, pread: str) -> None:
    server = serve(f"""
        import sys
        API_VERSION = {version}
        class Disk:
            def __init__(self):
                self.data = bytearray(1 << 20)
                self.handles = 0
            def open(self, readonly):
                self.handles += 1
                return self.handles
            @staticmethod
            def close(h):
                print(f"closed {{h}}", file=sys.stderr)
            def get_size(self, h):
                return len(self.data)
            {pread}
            def pwrite(self, h, buf, offset{', flags' if version == 2 else ''}):
                self.data[offset:offset + len(buf)] = buf
            @classmethod
            def export_description(cls, h):
                return f"{{cls.__name__}} {{h}}"
        disk = Disk()
        open, close, get_size = disk.open, disk.close, disk.get_size
        pread, pwrite, export_description = disk.pread, disk.pwrite, disk.export_description
    """)
    for number in (1, 2):
        h = server.connect(full_info=True)
        assert h.get_export_description() == f"Disk {number}"
        h.pwrite(PATTERN, number * 4096)
        assert h.pread(1024, number * 4096) == PATTERN
        h.shutdown()
        server.wait_for_log(f"^closed {number}$")


def test_other_callables_as_callbacks(serve: Serve) -> None:
    """A lambda, a partial, a C function, a class and an object with __call__ are callables as good as a function."""
    server = serve("""
        import functools
        API_VERSION = 2
        class Reader:
            def __call__(self, h, count, offset, flags): return bytes([h]) * count
        def size(factor, handle): return factor * 512
        open = int
        get_size = functools.partial(size, 8)
        pread = Reader()
        can_multi_conn = lambda *_: True
        close = id
    """)
    h = server.connect()
    assert h.get_size() == 4096 and h.can_multi_conn()
    assert h.pread(512, 0) == bytes(512)
