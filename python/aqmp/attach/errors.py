# SPDX-License-Identifier: BSD-3-Clause
"""What attach and detach raise."""


class AttachError(Exception):
    """The disk could not be attached or detached. The message is one line."""
