# SPDX-License-Identifier: BSD-3-Clause
"""`logging` and `warnings` in a script: warnings and worse in nbdkit's log, the rest there if it is verbose."""

from __future__ import annotations

import re

import pytest

from conftest import Serve
from disks import disk

LOGS = """
    import logging
    {first}
    log = logging.getLogger("my.disk")

    def pread(h, buf, offset, flags):
        log.debug("a %s", "debug")
        log.info("an info")
        log.warning("a warning of %d%%", 100)
        log.error("an error")
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("an exception")
        logging.critical("of the root")
"""


def logged(serve: Serve, text: str, verbose: bool = False) -> list[str]:
    """What one request has the log say, without nbdkit's own words before it: the level, and the text."""
    server = serve(disk(text), verbose=verbose)
    server.connect().pread(1, 0)
    return re.findall(r"^nbdkit: (?:python\S+: )?(error: .*|debug: my\.disk: .*)$", server.log(), re.MULTILINE)


EXPECTED = ["error: warning: my.disk: a warning of 100%", "error: my.disk: an error", "error: my.disk: an exception",
            "error: of the root"]


@pytest.mark.parametrize("first", ["", "logging.basicConfig()", "logging.basicConfig(level=logging.WARNING)"])
def test_by_level(serve: Serve, first: str) -> None:
    assert logged(serve, LOGS.format(first=first)) == EXPECTED


def test_the_traceback_of_an_exception(serve: Serve) -> None:
    server = serve(disk(LOGS.format(first="")))
    server.connect().pread(1, 0)
    assert re.search(r"an exception\nTraceback \(most recent call last\):\n(  .*\n)+ZeroDivisionError: .*\n",
                     server.log())


def test_all_of_it_if_nbdkit_is_verbose(serve: Serve) -> None:
    assert logged(serve, LOGS.format(first=""), verbose=True) == [
        "debug: my.disk: a debug", "debug: my.disk: an info", *EXPECTED]


def test_the_scripts_level_counts(serve: Serve) -> None:
    first = "logging.basicConfig(level=logging.INFO)"
    assert logged(serve, LOGS.format(first=first), verbose=True) == ["debug: my.disk: an info", *EXPECTED]


def test_the_scripts_format_counts(serve: Serve) -> None:
    first = "logging.basicConfig(format='%(levelname)s in %(funcName)s: %(message)s')"
    assert logged(serve, LOGS.format(first=first))[0] == "error: WARNING in pread: a warning of 100%"


def test_where_the_script_says_otherwise(serve: Serve, tmp_path: object) -> None:
    first = f"logging.basicConfig(filename={str(tmp_path)!r} + '/log', level=logging.DEBUG)"
    assert logged(serve, LOGS.format(first=first)) == []
    with open(f"{tmp_path}/log") as file:
        assert file.readline() == "DEBUG:my.disk:a debug\n"


def test_an_import_in_a_callback(serve: Serve) -> None:
    text = "def pread(h, buf, offset, flags):\n    import logging\n    logging.warning('late')\n"
    assert logged(serve, text) == ["error: warning: late"]


def test_a_record_that_cannot_be_formatted_fails_nothing(serve: Serve) -> None:
    text = "import logging\ndef pread(h, buf, offset, flags): logging.warning('%d', 'text')\n"
    server = serve(disk(text))
    assert server.connect().pread(1, 0) == b"\0"
    assert "--- Logging error ---" in server.log()


@pytest.mark.parametrize("imports", ["import warnings", "import warnings, logging"])
def test_warnings(serve: Serve, imports: str) -> None:
    lines = logged(serve, f"""
        {imports}
        def pread(h, buf, offset, flags):
            warnings.warn("look out")
            warnings.warn("that is old", DeprecationWarning)
    """)
    assert [re.sub(r"\S*/|:\d+", "", line) for line in lines] == [
        "error: warning: disk.py: UserWarning: look out", "error: warning: disk.py: DeprecationWarning: that is old"]


def test_warnings_that_the_script_handles(serve: Serve) -> None:
    assert logged(serve, """
        import logging, warnings
        logging.basicConfig()
        logging.captureWarnings(True)
        def pread(h, buf, offset, flags):
            with warnings.catch_warnings(record=True) as caught:
                warnings.warn("not seen")
            warnings.warn("caught %d" % len(caught))
    """)[0].startswith("error: warning: py.warnings: ")
