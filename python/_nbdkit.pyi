# SPDX-License-Identifier: BSD-3-Clause
"""The built-in module that the plugin has in it, for type checkers: what nbdkit/_outside.py has without a server."""

from types import CodeType

from nbdkit._outside import *  # noqa: F403

def _compile(source: bytes, filename: str, /) -> CodeType: ...
def _error(message: object) -> None: ...
