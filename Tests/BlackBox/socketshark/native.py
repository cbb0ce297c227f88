"""A native session over WebSocket or over HTTP, with the same few words for both."""

from __future__ import annotations

import collections
import time
from typing import Any

from event_client import Event, EventClient
from http_session import HttpSession
from raw_socket import DEADLINE, Late

TRANSPORTS = ("websocket", "http")


class Native:
    """`session` is an EventClient or an HttpSession, which count for themselves."""

    def __init__(self, session: EventClient | HttpSession):
        self.session = session
        #: Came and was not looked at yet; an HTTP session may hear something with the answer to hello.
        self.heard: collections.deque[Event] = collections.deque(getattr(session, "first", ()))

    @classmethod
    def opened(cls, transport: str, port: int) -> Native:
        return cls(EventClient.native(port) if transport == "websocket" else HttpSession.opened(port))

    def resumed(self, transport: str) -> Native:
        """The same session on a new line of that kind; what came on the old one and was not looked at is still there."""
        if transport == "websocket":
            line = EventClient.resuming(self.session)
        else:
            line = HttpSession.taking_over(self.session)
        assert line.hello_reply["resumed"] is True, line.hello_reply
        successor = Native(line)
        successor.heard.extendleft(reversed(self.heard))
        return successor

    def say(self, event: dict) -> None:
        if isinstance(self.session, HttpSession):
            self.session.send(event)
        else:
            self.session.send_event(event)

    def hear(self, timeout: float = DEADLINE) -> Event:
        """The next event that is no acknowledgement."""
        until = time.monotonic() + timeout
        while True:
            while self.heard:
                event = self.heard.popleft()
                if event["event"] != "ack":
                    return event
            left = until - time.monotonic()
            if left <= 0:
                raise Late("no event came in time")
            if isinstance(self.session, HttpSession):
                self.heard.extend(self.session.poll(min(left, 5)))
            else:
                self.heard.append(self.session.next_event(left))

    def ask(self, event: dict) -> Event:
        self.say(event)
        return self.hear()

    def subscribe(self, subscription: str, **fields: Any) -> Event:
        reply = self.ask({"event": "subscribe", "subscription": subscription, **fields})
        assert (reply["event"], reply["status"], reply["subscription"]) == ("subscribe", "ok", subscription), reply
        return reply

    def data(self, count: int) -> list[Any]:
        """The data of the next events, which must all be messages."""
        events = [self.hear() for _ in range(count)]
        assert all(event["event"] == "message" and "status" not in event for event in events), events
        return [event["data"] for event in events]

    def lose_line(self) -> None:
        """The line is gone without a word."""
        if isinstance(self.session, HttpSession):
            self.session.close()
        else:
            self.session.reset()

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> Native:
        return self

    def __exit__(self, *_) -> None:
        self.close()
