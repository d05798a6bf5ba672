"""HTTP on a bare connection: answers to what no client would send."""

import json
import re
import socket


def answered(wire: socket.socket, seconds: float = 10) -> bytes:
    """What comes until the other side closes."""
    wire.settimeout(seconds)
    said = b""
    try:
        while piece := wire.recv(65536):
            said += piece
    except ConnectionResetError:
        pass
    return said


def one_answer(wire: socket.socket, said: bytes = b"") -> tuple[int, str]:
    """(status, kind) of the answer that comes, whatever the other side does after it."""
    wire.settimeout(5)
    while b"\r\n\r\n" not in said:
        said += wire.recv(65536)
    head, _, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length
    while len(body) < int(length[1]):
        body += wire.recv(65536)
    return problem_in(head + b"\r\n\r\n" + body)


def poured(wire: socket.socket, piece: bytes, most: int) -> int:
    """How many bytes are taken before the other side closes."""
    sent = 0
    try:
        while sent < most:
            sent += wire.send(piece)
    except OSError:
        pass
    return sent


def problem_in(said: bytes) -> tuple[int, str]:
    """(status, kind) of a bare answer."""
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["type"].rpartition("#")[2]
