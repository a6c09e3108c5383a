"""A TCP proxy before a PostgreSQL server that ends a session at its n-th message: as an administrator does, who has the
server say goodbye, or as a crash does, which takes every other session with it.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from collections.abc import Callable

import psycopg

from tests.support.postgres import Server
from tests.support.processes import is_alive, wait_until

SECONDS = 30

TERMINATED, CRASHED = "terminated", "crashed"


class Ender:
    """Passes everything on. ``arm(n, how)``: before the n-th message from now on its session is ended."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._sessions: list[Session] = []
        self.arm(0)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def arm(self, message: int, how: str = TERMINATED) -> None:
        """Count from nothing again; 0 ends no session."""
        with self._lock:
            self.messages = self.ended = 0
            self._message, self._how = message, how

    def passes(self, pid: int) -> None:
        """A session is about to pass a message on: here it may be ended."""
        with self._lock:
            self.messages += 1
            due = self.messages == self._message
            self.ended += due
        if due:
            self._end(pid)

    def _end(self, pid: int) -> None:
        if self._how == CRASHED:
            os.kill(pid, signal.SIGKILL)
        else:
            with psycopg.connect(self.server.dsn(), autocommit=True) as hand:
                hand.execute("SELECT pg_terminate_backend(%s)", [pid])
        wait_until(lambda: not is_alive(pid), SECONDS, f"the end of session {pid}")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(SECONDS)
        for session in self._sessions:
            session.close()

    def __enter__(self) -> Ender:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.server.port))
            except OSError:
                client.close()
                continue
            self._sessions.append(Session(self, client, server))


class Session:
    """One connection through the proxy, with a thread for each direction."""

    def __init__(self, ender: Ender, client: socket.socket, server: socket.socket) -> None:
        self._ender = ender
        self._client, self._server = client, server
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pid = 0
        acts: list[Callable[[], None]] = [self._pass_up, self._pass_down]
        self._threads = [threading.Thread(target=self._run, args=(act,), daemon=True) for act in acts]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End it for both sides."""
        self._cut()
        for thread in self._threads:
            thread.join(SECONDS)
        self._client.close()
        self._server.close()

    def _cut(self) -> None:
        for end in (self._client, self._server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _run(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError:
            pass  # an end has gone
        finally:
            if act == self._pass_down:  # what the server has said last still reaches the client
                self._cut()

    def _pass_up(self) -> None:
        stream = self._client.makefile("rb")
        head = stream.read(4)
        if len(head) < 4:
            self._cut()
            return
        self._server.sendall(head + stream.read(struct.unpack(">i", head)[0] - 4))
        while (kind := stream.read(1)) and len(size := stream.read(4)) == 4:
            body = stream.read(struct.unpack(">i", size)[0] - 4)
            if self._pid:  # not while it is still being opened
                self._ender.passes(self._pid)
            self._server.sendall(kind + size + body)
        self._cut()

    def _pass_down(self) -> None:
        stream = self._server.makefile("rb")
        while (kind := stream.read(1)) and len(size := stream.read(4)) == 4:
            body = stream.read(struct.unpack(">i", size)[0] - 4)
            if kind == b"K":
                self._pid = struct.unpack(">i", body[:4])[0]
            self._client.sendall(kind + size + body)
