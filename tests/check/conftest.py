# SPDX-License-Identifier: BSD-3-Clause
"""The tests of the test kit and the command: with the plugin under test, and without what would change Python."""

import os
import signal

for name in ("PYTHONUNBUFFERED", "VIRTUAL_ENV"):
    os.environ.pop(name, None)

# A shell has SIGINT ignored in what it runs in the background, which processes would inherit; a handler they do not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
