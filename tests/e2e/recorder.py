# SPDX-License-Identifier: BSD-3-Clause
"""Scripts whose callbacks write down how they were called, into a file beside the script."""

from __future__ import annotations

import time

from harness import TIMEOUT, Server

SIZE = 4096
PREAD = {
    "v1": "pread(h, count, offset)",
    "v2-count": "pread(h, count, offset, flags)",
    "v2-buf": "pread(h, buf, offset, flags)",
}
SHAPES = list(PREAD)

RECORDER = """
import builtins, os
from fractions import Fraction
import nbdkit

CALLS = builtins.open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "calls"), "a", buffering=1)

def text(argument):
    if isinstance(argument, memoryview):
        return f"view({argument.format}, {argument.nbytes}, {'read-only' if argument.readonly else 'writable'})"
    return repr(argument)

def called(name, *arguments):
    print(f"{name}({', '.join(map(text, arguments))})", file=CALLS)

class Truth:
    def __init__(self, value): self.value = value
    def __bool__(self): return self.value

"""


def recording(name: str, arguments: str, answer: str) -> str:
    """A callback that writes down how it was called."""
    written = ", ".join(filter(None, [repr(name), arguments]))
    return f"def {name}({arguments}):\n    called({written})\n    return {answer}\n"


def script(shape: str, callbacks: dict[str, str]) -> str:
    """A script whose recording callbacks are given as {"name(arguments)": answer}; what each disk needs is added."""
    callbacks = {
        "open(readonly)": "nbdkit.export_name()",
        "get_size(h)": str(SIZE),
        PREAD[shape]: "None" if shape == "v2-buf" else "bytes(count)",
    } | callbacks
    text = RECORDER + ("API_VERSION = 2\n" if shape != "v1" else "")
    for call, answer in callbacks.items():
        name, arguments = call.rstrip(")").split("(")
        text += recording(name, arguments, answer)
    return text


def calls(server: Server) -> list[str]:
    """The calls that the script has written down since the last look."""
    path = server.logfile.parent / "calls"
    found = path.read_text().splitlines() if path.exists() else []
    seen = getattr(server, "seen", 0)
    server.seen = len(found)  # type: ignore[attr-defined]
    return found[seen:]


def wait_for_call(server: Server, call: str) -> None:
    """Wait for a call that no client waits for, such as close."""
    path = server.logfile.parent / "calls"
    deadline = time.monotonic() + TIMEOUT
    while f"{call}\n" not in path.read_text():
        assert time.monotonic() < deadline, f"{call} did not come:\n{path.read_text()}"
        time.sleep(0.01)


def optional(shape: str) -> dict[str, str]:
    """Every callback but those that each disk needs, for a connection whose requests all go through."""
    flags = "" if shape == "v1" else ", flags"
    return {
        "config(key, value)": "None", "config_complete()": "None",
        "thread_model()": "nbdkit.THREAD_MODEL_SERIALIZE_REQUESTS", "get_ready()": "None", "after_fork()": "None",
        "preconnect(readonly)": "None", "cleanup()": "None",
        "list_exports(readonly, is_tls)": "['main']", "default_export(readonly, is_tls)": "'main'",
        "close(h)": "None", "export_description(h)": "'described'", "block_size(h)": "(1, 512, 65536)",
        "is_rotational(h)": "True", "can_write(h)": "True", "can_flush(h)": "True", "can_trim(h)": "True",
        "can_zero(h)": "True", "can_fast_zero(h)": str(shape != "v1"), "can_multi_conn(h)": "True",
        "can_extents(h)": "True", "can_cache(h)": "nbdkit.CACHE_NATIVE",
        "can_fua(h)": "nbdkit.FUA_EMULATE" if shape == "v1" else "nbdkit.FUA_NATIVE",
        f"pwrite(h, buf, offset{flags})": "None", f"flush(h{flags})": "None", f"trim(h, count, offset{flags})": "None",
        "zero(h, count, offset, may_trim)" if shape == "v1" else "zero(h, count, offset, flags)": "None",
        "cache(h, count, offset, flags)": "None",
        "extents(h, count, offset, flags)": "[(offset, count, nbdkit.EXTENT_HOLE)]",
    }
