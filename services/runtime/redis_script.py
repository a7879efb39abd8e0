"""Running one Lua script in Redis, over a connection of its own and with little overhead.

A client's general command takes several times as long as Redis needs for the script, and a script runs in most calls
of a machine; so the command is packed here, from bytes to bytes.
"""

from __future__ import annotations

import hashlib
from typing import Any

import redis

_NOT_LOADED = redis.exceptions.NoScriptError


class RedisScript:
    """A script that may be run twice for once: whoever writes it guards against that."""

    def __init__(self, client: redis.Redis, text: str) -> None:
        """Take a connection of its own; it is opened when the script is run first.

        Args:
            client: Whose server, timeouts and credentials are used.
            text: The script.
        """
        self._connection: Any = client.connection_pool.make_connection()  # its methods carry no types
        self._text = text.encode()
        self._sha = hashlib.sha1(self._text, usedforsecurity=False).hexdigest().encode()

    def run(self, keys: list[bytes], args: list[bytes]) -> bytes:
        """Run it; its answer, a string.

        Raises:
            redis.RedisError: Redis is away, or refused.
        """
        parts = [b"%d" % len(keys), *keys, *args]
        try:
            return self._ask([b"EVALSHA", self._sha, *parts])
        except _NOT_LOADED:
            return self._ask([b"EVAL", self._text, *parts])

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()

    def _ask(self, parts: list[bytes]) -> bytes:
        """Send a command and take its answer; once more if the server closed the connection since the last time."""
        command = [b"*%d\r\n%b" % (len(parts), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]))]
        try:
            return self._exchange(command)
        except redis.ConnectionError:
            return self._exchange(command)

    def _exchange(self, command: list[bytes]) -> bytes:
        self._connection.send_packed_command(command, check_health=False)
        answer = self._connection.read_response()
        assert isinstance(answer, bytes), f"the script answered {answer!r}"
        return answer
