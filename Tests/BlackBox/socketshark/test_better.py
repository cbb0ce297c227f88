"""§17: what is wrong with SocketShark, number by number, and that Holdfast does better.

Some numbers are shown elsewhere, in whole or in part: 4 (heartbeats) in test_subscriptions.py; 13 in test_redis.py; 14 and 18
in test_native_clients.py; 16 in test_callback_http.py; 20 in test_shutdown.py; 22 in test_metrics.py; 24 in test_keepalive.py;
36 is shown with 34. 15, 17, 19, 21, 23 and 31 to 33 cannot be seen from outside, or are shown by the benchmark and by the tests
of limits and of clients.
"""

import json
import re
import threading
import time

import pytest

from event_client import parse_event
from fake_service import Answer, FakeService, ok, refused
from holdfast_process import eventually, run
from raw_websocket import BINARY, CLOSE, TEXT
from settings import lines, write
from shark import (
    PlainClient,
    Shark,
    client_message,
    configured,
    error_reply,
    message,
    ok_reply,
    subscribe,
    unsubscribe,
)
from slow_line import SlowLine

OPEN = {"require_authentication": False}
SIMPLE = {"simple": OPEN}
NAME = "books.x"
MEBIBYTE = 2**20
UNSUBSCRIBING = ("before_unsubscribe", "on_unsubscribe")


def books(service: FakeService, *callbacks: str, **more) -> dict:
    return {"books": {**OPEN, **service.urls(*callbacks), **more}, **SIMPLE}


def stops(shark: Shark) -> None:
    shark.ask_to_stop()
    assert shark.wait(10) == 0


def survives_or_is_closed(client: PlainClient) -> None:
    """After a frame that nobody should send: the connection goes on, or is closed with 1007, and never just ends."""
    client.send_event({"event": "ping", "data": "after"})
    while (frame := client.next_frame()).opcode != CLOSE:
        assert frame.opcode == TEXT, frame
        if parse_event(frame.payload) == {"event": "pong", "data": "after"}:
            return
    assert int.from_bytes(frame.payload[:2], "big") == 1007, frame


# 17.1 ---------------------------------------------------------------------------------------------


POISON = {
    "number for a name": (TEXT, b'{"event":"subscribe","subscription":123}'),
    "list for a name": (TEXT, b'{"event":"subscribe","subscription":["a"]}'),
    "object for a name": (TEXT, b'{"event":"message","subscription":{"a":"b.c"}}'),
    "true for a name": (TEXT, b'{"event":"unsubscribe","subscription":true}'),
    "bad binary": (BINARY, b"\x80\x81{"),
    "deep": (TEXT, b"[" * 100_000),
    "deep objects": (TEXT, b'{"event":' * 50_000),
    "long integer": (TEXT, b'{"event":"ping","data":' + b"9" * 5_000 + b"}"),
    "lone surrogate": (TEXT, b'{"event":"subscribe","subscription":"books.\\ud800"}'),
}


@pytest.mark.parametrize("opcode, payload", POISON.values(), ids=POISON)
def test_01_no_frame_leaks_a_session(serve, service, opcode, payload):
    shark = serve(books(service, "on_unsubscribe"))
    with shark.client() as client:
        client.subscribe(NAME)
        client.send_frame(opcode, payload)
        survives_or_is_closed(client)
    service.wait_for("/on_unsubscribe")
    shark.wait_for_subscribers(NAME, 0)
    stops(shark)


@pytest.mark.parametrize("name", [123, ["a"], {"a": 1}, True, 1.5], ids=json.dumps)
@pytest.mark.parametrize("event", ["subscribe", "message", "unsubscribe"])
def test_01_a_name_that_is_no_string_is_an_error_like_any_other(simple, event, name):
    with simple.client() as client:
        assert client.ask({"event": event, "subscription": name}) == error_reply(event, "Invalid subscription format.")
        client.subscribe("simple.x")


# 17.2 ---------------------------------------------------------------------------------------------


def test_02_a_refused_subscribe_leaves_nothing(serve, service):
    """Neither the channel, nor what is published meanwhile, nor what was published while it was asked."""
    shark = serve(books(service, "before_subscribe"))
    with shark.client() as client:
        gate = service.hold("/before_subscribe", refused("No."))
        client.send_event(subscribe(NAME))
        service.wait_for("/before_subscribe")
        shark.publish(NAME, "while it was asked")
        gate.set()
        assert client.next_event() == error_reply("subscribe", "No.", NAME)
        shark.wait_for_subscribers(NAME, 0)
        shark.publish(NAME, "while it was refused")
        assert client.ask(subscribe(NAME)) == ok_reply("subscribe", NAME)
        shark.expect_no_push(client, NAME)


@pytest.mark.parametrize("answer", [Answer(status=500), Answer(b"{"), Answer(instead="reset")], ids=["500", "no JSON", "reset"])
def test_02_neither_does_one_that_failed(serve, service, answer):
    shark = serve(books(service, "before_subscribe"))
    service.script("/before_subscribe", answer)
    with shark.client() as client:
        assert client.ask(subscribe(NAME))["status"] == "error"
    shark.wait_for_subscribers(NAME, 0)
    stops(shark)


def test_02_a_refused_topic_costs_no_memory(serve, service):
    """42 → 139 MiB in SocketShark after 100 MB."""
    shark = serve(books(service, "before_subscribe"))
    service.always("/before_subscribe", refused("No."))
    with shark.client() as other:
        other.subscribe("simple.x")
        with shark.client() as client:
            client.ask(subscribe(NAME))
        before = shark.resident_bytes()
        for _ in range(60):
            shark.publish(NAME, "x" * MEBIBYTE)
        shark.publish("simple.x", "after all that")
        assert other.push(timeout=30)["data"] == "after all that"
        assert shark.resident_bytes() - before < 40 * MEBIBYTE


def test_02_another_session_keeps_the_channel(serve, service):
    shark = serve(books(service, "before_subscribe"))
    with shark.client() as one, shark.client() as two:
        one.subscribe(NAME)
        service.script("/before_subscribe", refused("No."))
        assert two.ask(subscribe(NAME))["error"] == "No."
        assert shark.subscribers(NAME) == 1
        shark.publish(NAME, 1)
        assert one.push() == message(NAME, 1)
        two.expect_silence()


# 17.3 ---------------------------------------------------------------------------------------------


def test_03_revocation_asks_the_callbacks_and_tells_the_client(serve, service):
    shark = serve(books(service, "authorizer", *UNSUBSCRIBING, authorization_renewal_period=0.3, extra_fields=["extra"]))
    service.script("/authorizer", ok(), refused("Expired."))
    service.script("/before_unsubscribe", refused("no veto", data={"bye": 1}))
    with shark.client() as client:
        client.subscribe(NAME, extra="e")
        event = client.next_event()
        assert event == {"event": "unsubscribe", "subscription": NAME, "data": {"bye": 1}, "error": "Expired.", "extra": "e"}
        assert service.paths() == ["/authorizer", "/authorizer", "/before_unsubscribe", "/on_unsubscribe"]
        shark.wait_for_subscribers(NAME, 0)
        shark.publish(NAME, "not for you")
        assert client.ask(unsubscribe(NAME, extra="f"))["error"] == "Subscription does not exist."
        client.expect_silence()


@pytest.mark.parametrize("answer", [refused(), Answer(status=500), Answer(b"{"), Answer(instead="reset")], ids=range(4))
def test_03_whatever_the_callbacks_answer(serve, service, answer):
    shark = serve(books(service, "authorizer", *UNSUBSCRIBING, authorization_renewal_period=0.2))
    service.script("/authorizer", ok(), refused("Expired."))
    for name in UNSUBSCRIBING:
        service.always(f"/{name}", answer)
    with shark.client() as client:
        client.subscribe(NAME)
        assert client.next_event() == {"event": "unsubscribe", "subscription": NAME, "error": "Expired."}
        client.expect_silence()


# 17.4, 17.5 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{", b"nonsense", b"\xff", b"", b"null", b"[]", b"5"], ids=repr)
def test_04_a_malformed_authorizer_does_not_fail_open(serve, service, body):
    shark = serve(books(service, "authorizer", authorization_renewal_period=0.3))
    service.script("/authorizer", ok(), Answer(body))
    with shark.client() as client:
        client.subscribe(NAME)
        assert client.next_event() == {"event": "unsubscribe", "subscription": NAME, "error": "Unhandled exception."}
        shark.wait_for_subscribers(NAME, 0)
        client.expect_silence()


OUTAGE = Answer(status=503)


def test_05_an_outage_within_the_grace_is_survived(serve, service):
    shark = serve(books(service, "authorizer", authorization_renewal_period=0.2, authorization_grace=30))
    service.script("/authorizer", ok(), OUTAGE, Answer(instead="reset"), OUTAGE)
    with shark.client() as client:
        client.subscribe(NAME)
        service.wait_for("/authorizer", 7)
        shark.publish(NAME, "still there")
        assert client.push()["data"] == "still there"


def test_05_an_outage_beyond_the_grace_ends_it(serve, service):
    shark = serve(books(service, "authorizer", authorization_renewal_period=0.2, authorization_grace=1.5))
    service.script("/authorizer", ok())
    service.always("/authorizer", OUTAGE)
    with shark.client() as client:
        client.subscribe(NAME)
        began = time.monotonic()
        assert client.next_event() == {"event": "unsubscribe", "subscription": NAME, "error": "Service unavailable."}
        assert time.monotonic() - began >= 1.5


def test_05_a_no_is_a_no_even_within_the_grace(serve, service):
    shark = serve(books(service, "authorizer", authorization_renewal_period=0.2, authorization_grace=30))
    service.script("/authorizer", ok(), OUTAGE, refused("No."))
    with shark.client() as client:
        client.subscribe(NAME)
        assert client.next_event() == {"event": "unsubscribe", "subscription": NAME, "error": "No."}


# 17.6, 17.7, 17.8 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("callback", UNSUBSCRIBING)
def test_06_a_malformed_answer_at_close_does_not_stop_the_rest(serve, service, callback):
    shark = serve(books(service, *UNSUBSCRIBING))
    service.always(f"/{callback}", Answer(b"{"))
    with shark.client() as client:
        for number in range(3):
            client.subscribe(f"books.{number}")
    service.wait_for("/on_unsubscribe", 3)
    for number in range(3):
        shark.wait_for_subscribers(f"books.{number}", 0)
    stops(shark)


def test_07_a_frozen_redis_does_not_hold_up_the_stop(serve, service, own_redis):
    shark = serve(books(service, "on_unsubscribe"), on=own_redis, redis={"ping_interval": 0.5, "ping_timeout": 0.5})
    with shark.client() as client:
        client.subscribe("books.x")
        client.subscribe("books.y")
        own_redis.freeze()
        shark.ask_to_stop()
        client.expect_close(1001)
    assert shark.wait(5 + 4) == 0
    assert [body["subscription"] for body in service.bodies("/on_unsubscribe")] == ["books.y", "books.x"]


def test_07_a_client_that_leaves_while_redis_is_frozen(serve, service, own_redis):
    shark = serve(books(service, "on_unsubscribe"), on=own_redis)
    with shark.client() as client:
        client.subscribe(NAME)
        own_redis.freeze()
        client.say_goodbye()
    service.wait_for("/on_unsubscribe")
    own_redis.thaw()
    shark.wait_for_subscribers(NAME, 0)


def test_08_unsubscribing_while_the_authorization_is_lost(serve, service):
    shark = serve(books(service, "authorizer", *UNSUBSCRIBING, authorization_renewal_period=0.3))
    service.script("/authorizer", ok())
    service.always("/authorizer", refused("Expired."))
    gate = service.hold("/before_unsubscribe")
    with shark.client() as client:
        client.subscribe(NAME)
        client.send_event(unsubscribe(NAME))
        service.wait_for("/before_unsubscribe")
        service.wait_for("/authorizer", 2)
        gate.set()
        first = client.next_event()
        assert first["event"] == "unsubscribe" and first.get("error") != "Unhandled exception.", first
        shark.wait_for_subscribers(NAME, 0)
        service.script("/authorizer", ok())
        client.send_event(subscribe(NAME))
        while (reply := client.next_event())["event"] != "subscribe":
            assert reply["event"] == "unsubscribe" and reply.get("error") != "Unhandled exception.", reply
        assert reply == ok_reply("subscribe", NAME)


# 17.9 ---------------------------------------------------------------------------------------------


@pytest.fixture
def line(redis):
    with SlowLine(redis.port) as line:
        yield line


def test_09_nobody_is_told_ok_before_redis_has_acknowledged(serve, line):
    shark = serve(SIMPLE, redis={"port": line.port})
    with shark.client() as one, shark.client() as two:
        one.subscribe("simple.other")  # The connection works.
        line.hold()
        one.send_event(subscribe("simple.x"))
        two.send_event(subscribe("simple.x"))
        assert one.is_quiet_for(0.5) and two.is_quiet_for(0.5)
        line.release()
        assert one.next_event() == two.next_event() == ok_reply("subscribe", "simple.x")
        assert two.ask(unsubscribe("simple.x"))["status"] == "ok"
        shark.publish("simple.x", 1)
        assert one.push() == message("simple.x", 1)
        two.expect_silence()


@pytest.mark.parametrize("rounds", range(3))
def test_09_leaving_and_coming_cross_each_other(serve, line, rounds):
    """The last one leaves, another comes before Redis has answered anything: the later one wins."""
    shark = serve(SIMPLE, redis={"port": line.port})
    with shark.client() as one, shark.client() as two:
        one.subscribe("simple.x")
        line.hold()
        one.send_event(unsubscribe("simple.x"))
        two.send_event(subscribe("simple.x"))
        for _ in range(rounds):
            one.send_event(subscribe("simple.x"))
            one.send_event(unsubscribe("simple.x"))
        line.release()
        assert two.next_event() == ok_reply("subscribe", "simple.x")
        for _ in range(1 + 2 * rounds):
            assert one.next_event()["status"] == "ok"
        shark.publish("simple.x", 1)
        assert two.push() == message("simple.x", 1)
        assert shark.subscribers("simple.x") == 1


def test_09_a_client_that_leaves_before_the_acknowledgement(serve, line):
    shark = serve(SIMPLE, redis={"port": line.port})
    with shark.client() as one:
        one.subscribe("simple.other")
        with shark.client() as two:
            line.hold()
            two.send_event(subscribe("simple.x"))
            assert two.is_quiet_for(0.3)
        line.release()
        one.subscribe("simple.third")
        shark.wait_for_subscribers("simple.x", 0)


# 17.10 --------------------------------------------------------------------------------------------


ODD = {
    "numeric published_at": '"published_at": 5',
    "fractional published_at": '"published_at": 1.5',
    "true published_at": '"published_at": true',
    "list published_at": '"published_at": []',
    "object published_at": '"published_at": {}',
    "options null": '"options": null',
    "options number": '"options": 5',
    "options true": '"options": true',
    "options list": '"options": ["order"]',
    "options string": '"options": "order"',
    "huge order": '"options": {"order": 1' + "0" * 400 + "}",
    "infinite order": '"options": {"order": "inf"}',
    "order nan": '"options": {"order": "nan"}',
    "list order_key": '"options": {"order": 1, "order_key": [1]}',
    "object order_key": '"options": {"order": 1, "order_key": {"a": 1}}',
    "list throttle_key": '"options": {"throttle": 0.1, "throttle_key": [1]}',
    "huge throttle": '"options": {"throttle": 1' + "0" * 400 + "}",
    "throttle inf": '"options": {"throttle": "inf"}',
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_10_no_message_is_lost_for_an_odd_field(simple, odd):
    with simple.client() as client:
        client.subscribe("simple.x")
        simple.publish_text("simple.x", f'{{"subscription": "simple.x", "data": "arrives", {odd}}}')
        assert client.push() == message("simple.x", "arrives")
        simple.expect_no_push(client, "simple.x")


@pytest.mark.parametrize("order", ["inf", "-inf", "nan", "Infinity", "1_0"])
def test_10_no_order_blocks_its_key_for_ever(simple, order):
    """What is no plain number counts as if it were absent."""
    with simple.client() as client:
        client.subscribe("simple.x")
        for number, one in enumerate([1, order, 2, 1, order, 3]):
            simple.publish("simple.x", number, options={"order": one})
        assert client.pushed(5) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("options", [None, 5, [], "x"], ids=json.dumps)
def test_10_odd_options_of_a_snapshot_do_no_harm(serve, service, options):
    shark = serve(books(service, "before_subscribe"))
    service.always("/before_subscribe", ok(data="snapshot", options=options))
    with shark.client() as client:
        assert client.ask(subscribe(NAME)) == ok_reply("subscribe", NAME, data="snapshot")
        client.expect_silence()


# 17.11 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("redis_section", [{"linger": 0}, {"linger": 120}], ids=["nothing lingers", "default linger"])
def test_11_a_stalled_client_costs_little_and_only_itself(serve, redis_section):
    """42 → 544 MiB in SocketShark, with one stalled client and 120 MB published."""
    shark = serve(SIMPLE, redis=redis_section)
    with shark.client() as reader, shark.client(receive_buffer=4_096) as stalled:
        reader.subscribe("simple.x")
        stalled.subscribe("simple.x")
        before = shark.resident_bytes()
        most = 0
        for number in range(1_200):
            shark.publish("simple.x", str(number).ljust(100_000, "x"))
            assert reader.push(timeout=30)["data"].startswith(str(number))
            most = max(most, shark.resident_bytes())
        assert most - before < 64 * MEBIBYTE
        stalled.expect_close(4008, timeout=60, end=False)


def test_11_what_waits_for_a_snapshot_is_bounded(serve, service):
    """The subscribe fails; the session, the other sessions and the memory are well."""
    shark = serve(books(service, "before_subscribe"))
    gate = service.hold("/before_subscribe")
    with shark.client() as reader, shark.client() as waiting:
        waiting.send_event(subscribe(NAME))
        service.wait_for("/before_subscribe")
        reader.subscribe(NAME)
        before = shark.resident_bytes()
        for number in range(600):
            shark.publish(NAME, str(number).ljust(100_000, "x"))
            assert reader.push(timeout=30)["data"].startswith(str(number))
        assert shark.resident_bytes() - before < 40 * MEBIBYTE
        gate.set()
        reply = waiting.next_event()
        assert (reply["event"], reply["status"], reply["subscription"]) == ("subscribe", "error", NAME), reply
        waiting.expect_silence()
        assert waiting.ask(subscribe(NAME)) == ok_reply("subscribe", NAME)
        shark.expect_no_push(waiting, NAME)


def test_19_subscriptions_that_are_authorized_side_by_side_are_bounded_too(serve, service):
    shark = serve(books(service, "authorizer"), limits={"subscriptions": 5})
    gate = service.hold("/authorizer")
    with shark.client() as client:
        for number in range(20):
            client.send_event(subscribe(f"books.{number}"))
        service.wait_for("/authorizer", 20)
        gate.set()
        replies = [client.next_event() for _ in range(20)]
        assert sum(reply["status"] == "ok" for reply in replies) == 5
        assert all("limit of 5" in reply["error"] for reply in replies if reply["status"] == "error")


def test_11_keys_are_remembered_up_to_a_number(serve):
    shark = serve(SIMPLE, limits={"delivery_keys": 2})
    with shark.client() as client:
        client.subscribe("simple.x")

        def publish(key: str, order: int) -> None:
            shark.publish("simple.x", [key, order], options={"order": order, "order_key": key})

        for key, order in [("a", 5), ("b", 5), ("b", 1), ("c", 5), ("c", 1), ("a", 1)]:
            publish(key, order)
        assert client.pushed(4) == [["a", 5], ["b", 5], ["c", 5], ["a", 1]]


# 17.12 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("callback", ["authorizer", "before_subscribe", "on_subscribe"])
def test_12_a_pong_does_not_wait_behind_a_callback(serve, service, callback):
    shark = serve(books(service, callback))
    gate = service.hold(f"/{callback}")
    with shark.client() as client:
        client.send_event(subscribe(NAME))
        service.wait_for(f"/{callback}")
        if callback == "on_subscribe":
            assert client.next_event()["status"] == "ok"
        assert client.ask({"event": "ping", "data": "now"}) == {"event": "pong", "data": "now"}
        gate.set()
        if callback != "on_subscribe":
            assert client.next_event() == ok_reply("subscribe", NAME)


def test_12_a_pong_does_not_wait_behind_an_auth(serve, service):
    shark = serve(SIMPLE, authentication={"ticket": {"validation_url": service.url("/auth"), "auth_fields": []}})
    gate = service.hold("/auth")
    with shark.client() as client:
        client.send_event({"event": "auth", "ticket": "x"})
        service.wait_for("/auth")
        assert client.ask({"event": "ping"}) == {"event": "pong", "data": None}
        gate.set()
        assert client.next_event() == {"event": "auth", "status": "ok"}


def test_12_sixty_messages_behind_a_slow_subscribe(serve, service):
    """SocketShark stopped reading, saw no Pong and dropped the client."""
    shark = serve(books(service, "before_subscribe", "on_message"), ws_ping={"interval": 1, "timeout": 1})
    service.script("/before_subscribe", Answer(after=3.8))
    service.always("/on_message", lambda request: ok(data=request.body["data"]))
    with shark.client() as client:
        client.send_event(subscribe(NAME))
        for number in range(60):
            client.send_event(client_message(NAME, number))
        assert client.next_event() == ok_reply("subscribe", NAME)
        assert [client.next_event()["data"] for _ in range(60)] == list(range(60))


def test_12_topics_do_not_wait_for_each_other(serve, service):
    shark = serve(books(service, "before_subscribe"))
    gate = service.hold("/before_subscribe")
    with shark.client() as client:
        client.send_event(subscribe("books.slow"))
        service.wait_for("/before_subscribe")
        assert client.ask(subscribe("books.quick")) == ok_reply("subscribe", "books.quick")
        shark.publish("books.quick", 1)
        assert client.push() == message("books.quick", 1)
        gate.set()
        assert client.next_event() == ok_reply("subscribe", "books.slow")


def test_12_waiting_events_are_bounded(serve, service):
    shark = serve(books(service, "before_subscribe", "on_message"), limits={"waiting_events": 10})
    service.always("/on_message", lambda request: ok(data=request.body["data"]))
    gate = service.hold("/before_subscribe")
    with shark.client() as client:
        client.send_event(subscribe(NAME))
        service.wait_for("/before_subscribe")
        for number in range(30):
            client.send_event(client_message(NAME, number))
        refusals = [event for event in client.barrier()]
        assert len(refusals) in (19, 20, 21) and all(event["status"] == "error" for event in refusals), refusals
        gate.set()
        assert client.next_event() == ok_reply("subscribe", NAME)
        answered = [client.next_event()["data"] for _ in range(30 - len(refusals))]
        assert answered == list(range(len(answered)))


# 17.16 --------------------------------------------------------------------------------------------


def test_16_callbacks_under_way_are_bounded(serve, service):
    shark = serve(books(service, "before_subscribe"), limits={"callbacks": 2})
    gates = [service.hold("/before_subscribe") for _ in range(2)]
    clients = [shark.client() for _ in range(5)]
    for number, client in enumerate(clients):
        client.send_event(subscribe(f"books.{number}"))
    service.wait_for("/before_subscribe", 2)
    assert clients[4].is_quiet_for(0.5) and len(service.requests("/before_subscribe")) == 2
    for gate in gates:
        gate.set()
    for number, client in enumerate(clients):
        assert client.next_event() == ok_reply("subscribe", f"books.{number}")
        client.close()


def test_16_callbacks_that_wait_are_bounded_too(serve, service):
    shark = serve(books(service, "before_subscribe"), limits={"callbacks": 1, "waiting_callbacks": 2})
    gate = service.hold("/before_subscribe")
    clients = [shark.client() for _ in range(6)]
    clients[0].send_event(subscribe("books.0"))
    service.wait_for("/before_subscribe")
    for number, client in enumerate(clients[1:], 1):
        client.send_event(subscribe(f"books.{number}"))
    refusals = [client for client in clients if not client.is_quiet_for(0.4)]
    assert len(refusals) == 3
    for client in refusals:
        reply = client.next_event()
        assert (reply["status"], reply["error"]) == ("error", "Service unavailable."), reply
    gate.set()
    for client in clients:
        if client not in refusals:
            assert client.next_event()["status"] == "ok"
        client.close()


# 17.22 --------------------------------------------------------------------------------------------


def test_22_no_log_holds_tickets_or_payloads(serve, service):
    shark = serve(books(service, "on_message"), log={"level": "debug"},
                  authentication={"ticket": {"validation_url": service.url("/auth"), "auth_fields": ["user_id"]}})
    service.always("/auth", ok(user_id="s3cret-user"))
    service.always("/on_message", ok(data="s3cret-answer"))
    with shark.client() as client:
        client.authenticate("s3cret-ticket")
        client.subscribe(NAME)
        client.ask(client_message(NAME, "s3cret-question"))
        shark.publish(NAME, "s3cret-news")
        client.push()
    stops(shark)
    assert not [line for line in shark.log if "s3cret" in line]


def test_22_passwords_in_urls_are_not_logged(serve, service):
    url = service.url("/hook").replace("//", "//user:s3cret@")
    service.always("/hook", Answer(status=500))
    shark = serve({"books": {**OPEN, "before_subscribe": url}}, log={"level": "debug"})
    with shark.client() as client:
        assert client.ask(subscribe(NAME))["error"] == "Service unavailable."
    stops(shark)
    assert not [line for line in shark.log if "s3cret" in line]


# 17.25 to 17.30 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_25_no_constant_that_is_no_json_comes_in_or_goes_out(serve, service, constant):
    """The client of these tests fails by itself if one comes out."""
    shark = serve(books(service, "before_subscribe", extra_fields=["extra"]))
    with shark.client() as client:
        client.send_text(f'{{"event": "subscribe", "subscription": "{NAME}", "extra": {constant}}}')
        assert client.next_event() == {"status": "error", "error": "Messages must be JSON and contain an event field."}
        service.script("/before_subscribe", Answer(f'{{"status": "ok", "data": {constant}}}'.encode()))
        assert client.ask(subscribe("simple.x"))["status"] == "ok"
        shark.publish("simple.x", "before")
        shark.publish_text("simple.x", f'{{"subscription": "simple.x", "data": {constant}}}')
        shark.publish("simple.x", "after")
        assert client.pushed(2) == ["before", "after"]
        assert client.ask(subscribe(NAME))["status"] == "error"


ENVELOPE = ["event", "status", "error", "data", "subscription", "sent_at", "received_at", "queue_size", "published_at"]


@pytest.mark.parametrize("name", ENVELOPE)
def test_26_extra_fields_named_like_the_envelope_are_refused_at_the_start(tmp_path, redis, name):
    config = configured({"books": {**OPEN, "extra_fields": ["fine", name]}}, redis.port, "")
    done = run("serve", "--port", "0", "--config", write(tmp_path, "\n".join(lines(config)) + "\n"))
    assert done.returncode != 0 and re.search(rf"\b{name}\b", done.stdout + done.stderr), done


def test_27_the_channel_routes_and_not_the_body(simple):
    with simple.client() as client:
        client.subscribe("simple.a")
        client.subscribe("simple.b")
        simple.publish_text("simple.a", '{"subscription": "simple.b", "data": "by the wrong channel"}')
        simple.expect_no_push(client, "simple.a")
        simple.expect_no_push(client, "simple.b")


def test_28_a_subscribe_is_always_answered(serve, service):
    """SocketShark said nothing if a filter field of the snapshot did not match."""
    shark = serve(books(service, "before_subscribe", extra_fields=["shelf"], filter_fields=["shelf", "user_id"]))
    service.always("/before_subscribe", ok(data="snapshot", shelf="b", user_id="u9"))
    with shark.client() as client:
        assert client.ask(subscribe(NAME, shelf="a")) == ok_reply("subscribe", NAME, data="snapshot", shelf="a")
        shark.publish(NAME, 1)
        assert client.push() == message(NAME, 1, shelf="a")


TIMED = {"event", "subscription", "data", "published_at", "received_at", "queue_size", "sent_at"}
AT = "2026-04-21T10:00:00+00:00"


def test_29_throttled_messages_keep_their_times(simple):
    with simple.client() as client:
        client.subscribe("simple.x")
        for number in range(2):
            simple.publish("simple.x", number, options={"throttle": 0.3}, published_at=AT)
        for number in range(2):
            event = client.next_event()
            assert set(event) == TIMED and (event["data"], event["published_at"]) == (number, AT)
            assert event["received_at"] <= event["sent_at"]


def test_29_buffered_messages_keep_their_times(serve, service):
    shark = serve(books(service, "before_subscribe"))
    gate = service.hold("/before_subscribe")
    with shark.client() as client:
        client.send_event(subscribe(NAME))
        service.wait_for("/before_subscribe")
        shark.publish(NAME, 1, published_at=AT)
        gate.set()
        assert client.next_event()["status"] == "ok"
        event = client.next_event()
        assert set(event) == TIMED and event["published_at"] == AT


def test_30_buffers_of_two_topics_are_kept_apart(serve, service):
    shark = serve(books(service, "before_subscribe"))
    gates = {name: threading.Event() for name in ("books.a", "books.b")}
    service.always("/before_subscribe", lambda request: Answer(gate=gates[request.body["subscription"]]))
    with shark.client() as client:
        for name in gates:
            client.send_event(subscribe(name))
        service.wait_for("/before_subscribe", 2)
        for name in gates:
            shark.publish(name, name)
        gates["books.b"].set()
        assert client.next_event() == ok_reply("subscribe", "books.b")
        assert client.push() == message("books.b", "books.b")
        client.expect_silence()
        gates["books.a"].set()
        assert client.next_event() == ok_reply("subscribe", "books.a")
        assert client.push() == message("books.a", "books.a")


# 17.34 --------------------------------------------------------------------------------------------


WRONG = {
    "callback": ("services:\n  books:\n    before_subscibe: http://x/\n", "before_subscibe", 3, "before_subscribe"),
    "redis": ("redis:\n  host: localhost\n  prot: 6379\n", "prot", 3, "port"),
    "redis_alt": ("redis_alt:\n  chanel_prefix: x\n", "chanel_prefix", 2, "channel_prefix"),
    "http": ("http:\n  timeot: 5\n", "timeot", 2, "timeout"),
    "ticket": ("authentication:\n  ticket:\n    validation_uri: http://x/\n    auth_fields: []\n", "validation_uri", 3,
               "validation_url"),
}


@pytest.mark.parametrize("text, key, line, nearest", WRONG.values(), ids=WRONG)
def test_34_mistakes_in_the_configuration_are_named(tmp_path, text, key, line, nearest):
    done = run("serve", "--port", "0", "--config", write(tmp_path, text))
    told = done.stdout + done.stderr
    assert done.returncode != 0 and key in told and nearest in told, told
    assert re.search(rf"(line {line}\b|:{line}\b)", told), told


WRONG_VALUES = {
    "tries": "http:\n  tries: many\n",
    "ping_interval": "redis:\n  ping_interval: -1\n",
    "auth_fields": "authentication:\n  ticket:\n    validation_url: http://x/\n    auth_fields: user_id\n",
    "heartbeat_period": "services:\n  books:\n    heartbeat_period: soon\n    on_heartbeat: http://x/\n",
    "before_subscribe": "services:\n  books:\n    before_subscribe: not a url\n",
    "on_loss": "redis:\n  on_loss: panic\n",
}


@pytest.mark.parametrize("key, text", WRONG_VALUES.items(), ids=WRONG_VALUES)
def test_34_wrong_values_are_named(tmp_path, key, text):
    done = run("serve", "--port", "0", "--config", write(tmp_path, text))
    assert done.returncode != 0 and key in done.stdout + done.stderr, done


def test_34_the_defaults_of_redis_alt_are_filled_in(serve, redis_alt, prefix):
    """A publish on the second Redis arrives (§17.36)."""
    shark = serve(SIMPLE, redis_alt={"host": "127.0.0.1", "port": redis_alt.port})
    name = f"simple.{prefix}x"
    with shark.client() as client:
        client.subscribe(name)
        redis_alt.publish(name, json.dumps({"subscription": name, "data": "by the other"}))
        assert client.push() == message(name, "by the other")


def test_13_the_old_way_spreads_the_herd(serve, own_redis):
    """With on_loss: close, clients are told to come back, and not all in the same moment."""
    shark = serve(SIMPLE, on=own_redis, redis={"on_loss": "close"}, drain={"window": 1.5, "deadline": 5})
    clients = [shark.client() for _ in range(20)]
    for client in clients:
        client.subscribe("simple.x")
    began = time.monotonic()
    own_redis.kill()
    ends: list[float] = []

    def look() -> bool:
        for client in [one for one in clients if one.has_something()]:
            client.expect_close(1012)
            ends.append(time.monotonic() - began)
            clients.remove(client)
        return not clients

    eventually(look, timeout=15, every=0.005, what="all clients are closed")
    assert max(ends) - min(ends) >= 0.3, ends
