"""What a stack of containers needs before it starts, made once: `python -m clients.provision DIR`.

Certificates of everybody (clients/certs.py) and passwords of Redis, cut up by who may see them: `DIR/authority` is for
this command alone, and each party has a folder `DIR/NAME` with nobody else's secrets in it. What is there and still
good is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from clients.certs import PARTIES, make_certificates
from clients.exits import BadInput, Exit

REDIS = "redis"
"""The folder of Redis itself: its list of users, and a password for the probe of its health."""
_READ = "+@connection +@read -@dangerous"
_WRITE = "+@connection +@read +@write +@scripting -@dangerous"
REDIS_USERS = {
    **dict.fromkeys(("pager", "physmem", "kstack", "scheduler"), _WRITE),
    **dict.fromkeys(("orchestrator", "operator", "viewer"), _READ),
    REDIS: "+ping",
}
"""Users of Redis, named as their folders: which commands each may use on the machines' keys."""


def provision(root: Path, hosts: Sequence[str] = ()) -> list[str]:
    """Make what is missing.

    Args:
        root: Above the folders.
        hosts: Further names under which the services are called.

    Returns:
        A line about each certificate.

    Raises:
        BadInput: The folders hold something else, or cannot be written.
    """
    told = make_certificates(root / "authority", hosts)
    try:
        for folder in (*(party.name for party in PARTIES), REDIS):
            (root / folder).mkdir(mode=0o700, exist_ok=True)
        for party in PARTIES:
            _hand_out(root, party.name)
        _redis(root)
    except OSError as error:
        raise BadInput(f"{error.filename or root}: cannot be written: {error.strerror}") from None
    return told


def _hand_out(root: Path, name: str) -> None:
    """Copy a party's certificate and key, and the authority's certificate, into its folder."""
    for file, copy in (("ca.pem", "ca.pem"), (f"{name}.pem", "cert.pem"), (f"{name}.key", "key.pem")):
        partial = root / name / f"{copy}.part"  # whoever reads it meanwhile finds the old one or the new one
        shutil.copy2(root / "authority" / file, partial)
        partial.replace(root / name / copy)


def _redis(root: Path) -> None:
    """Passwords, and the list of users that Redis reads: it holds their hashes alone."""
    users = ["user default off"]
    for name, commands in REDIS_USERS.items():
        path = root / name / "redis.password"
        if not path.exists():
            _write_private(path, f"{secrets.token_urlsafe(32)}\n")
        digest = hashlib.sha256(path.read_text("utf-8").strip().encode()).hexdigest()
        users.append(f"user {name} on #{digest} ~vmglue:* -@all {commands}")
    _write_private(root / REDIS / "redis.acl", "\n".join(users) + "\n")


def _write_private(path: Path, text: str) -> None:
    """Write a file that nobody else could read at any moment."""
    with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)


def main(arguments: Sequence[str]) -> int:
    """Make what is missing; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m clients.provision", description="Make certificates and passwords.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="above authority/ and a folder of each party")
    parser.add_argument("--hosts", nargs="*", default=[], metavar="NAME", help="further names of the services' hosts")
    options = parser.parse_args(arguments)
    try:
        print("\n".join(provision(options.directory, " ".join(options.hosts).split())))
    except BadInput as wrong:
        print(f"provision: {wrong}", file=sys.stderr)
        return Exit.BAD_INPUT
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
