# SPDX-License-Identifier: BSD-3-Clause
"""Small scripts that serve, for tests that are about one callback, or about what a script sees."""

import textwrap

SIZE = 1 << 20

LEAST = f"""\
import nbdkit

API_VERSION = 2


def open(readonly):
    return None


def get_size(h):
    return {SIZE}


def pread(h, buf, offset, flags):
    buf[:] = bytes(len(buf))


"""


def disk(text: str = "") -> str:
    """The least script, then this text, dedented; what the text defines again replaces what was there."""
    return LEAST + textwrap.dedent(text)


TELLS = """
import sys


def get_size(h):
    return 4096


def pread(h, buf, offset, flags):
    words = str(told()).encode()
    buf[:len(words)] = words


def told():
    return "served"


"""


def telling(text: str) -> str:
    """A disk whose contents are what told() returns: that of this text, dedented, or else the word `served`."""
    return disk(TELLS) + textwrap.dedent(text)
