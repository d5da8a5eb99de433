# SPDX-License-Identifier: BSD-3-Clause
"""The script that the fuzzers serve: what is in it, and what that answers, is the input's to say."""

import callbacks

globals().update(callbacks.script())
