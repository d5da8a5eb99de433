# SPDX-License-Identifier: BSD-3-Clause
"""The translator in a volume that glusterd manages: put in, started, and its options changed while it serves.

glusterd runs with folders, processes and a network of its own (unshare), so that the machine's stay as they are.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import gluster_kit
import pytest

HOST = "10.1.2.3"
ALONE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]

START = """
set -e
mount --bind {xlators} {installed}
for folder in /var/lib/glusterd /var/log/glusterfs /run; do
    mkdir -p $folder
    mount -t tmpfs tmpfs $folder
done
mkdir /run/gluster
ip link set lo up
ip address add {host}/32 dev lo
glusterd
{preloaded}
echo started
exec sleep infinity
"""


class Glusterd:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        [installed] = Path("/usr/lib").glob("*/glusterfs/*/xlator")
        xlators = folder / "xlator"
        shutil.copytree(installed, xlators)
        (xlators / "user").mkdir()
        (xlators / "user" / "python.so").symlink_to(gluster_kit.translator().resolve())
        script = folder / "start"
        script.write_text(START.format(xlators=xlators, installed=installed, host=HOST, preloaded=self.preloaded()))
        self.process = subprocess.Popen(
            [*ALONE, "bash", str(script)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "started\n", line
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.inside = ["nsenter", f"--target={children[0]}", "--mount", "--net", "--pid"]

    def preloaded(self) -> str:
        """What puts PRELOADED before the bricks, which glusterd starts by their path."""
        if not gluster_kit.PRELOADED:
            return ""
        brick, real = self.folder / "preloaded", self.folder / "glusterfsd"
        shutil.copy("/usr/sbin/glusterfsd", real)
        brick.write_text(f"#!/bin/sh\nexec {gluster_kit.PRELOADED[0]} {real} \"$@\"\n")
        brick.chmod(0o755)
        return f"mount --bind {brick} /usr/sbin/glusterfsd"

    def run(self, *command: object) -> str:
        done = subprocess.run([*self.inside, *map(str, command)], text=True, capture_output=True,
                              timeout=gluster_kit.PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def brick_log(self) -> str:
        return self.run("sh", "-c", "cat /var/log/glusterfs/bricks/*")

    def client(self, volume: str) -> gluster_kit.Client:
        return gluster_kit.Client(Path(f"{HOST}:{volume}"), self.folder / "client.log", self.inside)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def glusterd(tmp_path: Path) -> Iterator[Glusterd]:
    alone = subprocess.run([*ALONE, "true"], capture_output=True, text=True)
    if alone.returncode != 0 or shutil.which("ip") is None:
        pytest.skip(f"glusterd cannot have a machine of its own here: {alone.stderr or 'iproute2 is missing'}")
    daemon = Glusterd(tmp_path)
    yield daemon
    daemon.close()


def test_a_started_volume(glusterd: Glusterd, tmp_path: Path) -> None:
    script = gluster_kit.script_file(tmp_path, """
        import errno
        from glusterfs import Error, Translator

        class xlator(Translator):
            options = {"forbidden": "a", "limit": 5}

            def lookup(self, next, loc, xdata):
                if loc.name == self.options["forbidden"]:
                    raise Error(errno.EPERM)
                return next.lookup(loc, xdata)

            def reconfigure(self, options):
                print("reconfigure", sorted(options.items()), flush=True)
                if options["limit"] == 6:
                    raise ValueError("six is no limit")
    """)
    brick = tmp_path / "brick"
    glusterd.run("gluster", "volume", "create", "test", f"{HOST}:{brick}", "force")
    glusterd.run("gluster", "volume", "set", "test", "user.xlator.python", "io-threads")
    glusterd.run("gluster", "volume", "set", "test", "user.xlator.python.script", script)
    glusterd.run("gluster", "volume", "start", "test")
    client = glusterd.client("test")
    try:
        client.write("/file", b"hello")
        assert client.read("/file") == b"hello"
        assert (brick / "file").read_bytes() == b"hello"
        with pytest.raises(PermissionError):
            client.stat("/a")
        # Without a restart: glusterd tells the brick of the new options, and GlusterFS the translator.
        glusterd.run("gluster", "volume", "set", "test", "user.xlator.python.forbidden", "b")

        def forbidden() -> bool:
            try:
                client.stat("/b")
            except OSError as error:
                return error.errno == 1
            return False

        gluster_kit.wait_for(forbidden, "the new option")
        with pytest.raises(FileNotFoundError):
            client.stat("/a")
        # What it refuses is logged, and the old options stay.
        glusterd.run("gluster", "volume", "set", "test", "user.xlator.python.limit", "six")
        gluster_kit.wait_for(lambda: "option limit: expected an int" in glusterd.brick_log(), "the refusal in the log")
        glusterd.run("gluster", "volume", "set", "test", "user.xlator.python.limit", "6")
        gluster_kit.wait_for(lambda: "ValueError: six is no limit" in glusterd.brick_log(), "the error in the log")
        assert forbidden()
        # The translator is stopped with the volume.
        glusterd.run("gluster", "--mode=script", "volume", "stop", "test")
    finally:
        client.close()
