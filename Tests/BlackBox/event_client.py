"""JSON events over the raw WebSocket, in both dialects, with the counting of protocol.md.

`EventClient` does what a client has to do and no more: it counts, it can acknowledge, and
it checks at every event what must hold always.
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import Any

from raw_socket import DEADLINE, Late
from raw_websocket import CLOSE, TEXT, RawWebSocket

sys.set_int_max_str_digits(0)  # Numbers of any length are JSON.

UNCOUNTED = {"hello", "probe", "ping", "pong", "ack", "goaway"}
HELLO_KEYS = {"event", "status", "session", "resumed", "heartbeat", "spread", "session_ttl", "node"}


class Event(dict):
    """A server event: its fields, and the exact bytes that carried them."""

    raw: bytes = b""


def parse_event(payload: bytes) -> Event:
    text = payload.decode("utf-8")  # Strictly: a text frame with bad UTF-8 fails here.

    def no_constant(name: str):
        raise AssertionError(f"{name} is not JSON: {text[:200]}")

    value = json.loads(text, parse_constant=no_constant)
    assert isinstance(value, dict), f"an event must be an object: {text[:200]}"
    event = Event(value)
    event.raw = payload
    return event


class EventClient(RawWebSocket):
    """A WebSocket that speaks events. `received` and `sent` are this side's counts."""

    received = 0
    sent = 0
    listens = 0  # Streams and polls of this session so far, for when it goes on over HTTP.
    hello_reply: Event
    session = ""

    @property
    def handle(self) -> str:
        return self.session.split(".")[0]

    # Opening ------------------------------------------------------------------------------

    @classmethod
    def native(cls, port: int, *, receive_buffer=None, **fields: Any) -> EventClient:
        """Opens a connection and a new native session on it."""
        client = cls.open(port, receive_buffer=receive_buffer)
        reply = client.hello(**fields)
        assert reply["status"] == "ok" and reply["resumed"] is False, reply
        return client

    def hello(self, **fields: Any) -> Event:
        self.send_event({"event": "hello", "version": 1, **fields})
        reply = self.next_event()
        assert reply["event"] == "hello", reply
        self.hello_reply = reply
        if reply["status"] == "ok":
            self.session = reply["session"]
        return reply

    @classmethod
    def resuming(cls, old: EventClient, port: int | None = None, received: int | None = None) -> EventClient:
        """A new connection that asks for the session of `old`, with its counts."""
        client = cls.open(port or old.port)
        count = old.received if received is None else received
        reply = client.hello(resume={"session": old.session, "received": count})
        assert reply["status"] == "ok", reply
        if reply["resumed"]:
            assert reply["session"] == old.session
            client.received, client.sent, client.listens = count, old.sent, old.listens
        return client

    # Sending ------------------------------------------------------------------------------

    def send_event(self, event: dict) -> None:
        name = event.get("event")
        if isinstance(name, str) and name not in UNCOUNTED:
            self.sent += 1
        self.send_text(json.dumps(event, ensure_ascii=False))

    def ask(self, event: dict) -> Event:
        """Sends an event and answers the next one from the server."""
        self.send_event(event)
        return self.next_event()

    def acknowledge(self) -> None:
        self.send_event({"event": "ack", "received": self.received})

    # Receiving ----------------------------------------------------------------------------

    def next_event(self, timeout: float = DEADLINE) -> Event:
        kind, payload = self.next_message(timeout)
        assert kind == TEXT, f"the server sent a binary message: {payload[:100]!r}"
        event = parse_event(payload)
        if event.get("event") not in UNCOUNTED:
            self.received += 1
        return event

    def barrier(self, token: str = "barrier") -> list[Event]:
        """Everything that the server had to say before it handled a ping sent now."""
        self.send_event({"event": "ping", "data": token})
        seen = []
        while (event := self.next_event()).get("event") != "pong" or event["data"] != token:
            seen.append(event)
        return seen

    def expect_silence(self) -> None:
        """Nothing is on its way: the next thing that comes is the answer to a ping sent now."""
        seen = [event for event in self.barrier("silence") if event.get("event") != "ack"]
        assert not seen, seen

    def is_quiet_for(self, seconds: float) -> bool:
        """Whether nothing at all came for that long. For rules of the form "not before …" only."""
        return not self.buffer and not select.select([self.sock], [], [], seconds)[0]

    # Subscribing and listening ------------------------------------------------------------

    def subscribe(self, subscription: str, **fields: Any) -> Event:
        reply = self.ask({"event": "subscribe", "subscription": subscription, **fields})
        assert reply["event"] == "subscribe" and reply["status"] == "ok", reply
        assert reply["subscription"] == subscription
        return reply

    def messages(self, count: int, timeout: float = DEADLINE, acknowledge_every: int = 256) -> list[Event]:
        """The next `count` messages; any other event among them is an error, but for ack."""
        until = time.monotonic() + timeout
        seen: list[Event] = []
        unacknowledged = 0
        while len(seen) < count:
            try:
                event = self.next_event(until - time.monotonic())
            except Late as late:
                raise Late(f"{len(seen)} of {count} messages came: {late}") from None
            if event.get("event") == "ack":
                continue
            assert event.get("event") == "message" and "status" not in event, event
            seen.append(event)
            unacknowledged += 1
            if acknowledge_every and unacknowledged >= acknowledge_every:
                unacknowledged = 0
                self.acknowledge()
        return seen

    def data(self, count: int, timeout: float = DEADLINE) -> list[Any]:
        return [event["data"] for event in self.messages(count, timeout)]


def expect_drop(client: RawWebSocket, timeout: float) -> None:
    """Waits until the server lets the connection go by itself: nobody answers a Close here, so none may be waited for.

    A Close frame may come first, since one direction may still carry the reason; then its code is 4009.
    """
    client.wait_for_end(timeout)
    while (frame := client.buffered_frame()) is not None:
        if frame.opcode == CLOSE:
            assert frame.payload[:2] == (4009).to_bytes(2, "big"), frame.payload
