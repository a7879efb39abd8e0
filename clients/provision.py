"""What a stack of containers needs before it starts, made once: `python -m clients.provision DIR`.

Certificates of everybody (clients/certs.py) and the passwords of Redis, cut up by who may see them: `DIR/authority` is
for this command alone, `DIR/services` for the services, the orchestrator and Redis, `DIR/clients` for an operator and a
viewer. What is there and still good is kept.
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

REDIS_USERS = {
    "vmglue": ("services/redis.password", "+@connection +@read +@write +@scripting -@dangerous"),
    "viewer": ("clients/redis.password", "+@connection +@read -@dangerous"),
}
"""Users of Redis: where the password of each stands, and which commands it may use on the machines' keys."""


def provision(root: Path, hosts: Sequence[str] = ()) -> list[str]:
    """Make what is missing.

    Args:
        root: Above the three folders.
        hosts: Further names under which the services are called.

    Returns:
        A line about each certificate.

    Raises:
        BadInput: The folders hold something else, or cannot be written.
    """
    told = make_certificates(root / "authority", hosts)
    try:
        for folder in ("services", "clients"):
            (root / folder).mkdir(mode=0o700, exist_ok=True)
        for party in PARTIES:
            _hand_out(root, party.name, "services" if party.serves else "clients")
        _redis(root)
    except OSError as error:
        raise BadInput(f"{error.filename or root}: cannot be written: {error.strerror}") from None
    return told


def _hand_out(root: Path, name: str, folder: str) -> None:
    """Copy a party's certificate and key, and the authority's certificate, into its folder."""
    for file in ("ca.pem", f"{name}.pem", f"{name}.key"):
        shutil.copy2(root / "authority" / file, root / folder / file)


def _redis(root: Path) -> None:
    """Passwords, and the list of users that Redis reads: it holds their hashes alone."""
    users = ["user default off"]
    for name, (file, commands) in REDIS_USERS.items():
        path = root / file
        if not path.exists():
            _write_private(path, f"{secrets.token_urlsafe(32)}\n")
        digest = hashlib.sha256(path.read_text("utf-8").strip().encode()).hexdigest()
        users.append(f"user {name} on #{digest} ~vmglue:* -@all {commands}")
    _write_private(root / "services" / "redis.acl", "\n".join(users) + "\n")


def _write_private(path: Path, text: str) -> None:
    """Write a file that nobody else could read at any moment."""
    with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)


def main(arguments: Sequence[str]) -> int:
    """Make what is missing; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m clients.provision", description="Make certificates and passwords.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="above authority/, services/ and clients/")
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
