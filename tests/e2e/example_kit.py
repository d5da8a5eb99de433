# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of the examples share: clients, a check against a model, examples with something changed in them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbd

from harness import EXAMPLES, PLUGIN, TIMEOUT, Server, environment, write_script

KiB, MiB = 1024, 1024 * 1024


def run(*command: object, **settings: Any) -> str:
    """Run a client to its end and return what it printed; a failure shows what it said."""
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=TIMEOUT, **settings)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def info(uri: str) -> dict[str, Any]:
    """What nbdinfo says of an export."""
    return json.loads(run("nbdinfo", "--json", uri))["exports"][0]


def data_map(uri: str) -> list[tuple[int, int]]:
    """The data (not the holes) of an export as `nbdinfo --map` sees it: (offset, length)."""
    areas = json.loads(run("nbdinfo", "--map", "--json", uri))
    return [(area["offset"], area["length"]) for area in areas if area["type"] == 0]


def sparse_image(path: Path, size: int, **data: int) -> Path:
    """A file of holes but for random bytes: at_N=LENGTH puts LENGTH of them at N KiB."""
    source = random.Random(path.name)
    with path.open("wb") as image:
        image.truncate(size)
        for name, length in data.items():
            image.seek(int(name.removeprefix("at_")) * KiB)
            image.write(source.randbytes(length))
    return path


def altered(folder: Path, example: str, before: str = "", after: str = "") -> Path:
    """A script that is the example, between two pieces of code that change what it rests on, or what it defines."""
    load = f"exec(compile(open({str(EXAMPLES / example)!r}).read(), {example!r}, 'exec'))\n"
    return write_script(folder, textwrap.dedent(before) + load + textwrap.dedent(after), f"altered_{example}")


def open_modes(server: Server, path: Path) -> list[int]:
    """How the server has opened a file: os.O_RDONLY or os.O_RDWR, for each time that it has."""
    modes = []
    for entry in Path(f"/proc/{server.pid}/fdinfo").iterdir():
        if os.path.realpath(f"/proc/{server.pid}/fd/{entry.name}") == str(path):
            flags = entry.read_text().partition("flags:")[2].split()[0]
            modes.append(int(flags, 8) & os.O_ACCMODE)
    return modes


def exercise(server: Server, size: int, requests: int = 300) -> bytes:
    """Write, zero and discard odd ranges through two connections, compare with a model; the result is its bytes."""
    disks = [server.connect(), server.connect()]
    model = bytearray(disks[0].pread(size, 0))
    chance = random.Random(bytes(model))  # other requests, when it begins with other content
    for number in range(requests):
        disk = disks[number % 2]
        offset = chance.randrange(size)
        count = chance.randrange(1, min(size - offset, 20000) + 1)
        kind = chance.choice(["write", "zero", "zero for keeps", "trim", "read"])
        fua = chance.choice([0, nbd.CMD_FLAG_FUA]) if number % 10 == 0 else 0
        if kind == "write":
            model[offset : offset + count] = chance.randbytes(count)
            disk.pwrite(bytes(model[offset : offset + count]), offset, fua)
        elif kind.startswith("zero"):
            model[offset : offset + count] = bytes(count)
            disk.zero(count, offset, fua | (nbd.CMD_FLAG_NO_HOLE if kind == "zero for keeps" else 0))
        elif kind == "trim":
            disk.trim(count, offset, fua)
            now = disk.pread(count, offset)  # each byte is as before, or zero
            assert all(new in (0, old) for new, old in zip(now, model[offset : offset + count]))
            model[offset : offset + count] = now
        assert disks[number % 2 - 1].pread(count, offset) == model[offset : offset + count], (kind, offset, count)
    assert disks[0].pread(size, 0) == model
    disks[1].flush()
    return bytes(model)


@contextmanager
def in_background(folder: Path, script: str, *parameters: str) -> Iterator[str]:
    """Serve an example as a daemon that was started in `folder`; the result is its URI."""
    socket, pidfile = folder / "daemon.sock", folder / "daemon.pid"
    run("nbdkit", "-U", socket, "-P", pidfile, PLUGIN, EXAMPLES / script, *parameters, cwd=folder, env=environment())
    deadline = time.monotonic() + TIMEOUT
    while not pidfile.exists() or not pidfile.read_text().endswith("\n"):
        assert time.monotonic() < deadline, "the server in the background did not come up"
        time.sleep(0.005)
    pid = int(pidfile.read_text())
    try:
        yield f"nbd+unix:///?socket={socket}"
    finally:
        deadline = time.monotonic() + TIMEOUT
        os.kill(pid, signal.SIGTERM)
        while running(pid):
            assert time.monotonic() < deadline, "the server in the background did not end"
            time.sleep(0.005)
        for left in (socket, pidfile):
            left.unlink(missing_ok=True)


def running(pid: int) -> bool:
    """Is this process still there, and not just waiting for its parent to notice its end?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
