# SPDX-License-Identifier: BSD-3-Clause
"""The command line: which translator gets which parameter, how several stack, and what is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

from filter_kit import FILTER, MEMORY, Refused, Translate, attempt
from harness import PLUGIN, environment, write_script

# Claims one key, passes all others on, and says what it has got.
CLAIMS = """
import nbdkit
mine = []
def config(next, key, value):
    if key == KEY:
        mine.append(value)
    else:
        nbdkit.debug(f"{KEY} passes {key}={value}")
        next.config(key, value)
def config_complete():
    nbdkit.debug(f"{KEY} has {mine}")
def pread(h, next, buf, offset, flags):
    next.pread(buf, offset)
"""


def claims(key: str) -> str:
    return f"KEY = {key!r}\n{CLAIMS}"


def test_parameters_are_offered_to_the_translator_before_them(translate: Translate) -> None:
    server = translate(claims("a"), "a=1", "a=2", "size=2M", claims("b"), "b=3", "size=3M", plugin=("memory",),
                       verbose=True)
    log = server.log()
    for line in ("a has ['1', '2']", "a passes size=2M", "b has ['3']", "b passes size=3M"):
        assert line in log
    # The plugin's last word counts.
    assert server.connect().get_size() == 3 << 20


def test_parameters_before_the_first_translator_are_the_plugins(translate: Translate) -> None:
    server = translate(claims("size"), plugin=("memory", "size=2M"), verbose=True)
    assert server.connect().get_size() == 2 << 20
    assert "size has []" in server.log()


def test_a_parameter_may_be_changed_on_its_way(translate: Translate) -> None:
    server = translate("""
def config(next, key, value):
    next.config(key, value=str(int(value) * 2))
""", "size=1048576", plugin=("memory",))
    assert server.connect().get_size() == 2 << 20


def test_a_parameter_that_nobody_knows(refused: Refused) -> None:
    said = refused(claims("a"), "unknown=1")
    assert "unknown" in said


def test_what_was_printed_is_seen_although_the_plugin_refuses(refused: Refused) -> None:
    said = refused("print('printed at load')\n" + claims("a"), "unknown=1")
    assert "printed at load" in said


def test_state_is_each_translators_own(translate: Translate, tmp_path: Path) -> None:
    script = write_script(tmp_path, """
        import nbdkit
        number = 0
        def config(next, key, value):
            global number
            number = int(value)
        def pread(h, next, buf, offset, flags):
            next.pread(buf, offset)
            for i in range(len(buf)):
                buf[i] = buf[i] * 10 + number
        """, "same.py")
    # The same file twice, in this order from the client down.
    server = translate(script, "n=1", script, "n=2")
    assert server.connect().pread(2, 0) == bytes([21, 21])


def test_each_script_is_a_module_of_its_own(translate: Translate, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_script(tmp_path / folder, f"where = {folder!r}", f"beside_{folder}.py")
    script = """
        import sys, nbdkit
        import beside_{0}
        first = sys.path.index({1!r})
        nbdkit.debug(f"{0}: {{__name__}} {{beside_{0}.where}} {{sys.modules[__name__].first == first}} {{sys.argv}}")
        nbdkit.debug(f"{0}: {{__file__}} {{first}}")
        def config_complete(): pass
        """
    one = write_script(tmp_path / "one", script.format("one", str(tmp_path / "one")), "json.py")
    two = write_script(tmp_path / "two", script.format("two", str(tmp_path / "two")), "json.py")
    log = translate(one, two, two, verbose=True).log()
    assert f"one: __main__ one True ['{one}']" in log
    assert f"two: json.py two True ['{one}']" in log
    assert f"two: json.py (2) two True ['{one}']" in log
    assert f"one: {one} 0" in log and f"two: {two} 1" in log


def test_main_is_the_plugins_script(translate: Translate, tmp_path: Path) -> None:
    disk = write_script(tmp_path, """
        import sys, nbdkit
        API_VERSION = 2
        def open(readonly): pass
        def get_size(h): return 1 << 20
        def pread(h, buf, offset, flags): pass
        def get_ready(): nbdkit.debug(f"disk: {__name__} {sys.argv} {sys.path[0]}")
        """, "disk.py")
    text = """
import sys, nbdkit
def get_ready(): nbdkit.debug(f"translator: {__name__} {sys.argv}")
"""
    # However they are ordered.
    for words in ([f"script={disk}", text], [text, f"script={disk}"]):
        log = translate(*words, plugin=(PLUGIN,), verbose=True).log()
        assert f"disk: __main__ ['{disk}'] {tmp_path}" in log
        name = "translator1.py" if words[1] is text else "translator0.py"
        assert f"translator: {name} ['{disk}']" in log


def test_no_translator(refused: Refused) -> None:
    assert "no translator: usage: nbdkit --filter=python PLUGIN [...] translator=SCRIPT [KEY=VALUE ...]" in refused()


def test_no_callback(refused: Refused) -> None:
    assert "translator0.py: it has no callback" in refused("x = 1\n")


def test_a_misspelt_callback(refused: Refused) -> None:
    said = refused("def pwirte(h, next, buf, offset, flags): pass\n")
    assert "translator0.py: pwirte: there is no such callback: did you mean 'pwrite'?" in said


def test_a_callback_with_other_parameters(refused: Refused) -> None:
    said = refused("def pread(h, buf, offset, flags): pass\n")
    assert "pread: expected pread(h, next, buf, offset, flags), got pread(h, buf, offset, flags)" in said


def test_a_script_that_fails(refused: Refused) -> None:
    assert "ZeroDivisionError" in refused("1 / 0\n")
    assert "cannot read the script: No such file or directory" in refused("translator=/nonexistent.py")


def test_the_filter_twice(tmp_path: Path) -> None:
    done = attempt(tmp_path, claims("a"), options=[f"--filter={FILTER}"])
    assert done.returncode == 1
    assert "--filter=python is there twice: write it once, with a translator=SCRIPT for each" in done.stderr


def test_help_tells_of_it() -> None:
    done = subprocess.run(["nbdkit", f"--filter={FILTER}", *MEMORY, "--help"], capture_output=True, text=True,
                          env=environment(), check=True)
    assert "translator=<FILENAME>" in done.stdout


def test_another_build_of_nbdkit_refuses_it(tmp_path: Path) -> None:
    """A filter is for one version of nbdkit: what would happen elsewhere, by a copy that says it is for another."""
    version = subprocess.run(["nbdkit", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    other = version[:-1] + ("0" if version[-1] != "0" else "1")
    copy = tmp_path / "nbdkit-python-filter.so"
    copy.write_bytes(Path(FILTER).read_bytes().replace(
        b"\0" + version.encode() + b"\0", b"\0" + other.encode() + b"\0"))
    (tmp_path / "libnbdkit-python.so").symlink_to(Path(FILTER).with_name("libnbdkit-python.so"))
    done = subprocess.run(["nbdkit", "-f", f"--filter={copy}", *MEMORY, "translator=x"], capture_output=True, text=True,
                          env=environment(), check=False)
    assert done.returncode == 1
    assert f"filter is incompatible with this version of nbdkit (_version = {other}, need {version})" in done.stderr
