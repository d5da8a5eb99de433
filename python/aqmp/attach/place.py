# SPDX-License-Identifier: BSD-3-Clause
"""Place, the private directory of one attached disk: its sockets, and a note of what it has put into QEMU.

    RUNTIME/attached/NAME/disk       nbdkit's socket
    RUNTIME/attached/NAME/control    attach's: who connects to it asks to detach
    RUNTIME/attached/NAME/state      what a detach needs to know if attach was killed
    RUNTIME/exports/NAME             the socket of QEMU's NBD server, if attach has started that

RUNTIME is $XDG_RUNTIME_DIR/aqmp, or /tmp/aqmp-UID where that is not set.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .errors import AttachError

Step = tuple[str, str]
"""Something that is in QEMU because of us: its kind (see Machine) and its id."""


@dataclass
class State:
    """What attach notes for later."""

    qmp: str | tuple[str, int]
    timeout: float
    steps: list[Step] = field(default_factory=list)


class Place:
    """Where an attached disk of this name has its files, whether or not there is one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = runtime() / "attached" / name
        self.disk = self.folder / "disk"
        self.control = self.folder / "control"
        self.export = runtime() / "exports" / name
        self._state = self.folder / "state"

    def claim(self) -> None:
        """Make the directory. Raises AttachError if another disk of this name has it."""
        base = runtime()
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            # /tmp is everybody's: another user could have made it before us.
            status = base.lstat()
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise AttachError(f"{base} is not private to this user")
            for folder in (self.folder.parent, self.export.parent):
                folder.mkdir(exist_ok=True)
            self.folder.mkdir(mode=0o700)
        except FileExistsError:
            raise AttachError(
                f"{self.name} is attached already: detach it first, or choose another name with --id") from None
        except OSError as error:
            raise AttachError(f"cannot make {self.folder}: {error.strerror}") from error

    def release(self) -> None:
        """Remove the directory, and what is left in it."""
        shutil.rmtree(self.folder)

    def note(self, state: State) -> None:
        """Write the state, at once as a whole."""
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps(asdict(state)))
        new.replace(self._state)

    def state(self) -> State:
        """What was noted last; no steps if nothing was."""
        try:
            noted = json.loads(self._state.read_text())
        except FileNotFoundError:
            return State("", 0.0)
        qmp = noted["qmp"]
        return State(qmp if isinstance(qmp, str) else (qmp[0], qmp[1]), noted["timeout"],
                     [(kind, identifier) for kind, identifier in noted["steps"]])


def runtime() -> Path:
    """The directory of all places of this user."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    return Path(given, "aqmp") if given else Path(tempfile.gettempdir(), f"aqmp-{os.geteuid()}")


def attached() -> list[str]:
    """The names of all disks that this user has attached."""
    base = runtime() / "attached"
    return sorted(path.name for path in base.iterdir()) if base.is_dir() else []
