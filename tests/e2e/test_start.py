# SPDX-License-Identifier: BSD-3-Clause
"""What a script meets before its server serves: load() that defines callbacks, and what is an error in Python."""

from __future__ import annotations

import errno
from pathlib import Path

import nbd

from conftest import Serve
from disks import disk
from harness import raises_errno


def test_load_may_define_callbacks(serve: Serve) -> None:
    server = serve(disk("""
        def load():
            global config, get_size
            def config(key, value): sizes.append(int(value))
            def get_size(h): return sum(sizes)
        sizes = []
    """), "size=512", "size=1024")
    assert server.connect().get_size() == 1536


def test_a_closed_pipe_is_an_error(serve: Serve) -> None:
    server = serve(disk("""
        import os

        def is_an_error():
            reader, writer = os.pipe()
            os.close(reader)
            try:
                os.write(writer, b"x")
            except BrokenPipeError:
                return True

        errors = [is_an_error()]
        def get_ready(): errors.append(is_an_error())
        def get_size(h): return errors.count(True)
    """))
    assert server.connect().get_size() == 2


def test_too_large_a_file_is_an_error(serve: Serve, tmp_path: Path) -> None:
    server = serve(disk(f"""
        import os, resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        file = os.open({str(tmp_path / 'file')!r}, os.O_RDWR | os.O_CREAT)
        def pwrite(h, buf, offset, flags): os.pwrite(file, buf, offset)
    """))
    h = server.connect()
    h.pwrite(bytes(512), 0)
    with raises_errno(errno.ENOSPC):  # EFBIG, as NBD has it
        h.pwrite(bytes(512), 65536)
    assert (tmp_path / "file").stat().st_size == 512


def test_a_fast_zero_in_version_1(serve: Serve) -> None:
    server = serve("""
def open(readonly): pass
def get_size(h): return 4096
def pread(h, count, offset): return bytes(count)
def pwrite(h, buf, offset): pass
def zero(h, count, offset, may_trim): raise RuntimeError("cannot know that it should be fast")
def can_fast_zero(h): return True
""")
    with raises_errno(errno.ENOTSUP):
        server.connect().zero(512, 0, nbd.CMD_FLAG_FAST_ZERO)
    assert server.log() == ""
