# SPDX-License-Identifier: BSD-3-Clause
"""nbdkit's constants, with the values of its C header (a test holds the two together)."""

# What thread_model() returns: how far nbdkit overlaps a script's callbacks, from least to most.
THREAD_MODEL_SERIALIZE_CONNECTIONS = 0
THREAD_MODEL_SERIALIZE_ALL_REQUESTS = 1
THREAD_MODEL_SERIALIZE_REQUESTS = 2
THREAD_MODEL_PARALLEL = 3

# Bits of a callback's `flags`.
FLAG_MAY_TRIM = 1
FLAG_FUA = 2
FLAG_REQ_ONE = 4
FLAG_FAST_ZERO = 8

# What can_fua() returns.
FUA_NONE = 0
FUA_EMULATE = 1
FUA_NATIVE = 2

# What a translator's can_zero() and next.can_zero() return.
ZERO_NONE = 0
ZERO_EMULATE = 1
ZERO_NATIVE = 2

# What can_cache() returns.
CACHE_NONE = 0
CACHE_EMULATE = 1
CACHE_NATIVE = 2

# Bits of an extent's type: 0 is plain data.
EXTENT_HOLE = 1
EXTENT_ZERO = 2
