"""What a stack needs before it starts is made once, and cut up by who may see it."""

from __future__ import annotations

import hashlib

from cryptography.x509 import load_pem_x509_certificate

from clients.certs import PARTIES
from clients.exits import Exit
from clients.provision import REDIS_USERS, main, provision
from services.runtime.roles import Role
from services.runtime.tls import read_tls


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_everybody_gets_what_is_theirs_and_nobody_elses(tmp_path):
    provision(tmp_path)
    mine = {"ca.pem", "cert.pem", "key.pem", "redis.password"}
    found = {folder.name: {path.name for path in folder.iterdir()} for folder in tmp_path.iterdir()}
    authority = found.pop("authority")
    assert {"ca.key", "ca.pem"} < authority
    assert found.pop("redis") == {"redis.acl", "redis.password"}
    assert found == dict.fromkeys((party.name for party in PARTIES), mine)
    for party in PARTIES:
        tls = read_tls(*(str(tmp_path / party.name / file) for file in ("cert.pem", "key.pem", "ca.pem")))
        assert f"CN={party.name}," in load_pem_x509_certificate(tls.cert.read_bytes()).subject.rfc4514_string()
    secrets = [path.read_bytes() for name in ("key.pem", "redis.password") for path in tmp_path.glob(f"*/{name}")]
    assert len(secrets) == len(set(secrets)) == 2 * len(PARTIES) + 1


def test_secrets_are_private_and_the_list_of_users_holds_hashes(tmp_path):
    provision(tmp_path)
    for path in [*tmp_path.rglob("*.key"), *tmp_path.rglob("key.pem"), *tmp_path.rglob("redis.*")]:
        assert path.stat().st_mode & 0o777 == 0o600, path
    for folder in tmp_path.iterdir():
        assert folder.stat().st_mode & 0o777 == 0o700, folder
    users = (tmp_path / "redis" / "redis.acl").read_text()
    assert users.splitlines()[0] == "user default off"
    for name, commands in REDIS_USERS.items():
        password = (tmp_path / name / "redis.password").read_text().strip()
        assert len(password) >= 32
        assert password not in users
        digest = hashlib.sha256(password.encode()).hexdigest()
        assert f"user {name} on #{digest} ~vmglue:* -@all {commands}\n" in users
    assert [name for name, commands in REDIS_USERS.items() if "+@write" in commands] == [
        party.name for party in PARTIES if party.role is Role.SERVICE
    ]


def test_again_changes_nothing(tmp_path):
    provision(tmp_path)
    before = contents(tmp_path)
    assert all(line.startswith("kept") for line in provision(tmp_path))
    assert contents(tmp_path) == before


def test_hosts_are_words_of_one_argument_or_several(tmp_path, capsys):
    assert main([str(tmp_path), "--hosts", ""]) is Exit.OK
    assert "made" in capsys.readouterr().out
    assert main([str(tmp_path), "--hosts", "a.example b.example"]) is Exit.OK
    assert "made" in capsys.readouterr().out  # certificates with other names
    assert main([str(tmp_path), "--hosts", "a.example", "b.example"]) is Exit.OK
    assert "made" not in capsys.readouterr().out


def test_what_is_not_ours_is_not_replaced(tmp_path, capsys):
    (tmp_path / "authority").mkdir()
    (tmp_path / "authority" / "ca.pem").write_text("precious")
    assert main([str(tmp_path)]) is Exit.BAD_INPUT
    assert capsys.readouterr().err.startswith("provision: ")
    assert (tmp_path / "authority" / "ca.pem").read_text() == "precious"
