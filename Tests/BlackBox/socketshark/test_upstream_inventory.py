"""§16: SocketShark's own 35 test functions (38 cases) from outside, each under its name with its number.

Where the original looks into the process, the outside shows the same: `session.auth_info` in the body of the next callback,
subscriptions in PUBSUB NUMSUB, "nothing was sent" in that the next thing that comes is the answer to what is sent now.
"""

import itertools
import json
import signal
import time

import pytest

from fake_service import Answer, ok, refused
from holdfast_process import eventually
from raw_socket import ConnectionLost, RawSocket
from raw_websocket import CLOSE, PING, PONG, new_key, read_response, request_bytes
from shark import (
    PlainClient,
    Shark,
    client_message,
    error_reply,
    message,
    ok_reply,
    redis_section,
    subscribe,
    unsubscribe,
)

OPEN = {"require_authentication": False}
UNSUBSCRIBING = ("before_unsubscribe", "on_unsubscribe")
CALLBACKS = ("before_subscribe", "on_subscribe", *UNSUBSCRIBING)
BAD = {"status": "error", "error": "Messages must be JSON and contain an event field."}


@pytest.fixture
def configure(serve, service):
    """Upstream's configuration, with all URLs at the fake service."""

    def start(**sections) -> Shark:
        services = {
            "empty": {},
            "simple": OPEN,
            "simple_auth": {"require_authentication": True, "filter_fields": ["session_id"]},
            "simple_filter": {**OPEN, "extra_fields": ["extra"], "filter_fields": ["extra"]},
            "simple_before_subscribe": {**OPEN, **service.urls("before_subscribe")},
            "authorizer": {**OPEN, "extra_fields": ["extra"], **service.urls("authorizer")},
            "authorizer_data": {**OPEN, "authorizer_fields": ["field1", "field2"], **service.urls("authorizer", *CALLBACKS)},
            "periodic": {**OPEN, "authorization_renewal_period": 0.2, **service.urls("authorizer")},
            "periodic_data": {**OPEN, "authorization_renewal_period": 0.2, "authorizer_fields": ["field1"],
                              **service.urls("authorizer", "on_authorization_change")},
            "heartbeat": {**OPEN, "heartbeat_period": 0.5, **service.urls("on_heartbeat")},
            "complex": {"extra_fields": ["extra"], **service.urls("authorizer", "on_message", *CALLBACKS)},
            "ws_test": {**OPEN, **service.urls("on_unsubscribe")},
        }
        auth = {"ticket": {"validation_url": service.url("/auth"), "auth_fields": ["session_id"]}}
        return serve(services, **{"authentication": auth, **sections})

    return start


@pytest.fixture
def shark(configure) -> Shark:
    return configure()


@pytest.fixture
def client(shark) -> PlainClient:
    with shark.client() as client:
        yield client


def test_01_shark_init(shark):
    shark.ask_to_stop()
    assert shark.wait(8) == 0


def test_02_invalid_message(client):
    for text in ("null", '"hello"', "[]", "{}", '{"event": null}', json.dumps({"event": "x" * 41}), "not JSON"):
        client.send_text(text)
        assert client.next_event() == BAD
    assert client.ask({"event": "hello?"}) == error_reply("hello?", "Event not found.")
    client.expect_silence()


@pytest.mark.parametrize("authentication", [{}, None], ids=["no method", "ticket"])
def test_03_auth_invalid(configure, authentication):
    shark = configure() if authentication is None else configure(authentication=authentication)
    unsupported = error_reply("auth", "Authentication method unsupported.")
    with shark.client() as client:
        assert client.ask({"event": "auth", "method": "magic"}) == unsupported
        without_method = client.ask({"event": "auth"})
        assert without_method == (error_reply("auth", "Must specify ticket.") if authentication is None else unsupported)


def test_04_auth_invalid_emits_structlog_logs(shark, client):
    """The records are no part of the wire; that one failing auth is logged without its ticket is (§17.22)."""
    client.ask({"event": "auth", "ticket": "s3cret-ticket", "method": "magic"})
    client.close()
    shark.ask_to_stop()
    assert shark.wait(8) == 0
    assert not any("s3cret-ticket" in line for line in shark.log)


def test_05_invalid_event_emits_structlog_logs(shark, client):
    client.subscribe("simple.topic")
    shark.publish_text("simple.topic", json.dumps({"data": "no subscription"}))
    shark.publish_text("simple.topic", json.dumps({"subscription": "simple.topic"}))
    shark.publish("simple.topic", "valid")
    assert client.push() == message("simple.topic", "valid")


def test_06_invalid_published_at_is_handled_gracefully(shark, client):
    client.subscribe("simple.topic")
    shark.publish("simple.topic", {"baz": "old"}, published_at="invalid")
    assert client.push() == message("simple.topic", {"baz": "old"})


def test_07_auth_ticket(configure, service):
    shark = configure()
    fields = ("session_id",)
    with shark.client() as client:
        assert client.ask({"event": "auth", "method": "ticket"}) == error_reply("auth", "Must specify ticket.")
        service.script("/auth", Answer(instead="reset"), refused(), ok(**{fields[0]: "sess_123", "foo": "bar"}))
        ticket = {"event": "auth", "method": "ticket", "ticket": "the_ticket"}
        assert client.ask(ticket) == error_reply("auth", "Service unavailable.")
        assert client.ask(ticket) == error_reply("auth", "Authentication failed.")
        assert client.ask(ticket) == {"event": "auth", "status": "ok"}
        assert service.bodies("/auth") == [{"ticket": "the_ticket"}] * 3
        client.subscribe("complex.x")
        assert service.bodies("/authorizer") == [{"subscription": "complex.x", "session_id": "sess_123"}]


def test_08_subscription_invalid(client):
    format_error = "Invalid subscription format."
    assert client.ask({"event": "subscribe"}) == error_reply("subscribe", format_error)
    assert client.ask(subscribe("invalid")) == error_reply("subscribe", format_error, "invalid")
    assert client.ask(subscribe("invalid.topic")) == error_reply("subscribe", "Invalid service.", "invalid.topic")


def test_09_subscription_needs_auth(client):
    assert client.ask(subscribe("empty.topic")) == error_reply("subscribe", "Authentication required.", "empty.topic")


def test_10_subscription_validation(client):
    client.subscribe("simple.topic")
    assert client.ask(subscribe("simple.topic")) == error_reply("subscribe", "Already subscribed.", "simple.topic")
    for event in (client_message("simple.other", "x"), unsubscribe("simple.other")):
        assert client.ask(event) == error_reply(event["event"], "Subscription does not exist.", "simple.other")


def test_11_subscription_simple(configure, service):
    shark = configure()
    with shark.client() as client:
        client.subscribe("simple_filter.topic")
        assert shark.subscribers("simple_filter.topic") == 1
        client.send_event(client_message("simple_filter.topic", {"foo": "bar"}))
        client.expect_silence()
        shark.publish_text("simple_filter.topic", json.dumps({"subscription": "simple_filter.other", "data": {"foo": "bar"}}))
        shark.publish_text("simple_filter.topic", "{invalid json")
        shark.publish("simple_filter.topic", {"foo": "filtered"}, extra="something")
        shark.publish("simple_filter.topic", {"foo": "anonymous"}, extra=None)
        assert client.push() == message("simple_filter.topic", {"foo": "anonymous"})
        assert client.ask(unsubscribe("simple_filter.topic")) == ok_reply("unsubscribe", "simple_filter.topic")
        shark.wait_for_subscribers("simple_filter.topic", 0)


def test_12_subscription_auth(shark, client, service):
    service.always("/auth", ok(session_id="sess_123"))
    client.authenticate()
    assert client.ask(subscribe("simple_auth.topic")) == ok_reply("subscribe", "simple_auth.topic")
    for session in ("sess_123", "other", None):
        shark.publish("simple_auth.topic", {"for": session}, session_id=session)
    shark.publish("simple_auth.topic", {"for": "all"})
    assert client.pushed(2) == [{"for": "sess_123"}, {"for": "all"}]


def test_13_subscription_authorizer(client, service):
    service.script("/authorizer", Answer(instead="reset"), refused(), refused("custom error"), ok())
    event = subscribe("authorizer.topic", extra="foo", unknown="bar")
    expected = [error_reply("subscribe", text, "authorizer.topic", extra="foo")
                for text in ("Service unavailable.", "Unauthorized.", "custom error")]
    assert [client.ask(event) for _ in range(3)] == expected
    assert client.ask(event) == ok_reply("subscribe", "authorizer.topic", extra="foo")
    assert service.bodies("/authorizer") == [{"subscription": "authorizer.topic", "extra": "foo"}] * 4


@pytest.mark.parametrize("ends_by", ["unsubscribe", "close", "stop"])
def test_14_subscription_authorizer_data(shark, client, service, ends_by):
    service.always("/authorizer", ok(field1="one", field2=2, field3="not kept"))
    assert client.ask(subscribe("authorizer_data.topic")) == ok_reply("subscribe", "authorizer_data.topic")
    service.wait_for("/on_subscribe")
    if ends_by == "unsubscribe":
        assert client.ask(unsubscribe("authorizer_data.topic")) == ok_reply("unsubscribe", "authorizer_data.topic")
    elif ends_by == "close":
        client.say_goodbye()
        client.close()
    else:
        shark.ask_to_stop()
        while client.next_frame().opcode != CLOSE:
            pass
        client.close()
    service.wait_for("/on_unsubscribe")
    with_fields = {"subscription": "authorizer_data.topic", "field1": "one", "field2": 2}
    assert {path: service.bodies(f"/{path}") for path in CALLBACKS} == {path: [with_fields] for path in CALLBACKS}


def test_15_subscription_periodic_authorizer(shark, client, service):
    """Answers by topic, since the order of two renewals may vary."""
    renewals = {"periodic.one": [ok(), ok(), refused()], "periodic.two": [ok(), refused("custom error")]}
    service.always("/authorizer", lambda request: renewals[request.body["subscription"]].pop(0))
    client.subscribe("periodic.one")
    client.subscribe("periodic.two")
    events = [client.next_event() for _ in range(2)]
    assert sorted(events, key=lambda event: event["subscription"]) == [
        {"event": "unsubscribe", "subscription": "periodic.one", "error": "Unauthorized."},
        {"event": "unsubscribe", "subscription": "periodic.two", "error": "custom error"}]
    for name in renewals:
        shark.wait_for_subscribers(name, 0)
    client.expect_silence()


def test_16_subscription_authorizer_data_periodic(client, service):
    service.script("/authorizer", ok(field1="first"), ok(field1="second"))
    service.always("/authorizer", ok(field1="second"))
    client.subscribe("periodic_data.topic")
    service.wait_for("/authorizer", 4)
    assert service.bodies("/on_authorization_change") == [{"subscription": "periodic_data.topic", "field1": "second"}]


def test_17_subscription_periodic_heartbeat(client, service):
    client.subscribe("heartbeat.topic")
    began = time.monotonic()
    times = [request.at for request in service.wait_for("/on_heartbeat", 3)]
    assert times[0] - began <= 0.5 + 3
    assert all(second - first >= 0.48 for first, second in itertools.pairwise(times))


def test_18_subscription_complex(shark, client, service):
    """The whole life of a subscription."""
    name, body = "complex.topic", {"subscription": "complex.topic", "extra": "foo", "session_id": "sess_123"}
    service.always("/auth", ok(session_id="sess_123"))
    client.authenticate()
    service.script("/before_subscribe", refused(), refused("custom", data={"foo": "bar"}), ok(data={"initial": 1}))
    event = subscribe(name, extra="foo")
    assert client.ask(event) == error_reply("subscribe", "Unhandled exception.", name, extra="foo")
    assert client.ask(event) == error_reply("subscribe", "custom", name, extra="foo", data={"foo": "bar"})
    assert client.ask(event) == ok_reply("subscribe", name, extra="foo", data={"initial": 1})
    service.wait_for("/on_subscribe")

    service.script("/on_message", ok(), refused(), refused("custom", data=[1]), ok(data=None), ok(data={"x": 1}))
    expected = [error_reply("message", "Unhandled exception.", name, extra="foo"),
                error_reply("message", "custom", name, extra="foo", data=[1]),
                ok_reply("message", name, extra="foo"),
                ok_reply("message", name, extra="foo", data={"x": 1})]
    for number in range(5):
        client.send_event(client_message(name, number, extra="is that of the subscribe"))
    assert [client.next_event() for _ in range(4)] == expected
    assert service.bodies("/on_message") == [{**body, "data": number} for number in range(5)]

    shark.publish(name, {"pushed": True})
    assert client.push() == message(name, {"pushed": True}, extra="foo")

    service.script("/before_unsubscribe", refused("stay", data={"y": 1}), ok(data={"bye": 1}))
    assert client.ask(unsubscribe(name)) == error_reply("unsubscribe", "stay", name, extra="foo", data={"y": 1})
    assert client.ask(unsubscribe(name)) == ok_reply("unsubscribe", name, extra="foo", data={"bye": 1})
    service.wait_for("/on_unsubscribe")
    for path, count in {"/authorizer": 3, "/before_subscribe": 3, "/on_subscribe": 1, "/before_unsubscribe": 2,
                        "/on_unsubscribe": 1}.items():
        assert service.bodies(path) == [body] * count


def test_19_unsubscribe_on_close(serve, service):
    """The endpoints are out of reach, and all subscriptions go all the same."""
    shark = serve({"gone": {**OPEN, **service.urls(*UNSUBSCRIBING)}})
    for name in UNSUBSCRIBING:
        service.always(f"/{name}", Answer(instead="reset"))
    with shark.client() as client:
        for number in range(3):
            client.subscribe(f"gone.{number}")
        client.say_goodbye()
    for number in range(3):
        shark.wait_for_subscribers(f"gone.{number}", 0)


def test_20_order_filter(shark, client, service):
    service.script("/before_subscribe", ok(data="snapshot", options={"order": 1}))
    name = "simple_before_subscribe.topic"
    assert client.ask(subscribe(name)) == ok_reply("subscribe", name, data="snapshot")
    key = {"order_key": "key"}
    for data, options in [("a", {"order": 1}), ("b", {"order": 2}), ("c", {"order": 2}), ("d", {"order": 1.5}),
                          ("e", {"order": 2.5}), ("f", {"order": 1, **key}), ("g", {"order": 0, **key}),
                          ("h", {"order": 2, **key}), ("i", {"order": 3}), ("j", {})]:
        shark.publish(name, data, options=options)
    assert client.pushed(6) == ["b", "e", "f", "h", "i", "j"]


def test_21_order_filter_invalid(shark, client):
    client.subscribe("simple.topic")
    shark.publish("simple.topic", {"foo": "invalid"}, options={"order": "invalid"})
    assert client.push() == message("simple.topic", {"foo": "invalid"})


def test_22_filter_extra_fields(shark, client):
    client.subscribe("simple_filter.topic", extra="mine")
    shark.publish("simple_filter.topic", "other", extra="other")
    shark.publish("simple_filter.topic", "mine", extra="mine")
    shark.publish("simple_filter.topic", "none")
    expected = [message("simple_filter.topic", data, extra="mine") for data in ("mine", "none")]
    assert [client.push(), client.push()] == expected


def test_23_ping_redis(configure, own_redis):
    """Upstream: a Redis that does not answer ends the process. Here it is noticed, and clients stay."""
    shark = configure(on=own_redis, redis={"ping_interval": 0.2, "ping_timeout": 0.3})
    with shark.client() as client:
        client.subscribe("simple.topic")
        own_redis.freeze()
        eventually(lambda: shark.api.get("/ready").status == 503)
        client.expect_silence()
        own_redis.thaw()
        eventually(lambda: shark.api.get("/ready").status == 200, 20)


@pytest.mark.parametrize("number, names, header", [
    (24, {"rate_limit_reset_header_names": ["X-Rate-Limit-Reset", "X-Other"]}, "X-Rate-Limit-Reset"),
    (25, {"rate_limit_reset_header_names": ["X-Rate-Limit-Reset", "X-Other"]}, "X-Other"),
    (26, {"rate_limit_reset_header_name": "X-Single"}, "X-Single"),
], ids=["24", "25", "26"])
def test_24_to_26_rate_limit(configure, service, number, names, header):
    shark = configure(http={"tries": 2, "wait": 5, **names})
    service.script("/before_subscribe", Answer(status=429, headers={header: "0.2"}))
    with shark.client() as client:
        client.subscribe("simple_before_subscribe.topic")
    first, second = [request.at for request in service.requests("/before_subscribe")]
    assert 0.19 <= second - first < 4


def test_27_ping_pong(client):
    for fields, data in [({}, None), ({"data": "test"}, "test"), ({"data": 5}, None), ({"data": {"a": 1}}, None),
                         ({"data": "x" * 129}, "x" * 128)]:
        assert client.ask({"event": "ping", **fields}) == {"event": "pong", "data": data}


def test_28_throttle(shark, client):
    name = "simple.topic"
    client.subscribe(name)
    began = time.monotonic()
    for data, options in [("a1", {"throttle_key": "a"}), ("b1", {"throttle_key": "b"}), ("a2", {"throttle_key": "a"}),
                          ("a3", {"throttle_key": "a"}), ("b2", {"throttle_key": "b"})]:
        shark.publish(name, data, options={"throttle": 1, **options})
    shark.publish(name, "invalid", options={"throttle": "invalid", "throttle_key": "a"})
    assert client.pushed(3) == ["a1", "b1", "invalid"]
    assert client.pushed(2) == ["a3", "b2"]
    assert time.monotonic() - began >= 0.98
    assert client.is_quiet_for(1.3)
    shark.publish(name, "a4", options={"throttle": 1, "throttle_key": "a"})
    assert client.push() == message(name, "a4")


def test_29_throttle_close(shark, client):
    name = "simple.topic"
    client.subscribe(name)
    for number in range(2):
        shark.publish(name, number, options={"throttle": 0.8})
    assert client.push()["data"] == 0
    assert client.ask(unsubscribe(name)) == ok_reply("unsubscribe", name)
    client.subscribe(name)
    assert client.is_quiet_for(1.2)
    shark.expect_no_push(client, name)


@pytest.mark.parametrize("number", [30, 31])
def test_30_and_31_throttle_slow_send(shark, client, number):
    """A message that comes while the trailing one is on its way waits for a window of its own, whoever reads slowly."""
    name, large = "simple.topic", "x" * 200_000
    client.subscribe(name)
    for data in ("first", large):
        shark.publish(name, data, options={"throttle": 0.6})
    assert client.push()["data"] == "first"
    eventually(client.has_something)  # The trailing message is on its way, and is not read yet.
    began = time.monotonic()
    for data in ("replaced", "last")[31 - number:]:
        shark.publish(name, data, options={"throttle": 0.6})
    assert client.pushed(2) == [large, "last"]
    assert time.monotonic() - began >= 0.3


def test_32_websocket(shark, service):
    with shark.client() as client:
        assert client.ask(subscribe("ws_test.topic")) == ok_reply("subscribe", "ws_test.topic")
        assert not service.requests("/on_unsubscribe")
        client.say_goodbye()
    service.wait_for("/on_unsubscribe")
    assert service.bodies("/on_unsubscribe") == [{"subscription": "ws_test.topic"}]


def test_33_shutdown(shark, service):
    with shark.client() as client:
        client.subscribe("ws_test.topic")
        shark.process.send_signal(signal.SIGTERM)
        while client.next_frame().opcode != CLOSE:
            pass
    assert shark.wait(8) == 0
    assert service.bodies("/on_unsubscribe") == [{"subscription": "ws_test.topic"}]


def test_34_shutdown_connections(shark, service):
    gate = service.hold("/on_unsubscribe")
    with shark.client() as client:
        client.subscribe("ws_test.topic")
        shark.ask_to_stop()
        while client.next_frame().opcode != CLOSE:
            pass
    service.wait_for("/on_unsubscribe")
    try:
        with RawSocket(shark.port, timeout=2) as late:
            late.send(request_bytes(shark.port, new_key()))
            assert read_response(late).status == 503
    except (ConnectionLost, ConnectionRefusedError, ConnectionResetError):
        pass  # Refused at the level of TCP.
    gate.set()
    assert shark.wait(8) == 0


def pinging(configure) -> Shark:
    return configure(ws_ping={"interval": 0.2, "timeout": 0.4})


def ends(client: PlainClient) -> bool:
    """Whether a client that answers no Ping is let go, with or without a Close."""
    try:
        while client.next_frame().opcode != CLOSE:
            pass
    except ConnectionLost:
        pass
    return True


def test_35_ping(configure):
    with pinging(configure).client() as client:
        ping = client.next_frame()
        assert ping.opcode == PING
        client.send_frame(PONG, ping.payload)
        assert client.next_frame().opcode == PING  # The second one stays without an answer.
        assert ends(client)


def test_36_ping_2(configure):
    shark = pinging(configure)
    with shark.client() as dead:
        dead.subscribe("simple.topic")
        assert ends(dead)
        with shark.client() as living:
            living.subscribe("simple.topic")
            shark.publish("simple.topic", "to the living")
            assert living.push() == message("simple.topic", "to the living")


def test_37_redis_disconnect(configure, own_redis):
    """Upstream: everybody is closed. Inverted: everybody stays, and gets what is published afterwards."""
    shark = configure(on=own_redis)
    with shark.client() as client:
        client.subscribe("simple.topic")
        own_redis.restart()
        eventually(lambda: shark.subscribers("simple.topic") == 1, 20)
        shark.publish("simple.topic", "after")
        assert client.push() == message("simple.topic", "after")


def test_38_multiple_connections(configure, redis_alt, prefix):
    """Upstream publishes on the first Redis only; here on both."""
    shark = configure(redis_alt=redis_section(redis_alt, f"alt{prefix}"))
    with shark.client() as client:
        client.subscribe("simple.topic")
        shark.publish("simple.topic", "main")
        assert client.push() == message("simple.topic", "main")
        redis_alt.publish(f"alt{prefix}simple.topic", json.dumps({"subscription": "simple.topic", "data": "alt"}))
        assert client.push() == message("simple.topic", "alt")
