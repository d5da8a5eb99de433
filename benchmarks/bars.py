# SPDX-License-Identifier: BSD-3-Clause
"""What the plugin means to reach: ratios to a competitor in the same round, as medians."""

# The group, the cell, the competitor, at least how many times as good.
BARS = [
    ("no-op", "pread", "python", 45),
    ("no-op", "pwrite", "python", 45),
    ("no-op", "flush", "python", 45),
    ("no-op", "pread", "floor", 1 / 1.5),
    ("no-op", "pwrite", "floor", 1 / 1.5),
    ("no-op", "flush", "floor", 1 / 1.5),
    ("parallel", "read 4 KiB, depth 1", "python", 1.4),
    ("parallel", "read 4 KiB, depth 8", "python", 3.5),
    ("parallel", "read 4 KiB, depth 64", "python", 3.5),
    ("parallel", "read 4 KiB, depth 8", "memory", 0.9),
    ("parallel", "read 4 KiB, depth 64", "memory", 0.9),
    ("parallel", "read 64 KiB, depth 8", "python", 1.8),
    ("parallel", "read 1 MiB, depth 8", "python", 1),
    ("parallel", "read 32 MiB, depth 8", "python", 1),
    ("RAM disk, buf", "pread 1 MiB", "python", 1),
    ("RAM disk, buf", "pread 32 MiB", "python", 1),
    ("serialize_all_requests", "read 4 KiB, depth 64", "python", 2.2),
    ("tools", "nbdcopy from, 1 GiB", "python", 1.25),
    ("tools", "nbdcopy to, 1 GiB", "python", 1.25),
    ("resources", "start and end", "python", 1 / 1.1),
]
