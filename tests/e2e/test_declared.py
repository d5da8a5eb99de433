# SPDX-License-Identifier: BSD-3-Clause
"""Declared parameters: what the command line gives, what is refused, in which words, --dump-plugin, the help page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbdkit
from conftest import Serve
from disks import disk, telling
from harness import ROOT, TIMEOUT, environment, write_script
from harness import nbdkit as run_nbdkit
from nbdkit import _help
from test_class import mine

StartFails = Callable[..., str]

ALL = disk("""
    SIZE = nbdkit.parameter("size", nbdkit.size, default="1M", minimum=512, help="The disk's size.", magic=True)
    COUNT = nbdkit.parameter("count", int, default=3, minimum=-5, maximum=0x20)
    RATIO = nbdkit.parameter("ratio", float, default="0.5")
    SYNC = nbdkit.parameter("sync", bool, default=False, help="Whether to wait.")
    PAUSE = nbdkit.parameter("pause", nbdkit.delay, default="1500ms", maximum="60s")
    CHANCE = nbdkit.parameter("error-rate", nbdkit.probability, default="10%")
    FILE = nbdkit.parameter("file", nbdkit.path, default=None)
    MODE = nbdkit.parameter("mode", nbdkit.choice("fast", "safe"), default="safe")
    HOSTS = nbdkit.parameter("host", nbdkit.list_of(str), default=())
    PORTS = nbdkit.parameter("port", nbdkit.list_of(int), default="10809", minimum=1, maximum=65535)
    SECRET = nbdkit.parameter("secret", nbdkit.password, default="none")
    LABEL = nbdkit.parameter("label", str, default="")

    ALL = SIZE, COUNT, RATIO, SYNC, PAUSE, CHANCE, FILE, MODE, HOSTS, PORTS, SECRET, LABEL

    def get_ready():
        print(ascii({p.name: p.value for p in ALL}), ascii([p.name for p in ALL if p.given]))
        nbdkit.shutdown()
""")
DEFAULTS = {"size": 1 << 20, "count": 3, "ratio": 0.5, "sync": False, "pause": 1.5, "error-rate": 0.1, "file": None,
            "mode": "safe", "host": (), "port": [10809], "secret": b"none", "label": ""}


def values(folder: Path, text: str, *words: str, **options: Any) -> tuple[dict[str, object], list[str]]:
    """The values of the parameters when nbdkit is ready, and which of them were given."""
    done = run_nbdkit(write_script(folder, text), *words, **options)
    assert done.returncode == 0, done.stderr
    return eval(done.stdout.replace("} [", "}, ["))


@pytest.mark.parametrize("words, changes", [
    ([], {}),
    (["size=4k", "count=0x10", "ratio=1e3", "sync=on"], {"size": 4096, "count": 16, "ratio": 1000.0, "sync": True}),
    (["pause=2", "error-rate=1:4", "mode=fast"], {"pause": 2.0, "error-rate": 0.25, "mode": "fast"}),
    (["host=a=b", "port=1", "host=", "port=0x50"], {"host": ["a=b", ""], "port": [1, 80]}),
    (["secret=a b", "label=\udcff é"], {"secret": b"a b", "label": "\udcff é"}),
    (["4k"], {"size": 4096}),
    (["count=-5"], {"count": -5}),
    (["sync=no", "count=010"], {"sync": False, "count": 8}),
])
def test_values(tmp_path: Path, words: list[str], changes: dict[str, object]) -> None:
    found, given = values(tmp_path, ALL, *words)
    assert found == DEFAULTS | changes
    assert set(given) == set(changes)


def test_a_path_is_absolute_and_a_password_is_read(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    found, _ = values(tmp_path, ALL, "file=../disk.img", "secret=+password", cwd=tmp_path)
    assert (found["file"], found["secret"]) == (str(tmp_path.parent / "disk.img"), b"from a file")


def test_a_default_path_is_absolute_in_the_background_too(tmp_path: Path, daemonise: Any) -> None:
    server = daemonise(telling("""
        FILE = nbdkit.parameter("file", nbdkit.path, default="disk.img")
        def told(): return FILE.value
    """), cwd=tmp_path)
    assert server.contents() == str(tmp_path / "disk.img")


REQUIRED = disk("""
    FILE = nbdkit.parameter("file", nbdkit.path)
    def get_ready(): print({"file": FILE.value}, [])
    def config_complete(): raise nbdkit.Error(22, f"after {FILE.value}")
""")


@pytest.mark.parametrize("text, words, said", [
    (ALL, ["size=1Q"], "config: size: expected a size such as 512, 4k or 1G, got '1Q'"),
    (ALL, ["size=100"], "config: size: expected 512 or more, got '100'"),
    (ALL, ["count=33"], "config: count: expected 32 or less, got '33'"),
    (ALL, ["count=many"], "config: count: expected an integer of 64 bits such as 10, -1 or 0x1f, got 'many'"),
    (ALL, ["ratio=nan"], "config: ratio: expected a number such as 0.5 or 1e6, got 'nan'"),
    (ALL, ["sync=perhaps"],
     "config: sync: expected true or false, on or off, yes or no, 1 or 0, got 'perhaps'"),
    (ALL, ["pause=1h"], "config: pause: expected a delay such as 5, 2.5s, 100ms, 20us or 30ns, got '1h'"),
    (ALL, ["pause=61"], "config: pause: expected 60s or less, got '61'"),
    (ALL, ["error-rate=101%"], "config: error-rate: expected a probability up to 1 or 100%, got '101%'"),
    (ALL, ["file="], "config: file: expected a path, got ''"),
    (ALL, ["mode=slow"], "config: mode: expected fast or safe, got 'slow'"),
    (ALL, ["port=80", "port=0"], "config: port: expected 1 or more, got '0'"),
    (ALL, ["size=1M", "2M"], "config: size: given more than once"),
    (ALL, ["sise=1M"], "config: unknown parameter 'sise': did you mean 'size'? The parameters are: size=SIZE count=INT "
                       "ratio=FLOAT sync=BOOL pause=DELAY error-rate=PROBABILITY file=PATH mode=fast|safe host=STR … "
                       "port=INT … secret=PASSWORD label=STR"),
    (REQUIRED, [], "config_complete: the parameter file=PATH is missing"),
    (REQUIRED, ["file=/a"], "config_complete: after /a [EINVAL]"),
    (REQUIRED, ["/a"], "unexpected parameter '/a': expected KEY=VALUE, since the script has no magic_config_key"),
    (disk("P = nbdkit.parameter('p', int, default='x')\n"), [],
     "config_complete: p: expected an integer of 64 bits such as 10, -1 or 0x1f, got 'x'"),
    (disk("P = nbdkit.parameter('p', int, default=1)\nQ = nbdkit.parameter('p', int, default=1)\n"), [],
     "the parameter p is declared more than once"),
    (disk("P = nbdkit.parameter('p', int, magic=True)\nQ = nbdkit.parameter('q', int, magic=True)\n"), [],
     "expected one parameter with magic=True, got p and q"),
    (disk("P = nbdkit.parameter('p', int, magic=True)\nmagic_config_key = 'q'\n"), [],
     "magic_config_key: expected 'p', the parameter with magic=True, got 'q'"),
])
def test_refused(start_fails: StartFails, text: str, words: list[str], said: str) -> None:
    found = [line for line in start_fails(text, *words).splitlines() if "warning" not in line]
    assert [re.sub(r"^nbdkit: error: \S*disk\.py: ", "", line) for line in found] == [said]


def test_a_secret_is_in_no_message(start_fails: StartFails) -> None:
    said = start_fails(ALL, "secret=xyzzy", "secret=xyzzy")
    assert "secret: given more than once" in said and "xyzzy" not in said


def test_config_by_hand_gets_what_is_not_declared(tmp_path: Path, start_fails: StartFails) -> None:
    text = disk("""
        SIZE = nbdkit.parameter("size", nbdkit.size, default="1M")
        others = {}
        def config(key, value):
            if key != "colour":
                raise nbdkit.Error(22, f"unknown parameter {key}")
            others[key] = value
        def config_complete(): others["size"] = SIZE.value
        def get_ready():
            print(others, [])
            nbdkit.shutdown()
    """)
    found, _ = values(tmp_path, text, "colour=red", "size=2M")
    assert found == {"colour": "red", "size": 2 << 20}
    assert "config: unknown parameter shape [EINVAL]" in start_fails(text, "shape=round")


def test_a_type_of_the_scripts_own(tmp_path: Path, start_fails: StartFails) -> None:
    text = disk("""
        def blocks(text):
            size = nbdkit.size(text)
            if size % 512:
                raise ValueError(f"expected a multiple of 512, got {text!r}")
            return size // 512
        SIZE = nbdkit.parameter("size", blocks)
        def get_ready():
            print({"size": SIZE.value}, [])
            nbdkit.shutdown()
    """)
    assert values(tmp_path, text, "size=1M")[0] == {"size": 2048}
    assert "config: size: expected a multiple of 512, got '513'" in start_fails(text, "size=513")
    assert "config_complete: the parameter size=BLOCKS is missing" in start_fails(text)


def test_in_a_class(serve: Serve, start_fails: StartFails) -> None:
    text = mine("""
        size = nbdkit.parameter("size", nbdkit.size, default="1M", magic=True)
        def get_size(self): return self.size.value
    """)
    assert serve(text, "3M").connect().get_size() == 3 << 20
    assert "unknown parameter 'sizes': did you mean 'size'?" in start_fails(text, "sizes=1")


# --dump-plugin, and the help page.

DOCUMENTED = '"""A disk.\n\nIt has parameters.\n"""\n' + ALL


def test_dump_plugin(tmp_path: Path) -> None:
    done = run_nbdkit("--dump-plugin", write_script(tmp_path, DOCUMENTED))
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("python_parameter_"))
    assert list(lines) == [f"python_parameter_{name}" for name in DEFAULTS]
    assert lines["python_parameter_size"] == (
        "SIZE (default 1M, at least 512, `size=` may be left out): The disk's size.")
    assert lines["python_parameter_sync"] == "BOOL (default false): Whether to wait."
    assert lines["python_parameter_port"] == "INT … (default 10809, at least 1, at most 65535)"
    required = run_nbdkit("--dump-plugin", write_script(tmp_path, REQUIRED)).stdout
    assert "python_parameter_file=PATH (required)\n" in required
    assert "config" in re.search(r"^python_callbacks=(.*)$", required, re.MULTILINE)[1].split()  # type: ignore[index]


def module(text: str) -> ModuleType:
    """A script's module, as who has no server loads it."""
    loaded = ModuleType("disk")
    loaded.__file__ = "/scripts/disk.py"
    exec(text, vars(loaded))
    return loaded


def test_the_help_page() -> None:
    page = _help.page(module(DOCUMENTED + "BACKING = nbdkit.parameter('backing', nbdkit.path)\n"), "disk.py")
    assert page.startswith("""\
usage: nbdkit python disk.py [size=SIZE] [count=INT] [ratio=FLOAT] [sync=BOOL]
    [pause=DELAY] [error-rate=PROBABILITY] [file=PATH] [mode=fast|safe]
    [host=STR …] [port=INT …] [secret=PASSWORD] [label=STR] backing=PATH

A disk.

It has parameters.

Parameters:

    size=SIZE               The disk's size. (default 1M, at least 512, `size=`
                            may be left out)
    count=INT               (default 3, at least -5, at most 32)
    ratio=FLOAT             (default 0.5)
    sync=BOOL               Whether to wait. (default false)
    pause=DELAY             (default 1500ms, at most 60s)
    error-rate=PROBABILITY  (default 10%)
    file=PATH
    mode=fast|safe          (default safe)
""")
    assert page.endswith("    backing=PATH            (required)\n")
    assert all(len(line) <= 80 for line in page.splitlines())


def test_the_help_page_of_a_script_without_parameters() -> None:
    assert _help.page(module("size = 3\n")) == "usage: nbdkit python /scripts/disk.py\n"


# Without a server.


def test_the_help_page_of_a_file(tmp_path: Path) -> None:
    write_script(tmp_path, DOCUMENTED)
    code = "from nbdkit import _help, _script; print(_help.page(_script.load('disk.py'), 'disk.py', 100))"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, cwd=tmp_path, timeout=TIMEOUT,
                          env=environment(PYTHONPATH=str(ROOT / "python")))
    assert done.stdout.startswith("usage: nbdkit python disk.py [size=SIZE] [count=INT]"), done.stderr
    assert "\n\nA disk.\n\nIt has parameters.\n\nParameters:\n\n    size=SIZE  " in done.stdout


def test_a_value_without_a_command_line() -> None:
    size = nbdkit.parameter("size", nbdkit.size, default="1M")
    assert (size.value, size.given, size.required) == (1 << 20, False, False)
    size.set("2M")
    assert (size.value, size.given) == (2 << 20, True)
    with pytest.raises(ValueError, match="^size: given more than once$"):
        size.set("2M")
    file = nbdkit.parameter("file", nbdkit.path)
    assert file.required and not hasattr(file, "values")
    with pytest.raises(LookupError, match="^the parameter file has not been given, and has no default$"):
        file.value  # noqa: B018


def test_a_default_is_not_the_list_that_grows() -> None:
    hosts = nbdkit.parameter("host", nbdkit.list_of(str), default=["default"])
    hosts.value.append("added")
    assert (hosts.value, hosts.default) == (["default", "added"], ["default"])
    hosts.set("a")
    hosts.set("b")
    assert (hosts.value, hosts.default) == (["a", "b"], ["default"])


@pytest.mark.parametrize("arguments, error, said", [  # the name, the type, and perhaps the minimum
    ((3, int), TypeError, "name: expected a str, got int 3"),
    (("", int), ValueError, "name: expected letters, digits and"),
    (("1st", int), ValueError, "after a letter, got '1st'"),
    (("a=b", int), ValueError, "after a letter, got 'a=b'"),
    (("script", int), ValueError, "nbdkit's own"),
    (("size", "1M"), TypeError, "type: expected a type such as nbdkit.size or int, got '1M'"),
    (("size", nbdkit.size, "1Q"), ValueError, "size: minimum: expected a size such as 512, 4k or 1G, got '1Q'"),
    (("mode", nbdkit.choice), TypeError, "got nbdkit.choice without arguments"),
    (("hosts", nbdkit.list_of), TypeError, "got nbdkit.list_of without arguments"),
])
def test_a_wrong_declaration(arguments: tuple[Any, ...], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        nbdkit.parameter(*arguments[:2], minimum=arguments[2] if arguments[2:] else None)


def test_wrong_arguments_of_a_type() -> None:
    with pytest.raises(TypeError, match=r"^nbdkit.choice: expected words such as 'fast', 'safe', got \['a', 'b'\]$"):
        nbdkit.choice(["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="^nbdkit.choice: expected words such as"):
        nbdkit.choice()
    with pytest.raises(TypeError, match="^nbdkit.list_of: expected a type such as nbdkit.size or int, got 'int'$"):
        nbdkit.list_of("int")  # type: ignore[arg-type]


def test_defaults_and_bounds_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="^nbdkit.parameter: size: expected a minimum up to the maximum, got 2M and"):
        nbdkit.parameter("size", nbdkit.size, minimum="2M", maximum="1M")
    with pytest.raises(TypeError, match="^nbdkit.parameter: ports: default: expected a list, got int 5$"):
        nbdkit.parameter("ports", nbdkit.list_of(int), default=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^size: expected 512 or more, got '100'$"):
        nbdkit.parameter("size", nbdkit.size, default=100, minimum=512).value  # noqa: B018
    with pytest.raises(ValueError, match="^port: expected 1 or more, got"):
        nbdkit.parameter("port", nbdkit.list_of(int), default=[0], minimum=1).value  # noqa: B018
    with pytest.raises(ValueError, match="^name: expected a minimum and maximum of the type of 'a', got 5$"):
        nbdkit.parameter("name", str, minimum=5).set("a")


def test_a_parameter_in_place_of_its_value_is_known_by_its_name() -> None:
    assert repr(nbdkit.parameter("size", nbdkit.size, default="1M")) == "<nbdkit.Parameter size=SIZE>"


TYPES: list[Callable[[str], object]] = [
    nbdkit.size, nbdkit.delay, nbdkit.probability, nbdkit.path, nbdkit.choice("a", "b"), nbdkit.list_of(nbdkit.size),
    int, float, bool, str]


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(TYPES), st.one_of(st.text(), st.from_regex(r"-?[0-9]+(\.[0-9]+)?(e[0-9]+)?[a-zA-Z%]?")))
def test_any_text_is_a_value_or_an_error_that_names_the_parameter(type: Callable[[str], object], text: str) -> None:
    declared = nbdkit.parameter("name", type)
    try:
        declared.set(text)
    except ValueError as error:
        assert re.match(r"(?s)name: expected .*, got .*" if "\0" not in text else "name: ", str(error))
    else:
        assert declared.given
        if type is nbdkit.path:
            assert os.path.isabs(str(declared.value))
