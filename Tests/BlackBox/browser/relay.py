"""A TCP line that can be torn, as a network does when it resets a connection, or cut without a word, so that neither end is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]


class Relay:
    def __init__(self, port: int, host: str) -> None:
        self._target = host, port
        self._pairs: set[Pair] = set()
        #: Those that were cut. They stay silent for good, as behind a router that has forgotten them.
        self._dead: set[Pair] = set()
        self._whole = asyncio.Event()
        self._whole.set()
        self._running: set[asyncio.Task[None]] = set()
        self.port = 0
        #: What cuts have swallowed.
        self.lost_bytes = 0
        self.lost_ends = 0

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        ends = [writer]
        try:
            await self._whole.wait()  # What a client dials during a cut, its system dials again and again.
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            ends.append(far_writer)
            pair = (writer, far_writer)
            self._pairs.add(pair)
            await asyncio.gather(self._copy(pair, reader, far_writer), self._copy(pair, far_reader, writer))
        except asyncio.CancelledError:
            pass
        finally:
            self._running.discard(task)
            self._pairs.discard(tuple(ends))
            for end in ends:
                end.close()

    async def _copy(self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if pair in self._dead:
                    self.lost_bytes += len(data)
                    continue
                writer.write(data)
                await writer.drain()
        if pair in self._dead:
            self.lost_ends += 1
            return
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    def tear(self) -> int:
        """Ends every connection at once, to both sides and without a word of WebSocket. Says how many there were."""
        pairs = list(self._pairs)
        for pair in pairs:
            for end in pair:
                end.transport.abort()
        return len(pairs)

    def cut(self) -> int:
        """From now on bytes and ends are swallowed in both directions: no FIN, no RST. Says how many connections there were."""
        self._whole.clear()
        self._dead |= self._pairs
        return len(self._pairs)

    def restore(self) -> None:
        """New connections get through again, also those that were dialled meanwhile."""
        self._whole.set()

    def _end(self) -> None:
        self.tear()
        for task in self._running:
            task.cancel()


@contextlib.asynccontextmanager
async def relay_to(port: int, host: str = "127.0.0.1") -> AsyncIterator[Relay]:
    """A line to there, for the length of a block."""
    relay = Relay(port, host)
    server = await asyncio.start_server(relay._accept, host, 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        relay._end()
