# SPDX-License-Identifier: BSD-3-Clause
"""`python3 -m xenstore`: see `python3 -m xenstore --help`."""

import signal
import sys

from ._command import main

# As for any command: quiet when interrupted, or when nobody reads on, as in `… ls | head`.
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
sys.exit(main())
