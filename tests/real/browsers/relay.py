"""A relay between a client and a server, on whose path connections can die without a word.

It passes bytes on and counts them.
"""

import contextlib
import socket
import threading
from typing import Final

HOST: Final = "127.0.0.1"


class _Connection:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.is_dead = False
        self.passed = b""
        """What the server has sent and the client got."""
        self.swallowed = b""
        """What the server has sent and nobody got."""
        self._ends = client, server
        self._threads = [
            threading.Thread(target=self._pass, args=ends)
            for ends in (self._ends, self._ends[::-1])
        ]
        for thread in self._threads:
            thread.start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        client, _ = self._ends
        with contextlib.suppress(OSError):  # one side has gone, or the relay is closed
            while part := source.recv(65536):
                if target is not client:
                    if not self.is_dead:
                        target.sendall(part)
                elif self.is_dead:
                    self.swallowed += part
                else:
                    self.passed += part
                    target.sendall(part)
        if not self.is_dead:  # a dead connection tells of no end either
            self.close_ends()

    @property
    def is_over(self) -> bool:
        """Whether both sides have gone."""
        return not any(thread.is_alive() for thread in self._threads)

    def close_ends(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.close_ends()
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()


class Relay:
    """A port of this machine that leads to another."""

    def __init__(self, port: int) -> None:
        self.leads_to = port
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[_Connection] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection((HOST, self.leads_to))
                except ConnectionRefusedError:
                    client.close()
                else:
                    self.connections.append(_Connection(client, server))

    def url(self, path: str) -> str:
        """Return the address of a path, through the relay."""
        return f"http://{HOST}:{self.port}{path}"

    def kill(self) -> None:
        """Silently drop all open connections; new ones work."""
        for connection in self.connections:
            connection.is_dead = True

    def has_closed(self, what: bytes) -> bool:
        """Whether no connection is left on which the server has said something."""
        return all(one.is_over for one in self.connections if what in one.passed)

    def passed(self, what: bytes) -> int:
        """Count what the server has said, and was passed on."""
        return sum(one.passed.count(what) for one in self.connections)

    def swallowed(self, what: bytes) -> int:
        """Count what the server has said into dead connections."""
        return sum(one.swallowed.count(what) for one in self.connections)

    def close(self) -> None:
        """Close everything, and leave no thread behind."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connection in self.connections:
            connection.close()
