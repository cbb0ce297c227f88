"""A plain WebSocket client for `holdfast drill --with`: what most programs do, and no more.

It subscribes, reads, and connects again when its socket says that it is closed. Of a dead line it learns what the
WebSocket library tells it: without --ping nothing, as in a browser.

    holdfast drill f5 --with 'python3 examples/drill-clients/plain_websocket.py'
    holdfast drill f5 --with 'python3 examples/drill-clients/plain_websocket.py --dialect nchan' --url ws://…/sub

Needs the package `websockets`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import urllib.parse
from typing import Any

import websockets

#: Seconds to the next attempt, doubled each time up to the second figure.
RETRY = (0.5, 10.0)


def say(saw: str, **more: Any) -> None:
    print(json.dumps({"saw": saw, **more}), flush=True)


class PlainClient:
    def __init__(self, url: str, subscription: str, options: argparse.Namespace):
        self.options = options
        self.subscription = subscription
        # nchan has a channel for each address; the others subscribe in the line.
        self.url = f"{url.rstrip('/')}/{urllib.parse.quote(subscription)}" if options.dialect == "nchan" else url
        self.has_been_ready = False

    async def run(self) -> None:
        delay = RETRY[0]
        while True:
            say("attempt", transport="websocket")
            try:
                async with websockets.connect(
                    self.url, ping_interval=self.options.ping or None, ping_timeout=self.options.ping or None,
                    close_timeout=1, proxy=None, max_size=1 << 20,
                ) as socket:  # fmt: skip
                    delay = RETRY[0]
                    await self.talk(socket)
            except (OSError, websockets.WebSocketException, asyncio.TimeoutError) as error:
                say("problem", text=f"{type(error).__name__}: {error}")
            say("lost")
            await asyncio.sleep(random.uniform(0, delay))
            delay = min(RETRY[1], 2 * delay)

    async def talk(self, socket: websockets.ClientConnection) -> None:
        if self.options.dialect == "nchan":
            self.ready()
        else:
            await socket.send(json.dumps({"event": "subscribe", "subscription": self.subscription}))
        async for text in socket:
            event = json.loads(text)
            if self.options.dialect == "nchan":
                say("message", data=event)
            elif event.get("event") == "message":
                say("message", data=event["data"])
            elif event.get("event") == "subscribe" and event.get("status") == "ok":
                self.ready()
            elif event.get("status") == "error":
                say("failed", text=text)

    def ready(self) -> None:
        say("open", transport="websocket")
        if not self.has_been_ready:
            say("ready")
        self.has_been_ready = True


async def orders() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def main() -> None:
    parser = argparse.ArgumentParser(description="A plain WebSocket client for `holdfast drill --with`.")
    parser.add_argument("--dialect", choices=("socketshark", "nchan"), default="socketshark")
    parser.add_argument("--ping", type=float, default=0, help="ping after so many seconds, 0 never, as a browser")
    options = parser.parse_args()
    work: asyncio.Task[None] | None = None
    reader = await orders()
    while line := await reader.readline():
        order = json.loads(line)
        if order["do"] == "connect":
            work = asyncio.create_task(PlainClient(order["url"], order["subscription"], options).run())
        elif order["do"] == "close":
            break
        # It has no use for "wake": nobody tells a plain WebSocket that the network is back.
    if work is not None:
        work.cancel()


if __name__ == "__main__":
    asyncio.run(main())
