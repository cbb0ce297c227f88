"""The gateway in the place of SocketShark: its configuration, what services publish, and a plain client."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from event_client import Event, EventClient
from holdfast_process import Holdfast, eventually
from raw_socket import DEADLINE
from redis_server import RedisServer
from settings import lines, write

#: What the gateway itself adds to a push.
TIMES = ("received_at", "queue_size", "sent_at")

#: How a plain client is closed after an exception; 1000 in SocketShark.
INTERNAL_ERROR = 1011


def configured(services: dict[str, Any], redis_port: int, prefix: str, **sections: Any) -> dict[str, Any]:
    """SocketShark's configuration with short times: one try per callback, channels dropped at once, a quick stop.

    A section that is None is left out, so that the gateway's own defaults hold.
    """
    usual = {
        "ws_host": "127.0.0.1",
        "http": {"timeout": 5, "tries": 1, "wait": 0.1},
        "redis": {"host": "127.0.0.1", "port": redis_port, "channel_prefix": prefix, "linger": 0},
        "drain": {"window": 0.5, "deadline": 5},
    }
    for name, section in sections.items():
        known = usual.get(name)
        usual[name] = {**known, **section} if isinstance(known, dict) and section is not None else section
    written = {name: section for name, section in usual.items() if section is not None}
    return {**written, "services": services}


def redis_section(server: RedisServer, prefix: str) -> dict[str, Any]:
    """A complete one: SocketShark does not fill in the defaults of `redis_alt`."""
    return {"host": "127.0.0.1", "port": server.port, "channel_prefix": prefix, "ping_interval": 10, "ping_timeout": 5}


class PlainClient(EventClient):
    """A client as SocketShark knows it: it never says hello."""

    def authenticate(self, ticket: Any = "ticket") -> None:
        assert self.ask({"event": "auth", "ticket": ticket}) == {"event": "auth", "status": "ok"}

    def push(self, timeout: float = DEADLINE) -> dict:
        """The next event, which must be a message, without the gateway's own times."""
        event = self.next_event(timeout)
        assert event.get("event") == "message", event
        return without_times(event)

    def pushed(self, count: int, timeout: float = DEADLINE) -> list[Any]:
        """The data of the next events, which must all be messages."""
        return [self.push(timeout)["data"] for _ in range(count)]


class Shark(Holdfast):
    """A gateway with a Redis. `publish` is what a service does."""

    def __init__(self, folder: Path, config: dict[str, Any], redis: RedisServer, prefix: str):
        self.redis = redis
        self.prefix = prefix
        self.sentinels = itertools.count(1)
        text = "\n".join(lines(config)) + "\n"
        super().__init__("serve", "--port", "0", "--config", write(folder, text), key=config.get("api", {}).get("key"))

    def client(self, **options: Any) -> PlainClient:
        return PlainClient.open(self.port, **options)

    def publish(self, subscription: str, data: Any, **fields: Any) -> int:
        return self.publish_text(subscription, json.dumps({"subscription": subscription, "data": data, **fields}))

    def publish_text(self, subscription: str, payload: str | bytes) -> int:
        return self.redis.publish(self.prefix + subscription, payload)

    def subscribers(self, subscription: str) -> int:
        """How many connections of Redis are subscribed to the channel."""
        return self.redis.subscribers(self.prefix + subscription)

    def wait_for_subscribers(self, subscription: str, count: int, timeout: float = DEADLINE) -> None:
        eventually(lambda: self.subscribers(subscription) == count, timeout, what=f"NUMSUB {count} of {subscription}")

    def expect_no_push(self, client: PlainClient, subscription: str) -> None:
        """What was published before reaches the client no more: the next thing that comes is what is published now."""
        token = f"sentinel {next(self.sentinels)}"
        self.publish(subscription, token)
        event = client.next_event()
        assert (event.get("event"), event.get("data")) == ("message", token), event


# What is expected -------------------------------------------------------------------------


def ok_reply(event: str, subscription: str, **fields: Any) -> dict:
    return {"event": event, "status": "ok", "subscription": subscription, **fields}


def error_reply(event: str, text: Any, subscription: str | None = None, **fields: Any) -> dict:
    named = {} if subscription is None else {"subscription": subscription}
    return {"event": event, "status": "error", "error": text, **named, **fields}


def message(subscription: str, data: Any, **extras: Any) -> dict:
    return {"event": "message", "subscription": subscription, "data": data, **extras}


def without_times(event: Event) -> dict:
    return {name: value for name, value in event.items() if name not in TIMES}


def subscribe(subscription: str, **extras: Any) -> dict:
    return {"event": "subscribe", "subscription": subscription, **extras}


def unsubscribe(subscription: str, **extras: Any) -> dict:
    return {"event": "unsubscribe", "subscription": subscription, **extras}


def client_message(subscription: str, *data: Any, **extras: Any) -> dict:
    return {"event": "message", "subscription": subscription, **({"data": data[0]} if data else {}), **extras}
