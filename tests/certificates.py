"""Certificates to test with, from an authority that is made once."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from clients.certs import make_certificates
from services.runtime.tls import Tls, read_tls


@cache
def _directory(authority: str) -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory(prefix=f"vmglue-{authority}-")
    make_certificates(Path(made.name))
    return made


def files(party: str, authority: str = "ours") -> list[str]:
    """Options of a command line that name a party's files."""
    directory = _directory(authority).name
    return [f"--tls-cert={directory}/{party}.pem", f"--tls-key={directory}/{party}.key", f"--tls-ca={directory}/ca.pem"]


def tls(party: str, authority: str = "ours") -> Tls:
    """A party's files; a party of another authority believes that one alone."""
    found = read_tls(*(option.partition("=")[2] for option in files(party, authority)))
    assert found is not None
    return found
