# SPDX-License-Identifier: BSD-3-Clause
"""The addresses of monitors as command lines have them."""

from __future__ import annotations

import os
import re


def parse_address(text: str) -> str | tuple[str, int]:
    """HOST:PORT, with an IPv6 address in brackets, becomes (host, port); anything else an absolute path."""
    if match := re.fullmatch(r"\[([^/\]]+)\]:(\d+)|([^/:]+):(\d+)", text):
        host, port = (part for part in match.groups() if part is not None)
        return host, int(port)
    return os.path.abspath(text)
