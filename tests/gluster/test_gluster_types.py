# SPDX-License-Identifier: BSD-3-Clause
"""What a script sees of GlusterFS's objects, for how long, and what it is told that uses them wrongly."""

from __future__ import annotations

import ast
import errno
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path

import gluster_kit
import pytest

Serve = Callable[..., gluster_kit.Brick]
Bricks = Callable[..., gluster_kit.Brick]

# A script's steps run in a lookup of /go, and what they print is compared.
FRAME = """
    import glusterfs, uuid
    from collections.abc import MutableMapping
    from glusterfs import *

    def raised(function, *arguments, **keywords):
        try:
            return function(*arguments, **keywords)
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    kept, builtin = {}, dict

    class xlator(Translator):
"""


def told(brick: gluster_kit.Brick) -> str:
    """What was printed between the lines `begin` and `end`."""
    brick.wait_for_log(r"(?m)^end$")
    found = re.search(r"(?s)^begin\n(.*?)^end$", brick.log(), re.MULTILINE)
    assert found, brick.log()
    return found[1]


def test_loc_inode_fd_frame(serve: Serve) -> None:
    brick = serve(FRAME + """
        def lookup(self, next, loc, xdata):
            reply = next.lookup(loc, xdata)
            if loc.name == "file":
                print("parent", loc.parent.gfid == loc.pargfid, loc.parent.type == IA_IFDIR, len(loc.pargfid),
                      flush=True)
            return reply

        def open(self, next, loc, flags, fd, xdata):
            print("begin")
            print(loc.path, loc.name, len(loc.gfid), loc.inode.gfid == loc.gfid, loc.parent)
            print(loc.inode.type == IA_IFREG, fd.inode.gfid == loc.gfid, fd.flags & 3, fd.anonymous, fd.pid > 0)
            frame = next.frame
            print(frame.fop, frame.uid, frame.gid, frame.groups, frame.pid > 0, len(frame.lk_owner), frame.local)
            print(frame.client.startswith("CTX_ID"), frame.unique)
            frame.local = [1]
            print(frame.local, self.children)
            print("end", flush=True)
            return next.open(loc, flags, fd, xdata)
    """)
    client = brick.client()
    client.path("mkdir", "/d", 0o755)
    client.write("/d/file", b"x")
    client.stat("/d/file")
    brick.wait_for_log("parent True True 36")
    fd = client.open("/d/file")
    lines = told(brick).splitlines()
    assert lines[0] == "/d/file None 36 True None"
    assert lines[1] == "True True 2 False True"
    assert re.fullmatch(r"open 0 0 \((0,)?\) True \d+ None", lines[2]), lines[2]
    assert re.fullmatch(r"True \d+", lines[3])
    assert lines[4] == "[1] (<glusterfs.Child posix>,)"
    assert client.pread(fd, 10, 0) == b"x"


def test_iatt(serve: Serve) -> None:
    """What a script makes of a file's attributes is what the client sees."""
    brick = serve(FRAME + """
        def lookup(self, next, loc, xdata):
            reply = next.lookup(loc, xdata)
            if loc.name != "file":
                return reply
            import copy, stat
            buf = copy.copy(reply.buf)
            buf.size = 1 << 40
            buf.mode = stat.S_IFREG | 0o123
            print("begin")
            print(reply.buf.size, oct(reply.buf.mode), reply.buf.type == IA_IFREG, buf.gfid == reply.buf.gfid)
            for name, value in [("size", -1), ("size", "1"), ("uid", 1 << 32), ("gfid", "12"), ("mode", 1 << 20)]:
                print(raised(setattr, buf, name, value))
            print(raised(Iatt, 1), raised(Iatt, nothing=1))
            made = Iatt(size=3, mode=0o100644, gfid="01234567-89ab-cdef-0123-456789abcdef", mtime=-1)
            print(made, made.mtime, Iatt().gfid)
            print("end", flush=True)
            return reply._replace(buf=buf)
    """)
    client = brick.client()
    client.write("/file", b"abc")
    stat = client.stat("/file")
    assert (stat["size"], stat["mode"] & 0o777) == (1 << 40, 0o123)
    lines = told(brick).splitlines()
    assert lines[0] == "3 0o100644 True True"
    assert lines[1] == "TypeError: glusterfs.Iatt.size: expected an unsigned int of 64 bits, got int -1"
    assert lines[2] == "TypeError: glusterfs.Iatt.size: expected an unsigned int of 64 bits, got str '1'"
    assert lines[3] == "TypeError: glusterfs.Iatt.uid: expected an unsigned int of 32 bits, got int 4294967296"
    assert lines[4].startswith("TypeError: glusterfs.Iatt.gfid: expected a str as 01234567-89ab-")
    assert lines[5] == "TypeError: glusterfs.Iatt.mode: expected an int from 0 to 0o177777, got int 1048576"
    assert lines[6].startswith("TypeError: glusterfs.Iatt: expected its fields by their names AttributeError: ")
    assert lines[7] == ("<glusterfs.Iatt 01234567-89ab-cdef-0123-456789abcdef, mode 0100644, size 3> -1 "
                        "00000000-0000-0000-0000-000000000000")


def test_dict(serve: Serve) -> None:
    """A Dict is a mapping; a plain dict will do where one is sent."""
    brick = serve(FRAME + """
        def setxattr(self, next, loc, dict, flags, xdata):
            print("begin")
            print(len(dict), "user.key" in dict, dict["user.key"], dict.get("none"), dict.get("none", 3))
            print(dict.keys(), dict.values(), list(dict), builtin(dict))
            print(raised(lambda: dict["none"]), raised(lambda: dict[1]), raised(dict.get))
            dict["user.more"] = b"more"
            dict["user.text"] = "text"
            del dict["user.key"]
            print(raised(dict.__delitem__, "user.key"), raised(dict.__setitem__, "x", [1]))
            print(raised(dict.__setitem__, "a\\0b", 1), raised(dict.__setitem__, "a", "b\\0c"))
            for value in (-5, 2 ** 63, 1.5, True):
                dict["value"] = value
                print(dict["value"], end=" ")
            del dict["value"]
            print(dict)
            print(raised(dict.__setitem__, "x", 2 ** 64))
            kept = builtin(dict)
            dict.update(x=2)
            print(isinstance(dict, MutableMapping), dict == {**kept, "x": 2}, dict != kept, end=" ")
            dict.clear()
            dict.setdefault("x", 2)
            dict["y"] = 1
            print(("y", dict.pop("y")), builtin(dict))
            dict.pop("x")
            dict.update(kept)
            print("end", flush=True)
            next.setxattr(loc, {"user.plain": b"plain", "user.str": "s"}, flags, xdata)
            print(raised(next.setxattr, loc, {"user.plain": object()}, flags), flush=True)
            print(raised(next.setxattr, loc, {"user.a\\0b": b""}, flags), flush=True)
            print(raised(next.setxattr, loc, {1: b""}, flags), flush=True)
            return next.setxattr(loc, dict, flags, xdata)
    """)
    client = brick.client()
    client.write("/file", b"")
    client.setxattr("/file", "user.key", b"\1\0v")
    assert client.getxattr("/file", "user.more") == b"more"
    assert client.getxattr("/file", "user.text").rstrip(b"\0") == b"text"
    assert client.getxattr("/file", "user.plain") == b"plain"
    assert client.getxattr("/file", "user.str").rstrip(b"\0") == b"s"
    with pytest.raises(OSError):
        client.getxattr("/file", "user.key")
    lines = told(brick).splitlines()
    assert lines[0] == r"1 True b'\x01\x00v' None 3"
    assert lines[1] == r"['user.key'] [b'\x01\x00v'] ['user.key'] {'user.key': b'\x01\x00v'}"
    assert lines[2] == ("KeyError: 'none' TypeError: a key: expected a str, got int 1 "
                        "TypeError: get(key, default=None): got 0 arguments")
    assert lines[3] == ("KeyError: 'user.key' "
                        "TypeError: the value of x: expected an int, float, str or bytes, got list [1]")
    assert lines[4] == ("ValueError: a key: expected a str without NUL characters "
                        r"TypeError: the value of a: expected a str without NUL characters, got str 'b\x00c'")
    assert lines[5].startswith("-5 9223372036854775808 1.5 1 <glusterfs.Dict {")
    assert lines[6] == "TypeError: the value of x: expected an int of 64 bits, got int 18446744073709551616"
    assert lines[7] == "True True True ('y', 1) {'x': 2}"
    assert "TypeError: the value of user.plain: expected an int, float, str or bytes, got object" in brick.log()
    assert "ValueError: a key: expected a str without NUL characters\n" in brick.log()
    assert "TypeError: next.setxattr: dict: expected keys that are str, got int 1" in brick.log()


def test_gfids(serve: Serve) -> None:
    """What a dict has as a gfid stays one, in a plain dict too: the file gets that which the client wants."""
    brick = serve(FRAME + """
        def create(self, next, loc, flags, mode, umask, fd, xdata):
            wanted = xdata["gfid-req"]
            made = next.create(loc, flags, mode, umask, fd, builtin(xdata))
            print("begin")
            print(wanted == made.buf.gfid, {type(wanted), type(made.buf.gfid), type(loc.pargfid)} == {Gfid})
            xdata["gfid-req"] = loc.pargfid
            print(xdata["gfid-req"], type(xdata["gfid-req"]) is Gfid, Gfid(uuid.UUID(wanted)) == wanted)
            print(raised(Gfid, "12"), raised(xdata.__setitem__, "x", str.__new__(Gfid, "12")))
            print("gfid", wanted)
            print("end", flush=True)
            return made
    """)
    brick.client().write("/file", b"")
    lines = told(brick).splitlines()
    assert lines[0] == "True True"
    assert lines[1] == "00000000-0000-0000-0000-000000000001 True True"
    assert lines[2] == ("ValueError: glusterfs.Gfid: expected a str as 01234567-89ab-cdef-0123-456789abcdef, got '12' "
                        "TypeError: the value of x: expected a Gfid, got Gfid '12'")
    assert lines[3] == f"gfid {uuid.UUID(bytes=os.getxattr(brick.data / 'file', 'trusted.gfid'))}"


def test_data(serve: Serve) -> None:
    """Bytes come without a copy, and bytes of the script's own go out."""
    brick = serve(FRAME + """
        def writev(self, next, fd, data, offset, flags, xdata):
            with memoryview(data) as view:
                print("begin")
                print(len(data), view.readonly, bytes(view[:3]), bytes(data)[-2:], data)
                print("end", flush=True)
            turned = bytearray(data)
            turned.reverse()
            next.writev(fd, memoryview(turned)[::2], offset, flags, xdata)
            return next.writev(fd, data, offset + 1000, flags, xdata)

        def readv(self, next, fd, size, offset, flags, xdata):
            reply = next.readv(fd, size, offset, flags, xdata)
            return reply._replace(data=bytes(reply.data).upper() + b"!") if offset < 1000 else reply
    """)
    client = brick.client()
    fd = client.creat("/file")
    assert client.pwrite(fd, b"abcdef", 0) == 6
    assert client.pread(fd, 3, 0) == b"FDB"  # no more than was asked for, whatever the script adds
    assert client.pread(fd, 100, 1000) == b"abcdef"
    assert told(brick) == "6 True b'abc' b'ef' <glusterfs.Data of 6 bytes>\n"


def test_dirents(serve: Serve) -> None:
    brick = serve(FRAME + """
        def readdir(self, next, fd, size, offset, xdata):
            reply = next.readdir(fd, size, offset, xdata)
            entries = [entry for entry in reply.entries if not entry.name.startswith("secret")]
            if entries:
                entries.append(Dirent("extra", ino=7, offset=entries[-1].offset, type=8))
                print(raised(Dirent), raised(Dirent, "x", stat=1), raised(Dirent, "a\\0b"), entries[-1], flush=True)
            return reply._replace(entries=entries)
    """)
    client = brick.client()
    for name in ("secret1", "seen", "secret2"):
        client.write(f"/{name}", b"")
    assert client.listdir("/") == [".", "..", "extra", "seen"]
    assert "Dirent: stat: expected an Iatt, got int 1" in brick.log()
    assert "<glusterfs.Dirent 'extra'>" in brick.log()


def test_a_generator_of_entries_that_raises(serve: Serve) -> None:
    brick = serve(FRAME + """
        def readdir(self, next, fd, size, offset, xdata):
            reply = next.readdir(fd, size, offset, xdata)
            return reply._replace(entries=(kept[entry.name] for entry in reply.entries))
    """)
    with pytest.raises(OSError) as caught:
        brick.client().listdir("/")
    assert caught.value.errno == errno.EIO
    assert re.search(r"(?s)readdir: Traceback .*script.py.*KeyError: '\.", brick.log()), brick.log()


def test_leases(bricks: Serve, tmp_path: Path) -> None:
    """A script over another asks it for a lease."""
    below = gluster_kit.script_file(tmp_path, FRAME + """
        def lease(self, next, loc, lease, xdata):
            return answer.lease(Lease(cmd=lease.cmd + 1, type=lease.type, id=lease.id[::-1], flags=lease.flags))
    """, "below.py")
    above = gluster_kit.script_file(tmp_path, FRAME + """
        def getxattr(self, next, loc, name, xdata):
            lease = next.lease(loc, Lease(cmd=2, type=1, id=b"0123456789abcdef", flags=5)).lease
            print("lease", lease.cmd, lease.type, lease.id, lease.flags, flush=True)
            return next.getxattr(loc, name, xdata)
    """, "above.py")
    brick = bricks(gluster_kit.xlator("below", below, "posix") + gluster_kit.xlator("top", above, "below"))
    with pytest.raises(OSError):
        brick.client().getxattr("/", "user.x")
    assert brick.wait_for_log("(?m)^lease .*") == "lease 3 1 b'fedcba9876543210' 5"


def test_contexts(serve: Serve) -> None:
    """What is noted at an inode or an open file stays with it, and goes with it."""
    brick = serve(FRAME.replace("class xlator", """class Noted:
        def __init__(self, text):
            self.text = text
        def __del__(self):
            print("gone:", self.text, flush=True)

    class xlator""") + """
        def open(self, next, loc, flags, fd, xdata):
            loc.inode.ctx = (loc.inode.ctx or 0) + 1
            fd.ctx = Noted(f"opened {loc.inode.ctx}")
            return next.open(loc, flags, fd, xdata)

        def readv(self, next, fd, size, offset, flags, xdata):
            return next.readv(fd, size, offset, flags, xdata)._replace(data=fd.ctx.text.encode())
    """)
    client = brick.client()
    client.write("/file", b"x" * 100)
    first, second = client.open("/file"), client.open("/file")
    assert client.pread(first, 100, 0) == b"opened 1"
    assert client.pread(second, 100, 0) == b"opened 2"
    client.of_fd("close", first)
    for number in range(20):  # the brick lets go of it in its own time
        if "gone: opened 1" in brick.log():
            break
        client.write(f"/other{number}", b"")
        client.of_fd("close", client.open(f"/other{number}"))
    brick.wait_for_log("gone: opened 1")
    assert "gone: opened 2" not in brick.log()


def test_nothing_lasts_longer(serve: Serve) -> None:
    """What is kept beyond the answer is of no use, and says so."""
    brick = serve(FRAME + """
        def writev(self, next, fd, data, offset, flags, xdata):
            kept.update(fd=fd, inode=fd.inode, data=data, next=next, frame=next.frame, view=memoryview(data))
            return next.writev(fd, data, offset, flags, xdata)

        def lookup(self, next, loc, xdata):
            if loc.name == "go":
                print("begin")
                print(raised(lambda: kept["fd"].flags))
                print(raised(lambda: kept["inode"].ctx))
                print(raised(bytes, kept["data"]), kept["data"])
                print(raised(lambda: kept["frame"].uid), kept["frame"].fop)
                print(raised(kept["next"].flush, kept["fd"]))
                print(raised(next.flush, kept["fd"]))
                print(raised(next.writev, kept["fd"], kept["data"], 0, 0))
                print(bytes(kept["view"]))  # the memory stays while something looks at it
                print("end", flush=True)
            return next.lookup(loc, xdata)
    """)
    client = brick.client()
    fd = client.creat("/file")
    client.pwrite(fd, b"bytes", 0)
    for _ in range(20):
        client.pwrite(fd, b"others", 0)
        client.pread(fd, 100, 0)
    with pytest.raises(FileNotFoundError):
        client.stat("/go")
    lines = told(brick).splitlines()
    rest = " is of a request that has been answered: what lasts longer must be a copy"
    assert lines[0] == f"Expired: this Fd{rest}"
    assert lines[1] == f"Expired: this Inode{rest}"
    assert lines[2] == f"Expired: this Data{rest} <glusterfs.Data, expired>"
    assert lines[3] == "Expired: writev: this request has been answered writev"
    assert lines[4] == "Expired: writev: this request has been answered"
    assert lines[5] == f"Expired: this Fd{rest}"
    assert lines[6] == f"Expired: this Fd{rest}"
    assert lines[7] == "b'others'"


def test_what_is_answered_has_expired_for_who_is_told(bricks: Bricks, tmp_path: Path) -> None:
    """The translator above looks while it gets the answer."""
    asked = gluster_kit.script_file(tmp_path, """
        import sys
        from glusterfs import Translator

        class xlator(Translator):
            def writev(self, next, fd, data, offset, flags, xdata):
                sys.kept = fd
                return next.writev(fd, data, offset, flags, xdata)
    """)
    told_of_it = gluster_kit.script_file(tmp_path, """
        import sys
        from glusterfs import Expired, Translator

        class xlator(Translator):
            def writev_cbk(self, frame, cookie, this, op_ret, op_errno, prebuf, postbuf, xdata):
                try:
                    print("flags", sys.kept.flags, flush=True)
                except Expired:
                    print("it has expired", flush=True)
                self.unwind_writev(frame, cookie, this, op_ret, op_errno, prebuf, postbuf, xdata)
    """, "above.py")
    brick = bricks(gluster_kit.xlator("asked", asked, "posix") + gluster_kit.xlator("top", told_of_it, "asked"))
    client = brick.client()
    client.write("/file", b"bytes")
    brick.wait_for_log("it has expired|flags \\d")
    assert "flags" not in brick.log()


@pytest.mark.parametrize(("call", "message"), [
    ("next.stat()", "TypeError: next.stat(loc, xdata): got 0 of these 2 arguments"),
    ("next.stat(loc, None, 1)", "TypeError: next.stat(loc, xdata): got 3 of these 2 arguments"),
    ("next.stat(1)", "TypeError: next.stat: loc: expected a Loc, got int 1"),
    ("next.stat(None)", "TypeError: next.stat: loc: expected a Loc, got None"),
    ("next.stat(loc, 5)", "TypeError: next.stat: xdata: expected a Dict, a dict or None, got int 5"),
    ("next.truncate(loc, 1 << 70)", "TypeError: next.truncate: offset: expected an int from -9223372036854775808 to "
     "9223372036854775807, got int 1180591620717411303424"),
    ("next.access(loc, 'r')", "TypeError: next.access: mask: expected an int from -2147483648 to 2147483647, got str "
     "'r'"),
    ("next.removexattr(loc, None)", "TypeError: next.removexattr: name: expected a str, got None"),
    ("next.removexattr(loc, b'x')", "TypeError: next.removexattr: name: expected a str, got bytes b'x'"),
    ("next.setattr(loc, {}, 1)", "TypeError: next.setattr: buf: expected an Iatt or None, got dict {}"),
    ("next.inodelk('d', loc, 6, 1)", "TypeError: next.inodelk: lock: expected a Flock, got int 1"),
    ("next.to(1)", "TypeError: expected one of this translator's children or None, got int 1"),
    ("next.readv(None, 1, 1, 1)", "TypeError: next.readv: fd: expected an Fd, got None"),
    ("Loc()", "TypeError: cannot create 'glusterfs.Loc' instances"),
    ("Dirent('x', ino=-1)", "TypeError: Dirent: expected an unsigned int of 64 bits, got int -1"),
    ("Dirent('x', type=1 << 32)", "TypeError: Dirent: expected an unsigned int of 32 bits, got int 4294967296"),
    ("Lease(cmd=256)", "TypeError: glusterfs.Lease.cmd: expected an unsigned int of 8 bits, got int 256"),
    ("Lease(id=b'x')", "TypeError: glusterfs.Lease.id: expected 16 bytes, got bytes b'x'"),
    ("answer.nothing", "AttributeError: module 'glusterfs.answer' has no attribute 'nothing'"),
    ("Error('x')", "TypeError: glusterfs.Error: errno: expected an int such as errno.ENOENT, got 'x'"),
    ("Error(0)", "ValueError: glusterfs.Error: errno: expected an error number such as errno.ENOENT, got 0"),
    ("self.wind_stat(loc)", "TypeError: wind_stat: expected a frame, a child or None, and the arguments"),
    ("self.unwind_lookup(next.frame)",
     "TypeError: unwind_lookup: expected frame, cookie, this, op_ret, op_errno, and the answer"),
    ("self.unwind_stat(next.frame, None, self, -1, 5, None, None)", "TypeError: unwind_stat: this request is a lookup"),
    ("self.unwind_lookup(next.frame, None, self, -1, 0, None, None, None, None)",
     "ValueError: unwind_lookup: expected an op_ret of 32 bits and, if it is below 0, an op_errno, got -1, 0"),
    ("self.wind_stat(next.frame, None, loc)",
     "TypeError: wind_stat: there is no stat_cbk, and its answer cannot be that of lookup"),
    ("xlator.wind_stat(xlator.__new__(xlator), next.frame, None, loc)",
     "Expired: this translator is not, or no longer, in a graph"),
])
def test_wrong_arguments(serve: Serve, call: str, message: str) -> None:
    brick = serve(FRAME + f"""
        def lookup(self, next, loc, xdata):
            if loc.name == "go":
                print("begin")
                print(repr(raised(lambda: {call})))
                print("end", flush=True)
            return next.lookup(loc, xdata)
    """)
    with pytest.raises(FileNotFoundError):
        brick.client().stat("/go")
    assert ast.literal_eval(told(brick)) == message
