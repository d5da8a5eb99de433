# SPDX-License-Identifier: BSD-3-Clause
"""A plugin of pytest for `./test asan` and `./test tsan`: a sanitizer's report fails the test that it comes from.

It also knows the tests that a sanitizer cannot be asked to run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPORTS = Path(os.environ["SANITIZER_REPORTS"])
REMARK = re.compile(os.environ["SANITIZER_REMARK"])

# Patterns of names, with or without parameters.
LEFT_OUT = [
    # These measure resident memory, in which a sanitizer keeps what has been freed, and notes of its own.
    "test_failing_reads_do_not_use_up_memory",
    "test_memory_does_not_grow",
    "test_nothing_is_lost_and_nothing_left_behind",
    "test_nothing_is_lost_in_translators",
    "test_no_memory_is_lost",
    "test_what_a_request_has_asked_for_goes_when_the_script_lets_it_go",
    "test_it_would_be_noticed_if",
    # These measure time.
    "test_a_callback_costs_little_more_than_a_call",
    "test_a_read_that_fills_is_not_zeroed_first",
    "test_what_a_translator_costs",
    # A limit on the address space, of which a sanitizer takes terabytes: the script would use up the machine.
    "test_no_memory_is_left",
]
if os.environ["SANITIZER"] == "tsan":
    LEFT_OUT += [
        # The script has a thread when nbdkit forks. ThreadSanitizer does not work in the child of such a process: it
        # holds back every signal, so that the server does not end.
        "test_a_busy_thread_while_nbdkit_daemonises",
        "test_a_busy_thread_while_nbdkit_forks_for_run",
        r"test_a_waiting_thread_does_not_keep_the_server_alive\[background\]",
        r"test_multiprocessing_before_the_fork\[executor\]",
        r"test_(threads|processes)\[(background|run)-(an? (busy|thread|executor|event)|executor).*"
        r"-(import|get_ready)\]",
        # Who starts a thread waits there until it runs, which is what this test puts off.
        "test_a_client_that_nbdkit_does_not_know_of",
    ]
# Tests in which leaks are not looked for.
LOSING = {
    # What the script imports loses memory of its own.
    "test_memory_that_is_held_serves_no_request",  # numpy: constants of its modules in C
    # nbdkit loses the name of an export when a client asks for contexts a second time, with another name.
    "test_noise_at_every_stage",
    # GlusterFS's storage/posix opens a file for each `put`, and does not let it go.
    "test_what_translators_ask_for",
    # LeakSanitizer does not work under strace.
    "test_file_synchronises_before_it_answers",
    "test_sqlite_synchronises_before_it_answers",
    "test_a_disk_that_does_not_synchronise_is_found",
    "test_sqlite_that_does_not_synchronise_is_found",
}
# Tests in which lsan.supp needs to know a block's whole stack, which takes time.
WHOLE_STACKS = {
    # GlusterFS leaves behind what it had made for a graph that does not start, or that ends while its process goes on.
    "test_graphs_come_and_go",
    "test_no_child",
    "test_no_script",
    "test_one_of_script_and_module_name",
    "test_scripts_that_are_refused",
}


def bare(item: pytest.Item) -> str:
    """A test's name without its parameters."""
    return item.name.partition("[")[0]


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    pattern = re.compile("|".join(LEFT_OUT))
    left_out = [item for item in items if pattern.fullmatch(item.name) or pattern.fullmatch(bare(item))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def said(report: Path) -> str:
    lines = report.read_text(errors="replace").splitlines()
    return "".join(f"{line}\n" for line in lines if not REMARK.fullmatch(line))


@pytest.fixture(autouse=True)
def no_report(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test's servers put its name on their reports. This is a test's first fixture: it ends after them."""
    label = re.sub(r"\W+", "-", request.node.nodeid.rpartition("/")[2])[:120]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SANITIZER_TEST", label)
        environment.setenv("SANITIZER_LEAKS", "0" if bare(request.node) in LOSING else "1")
        environment.setenv("SANITIZER_WHOLE_STACKS", "1" if bare(request.node) in WHOLE_STACKS else "")
        yield
    reports = "".join(map(said, sorted(REPORTS.glob(f"{label}.*"))))
    if reports:
        pytest.fail(reports, pytrace=False)
