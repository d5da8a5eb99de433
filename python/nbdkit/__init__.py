# SPDX-License-Identifier: BSD-3-Clause
"""What a disk's script imports: nbdkit's constants, its functions, and `Error`.

Inside the server the functions come from the plugin (the built-in module `_nbdkit`). Outside of it the constants,
`Error` and what is written in Python work all the same; a function that needs the server is missing, and using it
raises an AttributeError that says so.
"""

from ._constants import *  # noqa: F403
from ._errors import Error as Error

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

# These the package can do by itself where the server cannot; like all else that is not always needed, they are
# loaded when they are used, so that `import nbdkit` stays light.
_PARSERS = {"parse_delay", "parse_probability"}


def __getattr__(name: str) -> object:
    if name in _PARSERS:
        from . import _parse

        return getattr(_parse, name)
    if not _SERVER and not name.startswith("_"):
        raise AttributeError(f"nbdkit.{name}: not here: this is not an nbdkit server's process", name=name)
    if name in _SINCE:
        raise AttributeError(f"nbdkit.{name} needs nbdkit {_SINCE[name]} or later: this server lacks it", name=name)
    raise AttributeError(f"module 'nbdkit' has no attribute {name!r}", name=name)
