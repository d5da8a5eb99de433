# SPDX-License-Identifier: BSD-3-Clause
"""A Python disk in a running machine: attach() and detach(), and the commands of these names. See docs/attach.md."""

from .errors import AttachError
from .session import Options, attach, detach

__all__ = ["AttachError", "Options", "attach", "detach"]
