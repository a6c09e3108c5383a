"""TCP proxies before a PostgreSQL server that understand just enough to hurt where it hurts most.

``Cutter`` cuts a connection. It reads the client's messages, so that it knows what commits a transaction that moved a
ledger's head: a COMMIT, as text, prepared or in a pipeline; or, where nothing was begun, a statement by itself, or the
sync at a pipeline's end. ``Ender`` has the server end a session: as an administrator does, who has it say goodbye, or
as a crash does, which takes every other session with it. Connections must be plain ones (``sslmode=disable``).
"""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO, Self

import psycopg

from tests.support.postgres import Server
from tests.support.processes import is_alive, wait_until

SECONDS = 30
APPENDING = re.compile(rb"update\s+tallystick\.head", re.IGNORECASE)
COMMENTS = rb"\s*(--[^\n]*\n\s*)*"
BEGIN = re.compile(COMMENTS + rb"(begin|start)", re.IGNORECASE)
COMMIT = re.compile(COMMENTS + rb"commit", re.IGNORECASE)
ROLLBACK = re.compile(COMMENTS + rb"rollback(?!\s+to)", re.IGNORECASE)
QUERY, PARSE, BIND, SYNC = b"Q", b"P", b"B", b"S"
READY, BACKEND = b"Z", b"K"
CANCEL_REQUEST = 80_877_102

BEFORE, AT_ONCE, BEHIND = "before", "at once", "behind"
"""Where a commit is cut off: before it reaches the server; as soon as it was sent; behind it, before its answer."""

CUTS = [BEFORE, AT_ONCE, BEHIND]

TERMINATED, CRASHED = "terminated", "crashed"
"""How a session is ended."""


class Proxy:
    """Passes everything on between clients and a server at a port."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lock = threading.Lock()
        self._links: list[Link] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def link(self, client: socket.socket, server: socket.socket) -> Link:
        """One connection through the proxy."""
        return Link(client, server)

    def close(self) -> None:
        """Cut everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(SECONDS)
        for link in self._links:
            link.close()

    def __enter__(self) -> Self:
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
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                client.close()
                continue
            link = self.link(client, server)
            self._links.append(link)
            link.start()


class Cut(Exception):
    """The connection ends here."""


class Link:
    """One connection through a proxy, with a thread for each direction."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client, self._server = client, server
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._up, self._down = (
            threading.Thread(target=self._run, args=(act,), daemon=True) for act in (self._pass_up, self._pass_down)
        )

    def start(self) -> None:
        self._down.start()
        self._up.start()

    def close(self) -> None:
        """End it for both sides."""
        self._cut()
        for thread in (self._up, self._down):
            thread.join(SECONDS)
        self._client.close()
        self._server.close()

    # ------------------------------------------------------------ what may happen on the way

    def before_up(self, kind: bytes, body: bytes) -> None:
        """A message is about to go to the server. Raises Cut."""

    def after_up(self, kind: bytes) -> None:
        """A message went to the server. Raises Cut."""

    def goes_down(self, kind: bytes, body: bytes) -> bool:
        """Whether an answer goes to the client. Raises Cut."""
        return True

    # ------------------------------------------------------------ passing on

    def _cut(self) -> None:
        for end in (self._client, self._server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _run(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, Cut):
            pass  # an end has gone: so does the other
        finally:
            self._cut()

    def _pass_up(self) -> None:
        stream = self._client.makefile("rb")
        head = stream.read(4)
        if len(head) < 4:
            return
        startup = head + stream.read(struct.unpack(">i", head)[0] - 4)
        code = struct.unpack(">i", startup[4:8])[0]
        assert code == CANCEL_REQUEST or code >> 16 == 3, "the connection asks for encryption: use sslmode=disable"
        self._server.sendall(startup)
        for kind, size, body in _messages(stream):
            self.before_up(kind, body)
            try:
                self._server.sendall(kind + size + body)
            except OSError:
                self._down.join(SECONDS)  # the server has gone: what it said last still reaches the client
                raise
            self.after_up(kind)

    def _pass_down(self) -> None:
        for kind, size, body in _messages(self._server.makefile("rb")):
            if self.goes_down(kind, body):
                self._client.sendall(kind + size + body)


def _messages(stream: BinaryIO) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(kind, size, body) of each message of a stream."""
    while (kind := stream.read(1)) and len(size := stream.read(4)) == 4:
        yield kind, size, stream.read(struct.unpack(">i", size)[0] - 4)


# ---------------------------------------------------------------- cutting a connection


class Cutter(Proxy):
    """Passes everything on, until it is told to cut the connection at the n-th message or the n-th commit."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.begin()

    def link(self, client: socket.socket, server: socket.socket) -> Link:
        return CutLink(self, client, server)

    def begin(self) -> None:
        """Count messages and commits from nothing again, and cut nowhere."""
        with self.lock:
            self.messages = self.commits = self.cuts = 0
            self.cut_message = self.cut_commit = 0
            self.where = BEFORE

    def heal(self) -> None:
        """No more cuts from here on."""
        with self.lock:
            self.cut_message = self.cut_commit = 0


class CutLink(Link):
    """A connection that may be cut."""

    def __init__(self, proxy: Cutter, client: socket.socket, server: socket.socket) -> None:
        super().__init__(client, server)
        self.proxy = proxy
        self._prepared: dict[bytes, bytes] = {}
        self._begun = False
        self._appended = False
        self._held = False  # what the server answers goes nowhere, and when it has committed this is over
        self._ends_at_sync = False

    def before_up(self, kind: bytes, body: bytes) -> None:
        """Where a commit is to be cut off, that is prepared here."""
        commits = self._commits(kind, self._text(kind, body))
        with self.proxy.lock:
            self.proxy.messages += 1
            if self.proxy.messages == self.proxy.cut_message:
                self.proxy.cuts += 1
                raise Cut
            self.proxy.commits += commits
            if commits and self.proxy.commits == self.proxy.cut_commit:
                self.proxy.cuts += 1
                self._held = self.proxy.where == BEHIND
                self._ends_at_sync = self.proxy.where == AT_ONCE
                if self.proxy.where == BEFORE:
                    raise Cut

    def after_up(self, kind: bytes) -> None:
        if self._ends_at_sync and kind in (SYNC, QUERY):
            raise Cut

    def goes_down(self, kind: bytes, body: bytes) -> bool:
        if self._held and kind == READY:
            raise Cut
        return not self._held

    def _commits(self, kind: bytes, text: bytes | None) -> bool:
        """Whether this message has the server commit an append."""
        if text is not None:
            if BEGIN.match(text):
                self._begun = True
            self._appended = self._appended or bool(APPENDING.search(text))
            if COMMIT.match(text) or ROLLBACK.match(text):
                commits = self._appended and not ROLLBACK.match(text)
                self._begun = self._appended = False
                return commits
        if kind in (QUERY, SYNC) and not self._begun:
            commits, self._appended = self._appended, False
            return commits
        return False

    def _text(self, kind: bytes, body: bytes) -> bytes | None:
        """The statement that this message is to have executed, if it is one of those messages."""
        if kind == QUERY:
            return body
        if kind == PARSE:
            name, text = body.split(b"\0", 2)[:2]
            self._prepared[name] = text
        if kind == BIND:
            return self._prepared.get(body.split(b"\0", 2)[1], b"")
        return None


# ---------------------------------------------------------------- ending a session


class Ender(Proxy):
    """Passes everything on. ``arm(n, how)``: before the n-th message from now on its session is ended."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.port)
        self.server = server
        self.arm(0)

    def link(self, client: socket.socket, server: socket.socket) -> Link:
        return Session(self, client, server)

    def arm(self, message: int, how: str = TERMINATED) -> None:
        """Count from nothing again; 0 ends no session."""
        with self.lock:
            self.messages = self.ended = 0
            self._message, self._how = message, how

    def passes(self, pid: int) -> None:
        """A session is about to pass a message on: here it may be ended."""
        with self.lock:
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


class Session(Link):
    """A connection whose session may be ended."""

    def __init__(self, ender: Ender, client: socket.socket, server: socket.socket) -> None:
        super().__init__(client, server)
        self._ender = ender
        self._pid = 0

    def before_up(self, kind: bytes, body: bytes) -> None:
        if self._pid:  # not while it is still being opened
            self._ender.passes(self._pid)

    def goes_down(self, kind: bytes, body: bytes) -> bool:
        if kind == BACKEND:
            self._pid = struct.unpack(">i", body[:4])[0]
        return True
