# SPDX-License-Identifier: BSD-3-Clause
"""The Debian packages, installed by apt in a system that has nothing else in it."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = os.environ.get("PACKAGES_ROOT", "")
TREE = Path(__file__).resolve().parents[2]
EXAMPLES = "/usr/share/doc/nbdkit-python/examples"
pytestmark = [pytest.mark.skipif(not ROOT, reason="takes a Debian system: ./test packages"), pytest.mark.timeout(600)]


def inside(command: str, status: int = 0) -> str:
    """What a line for bash prints there."""
    done = subprocess.run(["bash", "-euc", f'. tests/suites/root.sh; in_root "$0" {shlex.quote(command)}', ROOT],
                          cwd=TREE, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == status, done.stdout
    return done.stdout


# In this order: each takes the system on from where the one before left it.

def test_they_take_the_place_of_nbdkits_own() -> None:
    inside("apt-get -qq update && apt-get -qq install --yes --no-install-recommends nbdkit-plugin-python "
           "libnbd-bin qemu-utils python3-libnbd python3-rich")
    inside("apt-get -qq install --yes --no-install-recommends /packages/*.deb")
    assert "nbdkit-python" in inside("dpkg --search /usr/lib/*/nbdkit/plugins/nbdkit-python-plugin.so")
    assert inside("dpkg-query --show --showformat='${db:Status-Status}' nbdkit-plugin-python || true") in {
        "config-files", "not-installed", "dpkg-query: no packages found matching nbdkit-plugin-python\n"}


def test_a_disk_is_served() -> None:
    assert inside(f"nbdkit -U - python {EXAMPLES}/ramdisk.py size=1M --run 'nbdinfo --size \"$uri\"'") == "1048576\n"


def test_so_it_is_for_one_who_may_not_write() -> None:
    """The modules are compiled already."""
    inside("rm -rf /tmp/log; su nobody -s /bin/sh -c "
           f"'nbdkit -v -U - python {EXAMPLES}/ramdisk.py size=1M --run \"nbdinfo --size \\$uri\"'")
    missing = inside("cd /usr/lib/python3/dist-packages/nbdkit; for f in *.py; do "
                     "ls __pycache__/${f%.py}.*.pyc >/dev/null || echo $f; done")
    assert missing == ""


def test_the_command_makes_a_disk_and_checks_it() -> None:
    inside("cd /tmp && rm -f mine.py test_mine.py && nbdkit-python new mine && nbdkit-python check mine.py")


def test_the_other_packages() -> None:
    assert inside("python3 -c 'import aqmp, xenstore; print(aqmp.__name__, xenstore.__name__)'") == "aqmp xenstore\n"


def test_a_script_is_type_checked_against_what_is_installed() -> None:
    inside("apt-get -qq install --yes --no-install-recommends mypy")
    assert "Success" in inside(f"cd /tmp && cp {EXAMPLES}/ramdisk.py . && mypy --strict ramdisk.py")


def test_the_filter_wants_exactly_its_nbdkit() -> None:
    version = inside("dpkg-query --show --showformat='${Version}' nbdkit")
    assert f"nbdkit (= {version})" in inside("dpkg-deb --field /packages/nbdkit-python-filter_*.deb Depends")
    assert "export-size" in inside(
        f"nbdkit -U - --filter=python memory 1M translator={EXAMPLES}/translators/trace.py --run 'nbdinfo \"$uri\"'")


def test_nothing_is_left_of_them() -> None:
    inside("apt-get -qq purge --yes 'nbdkit-python*' python3-aqmp python3-xenstore")
    left = "find / -xdev -path /proc -prune -o -path /packages -prune -o -path /tmp -prune -o -print"
    assert inside(f"{left} | grep -E 'nbdkit-python|dist-packages/(nbdkit|aqmp|xenstore|glusterfs)' || true") == ""
