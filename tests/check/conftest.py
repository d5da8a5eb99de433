# SPDX-License-Identifier: BSD-3-Clause
"""The tests of the test kit and the command: with the plugin under test, and without what would change Python."""

import os

for name in ("PYTHONUNBUFFERED", "VIRTUAL_ENV"):
    os.environ.pop(name, None)
