# SPDX-License-Identifier: BSD-3-Clause
"""A translator that remembers which names are not there, so that the disk is not asked for them again.

Programs look for files in many places where they are not. On a brick, through which all changes come:

    volume negative
      type user/python
      option script examples/gluster/negative.py
      option size 10000
      subvolumes posix
    end-volume

It is written with callbacks: what it knows it answers in GlusterFS's own thread, without a wait.
"""

import errno

from glusterfs import Translator


class xlator(Translator):
    options = {"size": 10000}  # how many names it remembers

    def __init__(self, place):
        super().__init__(place)
        self.missing = {}  # (folder, name): None, the oldest first
        self.changes = 0
        self.saved = 0

    def lookup_fop(self, frame, this, loc, xdata):
        key = (loc.pargfid, loc.name)
        if key in self.missing:
            self.saved += 1
            self.unwind_lookup(frame, None, this, -1, errno.ENOENT, None, None, None, None)
        else:
            frame.local = key, self.changes
            self.wind_lookup(frame, None, loc, xdata)

    def lookup_cbk(self, frame, cookie, this, op_ret, op_errno, inode, buf, xdata, postparent):
        key, changes = frame.local
        # Not if something came into being while the disk was asked: it may be this.
        if op_ret == -1 and op_errno == errno.ENOENT and key[1] and changes == self.changes:
            self.missing[key] = None
            while len(self.missing) > self.options["size"]:
                self.missing.pop(next(iter(self.missing)), None)
        self.unwind_lookup(frame, cookie, this, op_ret, op_errno, inode, buf, xdata, postparent)

    def fini(self):
        print(f"{self.name}: {self.saved} lookups saved", flush=True)


def forget_what_comes(fop, position):
    """This file operation makes a name, that of its argument at this position: it is no longer missing."""

    def call(self, frame, this, *arguments):
        loc = arguments[position]
        frame.local = loc.pargfid, loc.name
        self.changes += 1
        self.missing.pop(frame.local, None)
        getattr(self, f"wind_{fop}")(frame, None, *arguments)

    def answer(self, frame, cookie, this, *rest):
        self.changes += 1
        self.missing.pop(frame.local, None)
        getattr(self, f"unwind_{fop}")(frame, cookie, this, *rest)

    setattr(xlator, f"{fop}_fop", call)
    setattr(xlator, f"{fop}_cbk", answer)


for name, place in [("create", 0), ("mknod", 0), ("mkdir", 0), ("symlink", 1), ("link", 1), ("rename", 1), ("put", 0),
                    ("icreate", 0), ("namelink", 0)]:
    forget_what_comes(name, place)
