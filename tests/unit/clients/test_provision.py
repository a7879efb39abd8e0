"""What a stack needs before it starts is made once, and cut up by who may see it."""

from __future__ import annotations

import hashlib

from clients.exits import Exit
from clients.provision import main, provision


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_everybody_gets_what_is_theirs(tmp_path):
    provision(tmp_path)
    services = {path.name for path in (tmp_path / "services").iterdir()}
    clients = {path.name for path in (tmp_path / "clients").iterdir()}
    parties = {"pager", "physmem", "kstack", "scheduler", "orchestrator"}
    pairs = {f"{name}.{kind}" for name in parties for kind in ("pem", "key")}
    assert services == pairs | {"ca.pem", "redis.password", "redis.acl"}
    assert clients == {"operator.pem", "operator.key", "viewer.pem", "viewer.key", "ca.pem", "redis.password"}


def test_secrets_are_private_and_the_list_of_users_holds_hashes(tmp_path):
    provision(tmp_path)
    for path in [*tmp_path.rglob("*.key"), *tmp_path.rglob("redis.*")]:
        assert path.stat().st_mode & 0o777 == 0o600, path
    users = (tmp_path / "services" / "redis.acl").read_text()
    assert users.splitlines()[0] == "user default off"
    for folder, name in (("services", "vmglue"), ("clients", "viewer")):
        password = (tmp_path / folder / "redis.password").read_text().strip()
        assert len(password) >= 32
        assert password not in users
        assert f"user {name} on #{hashlib.sha256(password.encode()).hexdigest()} ~vmglue:* -@all " in users


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
