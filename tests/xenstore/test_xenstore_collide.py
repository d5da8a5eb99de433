# SPDX-License-Identifier: BSD-3-Clause
"""Two programs that collide in transactions lose nothing."""

from __future__ import annotations

import subprocess
import sys
import time

from xenstore import Xenstore

from xenstore_daemon import TIMEOUT, Daemon

KEYS, TURNS = 199, 20

# Each turn adds 1 to every key; both programs begin at the same time, as often as they are told to.
PROGRAM = f"""
import sys
from xenstore import Xenstore

with Xenstore(sys.argv[1]) as store:

    def add(transaction):
        global tries
        tries += 1
        for key in range({KEYS}):
            transaction.write({{f"/keys/{{key}}": str(int(transaction.read(f"/keys/{{key}}")) + 1)}})

    print("ready", flush=True)
    for line in sys.stdin:
        tries = 0
        for turn in range({TURNS}):
            store.transact(add)
        print(tries - {TURNS}, flush=True)
"""


def test_two_programs_add_to_199_keys(any_daemon: Daemon) -> None:
    path = str(any_daemon.socket)
    with Xenstore(path, timeout=TIMEOUT) as store:
        store.write({f"/keys/{key}": "0" for key in range(KEYS)})
        programs = [subprocess.Popen([sys.executable, "-c", PROGRAM, path], text=True, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}) for _ in range(2)]
        try:
            for program in programs:
                assert program.stdout is not None and program.stdout.readline() == "ready\n"
            rounds = conflicts = 0
            deadline = time.monotonic() + TIMEOUT
            # On a busy machine, one may be done before the other begins.
            while not conflicts and time.monotonic() < deadline:
                for program in programs:
                    assert program.stdin is not None
                    program.stdin.write("go\n")
                    program.stdin.flush()
                for program in programs:
                    assert program.stdout is not None
                    conflicts += int(program.stdout.readline())
                rounds += 1
            for program in programs:
                program.communicate(timeout=TIMEOUT)
        finally:
            for program in programs:
                program.kill()
                program.wait()
        assert [program.returncode for program in programs] == [0, 0]
        assert conflicts > 0, "they were to collide"
        values = store.read(*[f"/keys/{key}" for key in range(KEYS)])
        assert set(values.values()) == {str(2 * TURNS * rounds)}
