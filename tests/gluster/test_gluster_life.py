# SPDX-License-Identifier: BSD-3-Clause
"""A translator's life: how it is loaded, its options, several of them, and its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import gluster_kit
import pytest

Bricks = Callable[..., gluster_kit.Brick]

EMPTY = """
    from glusterfs import Translator

    class xlator(Translator):
        pass
"""


def refused(tmp_path: Path, volumes: str) -> str:
    """What a brick logs that does not start with these volumes."""
    brick = gluster_kit.Brick(tmp_path / "refused", volumes, wait=False)
    try:
        assert brick.process.wait(gluster_kit.PATIENCE) == 1
        return brick.log()
    finally:
        brick.close()


def test_where_it_is_in_the_graph(serve: Bricks) -> None:
    brick = serve("""
        import _struct, ctypes  # extension modules of CPython's own
        from glusterfs import Translator

        class xlator(Translator):
            def __init__(self, place):
                Translator.__init__(self, place)
                print("place", self.name, self.type.endswith("/python"), self.children[0].name, self.children[0].type)
                print("module", __name__, __file__, flush=True)
    """)
    brick.wait_for_log(r"place top True posix storage/posix\nmodule script.py /.*/script.py")


def test_options(serve: Bricks) -> None:
    brick = serve("""
        from glusterfs import Translator

        class xlator(Translator):
            options = {"cache-size": 10, "verbose": False, "ratio": 0.5, "prefix": "x", "key": None, "limit": 7}

            def __init__(self, place):
                super().__init__(place)
                print("options", sorted(self.options.items()), flush=True)
    """, cache_size="64KB", verbose="on", ratio="0.25", prefix="a/b", key="k")
    brick.wait_for_log(re.escape("options [('cache-size', 65536), ('key', 'k'), ('limit', 7), ('prefix', 'a/b'), "
                                 "('ratio', 0.25), ('verbose', True)]"))


@pytest.mark.parametrize(("script", "options", "message"), [
    ("x = 1", {}, r"the script has no class xlator\(Translator\)"),
    ("def (", {}, "cannot compile the script"),
    ("1 / 0", {}, "ZeroDivisionError"),
    ("import sys; sys.exit(3)", {}, "sys.exit"),
    (EMPTY, {"size": "1"}, "option size: the script does not declare it in its options: none"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        options = {"key": None}
    """, {}, "option key: the volume file must have it"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        options = {"size": 1}
    """, {"size": "many"}, "option size: expected an int, or a size such as 64KB, got 'many'"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        options = {"on": True}
    """, {"on": "perhaps"}, "option on: expected on or off, got 'perhaps'"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        def __init__(self, place):
            raise OSError("no such thing")
    """, {}, "OSError: no such thing"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        def __init__(self, place):
            pass
    """, {}, "has not called Translator.__init__"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        def readv(self, next, fd): pass
    """, {}, r"readv: expected readv\(next, fd, size, offset, flags, xdata\), got readv\(next, fd\)"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        async def stat_fop(self, frame, this, loc, xdata): pass
    """, {}, "stat_fop: expected a plain function, got `async def stat_fop`: only stat can be asynchronous"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        async def fini(self): pass
    """, {}, "fini: expected a plain function, got `async def fini`"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        def reconfigure(self): pass
    """, {}, r"reconfigure: expected reconfigure\(options\), got reconfigure\(\)"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        options = {"list": [1]}
    """, {}, r"xlator.options: list: expected a bool, int, float, str or None, got \[1\]"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        def stat(self, next, loc, xdata): yield
    """, {}, "stat: expected a plain function, got a generator"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        def stat(self, next, loc, xdata): pass
        def stat_cbk(self, *arguments): pass
    """, {}, "stat: expected either stat, which returns the answer, or stat_fop and stat_cbk, got both"),
    ("""
    from glusterfs import Translator
    class xlator(Translator):
        def lookpu_fop(self, frame, this, loc, xdata): pass
    """, {}, "lookpu_fop: lookpu is not a file operation of GlusterFS: did you mean 'lookup_fop'"),
])
def test_scripts_that_are_refused(tmp_path: Path, script: str, options: dict[str, str], message: str) -> None:
    path = gluster_kit.script_file(tmp_path, script)
    log = refused(tmp_path, gluster_kit.xlator("top", path, "posix", **options))
    assert re.search(message, log), log


def test_no_script(tmp_path: Path) -> None:
    log = refused(tmp_path, gluster_kit.xlator("top", "/nowhere.py", "posix"))
    assert "cannot read the script: No such file or directory" in log


def test_no_child(tmp_path: Path) -> None:
    path = gluster_kit.script_file(tmp_path, EMPTY)
    log = refused(tmp_path, gluster_kit.xlator("top", path, "posix").replace("  subvolumes posix\n", ""))
    assert "expected at least one subvolume in the volume file" in log


def test_module_name(bricks: Bricks, tmp_path: Path) -> None:
    """The option of the old translator: a module on Python's path."""
    gluster_kit.script_file(tmp_path, EMPTY + "\n    print('loaded', __name__, flush=True)", "negative.py")
    volume = gluster_kit.xlator("top", "x", "posix").replace("script x", "module-name negative")
    brick = bricks(volume, environment={"PYTHONPATH": str(tmp_path)})
    brick.wait_for_log("loaded negative.py")


@pytest.mark.parametrize("change", ["  option module-name os\n", "remove"])
def test_one_of_script_and_module_name(tmp_path: Path, change: str) -> None:
    path = gluster_kit.script_file(tmp_path, EMPTY)
    volume = gluster_kit.xlator("top", path, "posix")
    line = f"  option script {path}\n"
    log = refused(tmp_path, volume.replace(line, "" if change == "remove" else line + change))
    assert "expected one of the options script and module-name" in log


def test_several_instances(bricks: Bricks, tmp_path: Path) -> None:
    """Each has its module and its state, though two have one script."""
    count = gluster_kit.script_file(tmp_path, """
        from glusterfs import Translator
        calls = 0

        class xlator(Translator):
            def lookup(self, next, loc, xdata):
                global calls
                calls += 1
                if loc.name == f"tell-{self.name}":
                    print("calls", self.name, calls, flush=True)
                if loc.name == f"stop-{self.name}":
                    calls = 100
                return next.lookup(loc, xdata)
    """)
    volumes = (gluster_kit.xlator("low", count, "posix") + gluster_kit.xlator("middle", count, "low")
               + gluster_kit.xlator("top", gluster_kit.script_file(tmp_path, EMPTY, "other.py"), "middle"))
    brick = bricks(volumes)
    client = brick.client()
    for name in ("stop-low", "tell-low", "tell-middle"):
        with pytest.raises(FileNotFoundError):
            client.stat(f"/{name}")
    brick.wait_for_log(r"calls low 10\d")
    assert not brick.wait_for_log(r"calls middle \d+").startswith("calls middle 10")


def test_several_children(bricks: Bricks, tmp_path: Path) -> None:
    """A translator that keeps its files in one of two folders, by their names."""
    folders = {name: tmp_path / name for name in ("even", "odd")}
    for folder in folders.values():
        folder.mkdir()
    script = gluster_kit.script_file(tmp_path, """
        from glusterfs import Translator

        class xlator(Translator):
            def below(self, next, name):
                return next.to(self.children[len(name or "") % 2])

            def lookup(self, next, loc, xdata):
                return self.below(next, loc.name).lookup(loc, xdata)

            def mkdir_fop(self, frame, this, loc, mode, umask, xdata):
                self.wind_mkdir(frame, self.children[len(loc.name) % 2], loc, mode, umask, xdata)
    """)
    volumes = "".join(gluster_kit.volume(name, "storage/posix", directory=folder) for name, folder in folders.items())
    brick = bricks(volumes + gluster_kit.xlator("top", script, folders))
    client = brick.client()
    for name in ("a", "ab", "abc"):
        client.path("mkdir", f"/{name}", 0o755)
        assert client.stat(f"/{name}")["nlink"] == 2
    assert {path.name for path in folders["odd"].iterdir()} >= {"a", "abc"}
    assert {path.name for path in folders["even"].iterdir()} >= {"ab"}
    assert not (folders["odd"] / "ab").exists()


def test_the_end(serve: Bricks) -> None:
    """GlusterFS calls no fini when a brick ends; the script's is called all the same, and what it printed is there."""
    brick = serve("""
        import atexit, threading
        from glusterfs import Translator

        atexit.register(print, "atexit")
        threading.Thread(target=threading.Event().wait, daemon=True).start()

        class xlator(Translator):
            def lookup(self, next, loc, xdata):
                return next.lookup(loc, xdata)
            def fini(self):
                print("fini of", self.name)
                1 / 0
    """)
    with pytest.raises(FileNotFoundError):
        brick.client().stat("/nothing")
    assert brick.stop() == signal.SIGTERM  # glusterfsd's own way to say so
    assert re.search(r"fini of top\natexit", brick.log())
    assert "ZeroDivisionError" in brick.log()


def test_in_the_background(tmp_path: Path, serve: Bricks) -> None:
    """glusterfsd forks before it reads the graph: threads of the script's live on."""
    brick = serve("""
        import threading, time
        from glusterfs import Translator

        ticks = 0
        def tick():
            global ticks
            while True:
                ticks += 1
                time.sleep(0.001)
        threading.Thread(target=tick, daemon=True).start()

        class xlator(Translator):
            def lookup(self, next, loc, xdata):
                if loc.name == "ticks":
                    before = ticks
                    while ticks == before:
                        time.sleep(0.001)
                return next.lookup(loc, xdata)
    """)
    brick.stop()
    pid_file = tmp_path / "pid"
    subprocess.run(["glusterfsd", "-f", str(brick.volfile), "-l", str(brick.log_file), "-p", str(pid_file)], check=True,
                   env=brick.environment)
    try:
        gluster_kit.wait_for(lambda: brick.socket.exists() and pid_file.exists() and pid_file.read_text().strip(),
                             "a brick in the background")
        with pytest.raises(FileNotFoundError):
            brick.client().stat("/ticks")
    finally:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        gluster_kit.wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the end of the brick")
