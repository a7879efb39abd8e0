"""Mutual TLS: the PEM files of one party, and what gRPC makes of them.

A Unix socket is never encrypted: the mode of its folder says who may call. Any other address is, wherever files are
given.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # heavy: only who opens a port or a channel pays for it
    import grpc

VARIABLES = {"cert": "VMGLUE_TLS_CERT", "key": "VMGLUE_TLS_KEY", "ca": "VMGLUE_TLS_CA"}
"""Variables of the environment that stand for --tls-cert, --tls-key and --tls-ca."""


class TlsError(Exception):
    """Files that cannot be used, in one line that names the option."""


@dataclass(frozen=True, slots=True)
class Tls:
    """One party's certificate and key, and the authority that the other side's certificate must come from."""

    cert: Path
    """Its certificate."""
    key: Path
    """The private key of that certificate."""
    ca: Path
    """The authority's certificate."""

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a server; a caller must show a certificate of the authority.

        Files that are renewed count from the next connection on.
        """
        import grpc

        renewal = _Renewal(self)
        return grpc.dynamic_ssl_server_credentials(
            self.server_configuration(),
            renewal.look,  # type: ignore[arg-type]  # the stubs do not know that None stands for no change
            require_client_authentication=True,
        )

    def server_configuration(self) -> grpc.ServerCertificateConfiguration:
        """What the files hold at this moment."""
        import grpc

        pair = (self.key.read_bytes(), self.cert.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], self.ca.read_bytes())

    def server_context(self) -> ssl.SSLContext:
        """The same for a server without gRPC, of what the files hold at this moment."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.cert, self.key)
        context.load_verify_locations(self.ca)
        return context

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials of a caller, who insists on a server with a certificate of the authority."""
        import grpc

        return grpc.ssl_channel_credentials(self.ca.read_bytes(), self.key.read_bytes(), self.cert.read_bytes())


class _Renewal:
    """Notices that a server's files were renewed."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._known = self._state()

    def look(self) -> grpc.ServerCertificateConfiguration | None:
        """The new files; None: they are the old ones, or do not belong together yet."""
        state = self._state()
        if state == self._known:
            return None
        tls = self._tls
        try:
            read_tls(str(tls.cert), str(tls.key), str(tls.ca))
            renewed = tls.server_configuration()
        except (OSError, TlsError):
            return None
        self._known = state
        return renewed

    def _state(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when one of the files does."""
        try:
            found = [path.stat() for path in (self._tls.cert, self._tls.key, self._tls.ca)]
        except OSError:
            return ()
        return tuple((file.st_mtime_ns, file.st_ino, file.st_size) for file in found)


def read_tls(cert: str, key: str, ca: str) -> Tls | None:
    """Check the files that a user named; None if none are.

    Args:
        cert: Path of the certificate.
        key: Path of its private key.
        ca: Path of the authority's certificate.

    Raises:
        TlsError: Some of them are missing, cannot be read, or do not belong together.
    """
    paths = {"cert": cert, "key": key, "ca": ca}
    missing = [f"--tls-{name}" for name, path in paths.items() if not path]
    if len(missing) == len(paths):
        return None
    if missing:
        raise TlsError(f"{', '.join(missing)}: missing; TLS needs --tls-cert, --tls-key and --tls-ca")
    for name, path in paths.items():
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise TlsError(f"--tls-{name} {path}: cannot be read: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(cert, key, password="")  # one that has a password is refused, not asked for
    except (ssl.SSLError, ValueError):
        raise TlsError(f"--tls-cert {cert}: expected a certificate in PEM, and --tls-key with its plain key") from None
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise TlsError(f"--tls-ca {ca}: expected the authority's certificate in PEM") from None
    return Tls(Path(cert), Path(key), Path(ca))


def tls_from_environment() -> Tls | None:
    """The files that the environment names; None if it names none.

    Raises:
        TlsError: They cannot be used.
    """
    return read_tls(**{name: os.environ.get(variable, "") for name, variable in VARIABLES.items()})


def is_encrypted(address: str, tls: Tls | None) -> bool:
    """Calls over this address are encrypted."""
    return tls is not None and not address.startswith("unix:")


def add_port(server: grpc.Server, address: str, tls: Tls | None) -> int:
    """Let a server listen on one more address; the port that it got, 1 for a Unix socket, or 0 for a failure.

    Raises:
        RuntimeError: The address is taken or not ours.
    """
    if tls is not None and is_encrypted(address, tls):
        return server.add_secure_port(address, tls.server_credentials())
    return server.add_insecure_port(address)
