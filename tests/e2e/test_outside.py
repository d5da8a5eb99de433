# SPDX-License-Identifier: BSD-3-Clause
"""`import nbdkit` without a server: the same names as in one, the same answers, and an error for what cannot be."""

from __future__ import annotations

import errno
import inspect
import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import nbdkit
from disks import disk
from harness import ROOT, TIMEOUT, environment, write_script
from harness import nbdkit as run_nbdkit
from nbdkit import _outside
from test_module import ERRORS, VALUES

assert not hasattr(sys.modules["nbdkit"], "_error"), "this process is no server"


def python(code: str, **options: object) -> str:
    """What a Python of its own prints, which has nothing of nbdkit but the package."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], text=True, capture_output=True,
                          timeout=TIMEOUT, env=environment(PYTHONPATH=str(ROOT / "python")), **options)  # type: ignore
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


IN_THE_SERVER = disk("""
    import json
    import _nbdkit

    def dump_plugin():
        names = [name for name in dir(_nbdkit) if not name.startswith("_")]
        print("names=" + json.dumps({name: getattr(_nbdkit, name).__doc__.splitlines()[0] for name in names}))
""")


def test_each_function_is_called_as_the_servers_is(tmp_path: Path) -> None:
    done = run_nbdkit("--dump-plugin", write_script(tmp_path, IN_THE_SERVER))
    documented = json.loads(done.stdout.partition("names=")[2])
    assert len(documented) > 25
    for name, line in documented.items():
        parameters = inspect.signature(getattr(_outside, name)).parameters.values()
        words = [p.name + ("" if p.default is p.empty else f"={p.default!r}") for p in parameters]
        assert f"{name}({', '.join(words)})" == line.split(" -> ")[0]
        assert (" -> " in line) == (inspect.signature(getattr(_outside, name)).return_annotation is not None)


def test_every_function_is_documented() -> None:
    assert sorted(_outside.__all__) == _outside.__all__
    for name in [*_outside.__all__,
                 *"disk parameter size delay probability path password choice list_of".split()]:
        assert name in dir(nbdkit)
        assert re.match(r"(?s)[A-Z0-9].*\.$", inspect.getdoc(getattr(nbdkit, name)) or ""), name


@pytest.mark.parametrize("call", [call for call in VALUES if call != "is_tls()"])
def test_values(call: str) -> None:
    assert eval(f"nbdkit.{call}") == VALUES[call]


@pytest.mark.parametrize("call, message", ERRORS)
def test_errors(call: str, message: str) -> None:
    expected = re.findall(r"\w+Error", message.split(":")[0])
    with pytest.raises((OSError, TypeError, ValueError)) as caught:
        eval(f"nbdkit.{call}")
    assert caught.type.__name__ in expected and str(caught.value)


# The script looks for a text that the server reads and the package does not, or in another way.
COMPARE = disk(r"""
    import re
    from hypothesis import assume, given, settings
    from hypothesis import strategies as st
    from nbdkit import _outside
    import _nbdkit

    NUMBERS = st.one_of(st.integers(0, 300), st.integers(0, 2**70),
                        st.builds(lambda power, more: abs(2**power + more), st.integers(0, 66), st.integers(-2, 2)))
    FORMS = st.sampled_from(["{}", "{}", "{}", "-{}", "+{}", " {}", "{} ", "{:#x}", "{:#X}", "0{:o}", "00{}", "0.{}",
                             "{}.5", ".{}", "{}e3", "{}e-3", "1:{}", "{}/3", "x{}", "{}x", "-{:#x}"])
    SUFFIXES = st.sampled_from(["", "", ""] + list("bBkKmMgGtTpPeEsS%") + ["ms", "us", "μs", "ns", "kb", " k"])
    WORDS = st.sampled_from("1 0 true t yes y on false f no n off True YES oN 2 tru offf \u017f \u212a - + 0x".split())
    WRITTEN = st.builds(lambda number, form, suffix: form.format(number) + suffix, NUMBERS, FORMS, SUFFIXES)
    TEXTS = st.one_of(WRITTEN, WRITTEN, WRITTEN, WORDS, st.text(max_size=4))
    PARSERS = [name for name in dir(_nbdkit) if name.startswith("parse_")]
    COMPARED = {name: set() for name in PARSERS}

    def decimal(text):
        return result(_nbdkit, "parse_size", re.sub(r"^\s*[-+]?0+(?=[0-9])", "", text))

    def result(module, name, text):
        try:
            return getattr(module, name)(*(() if name in ("parse_size", "parse_bool") else ("what", )), text)
        except ValueError:
            return ValueError

    def agree(name, text, server, package):
        # From nbdkit 1.48 on, 010 is eight bytes, and 0x10 sixteen.
        if name == "parse_size" and re.match(r"\s*[-+]?0[0-9xX]", text):
            return package in (server, decimal(text), ValueError)
        if name in ("parse_delay", "parse_probability"):
            # What newer servers take and nobody means: see _parse.py.
            if package is ValueError and re.search(r"0[xX]|[eE](?![-+]?[0-9])|:.*[-:]|[0-9]{10}|e3", text):
                return True
            # They reckon with floats of seconds, which half a nanosecond and those of a long delay do not fit into.
            if type(server) is type(package) is tuple:
                one, two = (sec * 10**9 + nsec for sec, nsec in (server, package))
                return abs(one - two) <= 1 + (one >> 50)
        return (server, type(server)) == (package, type(package))

    @settings(max_examples=1000, deadline=None, derandomize=True, database=None)
    @given(TEXTS)
    def compare(text):
        # Whether this is binary depends on the C library that nbdkit was built with.
        assume(not re.match(r"\s*[-+]?0[bB]", text))
        for name in PARSERS:
            one, two = result(_nbdkit, name, text), result(_outside, name, text)
            assert agree(name, text, one, two), (name, text, one, two)
            COMPARED[name].add(one)

    def get_ready():
        compare()
        print({name: len(values) for name, values in COMPARED.items()})
        nbdkit.shutdown()
""")


def test_the_parsers_read_what_the_servers_do(tmp_path: Path) -> None:
    done = run_nbdkit(write_script(tmp_path, COMPARE), timeout=8 * TIMEOUT)
    assert done.returncode == 0, re.sub(r"(?m)^nbdkit: error: (?!.*disk\.py).*\n", "", done.stderr)
    different = eval(done.stdout)
    assert len(different) >= 12 and different.pop("parse_bool") == 3
    assert min(different.values()) > 10 and different["parse_size"] > 50, different


@pytest.mark.parametrize("call", [
    "export_name()", "is_tls()", "peer_name()", "peer_pid()", "peer_uid()", "peer_gid()", "peer_security_context()",
    "peer_tls_dn()", "peer_tls_issuer_dn()", "shutdown()", "disconnect(True)",
])
def test_what_cannot_be(call: str) -> None:
    name = call.partition("(")[0]
    with pytest.raises(RuntimeError, match=rf"^nbdkit\.{name}: .*this process is not nbdkit's$"):
        eval(f"nbdkit.{call}")


def test_debug_is_a_record_of_logging(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "nbdkit")
    for message in ("100% %s", b"bytes\xff", 3, OSError(errno.ENOENT, "gone")):
        nbdkit.debug(message)
    nbdkit.debug_hexdump(b"0123456789abcdef!", "dump: ", 0x100)
    nbdkit.debug_hexdiff(bytes(32), bytes(31) + b"x")
    assert [(record.name, record.levelname) for record in caplog.records] == [("nbdkit", "DEBUG")] * 8
    assert [record.message for record in caplog.records] == [
        "100% %s", "bytes\\xff", "3", "[Errno 2] gone",
        "dump: 00000100: 30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66", "dump: 00000110: 21",
        f"-00000010: {' '.join(['00'] * 16)}", f"+00000010: {' '.join(['00'] * 15)} 78"]
    with pytest.raises(ValueError, match="expected two buffers of one size, got 1 and 2 bytes"):
        nbdkit.debug_hexdiff(b"1", b"12")


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert nbdkit.realpath(b"link") == str(tmp_path / "file")
    assert nbdkit.absolute_path(Path("link")) == str(tmp_path / "link")
    assert nbdkit.absolute_path("/no/such/file") == "/no/such/file"
    with pytest.raises(OSError, match="expected a path, got ''"):
        nbdkit.absolute_path("")


def test_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"  p\xffss w\xc3\xb6rd \nsecond line\n")
    assert nbdkit.read_password(f"+{file}") == b"  p\xffss w\xc3\xb6rd "
    assert nbdkit.read_password(f"-{os.open(file, os.O_RDONLY)}") == b"  p\xffss w\xc3\xb6rd "
    file.write_bytes(b"a C string ends\0here\n")
    assert nbdkit.read_password(f"+{file}") == b"a C string ends"
    monkeypatch.setattr("getpass.getpass", lambda prompt: f"typed after {prompt}")
    assert nbdkit.read_password("-") == b"typed after password: "


def test_nanosleep_sleeps() -> None:
    begin = time.monotonic()
    nbdkit.nanosleep(0, 20_000_000)
    assert time.monotonic() - begin >= 0.02


def test_the_server_has_no_name_and_the_time() -> None:
    assert nbdkit.name() is None and nbdkit.stdio_safe() is True
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?", nbdkit.timestamp())


def test_the_import_is_light() -> None:
    """What takes time is imported when it is used; in a server, which has the functions, that is later still."""
    code = """
        import sys
        before = set(sys.modules)
        import nbdkit
        print(*sorted(set(sys.modules) - before))
    """
    heavy = {"logging", "typing", "dataclasses", "inspect", "decimal", "getpass", "importlib.util"}
    assert "nbdkit._outside" in (modules := python(code).split()) and not heavy & set(modules)


def test_a_servers_start_imports_no_more(tmp_path: Path) -> None:
    script = disk("""
        import sys
        def dump_plugin(): print("modules=" + " ".join(sys.modules))
    """)
    done = run_nbdkit("--dump-plugin", write_script(tmp_path, script))
    modules = set(done.stdout.partition("modules=")[2].split())
    assert not modules & {"logging", "typing", "dataclasses", "inspect", "nbdkit._outside", "nbdkit._parse",
                          "nbdkit._classes", "nbdkit._parameters", "nbdkit._trace", "nbdkit._help"}


SCRIPT = """
    import errno
    import nbdkit

    size = nbdkit.parameter("size", nbdkit.size, default="1M", minimum=512)
    hosts: nbdkit.Parameter[list[str]] = nbdkit.parameter("host", nbdkit.list_of(str), default=[])
    ports = nbdkit.parameter("port", nbdkit.list_of(int), default=[])
    first: int = ports.value[0] if ports.value else 10809
    file: str | None = nbdkit.parameter("file", nbdkit.path, default=None).value

    @nbdkit.disk
    class Disk:
        def __init__(self, readonly: bool) -> None:
            self.data = bytearray(size.value)
        def get_size(self) -> int:
            return len(self.data)
        def pread(self, buf: memoryview, offset: int, flags: int) -> None:
            if flags & nbdkit.FLAG_FUA:
                raise nbdkit.Error(errno.EINVAL, "no flags")
            nbdkit.set_error(0)
            buf[:] = self.data[offset : offset + len(buf)]
"""


def test_a_script_is_tested_without_a_server(tmp_path: Path) -> None:
    write_script(tmp_path, SCRIPT, "ramdisk.py")
    code = """
        import ramdisk
        import nbdkit
        ramdisk.size.set("4k")
        disk = ramdisk.Disk(False)
        disk.data[10:12] = b"hi"
        buf = bytearray(2)
        disk.pread(memoryview(buf), 10, 0)
        try:
            disk.pread(memoryview(buf), 10, nbdkit.FLAG_FUA)
        except nbdkit.Error as error:
            print(disk.get_size(), buf.decode(), error.strerror)
    """
    assert python(code, cwd=tmp_path) == "4096 hi no flags\n"


def test_a_typing_error_in_a_name() -> None:
    with pytest.raises(AttributeError, match="module 'nbdkit' has no attribute 'prase_size'"):
        eval("nbdkit.prase_size")


# What mypy --strict says of a script.

WRONG = {
    "no size": ("def get_size(self) -> int:\n            return len(self.data)", "pass", r'"disk" cannot be'),
    "no argument": ("__init__(self, readonly: bool)", "__init__(self)", r'"disk" cannot be'),
    "a misspelt name": ("nbdkit.FLAG_FUA", "nbdkit.FLAG_FOO", 'Module has no attribute "FLAG_FOO"'),
    "a parameter's type": ("bytearray(size.value)", "size.value + 'x'", "Unsupported operand types"),
    "a default's type": ('default="1M"', "default=b'1M'", "No overload variant|Argument"),
    "a default that may be None": ("file: str | None", "file: str", "Incompatible types in assignment"),
    "an argument": ("set_error(0)", "set_error('EIO')", "incompatible type"),
}


def test_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    write_script(tmp_path, SCRIPT, "good.py")
    for number, (good, bad, _) in enumerate(WRONG.values()):
        assert good in SCRIPT
        write_script(tmp_path, SCRIPT.replace(good, bad), f"wrong{number}.py")
    scripts = sorted(path.name for path in tmp_path.glob("*.py"))
    found = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", "cache", *scripts], text=True,
                           capture_output=True, timeout=8 * TIMEOUT, cwd=tmp_path,
                           env=environment(MYPYPATH=str(ROOT / "python"))).stdout
    assert re.findall(r"^(?!wrong)\S+: error", found, re.MULTILINE) == [], found
    for number, (case, (_, _, said)) in enumerate(WRONG.items()):
        assert re.search(rf"^wrong{number}\.py:\d+: error: .*({said})", found, re.MULTILINE), f"{case}: {found}"
