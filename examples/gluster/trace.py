# SPDX-License-Identifier: BSD-3-Clause
"""A translator that writes down each file operation: its arguments, its answer, and how long it took.

    volume trace
      type user/python
      option script examples/gluster/trace.py
      option log /tmp/trace.log
      option only lookup,readv,writev
      subvolumes posix
    end-volume
"""

import time

from glusterfs import FOPS, Error, Translator


class xlator(Translator):
    options = {"log": None, "only": ""}  # a file; the file operations, all if there are none

    def __init__(self, place):
        super().__init__(place)
        self.log = open(self.options["log"], "a", buffering=1, encoding="utf-8")
        for fop in filter(None, self.options["only"].split(",")) if self.options["only"] else FOPS:
            self.trace(fop.strip())

    def trace(self, fop):
        names, _ = FOPS[fop]

        def method(next, *arguments):
            # While the arguments are there: they go with the answer.
            shown = ", ".join(f"{name}={value!r}" for name, value in zip(names, arguments) if name != "xdata")
            start = time.monotonic()
            try:
                answer = getattr(next, fop)(*arguments)
            except Error as error:
                result = error.strerror
                raise
            else:
                result = answer.ret
                return answer
            finally:
                self.log.write(f"{fop}({shown}) = {result}  {(time.monotonic() - start) * 1e6:.0f} us\n")

        setattr(self, fop, method)

    def fini(self):
        self.log.close()
