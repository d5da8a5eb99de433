# SPDX-License-Identifier: BSD-3-Clause
"""Events and their listeners: what they take, that they are bounded, and that they end with the connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from aqmp import EventListener, ListenerError, Message, QMPClient
from aqmp_loop import run
from aqmp_real import MACHINE, Monitor
from aqmp_scripted import Connection, answer_the_rest, scripted


def event(name: str, **data: object) -> Message:
    return Message({"event": name, "data": data})


def names(events: list[Message]) -> list[object]:
    return [e["event"] for e in events]


# The listener by itself.

def test_what_a_listener_takes() -> None:
    for listener, taken in [
        (EventListener(), "ABC"),
        (EventListener("A"), "A"),
        (EventListener(["A", "C"]), "AC"),
        (EventListener(()), "ABC"),
        (EventListener(event_filter=lambda e: e["event"] != "A"), "BC"),
        (EventListener(iter("AB"), lambda e: e["event"] != "A"), "B"),
    ]:
        for name in "ABC":
            listener.put(event(name))
        assert "".join(map(str, names(list(listener.history)))) == taken
        assert "".join(map(str, names(listener.clear()))) == taken
        assert listener.empty() and listener.clear() == [] and len(listener.history) == len(taken)


def test_a_filter_that_raises_is_in_the_log_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    listener = EventListener(event_filter=lambda e: bool(e["data"]["missing"]))  # type: ignore[index]
    listener.put(event("A"))
    assert listener.empty()
    assert "the filter of <EventListener queued=0 dropped=0> raised an exception" in caplog.text
    assert "KeyError: 'missing'" in caplog.text


def test_queue_and_history_are_bounded_and_count_what_they_drop(caplog: pytest.LogCaptureFixture) -> None:
    listener = EventListener(queue_limit=3, history_limit=5)
    with caplog.at_level(logging.INFO, "aqmp"):
        for number in range(10):
            listener.put(event(str(number)))
    assert [record.levelname for record in caplog.records if "is full" in record.message] == ["INFO"]
    assert (listener.dropped, listener.history_dropped) == (7, 5)
    assert names(list(listener.history)) == ["5", "6", "7", "8", "9"]
    assert names(listener.clear()) == ["7", "8", "9"]


def test_a_queue_that_is_read_too_slowly_is_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def session() -> None:
        listener = EventListener(queue_limit=3)
        listener.put(event("A"))
        await listener.get()
        for _ in range(5):
            listener.put(event("B"))

    run(session())
    assert [record.levelname for record in caplog.records if "is full" in record.message] == ["WARNING"]


def test_the_default_bounds() -> None:
    listener = QMPClient().events
    for number in range(12_000):
        listener.put(event(str(number)))
    assert (len(listener.clear()), listener.dropped) == (10_000, 2_000)
    assert (len(listener.history), listener.history_dropped) == (1_000, 11_000)


def test_bounds_that_are_none() -> None:
    with pytest.raises(ValueError, match="expected a queue_limit of 1 or more .* got 0 and 1"):
        EventListener(queue_limit=0, history_limit=1)
    listener = EventListener(history_limit=0)
    listener.put(event("A"))
    assert (listener.history, listener.history_dropped) == ((), 1)


def test_several_wait_at_one_listener_and_a_cancelled_one_takes_nothing() -> None:
    async def session() -> None:
        listener = EventListener()
        getters = [asyncio.create_task(listener.get()) for _ in range(4)]
        await asyncio.sleep(0)
        getters[1].cancel()
        listener.put(event("A"))
        # Woken for the event, and cancelled before it could take it.
        getters[0].cancel()
        await asyncio.sleep(0)
        listener.put(event("B"))
        results = await asyncio.gather(*getters, return_exceptions=True)
        assert [isinstance(r, asyncio.CancelledError) for r in results] == [True, True, False, False]
        assert names([r for r in results if isinstance(r, Message)]) == ["A", "B"]

    run(session())


# With a client.

def test_registering() -> None:
    client = QMPClient()
    listener = EventListener()
    with pytest.raises(ListenerError, match="is not registered"):
        client.remove_listener(listener)
    client.register_listener(listener)
    with pytest.raises(ListenerError, match="is registered already"):
        client.register_listener(listener)
    with pytest.raises(ListenerError), client.listen(EventListener(), listener):
        pass
    client.remove_listener(listener)
    with pytest.raises(ListenerError, match="the client's own listener cannot be removed"):
        client.remove_listener(client.events)
    with client.listen(listener, EventListener()):
        pass
    assert client._listeners == [client.events]


def test_a_removed_listener_ends() -> None:
    async def session() -> None:
        client = QMPClient()
        with client.listener() as listener:
            waiting = asyncio.create_task(listener.get())
            await asyncio.sleep(0)
        with pytest.raises(ListenerError, match="no more events"):
            await waiting
        # And can be registered again.
        with client.listen(listener):
            listener.put(event("A"))
            assert (await listener.get())["event"] == "A"

    run(session())


def test_real_events(machine: Monitor) -> None:
    async def session() -> None:
        client = QMPClient()
        await client.connect(machine.socket)
        with client.listener("STOP") as stops, client.listener(("STOP", "RESUME")) as both, \
                client.listener(event_filter=lambda e: "S" in str(e["event"])) as filtered:
            await client.execute("cont")
            await client.execute("stop")
            assert (await stops.get())["event"] == "STOP"
            assert names([await both.get(), await both.get()]) == ["RESUME", "STOP"]
            assert names(list(filtered.history)) == ["RESUME", "STOP"]
        timestamp = client.events.history[0]["timestamp"]
        assert isinstance(timestamp, dict) and set(timestamp) == {"seconds", "microseconds"}
        await client.disconnect()

    run(session())


def test_an_iteration_ends_with_the_connection_and_misses_nothing_before(machine: Monitor) -> None:
    """The events that a dying monitor sends come first."""

    async def session() -> None:
        client = QMPClient()
        await client.connect(machine.socket)
        seen: list[object] = []

        async def follow() -> None:
            async for e in client.events:
                seen.append(e["event"])

        following = asyncio.create_task(follow())
        await client.execute("cont")
        await client.execute("quit")
        await following
        assert seen[0] == "RESUME" and "SHUTDOWN" in seen
        with pytest.raises(ListenerError):
            await client.events.get()
        # A listener that comes too late waits for nothing either.
        with client.listener() as late:
            assert [e async for e in late] == []
        await client.disconnect()

    run(session())


def test_what_is_queued_is_delivered_after_the_end(folder: Path) -> None:
    async def script(connection: Connection) -> None:
        await connection.greet()
        for number in range(1000):
            connection.event(f"E{number}")

    async def session() -> None:
        async with scripted(str(folder / "s"), script):
            client = QMPClient()
            await client.connect(str(folder / "s"))
            assert names([e async for e in client.events]) == [f"E{n}" for n in range(1000)]
            await client.disconnect()

    run(session())


def test_disconnect_ends_iterations_and_connect_begins_them_anew(folder: Path) -> None:
    async def script(connection: Connection) -> None:
        await connection.greet()
        connection.event("HELLO")
        await answer_the_rest(connection)

    async def session() -> None:
        async with scripted(str(folder / "s"), script):
            client = QMPClient()
            with client.listener("HELLO") as listener:
                for _ in range(2):
                    await client.connect(str(folder / "s"))
                    assert (await listener.get())["event"] == "HELLO"
                    waiting = [asyncio.create_task(listener.get()) for _ in range(2)]
                    await asyncio.sleep(0)
                    await client.disconnect()
                    for task in waiting:
                        with pytest.raises(ListenerError):
                            await task

    run(session())


def test_a_listener_can_wait_for_the_connection_to_come(folder: Path) -> None:
    async def session() -> None:
        client = QMPClient()
        waiting = asyncio.create_task(client.events.get())
        await asyncio.sleep(0)
        assert not waiting.done()

        async def script(connection: Connection) -> None:
            await connection.greet()
            connection.event("HELLO")
            await connection.reader.read()

        async with scripted(str(folder / "s"), script):
            await client.connect(str(folder / "s"))
            assert (await waiting)["event"] == "HELLO"
            await client.disconnect()

    run(session())


def test_events_of_a_running_machine(start: Callable[..., Monitor]) -> None:
    """A reset, and the end: what the machine tells by itself."""
    monitor = start(MACHINE)

    async def session() -> None:
        client = QMPClient()
        await client.connect(monitor.socket)
        await client.execute("system_reset")
        while (await client.events.get())["event"] != "RESET":
            pass
        await client.execute("quit")
        assert "SHUTDOWN" in names([e async for e in client.events])
        await client.disconnect()

    run(session())
