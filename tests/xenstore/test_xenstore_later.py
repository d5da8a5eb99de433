# SPDX-License-Identifier: BSD-3-Clause
"""What no daemon of Debian's does: folders in parts, features and quotas, from a store that is made up."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from xenstore import ProtocolError, Xenstore, XenstoreException, aio

from xenstore_both import both, steady
from xenstore_daemon import TIMEOUT
from xenstore_expect import refused
from xenstore_fake import ERROR, GET_DOMAIN_PATH, WATCH, Answers, fake_store
from xenstore_run import run


# Folders in parts.

def parts(*answers: bytes) -> Callable[[], Answers]:
    """A folder that is too big; its parts."""

    def make() -> Answers:
        left = list(answers)
        return lambda asked: [asked.error("E2BIG") if asked.type == 1 else asked.answer(left.pop(0))]

    return make


@pytest.mark.parametrize(("answers", "names"), [
    ([b"5\0a\0b\0", b"5\0c\0\0"], ["a", "b", "c"]),
    ([b"5\0a\0b\0", b"6\0c\0\0", b"6\0d\0", b"6\0e\0\0"], ["d", "e"]),  # it has changed: from the beginning
    ([b"5\0\0"], []),
])
def test_a_folder_in_parts(answers: list[bytes], names: list[str]) -> None:
    assert both(parts(*answers), lambda s: s.list("/a"), lambda s: s.list("/a")) == [names, names]


def test_the_parts_that_are_asked_for() -> None:
    left = [b"5\0ab\0c\0", b"6\0x\0\0", b"6\0d\0", b"6\0\0"]
    with fake_store(lambda a: [a.error("E2BIG") if a.type == 1 else a.answer(left.pop(0))]) as fake:
        with Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
            assert store.list("/a") == ["d"]
        assert [asked.payload for asked in fake.asked] == [b"/a\0", b"/a\0" b"0\0", b"/a\0" b"5\0", b"/a\0" b"0\0",
                                                           b"/a\0" b"2\0"]


def test_a_folder_that_never_rests() -> None:
    generation = iter(range(1000))
    with fake_store(lambda a: [a.error("E2BIG") if a.type == 1 else a.answer(b"%d\0a\0" % next(generation))]) as fake:
        with Xenstore(str(fake.socket), timeout=TIMEOUT) as store, refused("EAGAIN"):
            store.list("/a")


@pytest.mark.parametrize("part", [b"", b"5\0", b"5"])
def test_parts_that_are_none(part: bytes) -> None:
    def ask(store: Xenstore) -> None:
        with pytest.raises(ProtocolError, match="expected a part of a folder"):
            store.list("/a")

    async def aask(store: aio.Xenstore) -> None:
        with pytest.raises(ProtocolError, match="expected a part of a folder"):
            await store.list("/a")

    both(parts(part), ask, aask)


# What later daemons have.

def test_watch_depth() -> None:
    with fake_store(lambda asked: [asked.answer()]) as fake:
        with Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
            tokens = [store.watch("/a", print, depth=depth).encode() for depth in (None, 0, 3)]

        async def main() -> list[bytes]:
            async with aio.Xenstore(str(fake.socket), timeout=TIMEOUT) as store, store.watch("/a", depth=2) as watch:
                return [watch.token.encode()]

        tokens += run(main())
        watches = [asked.payload for asked in fake.asked if asked.type == WATCH]
        assert watches == [b"/a\0" + token + rest for token, rest in zip(tokens, (b"\0", b"\0" b"0\0", b"\0" b"3\0",
                                                                                   b"\0" b"2\0"))]


FEATURES_AND_QUOTAS = [
    (b"7\0", lambda s: s.get_features(), 23, b"", 7),
    (b"3\0", lambda s: s.get_features(5), 23, b"5\0", 3),
    (b"OK\0", lambda s: s.set_features(5, 3), 24, b"5\0" b"3\0", None),
    (b"nodes watches\0", lambda s: s.quota_names(), 25, b"", ["nodes", "watches"]),
    (b"1000\0", lambda s: s.get_quota("nodes"), 25, b"nodes\0", 1000),
    (b"10\0", lambda s: s.get_quota("nodes", 5), 25, b"5\0nodes\0", 10),
    (b"OK\0", lambda s: s.set_quota("nodes", 0), 26, b"nodes\0" b"0\0", None),
    (b"OK\0", lambda s: s.set_quota("nodes", 9, 5), 26, b"5\0nodes\0" b"9\0", None),
]


@pytest.mark.parametrize(("payload", "ask", "type", "sent", "expected"), FEATURES_AND_QUOTAS)
def test_features_and_quotas(payload: bytes, ask: Callable[[object], object], type: int, sent: bytes,
                             expected: object) -> None:
    with fake_store(lambda asked: [asked.answer(payload)]) as fake:
        with Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
            assert ask(store) == expected

        async def main() -> object:
            async with aio.Xenstore(str(fake.socket), timeout=TIMEOUT) as store:
                return await ask(store)  # type: ignore[misc]

        assert run(main()) == expected
        asked = [(asked.type, asked.payload) for asked in fake.asked if asked.type != GET_DOMAIN_PATH]
        assert asked == 2 * [(type, sent)]


def test_an_error_of_a_later_daemon() -> None:
    def ask(store: Xenstore) -> tuple[int, str]:
        with pytest.raises(XenstoreException) as caught:
            store.read("/a")
        return caught.value.errno, str(caught.value)

    async def aask(store: aio.Xenstore) -> tuple[int, str]:
        with pytest.raises(XenstoreException) as caught:
            await store.read("/a")
        return caught.value.errno, str(caught.value)

    assert both(steady(lambda asked: [asked.answer(b"EDOM\0", ERROR)]), ask, aask) == 2 * [(errno.EDOM, "EDOM")]
    assert both(steady(lambda asked: [asked.answer(b"ENEW\0", ERROR)]), ask, aask) == 2 * [(errno.EIO, "ENEW")]
