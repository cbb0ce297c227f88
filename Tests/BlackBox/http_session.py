"""A session without WebSocket: what a client of the HTTP transports does, and no more (protocol.md, Endpoints).

Each request has its own connection unless told otherwise, as a browser does it: a poll that waits must not stand in the
way of what is sent.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from event_client import UNCOUNTED, Event, EventClient, parse_event
from json_bytes import elements, member
from raw_http import Comment, EventStream, HttpConnection, LastWord, Reply
from raw_socket import DEADLINE, Late

NO_STORE = {"no-store", "no-transform"}
UNKNOWN_SESSION = {"event": "hello", "status": "error", "error": "Unknown session.", "code": "unknown_session"}


def directives(value: str) -> set[str]:
    return {part.strip().lower() for part in value.split(",")}


def check_headers(reply: Reply | Any) -> None:
    """What every answer of these endpoints says, lest somebody on the way keeps, changes or holds it back."""
    assert NO_STORE <= directives(reply.headers.get("cache-control", "")), reply.headers
    assert reply.headers.get("x-accel-buffering") == "no", reply.headers
    assert "content-encoding" not in reply.headers, reply.headers


def is_counted(event: dict) -> bool:
    return event.get("event") not in UNCOUNTED


class HttpSession:
    """`received` and `sent` are this side's counts; `confirmed` is what the server says that it has.

    Streams and polls are numbered through the life of the session (`listens`): one that was given up and comes late, over
    another connection, takes nothing away from its successor.
    """

    def __init__(self, port: int, path: str = "", check=check_headers):
        self.port, self.path, self.check = port, path, check
        self.received = self.sent = self.confirmed = self.listens = 0
        self.session = ""
        self.hello_reply: Event = Event()
        self.connections = contextlib.ExitStack()
        self.main = self.connection()

    # Opening ------------------------------------------------------------------------------

    @classmethod
    def opened(cls, port: int, *events: dict, **fields: Any) -> HttpSession:
        """A new session; `first` has the events behind the reply to hello."""
        self = cls(port)
        self.hello(*events, **fields)
        assert self.hello_reply["status"] == "ok" and self.hello_reply["resumed"] is False, self.hello_reply
        return self

    @classmethod
    def taking_over(cls, old: HttpSession | EventClient, *events: dict, received: int | None = None) -> HttpSession:
        """The session of `old` on this transport, with its counts."""
        self = cls(old.port)
        self.sent, self.received, self.listens = old.sent, old.received if received is None else received, old.listens
        self.hello(*events, resume={"session": old.session, "received": self.received})
        return self

    def hello(self, *events: dict, **fields: Any) -> Reply:
        reply = self.main.ask("POST", f"{self.path}/session", [{"event": "hello", "version": 1, **fields}, *events])
        assert reply.status == 200, reply
        self.check(reply)
        first, *self.first = self.take_in(elements(reply.body))
        assert first["event"] == "hello", first
        self.hello_reply = first
        if first["status"] == "ok":
            self.session = first["session"]
            if not first["resumed"]:
                self.sent = self.listens = 0
                self.received = sum(map(is_counted, self.first))
        self.sent += sum(map(is_counted, events))
        for event in self.first:
            if event["event"] == "ack":
                self.confirmed = event["received"]
        return reply

    @property
    def handle(self) -> str:
        return self.session.split(".")[0]

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Holdfast {self.session.split('.')[1]}"}

    def url(self, what: str) -> str:
        return f"{self.path}/session/{self.handle}/{what}"

    def connection(self, kind: type = HttpConnection) -> Any:
        return self.connections.enter_context(kind(self.port))

    def close(self) -> None:
        self.connections.close()

    def __enter__(self) -> HttpSession:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # Sending ------------------------------------------------------------------------------

    def post(self, what: str, body: Any, *, on: HttpConnection | None = None, headers=None, **options) -> Reply:
        headers = {**self.authorization, **(headers or {})}
        return (on or self.main).ask("POST", self.url(what), body, headers=headers, **options)

    def send(self, *events: dict, seq: int | None = None) -> int:
        """Sends a batch and answers the server's count."""
        reply = self.post("send", {"seq": self.sent + 1 if seq is None else seq, "events": list(events)})
        assert reply.status == 200, reply
        self.check(reply)
        if seq is None:
            self.sent += sum(map(is_counted, events))
        self.confirmed = reply.json["received"]
        assert set(reply.json) == {"received"}, reply
        return self.confirmed

    # Listening ----------------------------------------------------------------------------

    def next_number(self) -> int:
        self.listens += 1
        return self.listens

    def start_poll(self, wait: float = 20, *, received: int | None = None, on: HttpConnection | None = None) -> HttpConnection:
        """Sends a poll and does not wait for its answer, which `end_poll` takes."""
        connection = on or self.connection()
        body = {"received": self.received if received is None else received, "wait": wait, "number": self.next_number()}
        connection.start("POST", self.url("poll"), body, headers=self.authorization)
        return connection

    def end_poll(self, connection: HttpConnection, timeout: float = DEADLINE) -> list[Event]:
        reply = connection.reply(timeout)
        assert reply.status == 200, reply
        self.check(reply)
        assert set(reply.json) == {"events"}, reply
        return self.take_in(elements(member(reply.body, "events")))

    def poll(self, wait: float = 5, *, on: HttpConnection | None = None) -> list[Event]:
        return self.end_poll(self.start_poll(wait, on=on or self.main))

    def stream(self, received: int | None = None, *, headers: dict[str, str] | None = None) -> SessionStream:
        stream = self.connection(SessionStream)
        stream.session = self
        count = self.received if received is None else received
        path = self.url(f"stream?received={count}&number={self.next_number()}")
        response = stream.open_stream(path, {**self.authorization, **(headers or {})})
        assert response.status == 200, response
        return stream

    def take_in(self, texts: list[bytes]) -> list[Event]:
        """The events of an answer, each with its exact bytes; they are counted."""
        events = [parse_event(text) for text in texts]
        self.received += sum(map(is_counted, events))
        return events

    def messages(self, count: int, timeout: float = DEADLINE) -> list[Event]:
        """The next `count` messages by polling; any other event among them is an error, but for ack."""
        until = time.monotonic() + timeout
        seen: list[Event] = []
        while len(seen) < count:
            left = until - time.monotonic()
            if left <= 0:
                raise Late(f"{len(seen)} of {count} messages came")
            seen += only_messages(self.poll(min(left, 5)))
        assert len(seen) == count, f"{len(seen)} messages, expected {count}"
        return seen

    def data(self, count: int, timeout: float = DEADLINE) -> list[Any]:
        return [event["data"] for event in self.messages(count, timeout)]

    def subscribe(self, subscription: str, **fields: Any) -> Event:
        self.send({"event": "subscribe", "subscription": subscription, **fields})
        while not (events := [event for event in self.poll() if event["event"] != "ack"]):
            pass
        [reply] = events
        assert (reply["event"], reply["status"], reply["subscription"]) == ("subscribe", "ok", subscription), reply
        return reply

    def barrier(self) -> list[Event]:
        """Everything that the server had to say before it handled a ping sent now, by polling."""
        self.send({"event": "ping", "data": "barrier"})
        events: list[Event] = []
        until = time.monotonic() + DEADLINE
        while not any(event.get("event") == "pong" for event in events):
            if time.monotonic() > until:
                raise Late(f"no pong, but {events}")
            events += self.poll()
        return [event for event in events if event.get("event") not in ("pong", "ack")]

    def expect_silence(self) -> None:
        assert self.barrier() == []


class SessionStream(EventStream):
    """A stream whose events its session counts."""

    session: HttpSession

    def next(self, timeout: float = DEADLINE) -> Event | Comment | LastWord | None:
        item = super().next(timeout)
        if isinstance(item, Event) and is_counted(item):
            self.session.received += 1
        return item

    def messages(self, count: int, timeout: float = DEADLINE) -> list[Event]:
        until = time.monotonic() + timeout
        seen: list[Event] = []
        while len(seen) < count:
            seen += only_messages([self.event(until - time.monotonic())])
        return seen

    def data(self, count: int, timeout: float = DEADLINE) -> list[Any]:
        return [event["data"] for event in self.messages(count, timeout)]

    def is_open(self) -> None:
        """A ping sent now is answered on this stream."""
        self.session.send({"event": "ping", "data": "open?"})
        while (event := self.event())["event"] == "ack":
            pass
        assert (event["event"], event["data"]) == ("pong", "open?"), event


def only_messages(events: list[Event]) -> list[Event]:
    kept = [event for event in events if event["event"] != "ack"]
    assert all(event["event"] == "message" and "status" not in event for event in kept), kept
    return kept
