"""Frames between the HTTP process and an engine's process, over a pair of connected sockets.

A frame is a head and a body of JSON: the bytes of the body, the number of the request, and what is asked or how it
ended. Frames stay in order, so what was acknowledged before a request was sent is seen by its answer.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import NamedTuple

_HEAD = struct.Struct(">IQH")
_CHUNK = 1 << 18
READY, FAILED = 0, 1
"""Codes of an engine's first frame: it may be asked, or why it cannot be."""


class Verb(IntEnum):
    """What an engine is asked."""

    RECOMMEND = 1
    RANK = 2
    SIMILAR = 3
    ITEMS = 4
    STATUS = 5
    FORGET = 6
    HIDDEN = 7
    SWEEP = 8
    CANCEL = 9  # the request of this number; it has no answer


class Frame(NamedTuple):
    number: int  # of the request; 0: the engine's first word
    code: int  # Verb of a request; status of HTTP of an answer
    body: bytes

    def packed(self) -> bytes:
        return _HEAD.pack(len(self.body), self.number, self.code) + self.body


class Frames:
    """Bytes as they come -> whole frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        self._rest += data
        found, at = [], 0
        while len(self._rest) - at >= _HEAD.size:
            length, number, code = _HEAD.unpack_from(self._rest, at)
            if len(self._rest) - at - _HEAD.size < length:
                break
            at += _HEAD.size
            found.append(Frame(number, code, bytes(self._rest[at : at + length])))
            at += length
        del self._rest[:at]
        return found


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection."""
    return socket.socketpair()


class Line:
    """The engine's end: one thread reads and writes."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._frames = Frames()
        self.closed = False  # the other end has gone

    def receive(self, *, wait: bool) -> list[Frame]:
        """All frames that have come; with `wait` at least one, unless the line was closed."""
        found: list[Frame] = []
        while not self.closed:
            try:
                data = self._socket.recv(_CHUNK, 0 if wait and not found else socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            self.closed = not data
            found += self._frames.feed(data)
        return found

    def send(self, data: bytes) -> None:
        """Write all of it; nobody who would read is no error."""
        try:
            self._socket.sendall(data)
        except ConnectionError:
            self.closed = True
