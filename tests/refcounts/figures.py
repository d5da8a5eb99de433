# SPDX-License-Identifier: BSD-3-Clause
"""A plugin of pytest for `./test debug-python`: at its end, how often each callback was called and what that left."""

from __future__ import annotations

from collections import defaultdict
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for name, value in report.user_properties:
            if report.when == "call" and name == "drift":
                callback, _, calls, drift = value
                found[callback].append((calls, drift))
    if found:
        terminalreporter.section("references left by each callback")
        terminalreporter.line(f"{'callback':20}{'ways':>6}{'calls':>12}{'least':>8}{'most':>8}")
    for callback, figures in found.items():
        drifts = [drift for _, drift in figures]
        calls = sum(calls for calls, _ in figures)
        terminalreporter.line(f"{callback:20}{len(figures):6}{calls:12,}{min(drifts):+8}{max(drifts):+8}")
