# SPDX-License-Identifier: BSD-3-Clause
"""Python's `logging` and `warnings` into nbdkit's log: what is a warning or worse always, the rest if it is verbose.

This is loaded with `logging` or `warnings`, once a script imports them.
"""

from types import ModuleType

import _nbdkit


def prepare(module: ModuleType) -> None:
    """Change the module `logging` or `warnings`, which has just been loaded, so that it writes to nbdkit's log."""
    if module.__name__ == "warnings":
        _prepare_warnings(module)
    else:
        _prepare_logging(module)


def _prepare_warnings(warnings: ModuleType) -> None:
    show = warnings.showwarning

    def showwarning(message: Warning | str, category: type[Warning], filename: str, lineno: int,
                    file: object = None, line: str | None = None) -> None:
        if file is None:
            _nbdkit._error(f"warning: {filename}:{lineno}: {category.__name__}: {message}")
        else:
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = showwarning  # type: ignore[attr-defined]


def _prepare_logging(_: ModuleType) -> None:
    import logging

    class Formatter(logging.Formatter):
        def formatMessage(self, record: logging.LogRecord) -> str:
            level = "warning: " if record.levelno == logging.WARNING else ""
            logger = "" if record.name == "root" else f"{record.name}: "
            return f"{level}{logger}{record.message}"

    class Handler(logging.Handler):
        """What nbdkit's log gets: the text, after the logger's name."""

        def __init__(self) -> None:
            super().__init__()
            self.setFormatter(Formatter())

        def emit(self, record: logging.LogRecord) -> None:
            try:
                text = self.format(record)
                (_nbdkit._error if record.levelno >= logging.WARNING else _nbdkit.debug)(text)
            except Exception:
                self.handleError(record)

    basic_config = logging.basicConfig

    def basicConfig(**options: object) -> None:
        if not {"filename", "stream", "handlers"} & options.keys():
            handler = Handler()
            if "format" in options:
                handler.setFormatter(None)
            options["handlers"] = [handler]
        basic_config(**options)  # type: ignore[arg-type]

    basicConfig.__doc__ = basic_config.__doc__
    # Where it is not said where records go, in Python to standard error, they go to the log.
    logging.basicConfig = basicConfig
    # What records come to that no handler is for.
    logging.lastResort = Handler()  # type: ignore[assignment]  # typeshed wants the kind that Python has there
    if _verbose():
        logging.getLogger().setLevel(logging.DEBUG)


def _verbose() -> bool:
    """Whether nbdkit was started with -v, as far as its command line shows: there is no function that tells.

    A mistake does no harm: nbdkit itself decides what it shows.
    """
    try:
        with open("/proc/self/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:  # /proc need not be there
        return False
    return any(word == b"--verbose" or word.startswith(b"-") and b"v" in word and not word.startswith(b"--")
               for word in words)

