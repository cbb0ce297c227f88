"""A TCP proxy in front of Redis that holds back what Redis says until a test lets it through."""

from __future__ import annotations

import contextlib
import socket
import threading


class SlowLine:
    """What the gateway says passes at once; what Redis answers passes while `open` is set."""

    def __init__(self, target: int):
        self.target = target
        self.open = threading.Event()
        self.open.set()
        self.sockets: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):  # The listener is closed at the end.
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.sockets += [client, server]
                threading.Thread(target=self.pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self.pump, args=(server, client, True), daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket, held: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if held:
                    self.open.wait()
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        self.open.clear()

    def release(self) -> None:
        self.open.set()

    def __enter__(self) -> SlowLine:
        return self

    def __exit__(self, *_) -> None:
        self.open.set()
        self.listener.close()
        for one in self.sockets:
            one.close()
