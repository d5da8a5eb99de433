# SPDX-License-Identifier: BSD-3-Clause
"""What NAME.py must do. To run it: python3 -m pytest test_NAME.py"""

from pathlib import Path

import pytest
from nbdkit.testing import ServerError, check, serve

SCRIPT = Path(__file__).with_name("NAME.py")


def test_what_was_written_is_read() -> None:
    with serve(SCRIPT, size="1M") as server:
        disk = server.connect()
        assert disk.get_size() == 1 << 20
        disk.pwrite(b"some bytes", 5000)
        assert disk.pread(10, 5000) == b"some bytes"


def test_a_parameter_that_it_does_not_have() -> None:
    with pytest.raises(ServerError, match="unknown parameter 'colour'"), serve(SCRIPT, colour="red"):
        pass


def test_it_is_a_good_disk() -> None:
    report = check(SCRIPT, size="1M")
    assert report.ok, str(report)
