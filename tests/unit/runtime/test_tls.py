"""TLS files: what is accepted, the one line about what is not, and where calls are encrypted."""

from __future__ import annotations

import shutil
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from certificates import files, tls
from cryptography import x509

from clients.certs import make_certificates
from services.runtime.config import Exit, read_config
from services.runtime.tls import Tls, TlsError, is_encrypted, read_tls, tls_from_environment


def paths(party, authority="ours"):
    found = tls(party, authority)
    return {"cert": str(found.cert), "key": str(found.key), "ca": str(found.ca)}


def test_files_that_belong_together():
    found = read_tls(**paths("pager"))
    assert found is not None
    assert found.cert.name == "pager.pem"
    assert read_tls("", "", "") is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"key": ""}, "--tls-key: missing; TLS needs"),
        ({"cert": "", "ca": ""}, "--tls-cert, --tls-ca: missing"),
        ({"ca": "/nowhere/ca.pem"}, "--tls-ca /nowhere/ca.pem: cannot be read: No such file"),
        ({"key": paths("viewer")["key"]}, "expected a certificate in PEM, and --tls-key with its plain key"),
        ({"cert": __file__}, "expected a certificate in PEM"),
        ({"ca": __file__}, "expected the authority's certificate in PEM"),
    ],
)
def test_files_that_do_not(change, complaint):
    with pytest.raises(TlsError) as wrong:
        read_tls(**(paths("pager") | change))
    assert complaint in str(wrong.value)
    assert "PRIVATE KEY" not in str(wrong.value)


def test_the_environment_names_them(monkeypatch):
    assert tls_from_environment() is None
    for name, path in paths("viewer").items():
        monkeypatch.setenv(f"VMGLUE_TLS_{name.upper()}", path)
    assert tls_from_environment() == tls("viewer")
    config = read_config("pager", (), ["--listen", "0.0.0.0:0"])
    assert config.tls == tls("viewer")
    assert config.redacted()["tls"] == str(tls("viewer").cert)


def test_a_service_with_them_may_listen_anywhere(capsys):
    config = read_config("pager", (), ["--listen", "0.0.0.0:5", "--listen", "unix:/tmp/x.sock", *files("pager")])
    assert config.listen == ("0.0.0.0:5", "unix:/tmp/x.sock")
    with pytest.raises(SystemExit) as ended:
        read_config("pager", (), ["--listen", "0.0.0.0:5", *files("pager")[:2]])
    assert ended.value.code == Exit.BAD_CONFIGURATION
    assert "--tls-ca: missing" in capsys.readouterr().err


def test_sockets_are_not_encrypted():
    assert is_encrypted("127.0.0.1:5", tls("pager"))
    assert not is_encrypted("unix:/tmp/x.sock", tls("pager"))
    assert not is_encrypted("127.0.0.1:5", None)


@pytest.fixture
def renewable(tmp_path):
    """A server's certificate and what makes another one."""
    for file in tls("pager").cert.parent.glob("*"):
        shutil.copy(file, tmp_path)
    return Tls(tmp_path / "pager.pem", tmp_path / "pager.key", tmp_path / "ca.pem")


def serial_seen(port):
    """Number of the certificate that a server shows."""
    context = ssl.create_default_context(cafile=str(tls("viewer").ca))
    context.load_cert_chain(tls("viewer").cert, tls("viewer").key)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), 5) as connection,
        context.wrap_socket(connection, server_hostname="127.0.0.1") as encrypted,
    ):
        return x509.load_der_x509_certificate(encrypted.getpeercert(binary_form=True)).serial_number


def serial_held(path):
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


def test_a_server_shows_a_renewed_certificate_from_the_next_connection_on(renewable):
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", renewable.server_credentials())
    server.start()
    first = serial_held(renewable.cert)
    assert serial_seen(port) == serial_seen(port) == first
    whole = renewable.cert.read_bytes()
    for wrong in (whole[: len(whole) // 2], tls("viewer").cert.read_bytes()):  # cut, or of another key
        renewable.cert.write_bytes(wrong)
        assert serial_seen(port) == first
    renewable.cert.unlink()
    assert serial_seen(port) == first
    make_certificates(renewable.cert.parent)
    second = serial_held(renewable.cert)
    assert serial_seen(port) == second != first
    server.stop(None).wait()
