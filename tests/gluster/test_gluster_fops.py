# SPDX-License-Identifier: BSD-3-Clause
"""Every file operation passes through a script as if it were not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import gluster_kit
import gluster_workload
import pytest

Bricks = Callable[..., gluster_kit.Brick]

LOCKS = gluster_kit.volume("locks", "features/locks", "posix")

# Asks for what no client of libgfapi asks for, and answers with what came of it.
ASKER = """
    import fcntl, os
    import glusterfs
    from glusterfs import Flock, Iatt, Translator, answer

    class Report(list):
        def add(self, name, ask):
            try:
                got = ask()
                shown = [field for field in got._fields if field not in ("xdata", "buf", "prebuf", "postbuf")]
                self.append((name, [(field, self.plain(getattr(got, field))) for field in shown]))
            except glusterfs.Error as error:
                self.append((name, f"errno {error.errno}"))

        def plain(self, value):
            if isinstance(value, list):
                return sorted((entry.name, entry.type, entry.stat.size) for entry in value)
            if isinstance(value, glusterfs.Dict):
                return dict(value)
            return value if isinstance(value, (int, str, bytes, type(None))) else type(value).__name__

    def lock(kind):
        return Flock(type=kind, start=0, length=0)

    class xlator(Translator):
        def getxattr(self, next, loc, name, xdata):
            if name != "user.ask":
                return next.getxattr(loc, name, xdata)
            report = Report()
            counters = {"trusted.count": bytes(12)}
            report.add("stat", lambda: next.stat(loc))
            report.add("inodelk", lambda: next.inodelk("domain", loc, fcntl.F_SETLK, lock(fcntl.F_WRLCK)))
            report.add("inodelk", lambda: next.inodelk("domain", loc, fcntl.F_SETLK, lock(fcntl.F_UNLCK)))
            report.add("entrylk", lambda: next.entrylk("domain", loc, "name", glusterfs.ENTRYLK_LOCK, 1))
            report.add("entrylk", lambda: next.entrylk("domain", loc, "name", glusterfs.ENTRYLK_UNLOCK, 1))
            report.add("xattrop", lambda: next.xattrop(loc, glusterfs.GF_XATTROP_ADD_ARRAY, counters))
            report.add("ipc", lambda: next.ipc(1))
            report.add("getactivelk", lambda: next.getactivelk(loc))
            report.add("setactivelk", lambda: next.setactivelk(loc, next.getactivelk(loc).locks))
            report.add("removexattr", lambda: next.removexattr(loc, "user.nothing"))
            report.add("setattr", lambda: next.setattr(loc, Iatt(mode=0o600), glusterfs.GF_SET_ATTR_MODE))
            report.add("namelink", lambda: next.namelink(loc))
            return answer.getxattr({"user.ask": repr(report).encode()})

        def fgetxattr(self, next, fd, name, xdata):
            if name != "user.ask":
                return next.fgetxattr(fd, name, xdata)
            report = Report()
            counters = {"trusted.count": bytes(12)}
            report.add("finodelk", lambda: next.finodelk("domain", fd, fcntl.F_SETLK, lock(fcntl.F_RDLCK)))
            report.add("finodelk", lambda: next.finodelk("domain", fd, fcntl.F_SETLK, lock(fcntl.F_UNLCK)))
            report.add("fentrylk", lambda: next.fentrylk("domain", fd, None, glusterfs.ENTRYLK_LOCK, 0))
            report.add("fentrylk", lambda: next.fentrylk("domain", fd, None, glusterfs.ENTRYLK_UNLOCK, 0))
            report.add("fxattrop", lambda: next.fxattrop(fd, glusterfs.GF_XATTROP_ADD_ARRAY, counters))
            report.add("rchecksum", lambda: next.rchecksum(fd, 0, 100))
            report.add("copy_file_range", lambda: next.copy_file_range(fd, 0, fd, 200, 50, 0))
            report.add("fsyncdir", lambda: next.fsyncdir(fd, 0))
            return answer.fgetxattr({"user.ask": repr(report).encode()})

        def readdir(self, next, fd, size, offset, xdata):
            report = Report()
            report.add("readdirp", lambda: next.readdirp(fd, size, offset, xdata))
            print("report", report, flush=True)
            return next.readdir(fd, size, offset, xdata)

        def lookup(self, next, loc, xdata):
            report = Report()
            if loc.name == "put":
                report.add("put", lambda: next.put(loc, 0o644, 0, os.O_RDWR, b"some data", 0, {}, xdata))
            if loc.name == "icreate":
                report.add("icreate", lambda: next.icreate(loc, 0o100644, xdata))
            if report:
                print("report", report, flush=True)
            return next.lookup(loc, xdata)
"""
ASKED = {
    "copy_file_range", "entrylk", "fentrylk", "finodelk", "fsyncdir", "fxattrop", "getactivelk", "icreate", "inodelk",
    "ipc", "namelink", "put", "rchecksum", "readdirp", "setactivelk", "stat", "xattrop",
}


def came(brick: gluster_kit.Brick) -> set[str]:
    return set(re.findall(r"^came (\w+)$", brick.log(), re.MULTILINE))


@pytest.mark.parametrize("way", gluster_workload.WAYS)
def test_what_clients_ask_for(bricks: Bricks, tmp_path: Path, way: str) -> None:
    plain = bricks(LOCKS.replace("volume locks", "volume top", 1))
    script = gluster_kit.script_file(tmp_path, gluster_workload.WAYS[way])
    brick = bricks(LOCKS + gluster_kit.xlator("top", script, "locks"))
    assert gluster_workload.run(brick.client()) == gluster_workload.run(plain.client())
    assert came(brick) == gluster_workload.REACHED
    assert "Traceback" not in brick.log()


@pytest.mark.parametrize("way", gluster_workload.WAYS)
def test_what_translators_ask_for(bricks: Bricks, tmp_path: Path, way: str) -> None:
    """An asker over features/locks, and the same with a script between them."""
    asker = gluster_kit.script_file(tmp_path, ASKER, "asker.py")
    script = gluster_kit.script_file(tmp_path, gluster_workload.WAYS[way])
    reports = []
    for between in ("", gluster_kit.xlator("between", script, "locks")):
        brick = bricks(LOCKS + between + gluster_kit.xlator("top", asker, "between" if between else "locks"))
        client = brick.client()
        client.write("/file", bytes(range(200)))
        report = ast.literal_eval(client.getxattr("/file", "user.ask").decode())
        report += ast.literal_eval(client.fgetxattr(client.open("/file"), "user.ask").decode())
        for path in ("/put", "/icreate"):
            try:
                client.stat(path)
            except OSError:
                pass
        client.listdir("/")
        for line in re.findall(r"^report (.*)$", brick.log(), re.MULTILINE):
            report += ast.literal_eval(line)
        reports.append(report)
    assert reports[0] == reports[1]
    asked = {name for name, _ in reports[0]}
    assert asked >= ASKED
    # What nobody below has is not wound, so that there is no answer to see.
    assert ASKED - came(brick) == ({"icreate", "namelink"} if way == "answers" else set())
    # That they are equal says little of those that fail: these do not.
    done = {name for name, result in reports[0] if not isinstance(result, str)}
    assert done >= {"stat", "inodelk", "entrylk", "xattrop", "getactivelk", "finodelk", "fxattrop", "rchecksum",
                    "copy_file_range", "readdirp", "put"}
    assert "Traceback" not in brick.log()


def test_all_are_in_the_table(serve: Bricks) -> None:
    """What GlusterFS knows, by its own header, is what a script knows: but for two that are no file operations.

    The types for mypy, and the answers' names, are those of the table.
    """
    header = Path("/usr/include/glusterfs/xlator.h").read_text()
    known = set(re.findall(r"^\s+fop_(\w+)_t \w+;$", header, re.MULTILINE))
    known = {name for name in known if not name.endswith("_cbk")} - {"getspec", "compound"}
    brick = serve("""
        from glusterfs import FOPS, Translator, answer
        print("answers", {name: getattr(answer, name)._fields for name in FOPS})
        print("fops", dict(FOPS), flush=True)

        class xlator(Translator):
            pass
    """)
    fops = ast.literal_eval(brick.wait_for_log(r"(?m)^fops .*$").removeprefix("fops "))
    answers = ast.literal_eval(brick.wait_for_log(r"(?m)^answers .*$").removeprefix("answers "))
    assert set(fops) == known
    assert answers == {name: (*fields, "ret") for name, (_, fields) in fops.items()}
    stub = ast.parse((gluster_kit.ROOT / "python" / "_glusterfs.pyi").read_text())
    typed = {node.name: {method.name: tuple(argument.arg for argument in method.args.posonlyargs[1:])
                         for method in node.body if isinstance(method, ast.FunctionDef) and method.args.posonlyargs}
             for node in stub.body if isinstance(node, ast.ClassDef)}
    del typed["Next"]["to"]
    assert typed["Next"] == {name: arguments for name, (arguments, _) in fops.items()}
    fixed = {"wind": ("frame", "child"), "unwind": ("frame", "cookie", "this", "op_ret", "op_errno")}
    assert typed["Translator"] == {
        f"{way}_{name}": (*fixed[way], *fields)
        for name, row in fops.items() for way, fields in zip(("wind", "unwind"), row)}
