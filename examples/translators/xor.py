# SPDX-License-Identifier: BSD-3-Clause
"""Stores every byte XORed with a mask: no secret, but easy to see at work.

    nbdkit --filter=python memory 1G translator=xor.py mask=0x5a

mask is a number from 0 to 255, 0xff by default.
"""

import nbdkit


@nbdkit.translator
class Xor:
    table = bytes(byte ^ 0xFF for byte in range(256))

    @classmethod
    def config(cls, next, key, value):
        """A parameter that is not ours goes on to the plugin."""
        if key != "mask":
            return next.config(key, value)
        mask = nbdkit.parse_uint8_t("mask", value)
        cls.table = bytes(byte ^ mask for byte in range(256))

    def pread(self, next, buf, offset, flags):
        buf[:] = next.pread(len(buf), offset).translate(self.table)

    def pwrite(self, next, buf, offset, flags):
        """Zeros come this way too, since there is no zero here; and clients are told of no holes."""
        next.pwrite(bytes(buf).translate(self.table), offset, flags)
