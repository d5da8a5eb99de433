# SPDX-License-Identifier: BSD-3-Clause
"""Callbacks that are `async def`: their coroutines run on one asyncio loop, in a thread of its own.

The server's thread that has called waits for the answer. Meanwhile it does for the coroutine what only it can, because
nbdkit knows a request and its connection by the thread: say who the client is, and use what is below a translator.
The loop starts with the first such call, which is after the server's fork, and ends with the process's atexit hooks.
"""

import asyncio
import atexit
import os
import threading
from _thread import allocate_lock
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial, wraps
from queue import SimpleQueue
from types import AsyncGeneratorType, CoroutineType

import _nbdkit

PATIENCE = 5.0  # seconds for which the end waits for the script's tasks, once they have been cancelled

Callback = Callable[..., object]

_current: ContextVar["Call | None"] = ContextVar("nbdkit", default=None)
_runs: set["Run"] = set()  # that are under way
_starting = allocate_lock()
_loop: asyncio.AbstractEventLoop | None = None
_ident = 0  # of its thread
_over = False  # whether it has ended, or is about to: no task begins any more


class Run:
    """A callback's coroutine: what becomes of it is in `answer` or `error` when ended() is called, on the loop."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: object = None
        self.error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, coroutine: Coroutine[object, object, object]) -> None:
        """From any thread, whose context it gets."""
        try:
            loop = _running()
            _runs.add(self)  # from here on it ends, with the loop at the latest
            try:
                loop.call_soon_threadsafe(self._begin, coroutine)
            except RuntimeError:  # closed
                if _over and self._left():
                    raise RuntimeError(_GONE) from None
        except BaseException:
            _close(coroutine)
            raise

    def _begin(self, coroutine: Coroutine[object, object, object]) -> None:
        if _over:
            _close(coroutine)
            self.error = RuntimeError(_GONE)
            self._end()
            return
        try:
            task = asyncio.get_running_loop().create_task(self._run(coroutine), name=self.name)
        except BaseException as error:  # the script may have a task factory of its own
            self.error = error
            self._end()
            return
        if self in _runs:  # an eager task may have ended
            self._task = task  # asyncio itself does not keep its tasks

    async def _run(self, coroutine: Coroutine[object, object, object]) -> None:
        try:
            self.answer = await coroutine
        except BaseException as error:  # the callback's, whatever it is: the loop must go on
            if self in _runs:
                self.error = error
        _end_if_forked(self.name)
        self._end()

    def _end(self) -> None:
        self._task = None  # whose context has the Call, and so itself
        if self._left():
            self.ended()

    def _left(self) -> bool:
        """Whether it is among those under way, no more: so each ends once, whoever is the first to say so."""
        try:
            _runs.remove(self)
        except KeyError:
            return False
        return True

    def take_error(self) -> BaseException:
        """The error, which is then nobody's but the caller's, without the frame of _run()."""
        error, self.error = self.error, None
        assert error is not None
        return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)

    def ended(self) -> None:
        """Only the attributes have the answer and the error now, or what these refer to."""
        raise NotImplementedError


class Call(Run):
    """A callback whose thread waits for the answer."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.over = False
        self._asked = 0  # how many of ask() are under way
        self._ending = allocate_lock()  # guards `over`: what is put after the end nobody would do
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def run(self, coroutine: Coroutine[object, object, object]) -> None:
        """Have it run, until it ends; meanwhile do what it asks for."""
        context = copy_context()
        context.run(_current.set, self)
        context.run(self.start, coroutine)
        while (job := self._jobs.get()) is not None:
            job()

    def ended(self) -> None:
        with self._ending:
            self.over = True
            self._jobs.put(None)

    async def ask(self, function: Callback, *arguments: object, **named: object) -> object:
        """Call the function in the thread that waits. Meanwhile the loop runs other coroutines."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()

        def tell(answer: object, error: BaseException | None) -> None:
            loop.call_soon_threadsafe(self._told, future, answer, error)

        if not self._put(partial(_do, partial(function, *arguments, **named), tell)):
            return function(*arguments, **named)  # it says that it is too late
        del arguments, named  # which may have the request's data
        self._asked += 1
        return await future

    def _told(self, future: asyncio.Future[object], answer: object, error: BaseException | None) -> None:
        self._asked -= 1  # only now: who has awaited it may have given up long ago
        settle(future, answer, error)

    def ask_at_once(self, function: Callback, *arguments: object) -> object:
        """The same for a function that takes no time, and cannot be awaited."""
        if self._asked and is_here():
            raise RuntimeError(f"nbdkit.{function.__name__}: this callback's thread is busy with an operation of "
                               "next's: call it before")
        came: SimpleQueue[tuple[object, BaseException | None]] = SimpleQueue()
        if not self._put(partial(_do, partial(function, *arguments), lambda *outcome: came.put(outcome))):
            return function(*arguments)
        answer, error = came.get()
        if error is not None:
            raise error
        return answer

    def _put(self, job: Callable[[], None]) -> bool:
        with self._ending:
            if not self.over:
                self._jobs.put(job)
            return not self.over


def _do(function: Callable[[], object], tell: Callable[[object, BaseException | None], object]) -> None:
    try:
        answer = function()
    except BaseException as error:
        tell(None, error)
    else:
        tell(answer, None)


def settle(future: asyncio.Future[object], answer: object, error: BaseException | None) -> None:
    """On the loop: the future has come."""
    if future.done():  # cancelled
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer)


def current() -> Call | None:
    """The callback that this coroutine, task or thread of asyncio's works for, if it has not ended."""
    call = _current.get()
    return None if call is None or call.over else call


def is_here() -> bool:
    """Whether this is the loop's thread, which must not wait for what may need the loop."""
    return threading.get_ident() == _ident


class AsyncNext:
    """What is below a translator, for its coroutines: the methods of the server's own object, to be awaited.

    Its type for annotations is nbdkit.AsyncNext.
    """

    def __init__(self, call: Call, below: object) -> None:
        self._call = call
        self._below = below

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        return partial(self._call.ask, getattr(self._below, name))


def waiting(name: str, callback: Callback, parameters: str) -> Callback:
    """A plain function that is the callback: it has the coroutine run, and waits for its answer."""
    names = parameters.split(", ")
    place = names.index("next") if "next" in names else None

    @wraps(callback)
    def call(*arguments: object) -> object:
        this = Call(name)
        if place is not None:
            arguments = (*arguments[:place], AsyncNext(this, arguments[place]), *arguments[place + 1:])
        called = callback(*arguments)
        # Nothing here may keep the arguments: the data of a request must have no user when this returns.
        del arguments
        this.run(_all(called) if isinstance(called, AsyncGeneratorType) else called)  # type: ignore[arg-type]
        if this.error is None:
            # A task that goes on has `this` in its context: not the answer, too.
            answer, this.answer = this.answer, None
            return answer
        _close(called)  # which the loop may have ended without
        raise this.take_error()

    return call


def _close(coroutine: object) -> None:
    if isinstance(coroutine, CoroutineType):
        coroutine.close()


async def _all(items: AsyncGenerator[object, None]) -> list[object]:
    return [item async for item in items]


def _running() -> asyncio.AbstractEventLoop:
    """The loop; started if it does not run yet."""
    global _loop, _ident, _over
    if _loop is None:
        with _starting:
            if _loop is None:
                started: SimpleQueue[_Started] = SimpleQueue()
                thread = threading.Thread(target=_live, args=(started,), name="asyncio", daemon=True)
                _over = False
                thread.start()
                came = started.get()
                if isinstance(came, BaseException):
                    raise came
                _ident = thread.ident or 0
                _loop, end = came
                atexit.register(_stop, thread, _loop, end)
                os.register_at_fork(after_in_child=partial(_in_child, thread, _loop))
    return _loop


_Started = tuple[asyncio.AbstractEventLoop, asyncio.Event] | BaseException
_GONE = "asyncio's loop has ended: the script has stopped it, or a task of its has raised what ends a thread"


def _live(started: SimpleQueue[_Started]) -> None:
    global _over

    async def serve() -> None:
        end = asyncio.Event()
        started.put((asyncio.get_running_loop(), end))
        await end.wait()

    try:
        with asyncio.Runner() as runner:  # which at its end cancels what other tasks there are
            try:
                runner.run(serve())
            finally:
                _over = True  # a task that began while those are ending would be left as it is
    except BaseException as error:
        started.put(error)  # there may be none that could start, by the script's own policy
        raise
    finally:
        _end_if_forked("asyncio")
        for run in list(_runs):
            run.error = RuntimeError(_GONE)
            run._end()


def _stop(thread: threading.Thread, loop: asyncio.AbstractEventLoop, end: asyncio.Event) -> None:
    with suppress(RuntimeError):  # closed: the script has stopped it
        loop.call_soon_threadsafe(end.set)
    thread.join(PATIENCE)
    if thread.is_alive():
        _nbdkit._error(f"asyncio: the script's tasks were cancelled, and have not ended within {PATIENCE:g} seconds")


_forked = False  # whether this process is a child that was forked on the loop


def _in_child(thread: threading.Thread, loop: asyncio.AbstractEventLoop) -> None:
    global _forked
    if threading.current_thread() is thread:
        _forked = True
        loop.stop()


def _end_if_forked(where: str) -> None:
    """A child that was forked by a coroutine must not go on as the server, with the parent's loop."""
    if _forked:
        _nbdkit._error(f"{where}: a process that was forked in this callback has come back from it: it must end with "
                       "os._exit()")
        os._exit(1)
