# SPDX-License-Identifier: BSD-3-Clause
"""Expecting an error of the store's."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from xenstore import XenstoreException


@contextmanager
def refused(name: str) -> Iterator[pytest.ExceptionInfo[XenstoreException]]:
    """The block must end in a XenstoreException of this name: ENOENT, say."""
    with pytest.raises(XenstoreException) as caught:
        yield caught
    assert (str(caught.value), caught.value.errno) == (name, getattr(errno, name))
