"""The websocket that StarCraft II would open: one client, on the loopback interface.

The client is a program like pysc2. Its messages are answered in turn by `Game.answer`. The server ends when the client
asks it to or is gone, so nothing is left behind; a launcher's server also ends when the process that started it does,
which covers clients that die before they have connected and connections that a forked child has inherited.

pysc2 sends its protocol buffers in websocket *text* frames, although they are no text. A server that decodes those
closes the connection (code 1007), so frames are taken as they come: the `websockets` package's protocol without its
input and output does just that.
"""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smix_pz.standin.game import Game

__all__ = ["check_loopback", "listen", "serve", "serve_by_hand"]

ENDPOINT = "/sc2api"
LARGEST_MESSAGE = 64 * 2**20  # bytes; a map's file is in the request that creates a game
WATCH_EVERY = 1.0  # seconds between two looks whether the parent lives
UNCALLED = 900.0  # a launcher's server that nobody has called for so many seconds ends; pysc2 tries for 360


def check_loopback(host: str) -> str:
    """Return `host` as an address of the loopback interface; ValueError if it is another."""
    name = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(name).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"the stand-in listens on the loopback interface only, got {host!r}; use 127.0.0.1 or ::1.")
    return name


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ValueError: not a loopback address, or not a port. OSError: the port is taken.
    """
    host = check_loopback(host)
    if not 0 <= port <= 65535:
        raise ValueError(
            f"port must be from 0 (any free one) to 65535, got {port}; the nearest is {max(0, min(port, 65535))}."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def serve(
    listener: socket.socket, game: Game, *, parent: int | None = None, times: dict[str, float] | None = None
) -> None:
    """Serve one client until it is gone or says quit.

    Args:
        listener: as `listen` makes it.
        game: what answers.
        parent: process whose end is the server's end too; None: nobody's.
        times: raised by seconds spent waiting for the client ("waiting"), on websocket frames and sockets
            ("websocket"), and on answers ("answering step" and so on, by kind of request); "requests" counts those.
    """
    client = _accept(listener, parent)
    if client is None:
        return
    with closing(client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _converse(_Connection(client, listener, parent), game, defaultdict(float) if times is None else times)


def serve_by_hand(host: str, port: int, preset: str = "liberty", jitter: float = 0.1, *, forever: bool = False) -> None:
    """`smix-pz standin serve`: one client, or (`forever`) one after the other until Ctrl-C.

    Raises:
        ValueError: a bad address, port or preset. OSError: the port is taken. ImportError: a package is missing.
    """
    listener = listen(host, port)
    with closing(listener):
        from smix_pz.standin.folder import check_battles, check_needs
        from smix_pz.standin.game import Game

        check_needs()
        check_battles(preset, jitter)
        address, number = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        while True:
            game = Game(preset, jitter)
            say(
                f"{game.title}: this is not StarCraft II but smix_pz's embedded engine, on ws://{shown}:{number}{ENDPOINT}"
            )
            serve(listener, game)
            if not forever:
                return


def _converse(connection: _Connection, game: Game, times: dict[str, float]) -> None:
    clock = time.perf_counter
    started, waited = clock(), 0.0
    for message in connection.messages():
        received = clock()
        answer = game.answer(message)
        answered = clock()
        times[f"answering {game.asked}"] += answered - received
        times[f"requests {game.asked}"] += 1
        times["websocket"] += received - started - (connection.waited - waited)
        times["requests"] += 1
        waited = connection.waited
        times["waiting"] = connection.waited
        connection.send(answer)
        started = answered
        if game.over:
            connection.close()
            return


def _accept(listener: socket.socket, parent: int | None) -> socket.socket | None:
    """The first client; None if the parent has ended, perhaps before this process could know it: nobody calls then."""
    deadline = time.monotonic() + UNCALLED
    while not select.select([listener], [], [], WATCH_EVERY)[0]:
        if _orphaned(parent) or (parent is not None and time.monotonic() > deadline):
            return None
    return listener.accept()[0]


def _orphaned(parent: int | None) -> bool:
    return parent is not None and os.getppid() != parent


class _Connection:
    """A client's websocket. `waited` is how many seconds were spent waiting for it."""

    def __init__(self, client: socket.socket, listener: socket.socket, parent: int | None) -> None:
        from websockets.server import ServerProtocol

        self._client, self._listener, self._parent = client, listener, parent
        self._protocol = ServerProtocol(max_size=LARGEST_MESSAGE)
        self.waited = 0.0

    def messages(self) -> Iterator[bytes]:
        """Whole messages, until the client is gone."""
        from websockets.frames import Frame, Opcode
        from websockets.http11 import Request

        parts: list[bytes] = []
        while True:
            data = self._receive()
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            for event in self._protocol.events_received():
                if isinstance(event, Request):
                    self._shake_hands(event)
                elif isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    parts.append(bytes(event.data))
                    if event.fin:
                        yield parts[0] if len(parts) == 1 else b"".join(parts)
                        parts = []
            # What the protocol itself has to say: answers to pings, closing frames.
            if not self._flush() or not data:
                return

    def send(self, message: bytes) -> None:
        """Send a message, unless the client has closed the connection meanwhile (pysc2 does, right after "quit")."""
        if self._is_open():
            self._protocol.send_binary(message)
            self._flush()

    def close(self) -> None:
        """Say goodbye."""
        if self._is_open():
            self._protocol.send_close()
            self._flush()

    def _is_open(self) -> bool:
        from websockets.protocol import State

        return bool(self._protocol.state is State.OPEN)

    def _shake_hands(self, request: Any) -> None:
        if request.path.rstrip("/") == ENDPOINT:
            response = self._protocol.accept(request)
        else:
            response = self._protocol.reject(404, f"the stand-in answers at {ENDPOINT}\n")
        self._protocol.send_response(response)

    def _flush(self) -> bool:
        """Send what is to be sent; False if that was the end."""
        for data in self._protocol.data_to_send():
            if not data:
                with suppress(OSError):
                    self._client.shutdown(socket.SHUT_WR)
                return False
            try:
                self._client.sendall(data)
            except OSError:
                return False
        return True

    def _receive(self) -> bytes:
        """Bytes from the client; none if it is gone, or if the parent is. Others who call meanwhile are turned away."""
        started = time.perf_counter()
        try:
            while True:
                ready = select.select([self._client, self._listener], [], [], WATCH_EVERY)[0]
                if self._listener in ready:
                    self._listener.accept()[0].close()
                if self._client in ready:
                    return self._client.recv(1 << 16)
                if not ready and _orphaned(self._parent):
                    return b""
        except OSError:
            return b""
        finally:
            self.waited += time.perf_counter() - started


def say(words: str) -> None:
    """One line to stderr, where the game's own output would go."""
    with suppress(OSError):
        print(words, file=sys.stderr, flush=True)
