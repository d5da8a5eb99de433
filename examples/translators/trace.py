# SPDX-License-Identifier: BSD-3-Clause
"""Writes a line on every operation: its arguments, its answer or error, and how long it took.

    nbdkit --filter=python file disk.img translator=trace.py trace=FILE

Without a file, the lines go to standard error.
"""

import sys
import time

import nbdkit

OPERATIONS = """get_size export_description block_size can_write can_flush is_rotational can_trim can_zero can_fast_zero
    can_extents can_fua can_multi_conn can_cache pread pwrite flush trim zero extents cache""".split()

file = sys.stderr


def config(next, key, value):
    global file
    if key == "trace":
        # Line by line; other threads' lines do not come between.
        file = open(nbdkit.absolute_path(value), "a", buffering=1)
    else:
        next.config(key, value)


def shown(value):
    return f"<{len(value)} bytes>" if isinstance(value, memoryview) else repr(value)


def traced(name):
    def operation(h, next, *arguments):
        begin = time.monotonic()
        result = "failed"
        try:
            answer = getattr(next, name)(*arguments)
            result = f"-> {answer!r}"
            return answer
        except Exception as error:
            result = f"raised {error}"
            raise
        finally:
            microseconds = (time.monotonic() - begin) * 1e6
            print(f"{name}({', '.join(map(shown, arguments))}) {result} in {microseconds:.0f} us", file=file)

    return operation


for name in OPERATIONS:
    globals()[name] = traced(name)
