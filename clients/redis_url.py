"""The Redis that a user names: is it there."""

from __future__ import annotations

from clients.exits import BadInput
from services.runtime.redis_url import with_password, without_credentials

_TIMEOUT_S = 3.0


def check_redis(url: str) -> None:
    """Make sure that a server answers.

    Args:
        url: For example `redis://127.0.0.1:6379/0`.

    Raises:
        BadInput: The URL is wrong, or nobody answers there.
    """
    import redis  # only who names a server pays for it

    try:
        whole = with_password(url)
        with redis.Redis.from_url(whole, socket_connect_timeout=_TIMEOUT_S, socket_timeout=_TIMEOUT_S) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(f"--redis {without_credentials(url)}: {what}; expected a running server") from None
