# SPDX-License-Identifier: BSD-3-Clause
"""What `nbdkit-python new` writes, after the first line. A package, so that it is installed with the others."""
