"""A health probe of bare Python: `python -I -S probe.py SOCKET` exits 0 if the server behind the socket serves.

A container engine starts it every few seconds for every container. So it imports nothing of ours and not even the
module `socket`, which costs as much again as the whole probe: the service tells its health on a Unix socket
(services/runtime/health_socket.py).
"""

import _socket
import sys

TIMEOUT_S = 2.0
_ANSWER_BYTES_MAX = 64


def probe(path: str) -> str:
    """Ask a server for its overall health.

    Args:
        path: Its health socket.

    Returns:
        Nothing if it serves, else why not.
    """
    server = _socket.socket(_socket.AF_UNIX)
    server.settimeout(TIMEOUT_S)
    try:
        server.connect(path)
        answer = server.recv(_ANSWER_BYTES_MAX).decode().strip()
    except OSError as error:
        return f"{path}: {error}"
    finally:
        server.close()
    return "" if answer == "SERVING" else f"{path}: {answer or 'closed without an answer'}"


def main(arguments: list[str]) -> int:
    """Exit code: 0 it serves, 1 it does not, 2 no socket was given."""
    if len(arguments) != 1:
        print("usage: python -I -S probe.py SOCKET", file=sys.stderr)
        return 2
    problem = probe(arguments[0])
    if problem:
        print(problem, file=sys.stderr)
    return int(bool(problem))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
