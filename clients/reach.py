"""Why nothing answers at an address: where a certificate is not believed, gRPC says "Socket closed" at best."""

from __future__ import annotations

import socket
import ssl

from services.runtime.tls import Tls

_ANSWER_S = 2.0


def why_unreachable(address: str, tls: Tls | None) -> str:
    """What keeps a caller from a gRPC server, found out by a handshake, with what would help.

    Args:
        address: gRPC target.
        tls: Who calls; None: without encryption.

    Returns:
        Part of a sentence; empty: the address is none of a host's port, or a handshake goes well.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or address.startswith("unix:"):
        return ""
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), _ANSWER_S) as connection:
            return _handshake(connection, host, tls)
    except OSError as error:
        return f"nothing can be reached there: {error.strerror or error}"


def _handshake(connection: socket.socket, host: str, tls: Tls | None) -> str:
    """The same, where something listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if tls is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.load_cert_chain(tls.cert, tls.key)
        context.load_verify_locations(tls.ca)
    try:
        with context.wrap_socket(connection, server_hostname=host) as encrypted:
            if tls is None:
                return "it answers with TLS alone; give --tls-cert, --tls-key and --tls-ca"
            return "" if encrypted.recv(1) else _REFUSED.format(tls.cert)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not believed: {error.verify_message}; --tls-ca must be of its authority"
    except ssl.SSLError as error:
        if tls is None:
            return ""
        return _NO_TLS if error.reason in _PLAIN else _REFUSED.format(tls.cert)
    except OSError:  # it closed the connection, or says nothing
        return _REFUSED.format(tls.cert) if tls is not None else ""


_REFUSED = "it does not believe --tls-cert {}: that must be of its authority, and not have ended"
_NO_TLS = "it answers without TLS; leave --tls-cert, --tls-key and --tls-ca out"
_PLAIN = ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE")
"""What OpenSSL says where the other side does not speak TLS."""
