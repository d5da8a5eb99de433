# SPDX-License-Identifier: BSD-3-Clause
"""What a disk's script imports: nbdkit's constants and functions, `Error`, and what declares a disk and its parameters.

Inside the server the functions come from the plugin (the built-in module `_nbdkit`), and one that the running nbdkit is
too old for is missing. Elsewhere _outside.py has them, so that a script can be imported, type-checked and tested
without a server; they are documented there. This import is on every server's start-up path: what not every script
needs is loaded when it is used.
"""

from ._constants import *  # noqa: F403
from ._errors import Error as Error

TYPE_CHECKING = False  # as in `typing`, whose import takes time
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Protocol, TypeVar

    from ._next import AsyncNext as AsyncNext
    from ._next import Background as Background
    from ._next import Next as Next
    from ._outside import *  # noqa: F403
    from ._parameters import Parameter as Parameter
    from ._parameters import choice as choice
    from ._parameters import delay as delay
    from ._parameters import list_of as list_of
    from ._parameters import parameter as parameter
    from ._parameters import password as password
    from ._parameters import path as path
    from ._parameters import probability as probability
    from ._parameters import size as size

    class _Sized(Protocol):
        def get_size(self) -> int | Awaitable[int]: ...

    _Disk = TypeVar("_Disk", bound=Callable[[bool], _Sized])
    _Translator = TypeVar("_Translator", bound=Callable[..., object])
else:
    try:
        from _nbdkit import *  # noqa: F403
    except ModuleNotFoundError:
        from ._outside import *  # noqa: F403


def disk(cls: "_Disk") -> "_Disk":
    """Mark a class as the script's disk: its methods are the callbacks, and an instance is a client's connection.

    `__init__(self, readonly)` is `open`, and `self` the handle; what no connection asks for, such as list_exports, is a
    static or class method or a function. The script's API_VERSION is 2 unless it says 1. Raises TypeError for what is
    no class; what else is wrong with it is found when the script is loaded.
    """
    from ._classes import mark

    mark(cls, "disk")
    return cls


def translator(cls: "_Translator") -> "_Translator":
    """Mark a class as the script's translator, for nbdkit's filter `python`: its methods are the callbacks.

    An instance is a connection. `__init__(self, next, readonly, export_name, is_tls)`, which it need not have, is
    `open`, and `self` the handle, as in `pread(self, next, buf, offset, flags)`; what no connection asks for, such as
    config, is a static or class method or a function. Raises TypeError for what is no class.
    """
    from ._classes import mark

    mark(cls, "translator")
    return cls


if not TYPE_CHECKING:
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
    # What is loaded when it is used, and where it is. Of parsers that older servers lack the package has its own.
    _LATER = {
        **dict.fromkeys(("AsyncNext", "Background", "Next"), "_next"),
        **dict.fromkeys(("parse_delay", "parse_probability"), "_outside"),
        **dict.fromkeys(("Parameter", "choice", "delay", "list_of", "parameter", "password", "path", "probability",
                         "size"), "_parameters"),
    }

    def __getattr__(name: str) -> object:
        if name in _LATER:
            value = globals()[name] = getattr(__import__(f"nbdkit.{_LATER[name]}", fromlist=[name]), name)
            return value
        if name in _SINCE:
            raise AttributeError(f"nbdkit.{name} needs nbdkit {_SINCE[name]} or later: this server lacks it", name=name)
        raise AttributeError(f"module 'nbdkit' has no attribute {name!r}", name=name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATER})

del TYPE_CHECKING
