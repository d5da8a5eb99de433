# SPDX-License-Identifier: BSD-3-Clause
"""One sequence of requests: done by a real disk and by the model, and compared."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import nbd

from .client import Client, Flight, NoAnswer
from .facts import Facts, facts_of
from .model import Mismatch, Model
from .server import Server, ServerError, serve_script
from .steps import Event, Request, Step, requests_of

# What a wrong byte is called: the last of these that has happened.
AFTER = {None: "data", Event.REOPEN: "reopen", Event.RESTART: "restart", Event.KILL: "durability"}


class Failure(Exception):
    """A sequence has shown a fault.

    kind: what sort of fault, as in Fault.
    request: the one whose answer is wrong.
    log: what the server has said meanwhile.
    at: which byte of the disk is wrong, if it is one.
    done: how many steps of the sequence it took; -1 if it has failed before them.
    """

    def __init__(self, kind: str, message: str, request: Request | None = None, log: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.request = request
        self.log = log
        self.at: int | None = None
        self.done = 0

    def is_like(self, other: Failure) -> bool:
        """Whether both may come from the same fault: wrong bytes, of whatever kind, or the same thing of a request."""
        wrong_bytes = {*AFTER.values(), "extents"}
        if self.kind in wrong_bytes:
            return other.kind in wrong_bytes
        return self.kind == other.kind and (self.request and self.request.op) == (other.request and other.request.op)


@dataclass
class Disk:
    """A script's disk, served by one server after another."""

    script: str | os.PathLike[str]
    words: Sequence[str]
    export: str = ""
    patience: float = 15.0
    told: Facts | None = None  # what the first connection was told
    requests: int = 0  # answered so far
    logs: list[str] = field(default_factory=list)  # of servers that have ended as they should
    history: list[Sequence[Step]] = field(default_factory=list)  # what the server has done, and that was right
    _server: Server | None = None
    _seen: int = 0  # how much of the log is told already

    def server(self) -> Server:
        """The one that runs, or a new one."""
        if self._server is None:
            self._server, self._seen = serve_script(self.script, self.words), 0
            self.history = []
        return self._server

    def renew(self) -> None:
        """Have the next trial begin with a server of its own."""
        if self._server:
            self._server.kill()
            self._server = None

    def stop(self) -> None:
        """End the server as an operator would."""
        server, self._server = self._server, None
        if server:
            server.stop()
            self.logs.append(server.log())

    def connect(self) -> Client:
        """A new connection."""
        return Client(str(self.server().socket), self.export, self.patience)

    def news(self) -> str:
        """What the server has said since this was asked last."""
        log = self._server.log() if self._server else ""
        news, self._seen = log[self._seen:], len(log)
        return news.strip()


class Trial:
    """A sequence's run on a disk. `run` raises Failure."""

    def __init__(self, disk: Disk, facts: Facts | None, connections: int) -> None:
        self.disk = disk
        self.facts = facts
        self.connections = connections
        self.clients: list[Client] = []
        self.kind = "data"

    def run(self, steps: Sequence[Step], first: Sequence[Request] = (), times: int = 1) -> None:
        """Do the steps, so many times; each time the requests `first` before them, which need only be answered."""
        done = -1
        try:
            self.connect()
            assert self.facts
            for _ in range(times):
                done = -1
                for request in first:
                    self.finish(self.clients[0].start(request))
                done = 0
                self.model = Model(self.facts)
                for done, step in enumerate(steps, 1):  # noqa: B007, a failure has it
                    if isinstance(step, Event):
                        self.happen(step)
                    else:
                        self.send(step)
            if any(request.changes for request in requests_of(steps)):
                self.flush()
            self.disconnect()
        except Failure as failure:
            failure.done = done
            raise
        except (NoAnswer, ServerError) as error:
            raised = (self.failure("no answer", str(error)) if isinstance(error, NoAnswer) else
                      Failure("server", error.message, log=error.log))
            raised.done = done
            raise raised from None
        finally:
            # A failure's traceback still holds them, and the server would wait for them.
            for client in self.clients:
                client.leave()
            self.clients.clear()

    def failure(self, kind: str, message: str, request: Request | None = None) -> Failure:
        """A Failure with the log; a server that is not fit for further use is ended."""
        log = self.disk.news()
        server = self.disk._server
        # A server that dies closes its connections first.
        lost = any(client.handle.aio_is_dead() or client.handle.aio_is_closed() for client in self.clients)
        if server and server.ends_within(5.0 if lost else 1.0 if kind == "connect" else 0.0):
            try:
                server.stop()
            except ServerError as error:
                kind, message = "server", error.message
            self.disk._server = None
        elif kind == "no answer":
            self.disk.renew()
        return Failure(kind, message, request, log)

    def connect(self) -> None:
        for _ in range(self.connections):
            try:
                client = self.disk.connect()
            except nbd.Error as error:
                raise self.failure("connect", str(error)) from None
            self.clients.append(client)
            facts = facts_of(client.handle)
            self.disk.told = self.disk.told or facts
            self.facts = self.facts or facts
            if facts != self.disk.told:
                raise self.failure("facts", f"one is told {self.disk.told.beside(facts)}, another "
                                            f"{facts.beside(self.disk.told)}")

    def disconnect(self) -> None:
        while self.clients:
            self.clients.pop().disconnect()

    def flush(self) -> None:
        """What has been written may be known to one connection only, and be told to others after it has gone."""
        if self.facts and self.facts.flush and self.facts.writable:
            for number in range(self.connections):
                self.send((Request("flush", connection=number),))

    def happen(self, event: Event) -> None:
        assert self.facts
        self.kind = max(self.kind, AFTER[event], key=list(AFTER.values()).index)
        if event is Event.KILL:
            self.clients.clear()
            self.disk.renew()
            self.model.killed()
        else:
            self.flush()
            self.disconnect()
            if event is Event.RESTART:
                self.disk.stop()
        self.connect()

    def send(self, wave: Sequence[Request]) -> None:
        """Send requests at once, and compare the answers."""
        flights = []
        for request in wave:
            try:
                flights.append(self.clients[request.connection].start(request))
            except nbd.Error as error:
                raise self.failure("error", f"{request.op} cannot be sent: {error}", request) from None
        for flight in flights:
            self.finish(flight)
        for flight in flights:
            if flight.declined:
                continue
            try:
                self.model.has_done(flight.request, flight.data, flight.extents)
            except Mismatch as mismatch:
                kind = "extents" if mismatch.of_extents else self.kind
                failure = self.failure(kind, str(mismatch), flight.request)
                failure.at = mismatch.at
                raise failure from None

    def finish(self, flight: Flight) -> None:
        try:
            flight.finish()
        except nbd.Error as error:
            if error.errnum == errno.ENOTSUP and "FAST_ZERO" in flight.request.flags:
                flight.declined = True
                return
            number = f"{errno.errorcode.get(error.errnum, 'no errno')}, {os.strerror(error.errnum)}"
            raise self.failure("error", f"{flight.request.op} fails: {number}", flight.request) from None
        self.disk.requests += 1
