# SPDX-License-Identifier: BSD-3-Clause
"""The translator that the fuzzers load: what is in it, and what that does, is the input's to say."""

import translators

globals().update(translators.script())
