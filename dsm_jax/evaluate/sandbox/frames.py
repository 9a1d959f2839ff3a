"""Messages between the client and its server: eight bytes of length, then JSON. A program never holds this socket."""

import json
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("=Q")


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()  # lone surrogates as escapes
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """The next message, None where the other side has ended."""
    head = _read(connection, _LENGTH.size)
    body = head and _read(connection, _LENGTH.unpack(head)[0])
    return json.loads(body) if body else None


def _read(connection: socket.socket, size: int) -> bytes:
    parts, missing = [], size
    while missing:
        part = connection.recv(min(missing, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
