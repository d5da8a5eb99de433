# SPDX-License-Identifier: BSD-3-Clause
"""`python3 -m xenstore` beside Xen's own commands, on real daemons: output, exit status, and what is done."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xenstore._command import command_line
from xenstore_daemon import DIRECTORY, ROOT, SET_PERMS, TIMEOUT, C, Daemon, StartDaemon, request, running

READ, GET_PERMS, WRITE, RM = 2, 3, 11, 13
OURS = [sys.executable, "-m", "xenstore"]


class Done(NamedTuple):
    """What a command has printed on standard output, and its exit status."""

    output: bytes
    status: int


class Side:
    """A store, and the commands to look at it: Xen's, or ours."""

    def __init__(self, daemon: Daemon, ours: bool) -> None:
        self.daemon, self.ours = daemon, ours

    def command(self, words: list[str]) -> list[str]:
        return [*OURS, *words] if self.ours else [f"xenstore-{words[0]}", *words[1:]]

    def environment(self, store: Path | None = None) -> dict[str, str]:
        return {**os.environ, "XENSTORED_PATH": str(store or self.daemon.socket), "PYTHONPATH": str(ROOT / "python")}

    def run(self, *words: str, store: Path | None = None) -> Done:
        done = subprocess.run(self.command(list(words)), env=self.environment(store), capture_output=True,
                              timeout=TIMEOUT)
        assert b"Traceback" not in done.stderr, done.stderr
        assert bool(done.stderr) or done.returncode in (0, 1)
        return Done(done.stdout, done.returncode)

    def on_terminal(self, columns: int, *words: str) -> Done:
        """Run it with its output on a terminal of that many columns."""
        ours, theirs = pty.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
            process = subprocess.Popen(self.command(list(words)), env=self.environment(), stdout=theirs)
            os.close(theirs)
            output = b""
            try:
                while piece := os.read(ours, 65536):
                    output += piece
            except OSError:
                pass  # EIO: nobody has the other end any more
            return Done(output, process.wait(TIMEOUT))
        finally:
            os.close(ours)

    def fill(self, nodes: dict[str, bytes], permissions: dict[str, list[bytes]]) -> None:
        """Let the store have these nodes and no others."""
        with self.daemon.connect() as dom0:
            for name in request(dom0, DIRECTORY, b"/").split(b"\0")[:-1]:
                request(dom0, RM, b"/" + name)
            request(dom0, SET_PERMS, b"/", b"n0")
            for path, value in {"/": b"", **nodes}.items():
                request(dom0, WRITE, path.encode(), value, last_nul=False)
            for path, words in permissions.items():
                request(dom0, SET_PERMS, path.encode(), *words)

    def content(self) -> dict[bytes, tuple[bytes, bytes]]:
        """Every node's value and permissions."""
        found = {}
        waiting = [b"/"]
        with self.daemon.connect() as dom0:
            while waiting:
                path = waiting.pop()
                found[path] = request(dom0, READ, path), request(dom0, GET_PERMS, path)
                names = request(dom0, DIRECTORY, path).split(b"\0")[:-1]
                waiting += [path.rstrip(b"/") + b"/" + name for name in names]
        return found


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[Side, Side]]:
    """A store for Xen's commands, and another for ours."""
    if shutil.which("xenstore-ls") is None:
        pytest.skip("there is no xenstore-ls: the package xenstore-utils has it")
    with running(C) as one, running(C) as other:
        yield Side(one, ours=False), Side(other, ours=True)


EVERY_BYTE = bytes(range(256))
NODES = {
    "/a": b"", "/a/b": b"hello", "/a/empty": b"", "/a/bytes": EVERY_BYTE, "/a/number": b"-5",
    "/a/long": b"0123456789" * 12, "/a/fits": b"x" * 68, "/a/too-long": b"x" * 69,
    "/a/" + "n" * 90: b"v", "/a/" + "n" * 66 + "_": b"12",
    "/t/u/v/w": b"1", "/t/x": b"", "/value/below": b"1", "/value": b"not empty",
    "/deep/" + "/".join("0123456789"): b"end",
}  # fmt: skip
PERMISSIONS = {"/a": [b"n0", b"r7"], "/a/b": [b"b3", b"w4", b"n5"], "/t/u": [b"r0"]}

SAME = [
    ["ls"], ["ls", "-f"], ["ls", "-p"], ["ls", "-fp"], ["ls", "/a"], ["ls", "/a/b"], ["ls", "/t", "/a"],
    ["ls", "/none"], ["ls", "-s", "-p", "/t/u"], ["ls", "/t", "/none", "/a"], ["ls", ""], ["ls", "relative"],
    ["ls", "/a/"],
    ["read", "/a/b"], ["read", "/a/bytes"], ["read", "-R", "/a/bytes"], ["read", "-p", "/a/b", "/a/empty"],
    ["read", "-pR", "/a/b", "/a/number"], ["read", "/a/b", "/none", "/a/empty"], ["read", "/none"], ["read", "/"],
    ["read", "-s", "/a/empty"], ["read", "/a/b", "-p"], ["read", "//a"], ["read", "/a b"],
    ["write", "/new/x", "1"], ["write", "/a/b", "1", "/a/c", "2", "/d", ""], ["write", "/a/b", "--", "-x"],
    ["write", "/e", r"a\tb\n\r\\\"q\101\7\x7f\xff\q\x4z\x414\xg\777\08\1234\x"], ["write", "-R", "/e", r"a\tb\x41\\"],
    ["write", "-s", "/e", "é ü"], ["write", "/e", "1", "/a b", "2"], ["write", "/e", "x" * 5000],
    ["write", "/", "root"], ["write", "/" + "p" * 2047, ""], ["write", "/" + "p" * 2048, ""],
    ["write", "/" + "p" * 5000, ""],
    ["rm", "/a"], ["rm", "/a/b", "/t"], ["rm", "/none"], ["rm", "/none/x"], ["rm", "/a/b", "/none/x"], ["rm", "/"],
    ["rm", "-t", "/t/u/v/w"], ["rm", "-t", "/t/x"], ["rm", "-t", "/t/u", "/t/x"], ["rm", "-t", "/value/below"],
    ["rm", "-t", "/deep/0/1/2"], ["rm", "-t", "/t/none"], ["rm", "-s", "/a/b"],
    ["list", "/"], ["list", "/a"], ["list", "-p", "/t", "/a"], ["list", "/a/b"], ["list", "/none"],
    ["list", "/t", "/none", "/a"], ["list", "-s", "/t"],
    ["chmod", "/a", "n0"], ["chmod", "/a", "r7", "w1", "b2", "n3"], ["chmod", "-r", "/a", "b3"],
    ["chmod", "-u", "/t/u/v", "n4", "r1"], ["chmod", "-ru", "/t/u", "w5"], ["chmod", "/none", "n0"],
    ["chmod", "-u", "/a", "n1"], ["chmod", "-s", "/", "r0"],
    ["exists", "/a"], ["exists", "/none"], ["exists", "/a", "/none"], ["exists", "/none", "/a"], ["exists", "/a", "/t"],
    ["exists", "-s", "/"],
    ["watch", "-n", "1", "/a"], ["watch", "-n", "2", "/a", "/none"], ["watch", "-n", "1", "@releaseDomain"],
    ["watch", "-n", "1", "a b"],
]  # fmt: skip


@pytest.mark.parametrize("words", SAME, ids=lambda words: " ".join(words)[:60])
def test_as_xens_own(sides: tuple[Side, Side], words: list[str]) -> None:
    for side in sides:
        side.fill(NODES, PERMISSIONS)
    theirs, ours = (side.run(*words) for side in sides)
    assert ours == theirs
    assert sides[1].content() == sides[0].content()


BETTER = {
    # A domain's number is a number, and a domain is named once.
    ("chmod", "/a", "n"): (0, 2), ("chmod", "/a", "nx"): (0, 2), ("chmod", "/a", "n1x"): (0, 2),
    ("chmod", "/a", "x0"): (1, 2), ("chmod", "/a", "n0", "r0"): (0, 2), ("chmod", "/a", "r-1"): (1, 2),
    # A backslash that escapes nothing is not a NUL.
    ("write", "/e", "a\\"): (0, 2),
    # A number of lines is one.
    ("watch", "-n", "0", "/a"): (0, 2), ("watch", "-n", "x", "/a"): (0, 2), ("watch", "-n", "1x", "/a"): (0, 2),
    # A wrong command line is told from what the store says.
    ("read",): (1, 2), ("write", "/a/b"): (1, 2), ("write", "/a/b", "1", "/a/c"): (1, 2), ("rm",): (1, 2),
    ("exists",): (1, 2), ("exists", "-Z", "/a"): (0, 2), ("chmod", "/a"): (1, 2),
    # So is a path that cannot be from one that is not there.
    ("exists", ""): (1, 2),
    # Help was asked for.
    ("read", "-h"): (1, 0), ("ls", "--help"): (1, 0),
}  # fmt: skip


@pytest.mark.parametrize("words", BETTER, ids=lambda words: " ".join(words))
def test_better_than_xens_own(sides: tuple[Side, Side], words: tuple[str, ...]) -> None:
    for side in sides:
        side.fill(NODES, PERMISSIONS)
    before = sides[1].content()
    assert tuple(side.run(*words).status for side in sides) == BETTER[words]
    assert sides[1].content() == before


def test_better_with_the_root(sides: tuple[Side, Side]) -> None:
    """Xen's own take /a for //a there, which no store has."""
    for side in sides:
        side.fill({"/a/b": b"", "/c": b""}, {})
    theirs, ours = (side.run("list", "-p", "/") for side in sides)
    assert theirs.output == b"//a\n//c\n" and ours.output == b"/a\n/c\n"
    theirs, ours = (side.run("chmod", "-r", "/", "r3") for side in sides)
    assert (theirs.status, ours.status) == (1, 0)
    assert [permissions for _, permissions in sides[1].content().values()] == [b"r3\0"] * 4


@pytest.mark.parametrize("columns", [0, 1, 9, 40])
@pytest.mark.parametrize("flags", [[], ["-p"], ["-f"], ["-fp"]], ids=lambda flags: "".join(flags) or "none")
def test_ls_on_a_terminal(sides: tuple[Side, Side], columns: int, flags: list[str]) -> None:
    for side in sides:
        side.fill(NODES, PERMISSIONS)
    theirs, ours = (side.on_terminal(columns, "ls", *flags) for side in sides)
    assert theirs.output and ours == theirs


NAMES = st.text("abcXYZ019-_@", min_size=1, max_size=90)
TREES = st.dictionaries(st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names)),
                        st.one_of(st.binary(max_size=90), st.text("x\\\n", max_size=90).map(str.encode)),
                        min_size=1, max_size=15)


@settings(derandomize=True, max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nodes=TREES, columns=st.integers(0, 120), flags=st.sampled_from(["", "-p", "-f", "-fp"]))
def test_ls_of_any_tree(sides: tuple[Side, Side], nodes: dict[str, bytes], columns: int, flags: str) -> None:
    for side in sides:
        side.fill(nodes, {})
    theirs, ours = (side.on_terminal(columns, "ls", *filter(None, [flags])) for side in sides)
    assert theirs.output and ours == theirs


# What a test of one run beside another cannot show.


class Running:
    """A command that goes on."""

    def __init__(self, side: Side, *words: str, store: Path | None = None) -> None:
        self.process = subprocess.Popen(side.command(list(words)), env=side.environment(store), stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)

    def line(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[bytes, bytes, int]:
        """What else it prints, on standard output and standard error, and its exit status."""
        output, errors = self.process.communicate(timeout=TIMEOUT)
        return output, errors, self.process.returncode


def test_watch_of_changes(sides: tuple[Side, Side]) -> None:
    outputs = []
    for side in sides:
        side.fill(NODES, {})
        watch = Running(side, "watch", "-n", "5", "/t")
        outputs.append([watch.line()])  # and it comes at once, though it goes into a pipe
        with side.daemon.connect() as dom0:
            request(dom0, WRITE, b"/t/x", b"1", last_nul=False)
            request(dom0, WRITE, b"/elsewhere", b"1", last_nul=False)
            request(dom0, RM, b"/t/u")
            request(dom0, WRITE, b"/t/made/here", b"1", last_nul=False)
            request(dom0, RM, b"/t")
        outputs[-1] += [watch.line() for _ in range(4)]
        assert watch.end()[2] == 0
    assert outputs[0] == outputs[1] == [b"/t\n", b"/t/x\n", b"/t/u\n", b"/t/made/here\n", b"/t\n"]


def test_watch_that_loses_its_store(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    theirs, ours = (Running(Side(daemon, side), "watch", "/a") for side in (False, True))
    assert ours.line() == theirs.line() == b"/a\n"
    daemon.stop()
    output, errors, status = ours.end()
    assert (output, status) == (b"", 1)
    assert errors.startswith(b"xenstore watch: ") and errors.count(b"\n") == 1
    assert theirs.process.poll() is None  # for ever
    theirs.process.kill()
    theirs.end()


def test_watch_of_one_path_twice(sides: tuple[Side, Side]) -> None:
    assert sides[0].run("watch", "-n", "2", "/a", "/a").status == 1
    assert sides[1].run("watch", "-n", "2", "/a", "/a") == (b"/a\n/a\n", 0)


def test_watch_that_is_interrupted(sides: tuple[Side, Side]) -> None:
    watch = Running(sides[1], "watch", "/a")
    watch.line()
    watch.process.send_signal(signal.SIGINT)
    assert watch.end() == (b"", b"", -signal.SIGINT)


def test_mkdir(sides: tuple[Side, Side]) -> None:
    side = sides[1]
    side.fill({"/a": b"kept"}, {})
    assert side.run("mkdir", "/b/c", "/a", "/d") == (b"", 0)
    assert {path: value for path, (value, _) in side.content().items()} == {
        b"/": b"", b"/a": b"kept", b"/b": b"", b"/b/c": b"", b"/d": b""}
    assert side.run("mkdir", "/e", "/bad//path").status == 1
    assert b"/e" not in side.content()


@pytest.mark.parametrize("words", [["help"], ["quota"], ["check"], ["print", "hello"]], ids=" ".join)
def test_control_as_xens_own(xenstored: Daemon, words: list[str]) -> None:
    side = Side(xenstored, ours=True)
    theirs = subprocess.run([xenstored.program.with_name("xenstore-control"), *words], env=side.environment(),
                            capture_output=True, timeout=TIMEOUT)
    assert side.run("control", *words) == (theirs.stdout, theirs.returncode) and theirs.stdout


def test_control_that_is_unknown(xenstored: Daemon) -> None:
    assert Side(xenstored, ours=True).run("control", "none") == (b"", 1)


def test_in_a_guest(xenstored: Daemon) -> None:
    """Relative paths, and what a guest may not read."""
    theirs, ours = Side(xenstored, ours=False), Side(xenstored, ours=True)
    device = xenstored.guest(7).device
    theirs.run("write", "/local/domain/7/readable", "1", "/secret", "2", "/local/domain/7/folder/secret", "3")
    theirs.run("chmod", "/local/domain/7/readable", "n0", "r7")
    for words in (["write", "data", "x"], ["read", "data"], ["read", "readable"], ["write", "readable", "2"],
                  ["read", "/secret"], ["list", "data"], ["ls", "/"], ["ls", "/local/domain/7"],
                  ["ls", "-fp", "folder"], ["exists", "data"], ["chmod", "data", "n7", "r3"],
                  ["chmod", "/secret", "n7"], ["rm", "/secret"], ["rm", "data"], ["exists", "data"]):
        assert ours.run(*words, store=device) == theirs.run(*words, store=device), words
    # It cannot know: Xen's own say that there is no such node.
    assert theirs.run("exists", "/secret", store=device).status == 1
    assert ours.run("exists", "/secret", store=device).status == 2
    # Xen's own end at the first node that may not be read.
    theirs.run("write", "/local/domain/7/later", "4")
    theirs.run("chmod", "/local/domain/7/folder/secret", "n0")
    assert theirs.run("ls", "/local/domain/7", store=device).output == b'readable = "1"\nfolder = ""\n secret:\n\n'
    done = Running(ours, "ls", "/local/domain/7", store=device).end()
    complaint = b"xenstore ls: /local/domain/7/folder/secret: Permission denied\n"
    assert done == (b'readable = "1"\nfolder = ""\nlater = "4"\n', complaint, 1)


def test_no_store(tmp_path: Path, sides: tuple[Side, Side]) -> None:
    for words, status in {("ls",): 1, ("read", "/"): 1, ("exists", "/"): 2}.items():
        output, errors, ended = Running(sides[1], *words, store=tmp_path / "none").end()
        assert (output, ended) == (b"", status)
        assert errors.startswith(f"xenstore {words[0]}: ".encode()) and errors.count(b"\n") == 1
        assert str(tmp_path / "none").encode() in errors


def test_errors_are_one_line_that_tells(sides: tuple[Side, Side]) -> None:
    sides[1].fill({"/a": b""}, {})
    for words, line in {
        ("read", "/none"): "xenstore read: /none: No such file or directory",
        ("list", "/a/"): "xenstore list: EINVAL: path '/a/': expected names with a / between them, got an empty name",
        ("write", "/a", "1", "/b"): "xenstore write: expected a VALUE after each PATH, got none after '/b'",
        ("chmod", "/a", "n0", "r0"): "xenstore chmod: expected each domain once among the permissions",
        ("control", "none"): "xenstore control: Invalid argument",
    }.items():
        assert Running(sides[1], *words).end()[1].decode() == line + "\n"


def test_the_store_can_be_named(sides: tuple[Side, Side], tmp_path: Path) -> None:
    sides[1].fill({"/a": b"1"}, {})
    done = subprocess.run([*OURS, "--store", str(sides[1].daemon.socket), "read", "/a"], capture_output=True,
                          env=sides[1].environment(tmp_path / "none"), timeout=TIMEOUT)
    assert done.stdout == b"1\n", done.stderr


def test_nobody_reads_on(sides: tuple[Side, Side]) -> None:
    sides[1].fill({f"/{n}": b"x" * 2000 for n in range(100)}, {})
    ls = Running(sides[1], "ls", "-f")
    ls.line()
    assert ls.process.stdout is not None and ls.process.stderr is not None
    ls.process.stdout.close()
    assert ls.process.stderr.read() == b""
    assert ls.process.wait(TIMEOUT) == -signal.SIGPIPE


def test_nothing_can_be_written(sides: tuple[Side, Side]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*OURS, "list", "/"], env=sides[1].environment(), stdout=full, stderr=subprocess.PIPE,
                              timeout=TIMEOUT)
    assert (done.stderr, done.returncode) == (b"xenstore list: standard output: No space left on device\n", 1)


# The page about it.

PAGE = (ROOT / "docs" / "xenstore-command.md").read_text()


def test_the_page_shows_what_is_so(xenstored: Daemon, tmp_path: Path) -> None:
    [block] = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    python = tmp_path / "python3"
    python.symlink_to(sys.executable)
    environment = {**Side(xenstored, ours=True).environment(), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = step.partition("\n")
        done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True,
                              timeout=TIMEOUT)
        assert (done.stdout, done.stderr) == (shown, ""), command


def test_the_page_has_each_command_and_flag() -> None:
    rows = {name: set(re.findall(r"`(-\w)", row)) - {"-s"}
            for name, row in re.findall(r"^\| `(\w+)\b[^|]*` (\|.*)$", PAGE, re.MULTILINE)}
    [commands] = [action.choices for action in command_line()._actions if isinstance(action.choices, dict)]
    flags = {name: {option for action in command._actions for option in action.option_strings}
             for name, command in commands.items()}
    assert rows == {name: found - {"-h", "--help", "-s"} for name, found in flags.items()}
