# SPDX-License-Identifier: BSD-3-Clause
"""What a disk's script imports: nbdkit's constants, its functions, and `Error`.

Inside the server the functions come from the plugin (the built-in module `_nbdkit`). Outside of it the constants,
`Error` and what is written in Python work all the same; a function that needs the server is missing, and using it
raises an AttributeError that says so.
"""

from ._constants import *  # noqa: F403
from ._errors import Error as Error

TYPE_CHECKING = False  # as in `typing`, whose import takes time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, TypeVar

    class _Sized(Protocol):
        def get_size(self) -> int: ...

    _Disk = TypeVar("_Disk", bound=Callable[[bool], _Sized])
del TYPE_CHECKING


def disk(cls: "_Disk") -> "_Disk":
    """Mark a class as the script's disk: its methods are the callbacks, and an instance is a client's connection.

    `__init__(self, readonly)` is `open`, and `self` the handle; what no connection asks for, such as list_exports, is a
    static or class method or a function. The script's API_VERSION is 2 unless it says 1. Raises TypeError for what is
    no class; what else is wrong with it is found when the script is loaded.
    """
    from ._classes import mark

    mark(cls, "disk")
    return cls


# Two parsers that older servers lack; a newer one's own takes their place below. What does the work is loaded when it
# is needed, so that `import nbdkit` stays light. The parameters are called as the server's are.


def parse_probability(what: str, str: str) -> float:
    """A probability such as `0.25`, `25%`, `1:4` or `1/4`, as a float from 0.0 up.

    what: the parameter's name, for the message of the ValueError that anything else raises.
    """
    from . import _parse

    return _parse.probability(what, str)


def parse_delay(what: str, str: str) -> tuple[int, int]:
    """A delay such as `5` or `5s` (seconds), `2.5s`, `100ms`, `20us` or `30ns`, as (seconds, nanoseconds).

    what: the parameter's name, for the message of the ValueError that anything else raises.
    """
    from . import _parse

    return _parse.delay(what, str)


try:
    from _nbdkit import *  # noqa: F403
except ModuleNotFoundError:
    _SERVER = False
else:
    _SERVER = True

# Functions that came to nbdkit later than the oldest server we run on: their first version.
_SINCE = {
    "debug_hexdiff": "1.48",
    "debug_hexdump": "1.46",
    "disconnect": "1.34",
    "name": "1.48",
    "peer_security_context": "1.36",
    "peer_tls_dn": "1.40",
    "peer_tls_issuer_dn": "1.40",
    "timestamp": "1.48",
}


def __getattr__(name: str) -> object:
    if not _SERVER and not name.startswith("_"):
        raise AttributeError(f"nbdkit.{name}: not here: this is not an nbdkit server's process", name=name)
    if name in _SINCE:
        raise AttributeError(f"nbdkit.{name} needs nbdkit {_SINCE[name]} or later: this server lacks it", name=name)
    raise AttributeError(f"module 'nbdkit' has no attribute {name!r}", name=name)
