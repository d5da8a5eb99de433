# SPDX-License-Identifier: BSD-3-Clause
"""Encrypts a disk, each sector of 512 bytes by itself: AES-XTS, as Linux's dm-crypt has it in `aes-xts-plain64`.

    nbdkit --filter=python file disk.img translator=aes_xts.py key=+KEYFILE

The key has 64 hexadecimal digits for AES-128, or 128 for AES-256, as in a table of dmsetup's. +KEYFILE is a file that
has them, in one line; `-` asks for them; in the command line itself, others on the machine could see them.

What is written here, dm-crypt reads, and the other way round:

    dmsetup create plain --table "0 SECTORS crypt aes-xts-plain64 KEY 0 /dev/DISK 0"

It hides data from who has the disk. It does not tell when they have changed it, nor which sectors were written.
Needs the package python3-cryptography.
"""

import errno

import nbdkit
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SECTOR = 512


def crypt(data, offset, direction):
    """These whole sectors, which begin at `offset`; direction: Cipher.encryptor or Cipher.decryptor."""
    if offset % SECTOR or len(data) % SECTOR:
        raise nbdkit.Error(errno.EINVAL, f"expected whole sectors of {SECTOR}, got {len(data)} bytes at {offset}: "
                                         "for clients that do not heed block sizes, put --filter=blocksize before")
    result = bytearray(len(data))
    for at in range(0, len(data), SECTOR):
        tweak = ((offset + at) // SECTOR).to_bytes(16, "little")
        sector = direction(Cipher(AesXts.algorithm, modes.XTS(tweak)))
        result[at:at + SECTOR] = sector.update(bytes(data[at:at + SECTOR]))
    return result


@nbdkit.translator
class AesXts:
    algorithm = None

    @classmethod
    def config(cls, next, key, value):
        if key != "key":
            return next.config(key, value)
        digits = nbdkit.read_password(value).decode("ascii", "replace")
        if len(digits) not in (64, 128) or set(digits) - set("0123456789abcdefABCDEF"):
            raise nbdkit.Error(errno.EINVAL, "key: expected 64 or 128 hexadecimal digits")
        cls.algorithm = algorithms.AES(bytes.fromhex(digits))

    @classmethod
    def config_complete(cls):
        if cls.algorithm is None:
            raise nbdkit.Error(errno.EINVAL, "key=+FILE is missing")

    def get_size(self, next):
        return next.get_size() // SECTOR * SECTOR

    def block_size(self, next):
        return SECTOR, 4096, 2**32 - 1

    def pread(self, next, buf, offset, flags):
        buf[:] = crypt(next.pread(len(buf), offset), offset, Cipher.decryptor)

    def pwrite(self, next, buf, offset, flags):
        next.pwrite(crypt(buf, offset, Cipher.encryptor), offset, flags)
