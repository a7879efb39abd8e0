"""Certificates: what they say, that valid ones are kept, and that nothing of others is overwritten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from clients.certs import PARTIES, main, make_certificates
from clients.cli import main as vmglue
from clients.exits import BadInput, Exit


def read(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind).value


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_everybody_gets_a_key_and_a_certificate_of_the_authority(tmp_path):
    directory = tmp_path / "certs"
    told = make_certificates(directory, hosts=["build.example.org", "10.0.0.7"], days=30)
    assert len(told) == 1 + len(PARTIES)
    assert directory.stat().st_mode & 0o777 == 0o700
    authority = read(directory / "ca.pem")
    for party in PARTIES:
        certificate = read(directory / f"{party.name}.pem")
        certificate.verify_directly_issued_by(authority)
        assert (directory / f"{party.name}.key").stat().st_mode & 0o777 == 0o600
        names = extension(certificate, x509.SubjectAlternativeName)
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"vmglue:role/{party.role}"]
        hosts = names.get_values_for_type(x509.DNSName)
        addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
        purposes = extension(certificate, x509.ExtendedKeyUsage)
        assert (ExtendedKeyUsageOID.SERVER_AUTH in purposes) == party.serves
        assert ExtendedKeyUsageOID.CLIENT_AUTH in purposes
        if party.serves:
            assert hosts == [party.name, "localhost", "build.example.org"]
            assert addresses == ["127.0.0.1", "::1", "10.0.0.7"]
        else:
            assert not hosts + addresses
        lifetime = certificate.not_valid_after_utc - datetime.now(UTC)
        assert timedelta(days=29) < lifetime <= timedelta(days=30)
    assert (directory / "ca.key").stat().st_mode & 0o777 == 0o600
    assert not list(directory.glob("*.part"))


def test_valid_ones_are_kept_and_others_are_made_anew_with_their_keys(tmp_path):
    make_certificates(tmp_path, days=300)
    first = contents(tmp_path)
    (tmp_path / "viewer.key").chmod(0o644)
    assert all(line.startswith("kept") for line in make_certificates(tmp_path, days=300))
    assert contents(tmp_path) == first
    assert (tmp_path / "viewer.key").stat().st_mode & 0o777 == 0o600
    told = make_certificates(tmp_path, days=1000)  # less than a third of that is left
    assert [line.split()[0] for line in told] == ["kept"] + ["made"] * len(PARTIES)
    second = contents(tmp_path)
    assert all(second[name] == first[name] for name in first if name.endswith(".key") or name == "ca.pem")
    told = make_certificates(tmp_path, hosts=["example.org"], days=1000)
    assert sum(line.startswith("made") for line in told) == sum(party.serves for party in PARTIES)
    (tmp_path / "viewer.pem").unlink()
    told = make_certificates(tmp_path, hosts=["example.org"], days=1000)
    assert [line.split()[0] for line in told] == ["kept"] * len(PARTIES) + ["made"]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("ca.pem", "shopping list", "ca.pem: is no certificate in PEM, and is not overwritten"),
        ("pager.pem", "shopping list", "pager.pem: is no certificate in PEM, and is not overwritten"),
        ("viewer.key", "shopping list", "viewer.key: is no key of ours, and is not overwritten"),
    ],
)
def test_a_foreign_file_is_not_overwritten(tmp_path, name, text, complaint):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput) as refused:
        make_certificates(tmp_path)
    assert complaint in str(refused.value)
    assert (tmp_path / name).read_text() == text


def test_a_certificate_of_another_authority_is_not_overwritten(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("clients.certs.AUTHORITY", "somebody else")
        make_certificates(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(BadInput, match=r"ca.pem: is not of a vmglue certificate authority"):
        make_certificates(tmp_path)
    assert contents(tmp_path) == before


def test_an_authority_without_its_key_is_not_replaced(tmp_path):
    make_certificates(tmp_path)
    (tmp_path / "ca.key").rename(tmp_path / "old.key")
    with pytest.raises(BadInput, match=r"ca.pem: its key .* is missing"):
        make_certificates(tmp_path)
    (tmp_path / "pager.key").rename(tmp_path / "ca.key")
    with pytest.raises(BadInput, match=r"ca.pem: is not of the key"):
        make_certificates(tmp_path)


def test_command_lines(tmp_path, capsys):
    assert main([str(tmp_path / "a"), "--hosts", "x.org", "y.org", "--days", "9"]) == Exit.OK
    assert capsys.readouterr().out.count("made ") == 1 + len(PARTIES)
    assert vmglue(["certs", str(tmp_path / "a"), "--hosts", "x.org", "--hosts", "y.org", "--days", "9"]) == Exit.OK
    assert capsys.readouterr().out.count("kept ") == 1 + len(PARTIES)
    assert main([str(tmp_path / "a"), "--hosts", "ä.org"]) == Exit.BAD_INPUT
    assert "--hosts ä.org: expected a host name in ASCII" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), "--days", "0"])
    assert ended.value.code == Exit.BAD_INPUT


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        make_certificates(tmp_path / "file" / "certs")
