# SPDX-License-Identifier: BSD-3-Clause
"""A brick of GlusterFS with translators in it, and a client; without glusterd and FUSE."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "gluster"
PATIENCE = 60  # seconds, which only bound failures
# What a command begins with whose process is to load the translator: a sanitizer's runtime must be there before.
PRELOADED = [os.environ["SANITIZER_COMMAND"]] if "SANITIZER_COMMAND" in os.environ else []


def translator() -> Path:
    """The translator that was built: python.so."""
    return Path(os.environ.get("NBDKIT_PYTHON_GLUSTER", ROOT / "build" / "glusterfs" / "python.so"))


def missing() -> str | None:
    """Why these tests cannot run here, or None."""
    if shutil.which("glusterfsd") is None or not Path("/usr/include/glusterfs/xlator.h").exists():
        return "GlusterFS is not installed: glusterfs-server, and libglusterfs-dev with which python.so is built"
    # With all that there, a python.so that is not there is a fault.
    return None


def wait_for(condition: Any, what: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Until condition() is true; an AssertionError if that takes too long, or the process ends."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process is None or process.poll() is None, f"{what}: the process has ended: {process.returncode}"
        assert time.monotonic() < end, f"{what}: not within {PATIENCE} s"
        time.sleep(0.01)


def xlator(name: str, script: str | Path, below: str | Iterable[str], **options: object) -> str:
    """A volume of type python, as a volume file has it. The type is a path from GlusterFS's own folder."""
    lines = "".join(f"  option {key.replace('_', '-')} {value}\n" for key, value in options.items())
    children = below if isinstance(below, str) else " ".join(below)
    kind = "../" * 8 + str(translator().resolve().with_suffix(""))[1:]
    return (f"volume {name}\n  type {kind}\n  option script {script}\n{lines}"
            f"  subvolumes {children}\nend-volume\n")


def volume(name: str, kind: str, below: str = "", more: Mapping[str, object] = {}, **options: object) -> str:
    """A volume of one of GlusterFS's own types. more: options whose names are not Python's."""
    lines = "".join(f"  option {key.replace('_', '-')} {value}\n" for key, value in {**more, **options}.items())
    children = f"  subvolumes {below}\n" if below else ""
    return f"volume {name}\n  type {kind}\n{lines}{children}end-volume\n"


class Client:
    """gluster_gfapi.Volume, in a process of its own.

    volfile: a volume file, or HOST:VOLUME where a glusterd has it.
    inside: a command that runs another, elsewhere.
    """

    def __init__(self, volfile: Path, log: Path, inside: Sequence[str] = ()) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        self.process = subprocess.Popen(
            [*inside, "/usr/bin/python3", str(Path(__file__).with_name("gluster_gfapi.py")), str(volfile), str(log)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        if error := self._answer():
            self.close()
            raise error

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return pickle.load(self.process.stdout)

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            assert self.process.stdin is not None
            pickle.dump((name, arguments), self.process.stdin)
            self.process.stdin.flush()
            answer = self._answer()
            if isinstance(answer, BaseException):
                raise answer
            return answer

        if name.startswith("_"):
            raise AttributeError(name)
        return call

    def write(self, path: str, data: bytes) -> None:
        """Make a file with these bytes."""
        fd = self.creat(path)
        assert self.pwrite(fd, data, 0) == len(data)
        self.of_fd("close", fd)

    def read(self, path: str) -> bytes:
        fd = self.open(path, os.O_RDONLY)
        data: bytes = self.pread(fd, 1 << 20, 0)
        self.of_fd("close", fd)
        return data

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


class Brick:
    """A brick that serves a folder through translators, from a volume file; and its clients.

    volumes: what the volume file has between `posix` and the server.
    top: the name of the last one.
    """

    def __init__(self, folder: Path, volumes: str, *, environment: dict[str, str] | None = None,
                 wait: bool = True, top: str = "top") -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.log_file = folder / "brick.log"
        self.errors = folder / "brick.err"
        self.volfile = folder / "brick.vol"
        # A path to a socket must be short.
        self.socket = Path("/tmp") / f"gluster-{os.getpid()}-{id(self):x}.sock"
        self.volfile.write_text(
            volume("posix", "storage/posix", directory=self.data) + volumes
            + volume("server", "protocol/server", top, {
                "transport-type": "unix", "transport.address-family": "unix",
                "transport.socket.listen-path": self.socket,
                f"auth.addr.{top}.allow": "*", "rpc-auth-allow-insecure": "on",
                # A server that has another below it waits in one for each client's first lookup, whose answer comes
                # by another; and one more waits where a client has gone meanwhile.
                "event-threads": 4}))
        (folder / "client.vol").write_text(client_volume("client", self.socket, top))
        self.environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        self.environment |= environment or {}
        self.clients: list[Client] = []
        self.start(wait)

    def start(self, wait: bool = True) -> None:
        """wait: until it serves; it listens before it knows whether its translators start."""
        self.socket.unlink(missing_ok=True)
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                ["glusterfsd", "-f", str(self.volfile), "--no-daemon", "--log-level=WARNING", "-l", str(self.log_file)],
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=self.environment)
        if wait:
            wait_for(self.socket.exists, f"the brick: {self.log()}", self.process)

    def client(self, volfile: Path | None = None) -> Client:
        """A new client: of the brick alone, or as this volume file says."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                client = Client(volfile or self.folder / "client.vol", self.folder / "client.log")
            except OSError:
                # A server that listens may not have reached what is below it yet.
                assert time.monotonic() < end and self.process.poll() is None, self.log()
                time.sleep(0.05)
            else:
                self.clients.append(client)
                return client

    def log(self) -> str:
        """What the brick has logged and printed."""
        texts = [path.read_text(errors="replace") for path in (self.log_file, self.errors) if path.exists()]
        return "".join(texts)

    def wait_for_log(self, pattern: str) -> str:
        """Until the log has this; the match."""
        wait_for(lambda: re.search(pattern, self.log()), f"a line with {pattern!r} in the log")
        found = re.search(pattern, self.log())
        assert found
        return found[0]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the brick; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.socket.unlink(missing_ok=True)


def client_volume(name: str, socket: Path, subvolume: str = "top", **options: object) -> str:
    """The client's side of a brick."""
    return volume(name, "protocol/client", "", {
        "transport-type": "unix", "transport.address-family": "unix", "transport.socket.connect-path": socket,
        "remote-host": "localhost", "remote-subvolume": subvolume}, **options)


def script_file(folder: Path, text: str, name: str = "script.py") -> Path:
    """A script with this text."""
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path
