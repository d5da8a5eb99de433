# SPDX-License-Identifier: BSD-3-Clause
"""A plugin of pytest for `./test model`: how much has been tried, in one line at the end."""

from collections import Counter

from _pytest.terminal import TerminalReporter


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    total: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, figures in getattr(report, "user_properties", []):
                if key == "model" and report.when == "call":
                    total += Counter(figures, disks=1)
    terminalreporter.write_line(
        "{disks:,} disks, {examples:,} sequences on {connections:,} connections: {requests:,} requests answered as "
        "expected, {errors:,} of them with an error, and {bytes:,} bytes compared".format_map(total))
