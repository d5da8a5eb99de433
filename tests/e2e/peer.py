# SPDX-License-Identifier: BSD-3-Clause
"""A plugin of pytest for `./test peer`: what is marked peer_fails must fail, or the run fails."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("peer_fails"):
            item.add_marker(pytest.mark.xfail(strict=True))
