"""HTTP on a bare connection, for requests that no client would send."""

import json
import re
import socket

_opened: list[socket.socket] = []


def connect(port: int) -> socket.socket:
    """A bare connection to a service on this machine, until `close_all`."""
    _opened.append(socket.create_connection(("127.0.0.1", port), timeout=30))
    return _opened[-1]


def close_all() -> None:
    """Closes what `connect` has opened."""
    while _opened:
        _opened.pop().close()


def read_to_end(connection: socket.socket, seconds: float = 10) -> bytes:
    """What comes until the other side closes."""
    connection.settimeout(seconds)
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def read_problem(connection: socket.socket, received: bytes = b"") -> tuple[int, str]:
    """(status, kind) of the next answer, whatever the other side does after it."""
    connection.settimeout(5)
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length
    while len(body) < int(length[1]):
        body += connection.recv(65536)
    return problem_of(head + b"\r\n\r\n" + body)


def send_until_closed(connection: socket.socket, piece: bytes, most: int) -> int:
    """How many bytes are taken before the other side closes."""
    sent = 0
    try:
        while sent < most:
            sent += connection.send(piece)
    except OSError:
        pass
    return sent


def problem_of(answer: bytes) -> tuple[int, str]:
    """(status, kind) of a bare answer with a problem document."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["type"].rpartition("#")[2]
