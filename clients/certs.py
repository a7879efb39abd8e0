"""An authority and certificates for everybody who takes part: `python -m clients.certs DIR`, or `vmglue certs DIR`.

The role of a certificate (services/runtime/roles.py) is a URI among its names: `vmglue:role/operator`. Any other
authority that writes it there will do as well.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from clients.exits import BadInput, Exit
from services.runtime.roles import URI, Role

DAYS = 365
"""Days that a certificate is good for."""
CA_DAYS_MIN = 3650
"""Days that the authority is good for, at least."""
AUTHORITY = "vmglue certificate authority"
"""Common name of the authority: what it did not sign is not ours to replace."""
_ORGANIZATION = "vmglue"
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who gets a certificate."""

    name: str
    """Common name, and base name of its files."""
    role: Role
    """Its role."""
    serves: bool
    """It also answers calls, under its name and as this host."""


PARTIES = (
    Party("pager", Role.SERVICE, serves=True),
    Party("physmem", Role.SERVICE, serves=True),
    Party("kstack", Role.SERVICE, serves=True),
    Party("scheduler", Role.SERVICE, serves=True),
    Party("orchestrator", Role.OPERATOR, serves=True),
    Party("operator", Role.OPERATOR, serves=False),
    Party("viewer", Role.VIEWER, serves=False),
)
"""Everybody who takes part in a machine."""


def make_certificates(directory: Path, hosts: Sequence[str] = (), days: int = DAYS) -> list[str]:
    """Make what is missing or about to end; keys are kept for ever.

    Args:
        directory: Where the files are: `ca.pem`, `ca.key`, and `NAME.pem`, `NAME.key` for each of PARTIES.
        hosts: Further host names and addresses under which services are called.
        days: Days that a new certificate is good for.

    Returns:
        A line about each certificate.

    Raises:
        BadInput: A file of that name is none of ours, or the directory cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority, told = _authority(directory, days)
        return [told] + [_certify(directory, authority, party, hosts, days) for party in PARTIES]
    except OSError as error:
        raise BadInput(f"{error.filename or directory}: cannot be written: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class _Authority:
    """The authority's key and certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def _authority(directory: Path, days: int) -> tuple[_Authority, str]:
    path = directory / "ca.pem"
    held = _held(path)
    if held is not None and not path.with_suffix(".key").exists():
        raise BadInput(f"{path}: its key {path.with_suffix('.key')} is missing; name another directory")
    key = _key(path.with_suffix(".key"))
    if held is not None:
        if held.public_key() != key.public_key():
            raise BadInput(f"{path}: is not of the key {path.with_suffix('.key')}; name another directory")
        if _lasts(held, days):
            return _Authority(key, held), _line("kept", path, held)
    builder = _builder(AUTHORITY, key, max(days, CA_DAYS_MIN))
    builder = builder.issuer_name(_name(AUTHORITY))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    made = builder.sign(key, hashes.SHA256())
    _write(path, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return _Authority(key, made), _line("made", path, made)


def _certify(directory: Path, authority: _Authority, party: Party, hosts: Sequence[str], days: int) -> str:
    """Keep a party's certificate if it still says the right thing, else make one."""
    path = directory / f"{party.name}.pem"
    held = _held(path)
    key = _key(path.with_suffix(".key"))
    names = _names(party, hosts)
    if held is not None and _lasts(held, days) and _says(held, authority, key, names):
        return _line("kept", path, held)
    builder = _builder(party.name, key, days).issuer_name(authority.certificate.subject)
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH] + [ExtendedKeyUsageOID.SERVER_AUTH] * party.serves
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs=False), True),
        (x509.ExtendedKeyUsage(purposes), False),
        (names, False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), False),
    ):
        builder = builder.add_extension(extension, critical)
    made = builder.sign(authority.key, hashes.SHA256())
    _write(path, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return _line("made", path, made)


def _names(party: Party, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    """Names of a certificate: its role and, of a server, where it may be called."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"{URI}{party.role}")]
    if party.serves:
        names += [_host(host) for host in dict.fromkeys((party.name, "localhost", "127.0.0.1", "::1", *hosts))]
    return x509.SubjectAlternativeName(names)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise BadInput(f"--hosts {host}: expected a host name in ASCII or an address") from None


def _held(path: Path) -> x509.Certificate | None:
    """The certificate that is there.

    Raises:
        BadInput: The file is none of ours.
    """
    try:
        held = x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise BadInput(f"{path}: is no certificate in PEM, and is not overwritten; name another directory") from None
    if held.issuer != _name(AUTHORITY):
        raise BadInput(f"{path}: is not of a {AUTHORITY}, and is not overwritten; name another directory")
    return held


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key that is there, or a new one; nobody but its owner can read it.

    Raises:
        BadInput: The file is none of ours.
    """
    try:
        held = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        _write(path, key.private_bytes(*pem), 0o600)
        return key
    except (ValueError, TypeError):
        held = None
    if not isinstance(held, ec.EllipticCurvePrivateKey):
        raise BadInput(f"{path}: is no key of ours, and is not overwritten; name another directory")
    path.chmod(0o600)
    return held


def _lasts(held: x509.Certificate, days: int) -> bool:
    """It ends no sooner than in a third of the time that a new one is good for."""
    return held.not_valid_after_utc - datetime.now(UTC) > timedelta(days=days) / 3


def _says(
    held: x509.Certificate, authority: _Authority, key: ec.EllipticCurvePrivateKey, names: x509.SubjectAlternativeName
) -> bool:
    """It is what the authority would sign today."""
    try:
        held.verify_directly_issued_by(authority.certificate)
        found = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # which of its reasons does not matter: it is replaced
        return False
    return found == names and held.public_key() == key.public_key()


def _builder(name: str, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=signs, crl_sign=signs, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put a file there whole, with its mode from the first moment."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _line(word: str, path: Path, certificate: x509.Certificate) -> str:
    return f"{word} {path}, good until {certificate.not_valid_after_utc:%Y-%m-%d}"


def main(arguments: Sequence[str]) -> int:
    """Make certificates; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m clients.certs",
        description="Make an authority and certificates for the services, an operator and a viewer.",
        epilog="Example: python -m clients.certs ./certs --hosts build.example.org 10.0.0.7",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="where the files go; valid ones are kept")
    parser.add_argument("--hosts", nargs="+", default=[], metavar="NAME", help="further names of the services' hosts")
    parser.add_argument("--days", type=int, default=DAYS, help="days that they are good for (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.days < 1:
        parser.error(f"--days {options.days}: expected 1 or more")
    try:
        print("\n".join(make_certificates(options.directory, options.hosts, options.days)))
    except BadInput as wrong:
        print(f"certs: {wrong}", file=sys.stderr)
        return Exit.BAD_INPUT
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
