"""§5: the life of a subscription: names, subscribe, message, unsubscribe, authorization that ends, heartbeats, close."""

import itertools
import json

import pytest

from fake_service import Answer, ok, refused, unreachable
from holdfast_process import eventually
from shark import client_message, error_reply, message, ok_reply, subscribe, unsubscribe

UNSUBSCRIBING = ("before_unsubscribe", "on_unsubscribe")
CALLBACKS = ("before_subscribe", "on_subscribe", "on_message", *UNSUBSCRIBING)
OPEN = {"require_authentication": False}


@pytest.fixture
def shark(serve, service):
    return serve({
        "simple": OPEN,
        "private": {},
        "books": {**OPEN, "extra_fields": ["extra"], "filter_fields": ["user_id"], **service.urls("authorizer", *CALLBACKS)},
    })


@pytest.fixture
def client(shark):
    with shark.client() as client:
        yield client


# §5.1 Names -----------------------------------------------------------------------------------


EVENTS = pytest.mark.parametrize("event", ["subscribe", "message", "unsubscribe"])


@EVENTS
@pytest.mark.parametrize("name", ["x", "nodot", ".", ".x", "simple.", "..", ".simple.x"])
def test_invalid_names(client, event, name):
    assert client.ask({"event": event, "subscription": name}) == error_reply(event, "Invalid subscription format.", name)


@EVENTS
@pytest.mark.parametrize("name", ["nobody.x", "Simple.x", " simple.x", "simple .x"])
def test_services_that_are_not_configured(client, event, name):
    assert client.ask({"event": event, "subscription": name}) == error_reply(event, "Invalid service.", name)


@pytest.mark.parametrize("topic", ["a.b.c", ".", "..", " ", "é😀", 'a"\\\n\u0000', "*", "[a]?", "x" * 200])
def test_a_topic_may_hold_anything(shark, client, topic):
    name = f"simple.{topic}"
    assert client.ask(subscribe(name)) == ok_reply("subscribe", name)
    shark.publish(name, 1)
    assert client.push() == message(name, 1)
    assert client.ask(unsubscribe(name)) == ok_reply("unsubscribe", name)


def test_topics_are_case_sensitive(shark, client):
    client.subscribe("simple.A")
    assert client.ask(unsubscribe("simple.a"))["error"] == "Subscription does not exist."
    assert shark.subscribers("simple.a") == 0


def test_the_name_is_looked_at_before_anything_else(client):
    assert client.ask(client_message("private."))["error"] == "Invalid subscription format."
    assert client.ask(client_message("private.x"))["error"] == "Subscription does not exist."


# §5.2 subscribe ---------------------------------------------------------------------------------


def test_authentication_is_required_by_default(shark, client):
    assert client.ask(subscribe("private.x")) == error_reply("subscribe", "Authentication required.", "private.x")
    assert shark.subscribers("private.x") == 0


def test_a_second_subscribe_asks_nobody(client, service):
    client.subscribe("books.x")
    service.wait_for("/on_subscribe")
    asked = len(service.paths())
    assert client.ask(subscribe("books.x", extra=5)) == error_reply("subscribe", "Already subscribed.", "books.x")
    assert len(service.paths()) == asked


def test_the_order_of_the_callbacks(client, service):
    client.subscribe("books.x")
    service.wait_for("/on_subscribe")
    assert service.paths() == ["/authorizer", "/before_subscribe", "/on_subscribe"]


def test_a_refused_authorizer_stops_there(shark, client, service):
    service.always("/authorizer", refused("No."))
    assert client.ask(subscribe("books.x")) == error_reply("subscribe", "No.", "books.x")
    assert service.paths() == ["/authorizer"] and shark.subscribers("books.x") == 0
    assert client.ask(unsubscribe("books.x"))["error"] == "Subscription does not exist."


def test_redis_is_subscribed_before_before_subscribe_and_after_the_authorizer(shark, client, service):
    authorizer, before = service.hold("/authorizer"), service.hold("/before_subscribe")
    client.send_event(subscribe("books.x"))
    service.wait_for("/authorizer")
    assert shark.subscribers("books.x") == 0
    authorizer.set()
    service.wait_for("/before_subscribe")
    assert shark.subscribers("books.x") == 1
    before.set()
    assert client.next_event() == ok_reply("subscribe", "books.x")


def test_messages_during_before_subscribe_come_after_the_reply(shark, client, service):
    gate = service.hold("/before_subscribe", ok(data="snapshot"))
    client.send_event(subscribe("books.x"))
    service.wait_for("/before_subscribe")
    for number in range(5):
        shark.publish("books.x", number)
    gate.set()
    assert client.next_event() == ok_reply("subscribe", "books.x", data="snapshot")
    shark.publish("books.x", 5)
    assert client.pushed(6) == [0, 1, 2, 3, 4, 5]


def test_the_order_of_the_snapshot_suppresses_buffered_messages(shark, client, service):
    gate = service.hold("/before_subscribe", ok(data="snapshot", options={"order": 2}))
    client.send_event(subscribe("books.x"))
    service.wait_for("/before_subscribe")
    for number in (1, 2, 3):
        shark.publish("books.x", number, options={"order": number})
    shark.publish("books.x", "other key", options={"order": 1, "order_key": "k"})
    gate.set()
    assert client.next_event() == ok_reply("subscribe", "books.x", data="snapshot")
    assert client.pushed(2) == [3, "other key"]


def test_the_snapshot_starts_a_throttle_window(shark, client, service):
    """What comes right after it waits for the end of the window; only the last is delivered."""
    service.always("/before_subscribe", ok(data="snapshot", options={"throttle": 1}))
    client.subscribe("books.x")
    for number in range(3):
        shark.publish("books.x", number, options={"throttle": 1})
    shark.publish("books.x", "not throttled")
    assert client.pushed(2) == ["not throttled", 2]


def test_buffered_messages_are_filtered_too(shark, client, service):
    gate = service.hold("/before_subscribe")
    client.send_event(subscribe("books.x"))
    service.wait_for("/before_subscribe")
    shark.publish("books.x", "for somebody else", user_id="u9")
    shark.publish("books.x", "for all")
    gate.set()
    assert client.next_event()["status"] == "ok"
    assert client.push()["data"] == "for all"


@pytest.mark.parametrize("answer", [refused(), Answer(status=500), Answer(b"null"), Answer(instead="reset")], ids=range(4))
def test_a_failing_on_subscribe_is_ignored(shark, client, service, answer):
    service.script("/on_subscribe", answer)
    client.subscribe("books.x")
    service.wait_for("/on_subscribe")
    shark.publish("books.x", 1)
    assert client.push() == message("books.x", 1)
    client.expect_silence()


def test_messages_are_live_while_on_subscribe_is_under_way(shark, client, service):
    gate = service.hold("/on_subscribe")
    client.subscribe("books.x")
    service.wait_for("/on_subscribe")
    shark.publish("books.x", 1)
    assert client.push() == message("books.x", 1)
    gate.set()


def test_the_next_event_of_the_topic_waits_for_on_subscribe(client, service):
    gate = service.hold("/on_subscribe")
    client.subscribe("books.x")
    client.send_event(unsubscribe("books.x"))
    service.wait_for("/on_subscribe")
    assert not service.requests("/before_unsubscribe")
    gate.set()
    assert client.next_event() == ok_reply("unsubscribe", "books.x")


# §5.3 message -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fields, data", [({}, None), *(({"data": data}, data) for data in [None, 0, "", [], {"a": [1]}])],
                         ids=repr)
def test_the_data_of_a_message_is_passed_on(client, service, fields, data):
    client.subscribe("books.x", extra="e")
    service.always("/on_message", ok(data="done"))
    assert client.ask({"event": "message", "subscription": "books.x", **fields}) == ok_reply(
        "message", "books.x", extra="e", data="done")
    assert service.bodies("/on_message") == [{"subscription": "books.x", "extra": "e", "data": data}]


ON_MESSAGE = {
    "ok without data": (ok(), None),
    "ok with null": (ok(data=None), ok_reply("message", "books.x")),
    "ok with data": (ok(data=[1]), ok_reply("message", "books.x", data=[1])),
    "error": (refused("No."), error_reply("message", "No.", "books.x")),
    "error without text": (refused(), error_reply("message", "Unhandled exception.", "books.x")),
    "error with data": (refused("No.", data=[1]), error_reply("message", "No.", "books.x", data=[1])),
    "error with falsy data": (refused("No.", data=0), error_reply("message", "No.", "books.x")),
    "wrong status": ({"status": "OK", "data": 1}, error_reply("message", "Unhandled exception.", "books.x", data=1)),
}


@pytest.mark.parametrize("answer, reply", ON_MESSAGE.values(), ids=ON_MESSAGE)
def test_replies_to_a_message(client, service, answer, reply):
    """No reply at all if the service says ok without data: the next one is that of the next message."""
    client.subscribe("books.x")
    service.script("/on_message", answer, ok(data="next"))
    client.send_event(client_message("books.x", 1))
    client.send_event(client_message("books.x", 2))
    expected = [reply] if reply else []
    for one in [*expected, ok_reply("message", "books.x", data="next")]:
        assert client.next_event() == one


def test_messages_of_one_topic_are_handled_in_order(client, service):
    client.subscribe("books.x")
    gate = service.hold("/on_message", ok(data=0))
    service.always("/on_message", lambda request: ok(data=request.body["data"]))
    for number in range(20):
        client.send_event(client_message("books.x", number))
    service.wait_for("/on_message")
    assert client.is_quiet_for(0.3) and len(service.requests("/on_message")) == 1
    gate.set()
    assert [client.next_event()["data"] for _ in range(20)] == list(range(20))
    assert [body["data"] for body in service.bodies("/on_message")] == list(range(20))


def test_without_on_message_there_is_no_reply(client):
    client.subscribe("simple.x")
    client.send_event(client_message("simple.x", 1))
    assert client.ask(subscribe("simple.x"))["error"] == "Already subscribed."


# §5.4 unsubscribe ---------------------------------------------------------------------------------


def test_before_unsubscribe_may_veto(shark, client, service):
    client.subscribe("books.x")
    service.script("/before_unsubscribe", refused("Stay."))
    assert client.ask(unsubscribe("books.x")) == error_reply("unsubscribe", "Stay.", "books.x")
    assert not service.requests("/on_unsubscribe") and shark.subscribers("books.x") == 1
    shark.publish("books.x", 1)
    assert client.push() == message("books.x", 1)
    assert client.ask(unsubscribe("books.x")) == ok_reply("unsubscribe", "books.x")


def test_unsubscribe(shark, client, service):
    client.subscribe("books.x", extra=1)
    service.always("/before_unsubscribe", ok(data="bye"))
    assert client.ask(unsubscribe("books.x")) == ok_reply("unsubscribe", "books.x", extra=1, data="bye")
    service.wait_for("/on_unsubscribe")
    assert service.paths()[-2:] == ["/before_unsubscribe", "/on_unsubscribe"]
    shark.wait_for_subscribers("books.x", 0)
    shark.publish("books.x", 1)
    assert client.ask(unsubscribe("books.x"))["error"] == "Subscription does not exist."
    client.expect_silence()


@pytest.mark.parametrize("answer", [refused(), Answer(status=500), Answer(b"[]")], ids=range(3))
def test_a_failing_on_unsubscribe_is_ignored(client, service, answer):
    client.subscribe("books.x")
    service.script("/on_unsubscribe", answer)
    assert client.ask(unsubscribe("books.x")) == ok_reply("unsubscribe", "books.x")
    client.subscribe("books.x")
    client.expect_silence()


def test_a_channel_stays_subscribed_as_long_as_anybody_needs_it(shark, client):
    client.subscribe("simple.x")
    with shark.client() as other:
        other.subscribe("simple.x")
        assert shark.subscribers("simple.x") == 1
        assert client.ask(unsubscribe("simple.x"))["status"] == "ok"
        shark.publish("simple.x", 1)
        assert other.push() == message("simple.x", 1)
        client.expect_silence()
        assert shark.subscribers("simple.x") == 1
        other.say_goodbye()
    shark.wait_for_subscribers("simple.x", 0)


def test_unsubscribe_forgets_the_order(shark, client):
    client.subscribe("simple.x")
    shark.publish("simple.x", "high", options={"order": 100})
    assert client.push()["data"] == "high"
    assert client.ask(unsubscribe("simple.x"))["status"] == "ok"
    client.subscribe("simple.x")
    shark.publish("simple.x", "low", options={"order": 1})
    assert client.push()["data"] == "low"


# §5.5 Authorization that is renewed, and lost ---------------------------------------------------------


PERIOD = 0.3


def renewing(service, *callbacks: str, **more) -> dict:
    return {"books": {**OPEN, "authorization_renewal_period": PERIOD, "extra_fields": ["extra"],
                      **service.urls("authorizer", *callbacks), **more}}


def test_the_period_is_kept(serve, service):
    with serve(renewing(service)).client() as client:
        client.subscribe("books.x")
        times = [request.at for request in service.wait_for("/authorizer", 4)]
    assert all(PERIOD * 0.95 <= later - earlier for earlier, later in itertools.pairwise(times))


def test_the_period_begins_when_the_last_renewal_has_ended(serve, service):
    service.always("/authorizer", Answer(after=0.4))
    with serve(renewing(service)).client() as client:
        client.subscribe("books.x")
        times = [request.at for request in service.wait_for("/authorizer", 3)]
    assert all((PERIOD + 0.4) * 0.95 <= later - earlier for earlier, later in itertools.pairwise(times))


def test_jitter_shortens_the_period(serve, service):
    """By a random part of the jitter, never by more."""
    config = renewing(service)
    config["books"] |= {"authorization_renewal_period": 1, "authorization_renewal_jitter": 0.8}
    with serve(config).client() as client:
        client.subscribe("books.x")
        times = [request.at for request in service.wait_for("/authorizer", 8, timeout=20)]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(pauses) >= 0.19 and min(pauses) < 0.95, pauses
    assert max(pauses) - min(pauses) > 0.01, "jitter is random"


def test_a_renewal_is_told_the_previous_authorizer_fields(serve, service):
    shark = serve(renewing(service, "on_authorization_change", authorizer_fields=["role", "team"]))
    service.script("/authorizer", ok(role="a", other=1), ok(role="b", team="t"))
    service.always("/authorizer", ok(role="b", team="t"))
    with shark.client() as client:
        client.subscribe("books.x", extra="e")
        service.wait_for("/authorizer", 4)
        bodies = service.bodies("/authorizer")
        common = {"subscription": "books.x", "extra": "e"}
        assert bodies[:3] == [common, {**common, "role": "a"}, {**common, "role": "b", "team": "t"}]
        assert service.bodies("/on_authorization_change") == [{**common, "role": "b", "team": "t"}]
        client.expect_silence()


def test_a_field_that_disappears_is_a_change(serve, service):
    shark = serve(renewing(service, "on_authorization_change", authorizer_fields=["role"]))
    service.script("/authorizer", ok(role="a"), ok())
    with shark.client() as client:
        client.subscribe("books.x")
        service.wait_for("/on_authorization_change")
        assert service.bodies("/on_authorization_change") == [{"subscription": "books.x"}]


LOST = {
    "refused": (refused(), "Unauthorized."),
    "refused with a reason": (refused("Expired."), "Expired."),
    "reason that is no string": (refused({"code": 1}), {"code": 1}),
    "unreachable": (Answer(instead="reset"), "Service unavailable."),
    "500": (Answer(status=500), "Service unavailable."),
}


@pytest.mark.parametrize("answer, error", LOST.values(), ids=LOST)
def test_authorization_that_is_lost(serve, service, answer, error):
    shark = serve(renewing(service))
    service.script("/authorizer", ok(), answer)
    with shark.client() as client:
        client.subscribe("books.x", extra="e")
        assert client.next_event() == {"event": "unsubscribe", "subscription": "books.x", "error": error, "extra": "e"}
        shark.wait_for_subscribers("books.x", 0)
        assert client.ask(unsubscribe("books.x"))["error"] == "Subscription does not exist."
        asked = len(service.requests("/authorizer"))
        client.subscribe("books.x")
        assert len(service.requests("/authorizer")) == asked + 1


@pytest.mark.parametrize("answer, error", [(refused("No change."), "No change."), (refused(), "Unhandled exception."),
                                           (Answer(status=500), "Service unavailable.")], ids=range(3))
def test_a_refused_change_is_a_loss(serve, service, answer, error):
    shark = serve(renewing(service, "on_authorization_change", authorizer_fields=["role"]))
    service.script("/authorizer", ok(role="a"), ok(role="b"))
    service.always("/on_authorization_change", answer)
    with shark.client() as client:
        client.subscribe("books.x")
        assert client.next_event() == {"event": "unsubscribe", "subscription": "books.x", "error": error}


def test_only_the_subscription_that_lost_it_ends(serve, service):
    shark = serve(renewing(service))
    renewals = {"books.good": iter(()), "books.bad": iter([ok(), refused("No.")])}
    service.always("/authorizer", lambda request: next(renewals[request.body["subscription"]], ok()))
    with shark.client() as client:
        client.subscribe("books.good")
        client.subscribe("books.bad")
        assert client.next_event() == {"event": "unsubscribe", "subscription": "books.bad", "error": "No."}
        shark.publish("books.good", 1)
        assert client.push() == message("books.good", 1)


def test_renewals_end_with_the_subscription(serve, service):
    shark = serve(renewing(service))
    with shark.client() as client:
        client.subscribe("books.x")
        assert client.ask(unsubscribe("books.x")) == ok_reply("unsubscribe", "books.x")
        asked = len(service.requests("/authorizer"))
        client.subscribe("books.y")
        service.wait_for("/authorizer", asked + 3)
        assert all(body["subscription"] == "books.y" for body in service.bodies("/authorizer")[asked:])


@pytest.mark.parametrize("half", [{"authorization_renewal_period": 0.2}, {"heartbeat_period": 0.2}], ids=str)
def test_a_period_without_its_callback_does_nothing(serve, half):
    shark = serve({"books": {**OPEN, **half}})
    with shark.client() as client:
        client.subscribe("books.x")
        assert client.is_quiet_for(0.7)
        shark.publish("books.x", 1)
        assert client.push() == message("books.x", 1)


def test_a_callback_without_its_period_is_not_asked(serve, service):
    shark = serve({"books": {**OPEN, **service.urls("authorizer", "on_heartbeat", "on_authorization_change")}})
    with shark.client() as client:
        client.subscribe("books.x")
        assert client.is_quiet_for(0.7)
    assert service.paths() == ["/authorizer"]


# §5.6 Heartbeats ------------------------------------------------------------------------------------


def test_heartbeats(serve, service):
    shark = serve({"books": {**OPEN, "extra_fields": ["extra"], "heartbeat_period": 0.4, **service.urls("on_heartbeat")}})
    with shark.client() as client:
        client.subscribe("books.x", extra=1)
        times = [request.at for request in service.wait_for("/on_heartbeat", 4)]
        assert service.bodies("/on_heartbeat")[0] == {"subscription": "books.x", "extra": 1}
        assert all(0.38 <= later - earlier for earlier, later in itertools.pairwise(times))
        client.expect_silence()


@pytest.mark.parametrize("answer", [refused("No."), Answer(status=500), Answer(b"{"), Answer(b"null"), Answer(instead="reset")],
                         ids=range(5))
def test_failing_heartbeats_change_nothing(serve, service, answer):
    """§17.4: in SocketShark an unreadable answer ended them."""
    shark = serve({"books": {**OPEN, "heartbeat_period": 0.2, **service.urls("on_heartbeat")}})
    service.always("/on_heartbeat", answer)
    with shark.client() as client:
        client.subscribe("books.x")
        service.wait_for("/on_heartbeat", 3)
        client.expect_silence()
        shark.publish("books.x", 1)
        assert client.push() == message("books.x", 1)


def test_heartbeats_end_with_the_subscription(serve, service):
    shark = serve({"books": {**OPEN, "heartbeat_period": 0.2, **service.urls("on_heartbeat")}})
    with shark.client() as client:
        client.subscribe("books.x")
        service.wait_for("/on_heartbeat")
        assert client.ask(unsubscribe("books.x"))["status"] == "ok"
        client.subscribe("books.y")
        eventually(lambda: sum(body["subscription"] == "books.y" for body in service.bodies("/on_heartbeat")) >= 4)
        of_x = [number for number, body in enumerate(service.bodies("/on_heartbeat")) if body["subscription"] == "books.x"]
        assert of_x == list(range(len(of_x)))


# §5.7 Close -------------------------------------------------------------------------------------------


def test_the_most_recent_subscription_goes_first(shark, client, service):
    names = [f"books.{number}" for number in range(4)]
    for name in names:
        client.subscribe(name)
    client.close()
    service.wait_for("/on_unsubscribe", 4)
    asked = [(request.path, request.body["subscription"]) for request in service.received if "unsub" in request.path]
    assert asked == [(f"/{callback}", name) for name in reversed(names) for callback in UNSUBSCRIBING]


@pytest.mark.parametrize("answer", [refused("Stay."), Answer(status=500), Answer(b"{"), Answer(b"[]"), Answer(instead="reset")],
                         ids=range(5))
def test_nothing_can_veto_a_close(shark, client, service, answer):
    service.always("/before_unsubscribe", answer)
    for number in range(3):
        client.subscribe(f"books.{number}")
    client.close()
    service.wait_for("/on_unsubscribe", 3)
    for number in range(3):
        shark.wait_for_subscribers(f"books.{number}", 0)


def test_a_close_while_before_subscribe_is_under_way(shark, client, service):
    """The subscription either never came to be, or is ended like any other; in no case does the channel stay."""
    gate = service.hold("/before_subscribe")
    client.send_event(subscribe("books.x"))
    service.wait_for("/before_subscribe")
    client.close()
    gate.set()
    shark.wait_for_subscribers("books.x", 0)
    with shark.client() as other:
        other.subscribe("books.x")
        shark.publish("books.x", 1)
        assert other.push() == message("books.x", 1)


def test_a_close_with_an_unreachable_service(serve):
    shark = serve({"books": {**OPEN, "before_unsubscribe": unreachable(), "on_unsubscribe": unreachable()}})
    with shark.client() as client:
        client.subscribe("books.x")
        client.subscribe("books.y")
        client.say_goodbye()
    shark.wait_for_subscribers("books.x", 0)
    shark.wait_for_subscribers("books.y", 0)


def test_an_unknown_field_does_no_harm(client):
    client.send_text(json.dumps({**subscribe("simple.x"), "since": 1, "id": 5, "": None}))
    assert client.next_event() == ok_reply("subscribe", "simple.x")
