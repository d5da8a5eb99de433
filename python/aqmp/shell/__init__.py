# SPDX-License-Identifier: BSD-3-Clause
"""The shell: QMP commands typed at a prompt, given with -e, or piped in. See docs/qmp-shell.md."""
