# SPDX-License-Identifier: BSD-3-Clause
"""A translator that keeps a record of who changes what: a line of JSON for each change, or attempt at one.

    volume audit
      type user/python
      option script examples/gluster/audit.py
      option log /var/log/glusterfs/audit.json
      subvolumes posix
    end-volume

GlusterFS's own processes, such as that which heals replicas, are left out.
"""

import json
import os
import threading
import time

from glusterfs import Error, Fd, Loc, Translator

# What changes a volume; open for what it may be opened for.
CHANGES = ("create", "mknod", "mkdir", "symlink", "link", "rename", "unlink", "rmdir", "truncate", "setattr",
           "setxattr", "removexattr", "put", "open")


class xlator(Translator):
    options = {"log": None}

    def __init__(self, place):
        super().__init__(place)
        self.log = open(self.options["log"], "a", buffering=1)
        self.lock = threading.Lock()

    def record(self, next, fop, arguments):
        frame = next.frame
        line = {
            "time": time.time(), "fop": fop,
            "uid": frame.uid, "gid": frame.gid, "pid": frame.pid, "client": frame.client,
            "paths": [value.path for value in arguments if isinstance(value, Loc)],
            "gfids": [value.inode.gfid for value in arguments if isinstance(value, Fd)],
        }
        try:
            answer = getattr(next, fop)(*arguments)
        except Error as error:
            line["error"] = error.strerror
            raise
        finally:
            with self.lock:
                self.log.write(json.dumps(line) + "\n")
        return answer

    def fini(self):
        self.log.close()


def audited(fop):
    def method(self, next, *arguments):
        reads = fop == "open" and arguments[1] & os.O_ACCMODE == os.O_RDONLY
        if reads or next.frame.pid < 0:
            return getattr(next, fop)(*arguments)
        return self.record(next, fop, arguments)

    return method


for name in CHANGES:
    setattr(xlator, name, audited(name))
