# SPDX-License-Identifier: BSD-3-Clause
"""What TLS tells of a client: strange names in its certificate, strange users of keys, noise instead of TLS."""

from __future__ import annotations

import base64
import random
import re
import subprocess
from pathlib import Path

import nbd
import pytest

import wire
from conftest import Serve
from harness import TIMEOUT, Server
from hostile_kit import watchful
from wire import Wire, export, option

# It also tells, as the export's description, what it knows of the client.
TELLS = watchful() + """
    def export_description(h):
        told = [nbdkit.is_tls()]
        for function in ("peer_tls_dn", "peer_tls_issuer_dn"):
            if hasattr(nbdkit, function):
                told.append(getattr(nbdkit, function)())
        return ascii(told)
"""
PLACE = b"the name of the client in the certificate that others are from".ljust(64, b".")
COMMON_NAMES = {
    "plain": b"a client of ours", "cut off by a NUL": b"admin\0.example.com", "only NULs": b"\0" * len(PLACE),
    "more attributes": b"x,O=admin+CN=root,DC=y", "quotes": b"\"'\\;<>#=, ;--", "controls": b"a\nb\x1b[2J\r\x07\x7f",
    "formats": b"%s%n%s%n{}$HOME", "not UTF-8": b"\xff\xfe\xed\xa0\x80", "spaces": b" " * len(PLACE),
    "bidirectional": "\u202egpj\u2028".encode(),
}


# What peer_tls_dn() and peer_tls_issuer_dn() are then, in an nbdkit that has them, and in one that does not.
NO_CERTIFICATE = [["", ""], []]


def openssl(folder: Path, *words: str, data: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=TIMEOUT,
                          input=data).stdout


class Authority:
    """Keys and certificates in a folder, as nbdkit and libnbd want them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=authority", "-days", "2",
                "-keyout", "ca-key.pem", "-out", "ca-cert.pem")
        for who, name in (("server", "localhost"), ("client", PLACE.decode())):
            openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-subj", f"/CN={name}", "-keyout", f"{who}-key.pem", "-out", f"{who}.csr")
            openssl(folder, "x509", "-req", "-sha256", "-in", f"{who}.csr", "-CA", "ca-cert.pem", "-days", "2",
                    "-CAkey", "ca-key.pem", "-CAcreateserial", "-out", f"{who}-cert.pem")

    def client(self, name: bytes) -> Path:
        """A folder with a client's certificate for a name of any bytes, which no tool would make."""
        text = (self.folder / "client-cert.pem").read_text()
        certificate = bytearray(base64.b64decode("".join(text.splitlines()[1:-1])))
        # SEQUENCE { SEQUENCE { what is signed }, algorithm, signature }, both of lengths that take two bytes.
        assert certificate[:2] == certificate[4:6] == b"\x30\x82"
        end = 8 + int.from_bytes(certificate[6:8], "big")
        signed = certificate[4:end].replace(PLACE, name.ljust(len(PLACE), b"."))
        certificate[4:end] = signed
        certificate[-256:] = openssl(self.folder, "dgst", "-sha256", "-sign", "ca-key.pem", data=bytes(signed))
        folder = self.folder / name.hex()
        folder.mkdir()
        for file in ("ca-cert.pem", "client-key.pem"):
            (folder / file).symlink_to(f"../{file}")
        lines = base64.encodebytes(certificate).decode()
        (folder / "client-cert.pem").write_text(f"-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
        return folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def told(server: Server, **settings: str) -> list[object]:
    """What the script knows of a client that connects with these settings."""
    h = server.connect("", tls=nbd.TLS_REQUIRE, tls_verify_peer=False, full_info=True, **settings)
    description = h.get_export_description()
    h.shutdown()
    found = eval(description)
    assert isinstance(found, list) and found[0] is True
    return found[1:]


def untouched(server: Server) -> None:
    assert (server.folder / "wrong").read_text() == ""
    assert "Traceback" not in server.log()


def test_names_in_certificates(serve: Serve, authority: Authority) -> None:
    """peer_tls_dn() has escapes where a name could pass for another, or for more than one; controls are as they are."""
    server = serve(TELLS, options=("--tls=require", "--tls-verify-peer", f"--tls-certificates={authority.folder}"))
    names = []
    for name in COMMON_NAMES.values():
        names.append(told(server, tls_certificates=str(authority.client(name))))
    untouched(server)
    if not names[0]:
        pytest.skip("all have come in, but this nbdkit, older than 1.40, does not tell their names")
    subjects = [subject for subject, _ in names]
    assert subjects[0] == "CN=" + "a client of ours".ljust(len(PLACE), ".")
    assert len(set(subjects)) == len(COMMON_NAMES)
    assert {issuer for _, issuer in names} == {"CN=authority"}
    for subject in subjects:
        assert isinstance(subject, str) and subject.startswith("CN="), subject
        assert len(re.split(r"(?<!\\)[,+]", subject)) == 1, f"{subject} has more than one attribute"


def test_certificates_that_are_not_ours(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    server = serve(TELLS, options=("--tls=require", "--tls-verify-peer", f"--tls-certificates={authority.folder}"))
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").client(b"a client of ours")
    with pytest.raises(nbd.Error):
        told(server, tls_certificates=str(stranger))
    with pytest.raises(nbd.Error):
        server.connect()
    told(server, tls_certificates=str(authority.client(b"one of ours")))
    untouched(server)


def test_a_name_that_nobody_has_verified(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    """Without --tls-verify-peer, nbdkit does not ask for a certificate, and there is no name to believe in."""
    server = serve(TELLS, options=("--tls=require", f"--tls-certificates={authority.folder}"))
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").client(b"admin")
    (stranger / "ca-cert.pem").unlink()
    (stranger / "ca-cert.pem").symlink_to(authority.folder / "ca-cert.pem")
    assert told(server, tls_certificates=str(stranger)) in NO_CERTIFICATE
    untouched(server)


def test_users_of_pre_shared_keys(serve: Serve, tmp_path: Path) -> None:
    """Only who has a user's key comes in, and a user's name does not reach the script."""
    keys, guessed = tmp_path / "keys", tmp_path / "guessed"
    keys.write_text(f"alice:{'1f' * 32}\n")
    server = serve(TELLS, options=("--tls=require", f"--tls-psk={keys}"))
    assert told(server, tls_psk_file=str(keys), tls_username="alice") in NO_CERTIFICATE
    for user in ("alice", "bob", "al", "alice:" + "1f" * 32, "../keys", "%s%n%s%n", "'; --", "a" * 1000, "\u00e9"):
        guessed.write_text(f"{user}:{'3f' * 32}\n")
        with pytest.raises(nbd.Error):
            told(server, tls_psk_file=str(guessed), tls_username=user)
    assert told(server, tls_psk_file=str(keys), tls_username="alice") in NO_CERTIFICATE
    untouched(server)


def test_before_tls(serve: Serve, authority: Authority) -> None:
    """Where TLS is required, the script hears of no client that has not been through it."""
    server = serve(TELLS + """
    def preconnect(readonly): pass
    def list_exports(readonly, is_tls): expect(is_tls, "list_exports"); return ["secret"]
    def default_export(readonly, is_tls): expect(is_tls, "default_export"); return "secret"
    """, options=("--tls=require", f"--tls-certificates={authority.folder}"))
    for number, data in ((wire.LIST, b""), (wire.INFO, export(b"", 1, 2, 3)), (wire.GO, export(b"secret")),
                         (wire.LIST_META, wire.contexts(b"")), (99, b"data")):
        with Wire(server.socket).hello() as client:
            [(kind, _)] = client.ask(number, data)
            assert kind == wire.ERROR + 5  # TLS is required
    with Wire(server.socket).hello() as client:
        client.send(option(wire.EXPORT_NAME, b"secret"))
        assert client.rest() == b""
    chance = random.Random(3)
    for _ in range(30):
        with Wire(server.socket).hello() as client:
            assert client.ask(wire.STARTTLS) == [(wire.ACK, b"")]
            # What is injected before TLS, or sent in place of it, is not taken for an option.
            go = option(wire.GO, export(b"secret"))
            client.send(chance.choice([b"", b"\x16\x03\x01\x02\0", chance.randbytes(200), go * 9]))
            client.ends()
    assert told(server) in NO_CERTIFICATE
    untouched(server)
