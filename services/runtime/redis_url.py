"""URLs of Redis: `redis://USER@HOST:PORT/0?password_file=PATH` keeps the password out of command lines and logs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

_FILE = "password_file"


def with_password(url: str) -> str:
    """The URL that a Redis client takes: the password stands in it, if its query names a file that holds one.

    Args:
        url: For example `redis://vmglue@redis:6379/0?password_file=/run/secrets/redis`.

    Raises:
        OSError: The file cannot be read.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    path = options.pop(_FILE, "")
    if not path:
        return url
    password = quote(Path(path).read_text("utf-8").strip(), safe="")
    host = parts.netloc.rpartition("@")[2]
    return _joined(parts, f"{parts.username or ''}:{password}@{host}", options)


def without_credentials(url: str) -> str:
    """Scheme, host, port and path of a URL, as others may see it; a user, a password and options are in none of them.

    What stands before the last "@" may be a password with a slash in it that nobody escaped, so it goes first.
    """
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2].partition("?")[0] if separator else ""


def _joined(parts: SplitResult, host: str, options: Mapping[str, str]) -> str:
    """A URL put together again; the library's function drops the slashes before an empty host."""
    if not parts.scheme:
        return parts.geturl()
    return f"{parts.scheme}://{host}{parts.path}" + (f"?{urlencode(options)}" if options else "")
