"""A TCP proxy before a PostgreSQL server that understands just enough to cut a connection where it hurts most.

It reads the client's messages, so that it knows what commits a transaction that moved a ledger's head: a COMMIT, as
text, prepared or in a pipeline; or, where nothing was begun, a statement by itself, or the sync at a pipeline's end.
Connections must be plain ones (``sslmode=disable``).
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable

SECONDS = 30
APPENDING = re.compile(rb"update\s+tallystick\.head", re.IGNORECASE)
COMMENTS = rb"\s*(--[^\n]*\n\s*)*"
BEGIN = re.compile(COMMENTS + rb"(begin|start)", re.IGNORECASE)
COMMIT = re.compile(COMMENTS + rb"commit", re.IGNORECASE)
ROLLBACK = re.compile(COMMENTS + rb"rollback(?!\s+to)", re.IGNORECASE)
QUERY, PARSE, BIND, SYNC = b"Q", b"P", b"B", b"S"
READY = b"Z"
CANCEL_REQUEST = 80_877_102

BEFORE, AT_ONCE, BEHIND = "before", "at once", "behind"
"""Where a commit is cut off: before it reaches the server; as soon as it was sent; behind it, before its answer."""

CUTS = [BEFORE, AT_ONCE, BEHIND]


class Proxy:
    """Passes everything on, until it is told to cut the connection at the n-th message or the n-th commit."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lock = threading.Lock()
        self._links: list[Link] = []
        self.begin()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

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

    def close(self) -> None:
        """Cut everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(SECONDS)
        for link in self._links:
            link.cut()
            link.join()

    def __enter__(self) -> Proxy:
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
            self._links.append(Link(self, client, server))


class Link:
    """One connection through the proxy, with a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._prepared: dict[bytes, bytes] = {}
        self._begun = False
        self._appended = False
        self._held = False  # what the server answers goes nowhere, and when it has committed this is over
        self._ends_at_sync = False
        acts: list[Callable[[], None]] = [self._pass_up, self._pass_down]
        self._threads = [threading.Thread(target=self._run, args=(act,), daemon=True) for act in acts]
        for thread in self._threads:
            thread.start()

    def cut(self) -> None:
        """End it for both sides."""
        for end in (self.client, self.server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def join(self) -> None:
        for thread in self._threads:
            thread.join(SECONDS)
        self.client.close()
        self.server.close()

    def _run(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError:
            pass  # an end has gone: so does the other
        finally:
            self.cut()

    # ------------------------------------------------------------ from the client to the server

    def _pass_up(self) -> None:
        stream = self.client.makefile("rb")
        head = stream.read(4)
        if len(head) < 4:
            return
        startup = head + stream.read(struct.unpack(">i", head)[0] - 4)
        code = struct.unpack(">i", startup[4:8])[0]
        assert code == CANCEL_REQUEST or code >> 16 == 3, "the connection asks for encryption: use sslmode=disable"
        self.server.sendall(startup)
        while (kind := stream.read(1)) and len(size := stream.read(4)) == 4:
            body = stream.read(struct.unpack(">i", size)[0] - 4)
            if not self._passes(kind, body):
                return
            self.server.sendall(kind + size + body)
            if self._ends_at_sync and kind in (SYNC, QUERY):
                return

    def _passes(self, kind: bytes, body: bytes) -> bool:
        """Whether a message may go on; where a commit is to be cut off, that is prepared here."""
        commits = self._commits(kind, self._text(kind, body))
        with self.proxy.lock:
            self.proxy.messages += 1
            if self.proxy.messages == self.proxy.cut_message:
                self.proxy.cuts += 1
                return False
            self.proxy.commits += commits
            if not commits or self.proxy.commits != self.proxy.cut_commit:
                return True
            self.proxy.cuts += 1
            self._held = self.proxy.where == BEHIND
            self._ends_at_sync = self.proxy.where == AT_ONCE
            return self.proxy.where != BEFORE

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

    # ------------------------------------------------------------ from the server to the client

    def _pass_down(self) -> None:
        stream = self.server.makefile("rb")
        while (kind := stream.read(1)) and len(size := stream.read(4)) == 4:
            body = stream.read(struct.unpack(">i", size)[0] - 4)
            if not self._held:
                self.client.sendall(kind + size + body)
            elif kind == READY:
                return
