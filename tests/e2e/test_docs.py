# SPDX-License-Identifier: BSD-3-Clause
"""The documentation says what is so: its scripts are served, and what it lists is compared with the code."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import nbd
import pytest

from conftest import Serve
from disks import disk
from harness import PLUGIN, ROOT, TIMEOUT, environment, nbdkit, raises_errno, write_script

README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
WRITING, ERRORS, CALLBACKS, MODULE = (
    ROOT / "docs" / f"{name}.md" for name in ("writing-a-disk", "errors", "callbacks", "module"))


def blocks(page: Path, language: str) -> list[str]:
    """The texts between ```language and ```."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for of, text in found if of == language]


def sections(page: Path, level: str) -> dict[str, str]:
    """The text under each heading of this level (`##`, `###`), down to the next heading of any level."""
    pieces = re.split(r"^(#+) (.+)\n", page.read_text(), flags=re.MULTILINE)[1:]
    return {title: text for hashes, title, text in zip(pieces[::3], pieces[1::3], pieces[2::3]) if hashes == level}


# The scripts that are disks; those of translators are served by tests/filter.

SCRIPTS = {f"{page.name} {number}": text for page in PAGES for number, text in enumerate(blocks(page, "python"), 1)
           if page.name != "first-translator.md"}


def defines(script: str) -> set[str]:
    """The names that a script has at its top level."""
    names: set[str] = set()
    for node in ast.parse(script).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(name.id for name in ast.walk(node.targets[0]) if isinstance(name, ast.Name))
    return names


def test_there_are_scripts() -> None:
    assert "README.md 1" in SCRIPTS and "writing-a-disk.md 2" in SCRIPTS


@pytest.mark.parametrize("title", SCRIPTS)
def test_a_script_is_served(serve: Serve, title: str) -> None:
    """A block that is no whole script is added to the least one."""
    script = SCRIPTS[title]
    whole = "open" in defines(script) or "@nbdkit.disk" in script
    server = serve(script if whole else disk(script))
    h = server.connect()
    assert h.get_size() > 0
    if "pwrite" in defines(script):
        h.pwrite(b"x" * 512, 512)
    expected = b"x" * 512 if {"pread", "pwrite"} <= defines(script) else bytes(512)
    assert h.pread(512, 512) == expected
    h.shutdown()
    assert server.stop() == 0
    assert server.log() == ""


def test_a_script_without_a_server() -> None:
    [command] = blocks(MODULE, "sh")
    subprocess.run(["bash", "-ec", command], check=True, cwd=ROOT, timeout=TIMEOUT, env=environment())


def test_the_readmes_disk_is_short_and_complete() -> None:
    [script] = blocks(README, "python")
    assert len(script.splitlines()) <= 15
    assert {"open", "get_size", "pread", "pwrite"} <= defines(script)


@pytest.mark.parametrize("page", [README, WRITING], ids=lambda page: page.name)
def test_the_command_works(tmp_path: Path, page: Path) -> None:
    """The page's first script, by the page's own command."""
    [command] = blocks(page, "sh")
    write_script(tmp_path, blocks(page, "python")[0])
    (tmp_path / "build").symlink_to(Path(PLUGIN).parent)
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, text=True, capture_output=True, timeout=TIMEOUT,
                          env=environment())
    assert done.returncode == 0, done.stderr
    assert "export-size: 67108864 (64M)" in done.stdout


SIZED = next(script for script in SCRIPTS.values() if "magic_config_key" in script)


def test_the_script_with_parameters(serve: Serve, start_fails: Callable[..., str]) -> None:
    assert serve(disk(SIZED), "size=2M").connect().get_size() == 2 << 20
    assert serve(disk(SIZED), "3M").connect().get_size() == 3 << 20
    assert "config: unknown parameter 'colour': this disk has one, size=SIZE [EINVAL]" in start_fails(
        disk(SIZED), "colour=red")
    assert "config_complete: size=1: expected a multiple of 512 [EINVAL]" in start_fails(disk(SIZED), "1")


def test_the_script_that_fails(serve: Serve) -> None:
    script = next(script for script in SCRIPTS.values() if "ENOSPC" in script)
    server = serve(disk(script))
    h = server.connect()
    h.pwrite(bytes(1 << 20), 0)
    with pytest.raises(nbd.Error, match="No space left on device"):
        h.pwrite(b"1", 0)
    assert "pwrite: the quota of 1048576 bytes is used up [ENOSPC]\n" in server.log()


def test_the_errno_that_the_client_sees(serve: Serve) -> None:
    [table] = re.findall(r"^\| errno of the callback .*\n\|.*\n((?:\|.*\n)+)", ERRORS.read_text(), re.MULTILINE)
    h = serve(disk("""
        def get_size(h): return 4096
        def pread(h, buf, offset, flags): raise nbdkit.Error(offset)
    """)).connect()
    rows = [row.split("|")[1:3] for row in table.splitlines()]
    seen = {name: re.findall(r"E[A-Z]+", client)[0] for names, client in rows for name in re.findall(r"E[A-Z]+", names)}
    assert len(seen) > 12
    for name, client in seen.items():
        with raises_errno(getattr(errno, client)):
            h.pread(1, getattr(errno, name))


# The callbacks.

TABLE = ROOT / "src" / "plugin" / "callbacks.def"


def test_every_callback_with_its_parameters() -> None:
    rows = re.findall(r'^CALLBACK \((\w+),.*?"(.*?)",\s+"(.*?)"\)', TABLE.read_text(), re.MULTILINE)
    assert len(rows) > 30
    expected = {}
    for name, v1, v2 in rows:
        shapes = {f"{name}({v2})": "version 2", f"{name}({v1})": "version 1"}
        if name == "pread":
            shapes["pread(h, count, offset, flags)"] = "version 2, if the second parameter is called count"
        expected[name] = shapes if v1 != v2 else {f"{name}({v1})": ""}
    documented = {}
    for name, text in sections(CALLBACKS, "###").items():
        [block] = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        matches = [re.fullmatch(r"(\w+\(.*?\))\s*(.*)", line) for line in block.splitlines()]
        assert all(matches), block
        documented[name] = {match[1]: match[2] for match in matches if match}
    assert documented == expected


def test_which_callbacks_must_be_there_and_which_names_are_left_alone() -> None:
    needs = dict(re.findall(r"^CALLBACK \((\w+),\s+(\w+),", TABLE.read_text(), re.MULTILINE))
    required = {name for name, need in needs.items() if need == "required"}
    for name, text in sections(CALLBACKS, "###").items():
        words = " ".join(text.split())
        assert ("**Required.**" in words) == (name in required), name
        assert ("Without it:" in words) == (name not in required), name
    [left_alone] = re.findall(r"(?ms)^- \*\*Names that scripts use .*?(?=\(`)", CALLBACKS.read_text())
    lenient = {name for name, need in needs.items() if need in ("shared", "added")}
    assert set(re.findall(r"`(\w+)`", left_alone)) == lenient


# The module.

Lists = tuple[dict[str, int], dict[str, str | None], list[str], dict[str, str]]

FUNCTION = re.compile(r"(?P<signature>(?P<name>\w+)\(.*?\)(?: -> .+?)?)(?:\s{2,}nbdkit (?P<since>1\.\d+))?")

LISTS = disk("""
    import json
    import _nbdkit

    def dump_plugin():
        names = {name for name in dir(nbdkit) if not name.startswith("_")}
        constants = {name: getattr(nbdkit, name) for name in names if name.isupper()}
        functions = {name: getattr(nbdkit, name).__doc__.split("\\n")[0] if hasattr(_nbdkit, name) else None
                     for name in names if name.islower()}
        print("lists=" + json.dumps([constants, functions, sorted(names - {*constants, *functions}), nbdkit._SINCE]))
""")


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Lists:
    """What `nbdkit` has in a server: constants; functions and how docstrings in C++ begin; the rest; what came when."""
    done = nbdkit("--dump-plugin", write_script(tmp_path_factory.mktemp("module"), LISTS))
    assert done.returncode == 0, done.stderr
    constants, functions, rest, since = json.loads(done.stdout.partition("lists=")[2])
    return constants, functions, rest, since


def documented_functions() -> dict[str, re.Match[str]]:
    lines = [line for block in blocks(MODULE, "") for line in block.splitlines()]
    matches = {line: FUNCTION.fullmatch(line) for line in lines}
    assert all(matches.values()), matches
    return {match["name"]: match for match in matches.values() if match}


def test_every_constant(module: Lists) -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", MODULE.read_text(), re.MULTILINE)
    assert {name: int(value) for name, value in rows} == module[0]


def test_every_function(module: Lists) -> None:
    _, functions, others, since = module
    documented = documented_functions()
    types = {"AsyncNext", "Background", "Next"}  # for annotations
    assert set(others) == {"Error", "Parameter", *types}
    assert set(documented) == set(functions) | set(since) | set(others) - types
    assert {name: match["since"] for name, match in documented.items() if match["since"]} == since


def test_the_signature_of_every_function(module: Lists) -> None:
    documented = documented_functions()
    in_the_server = {name: doc for name, doc in module[1].items() if doc is not None}
    assert {name: documented[name]["signature"] for name in in_the_server} == in_the_server


# --dump-plugin.

def test_the_keys_of_dump_plugin(tmp_path: Path) -> None:
    documented = re.findall(r"^\| `(\w+)` \|", sections(WRITING, "##")["--dump-plugin"], re.MULTILINE)
    script = write_script(tmp_path, '"""A disk."""\n' + disk())

    def printed(*arguments: object) -> list[str]:
        keys = re.findall(r"^(\w+)=", nbdkit("--dump-plugin", *arguments).stdout, re.MULTILINE)
        return [key for key in keys if key.startswith(("python_", "nbdkit_python_"))]

    assert printed(script) == documented
    assert printed() == documented[:-5]


# The pages themselves.

def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https://)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        there = Path(os.path.normpath(page.parent / path)) if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_begins_with_its_licence_and_keeps_to_the_lines(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert lines[0] == "<!-- SPDX-License-Identifier: BSD-3-Clause -->"
    assert [line for line in lines if len(line) > 120] == []
