# SPDX-License-Identifier: BSD-3-Clause
"""`python3 -m nbdkit` is the command nbdkit-python."""

import sys

from ._command import main

sys.exit(main(program="python3 -m nbdkit"))
