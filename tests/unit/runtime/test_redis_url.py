"""The password of Redis may stand in a file, and is shown to nobody."""

from __future__ import annotations

import pytest
import redis

from services.runtime.config import read_config
from services.runtime.redis_board import open_redis
from services.runtime.redis_url import with_password, without_credentials


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "redis.password"
    file.write_text("p@ss/word:%41\n")
    return file


def test_password_from_the_file_reaches_the_client(secret):
    client = open_redis(f"redis://vmglue@redis:6379/3?password_file={secret}&health_check_interval=7")
    given = client.connection_pool.connection_kwargs
    assert (given["username"], given["password"], given["host"], given["db"]) == ("vmglue", "p@ss/word:%41", "redis", 3)
    assert given["health_check_interval"] == 7
    assert "password_file" not in given


@pytest.mark.parametrize("url", ["", "redis://redis:6379/0", "unix:///run/redis.sock", "rediss://u:p@h:1/0?a=b"])
def test_other_urls_stay_as_they_are(url):
    assert with_password(url) == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("redis://redis:6379/0", "redis://redis:6379/0"),
        ("redis://u:secret@redis:6379/0", "redis://redis:6379/0"),
        ("redis://u@redis:6379/0?password_file=/secret/file", "redis://redis:6379/0"),
        ("redis://redis:6379/0?password=secret", "redis://redis:6379/0"),
        ("redis://u:pa/secret@redis:6379/0", "redis://redis:6379/0"),
        ("redis://u:p?secret@redis:6379/0", "redis://redis:6379/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("unix://u:secret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_shown_without_credentials(url, shown):
    assert without_credentials(url) == shown


def test_a_service_with_an_unreadable_file_says_so(capsys, tmp_path):
    url = f"redis://u:secret@redis:6379/0?password_file={tmp_path / 'missing'}"
    with pytest.raises(SystemExit) as ended:
        read_config("pager", (), ["--listen", "127.0.0.1:0", "--redis", url])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "missing" in said
    assert "secret" not in said


def test_an_error_of_redis_does_not_show_the_password(secret):
    with (
        open_redis(f"redis://vmglue@127.0.0.1:1/0?password_file={secret}") as client,
        pytest.raises(redis.ConnectionError) as refused,
    ):
        client.ping()
    assert "p@ss" not in str(refused.value)
