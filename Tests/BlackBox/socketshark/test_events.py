"""§3: dispatch, every error text, which fields a reply has, ping, exceptions."""

import json

import pytest

from fake_service import Answer, ok, refused, unreachable
from shark import INTERNAL_ERROR, client_message, error_reply, message, ok_reply, subscribe, unsubscribe

BAD = {"status": "error", "error": "Messages must be JSON and contain an event field."}
CALLBACKS = ("authorizer", "before_subscribe", "on_message", "before_unsubscribe")
FALSY = [{}, [], 0, "", False]


@pytest.fixture
def shark(serve, service):
    return serve(
        {
            "simple": {"require_authentication": False},
            "private": {},
            "books": {"require_authentication": False, "extra_fields": ["first", "second"], **service.urls(*CALLBACKS)},
            "broken": {"require_authentication": False, "before_subscribe": unreachable()},
        },
        authentication={"ticket": {"validation_url": service.url("/auth"), "auth_fields": ["user_id"]}},
    )


@pytest.fixture
def client(shark):
    with shark.client() as client:
        yield client


# §3.1 Dispatch ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "x", "{", '{"event":"ping"', "{'event':'ping'}", '{"event":"ping",}'])
def test_not_json(client, text):
    client.send_text(text)
    assert client.next_event() == BAD
    client.expect_silence()


@pytest.mark.parametrize("value", [None, True, 5, "hello", [], ["ping"], {}, {"Event": "ping"}, {"event": None}, {"event": 5},
                                   {"event": ["ping"]}, {"event": {}}, {"event": "x" * 41}], ids=json.dumps)
def test_json_that_is_no_event(client, value):
    client.send_text(json.dumps(value))
    assert client.next_event() == BAD
    client.expect_silence()


@pytest.mark.parametrize("name", ["", "x", "Ping", "ping ", "x" * 40, "é" * 40, "😀" * 40])
def test_unknown_events(client, name):
    assert client.ask({"event": name}) == error_reply(name, "Event not found.")


@pytest.mark.parametrize("name", ["é" * 41, "😀" * 41])
def test_the_name_is_counted_in_code_points(client, name):
    assert client.ask({"event": name}) == BAD


def test_unknown_events_echo_nothing_but_their_name(client):
    assert client.ask({"event": "x", "subscription": "books.a", "first": 1, "data": 2}) == error_reply("x", "Event not found.")


# §3.2 The error texts -------------------------------------------------------------------------


ERRORS = {
    "unsupported": ({"event": "auth", "method": "magic"}, "Authentication method unsupported."),
    "no ticket": ({"event": "auth", "method": "ticket"}, "Must specify ticket."),
    "authentication required": (subscribe("private.x"), "Authentication required."),
    "format": (subscribe("nodot"), "Invalid subscription format."),
    "service": (subscribe("nobody.x"), "Invalid service."),
    "not subscribed": (unsubscribe("simple.none"), "Subscription does not exist."),
    "unavailable": (subscribe("broken.x"), "Service unavailable."),
}


@pytest.mark.parametrize("event, error", ERRORS.values(), ids=ERRORS)
def test_error_texts(client, event, error):
    reply = client.ask(event)
    assert reply == error_reply(event["event"], error, event.get("subscription"))
    client.expect_silence()


def test_authentication_failed(client, service):
    service.always("/auth", refused())
    assert client.ask({"event": "auth", "ticket": "x"}) == error_reply("auth", "Authentication failed.")


@pytest.mark.parametrize("path, error", [("/authorizer", "Unauthorized."), ("/before_subscribe", "Unhandled exception.")])
def test_default_errors_of_a_refused_subscribe(client, service, path, error):
    service.always(path, refused())
    assert client.ask(subscribe("books.x")) == error_reply("subscribe", error, "books.x")
    client.expect_silence()


@pytest.mark.parametrize("path, event", [("/on_message", client_message("books.x")),
                                         ("/before_unsubscribe", unsubscribe("books.x"))], ids=["message", "unsubscribe"])
def test_default_errors_of_a_subscription(client, service, path, event):
    client.subscribe("books.x")
    service.always(path, refused())
    assert client.ask(event) == error_reply(event["event"], "Unhandled exception.", "books.x")
    assert client.ask(subscribe("books.x")) == error_reply("subscribe", "Already subscribed.", "books.x")


@pytest.mark.parametrize("error", ["No.", "", 0, 5, None, False, {"code": 7}, ["a"]], ids=json.dumps)
@pytest.mark.parametrize("path", ["/auth", "/authorizer", "/before_subscribe"])
def test_the_error_of_a_service_is_passed_on_as_it_is(client, service, path, error):
    service.always(path, refused(error))
    event = {"event": "auth", "ticket": "x"} if path == "/auth" else subscribe("books.x")
    assert client.ask(event) == error_reply(event["event"], error, event.get("subscription"))


# §3.3 The fields of replies -------------------------------------------------------------------


@pytest.mark.parametrize("data", [*FALSY, "x", {"a": [1, None]}, 1.5, True], ids=json.dumps)
def test_data_in_ok_replies_is_there_unless_null(client, service, data):
    for path in ("/before_subscribe", "/on_message", "/before_unsubscribe"):
        service.always(path, ok(data=data))
    assert client.ask(subscribe("books.x")) == ok_reply("subscribe", "books.x", data=data)
    assert client.ask(client_message("books.x")) == ok_reply("message", "books.x", data=data)
    assert client.ask(unsubscribe("books.x")) == ok_reply("unsubscribe", "books.x", data=data)


def test_null_data_is_left_out_of_ok_replies(client, service):
    for path in ("/before_subscribe", "/on_message", "/before_unsubscribe"):
        service.always(path, ok(data=None))
    assert client.ask(subscribe("books.x")) == ok_reply("subscribe", "books.x")
    assert client.ask(client_message("books.x")) == ok_reply("message", "books.x")
    assert client.ask(unsubscribe("books.x")) == ok_reply("unsubscribe", "books.x")


@pytest.mark.parametrize("data", ["x", {"a": 1}, [0], 1, True], ids=json.dumps)
@pytest.mark.parametrize("path", ["/authorizer", "/before_subscribe"])
def test_truthy_data_of_errors_is_passed_on(client, service, path, data):
    service.always(path, refused("No.", data=data))
    assert client.ask(subscribe("books.x")) == error_reply("subscribe", "No.", "books.x", data=data)


@pytest.mark.parametrize("data", [*FALSY, None], ids=json.dumps)
def test_falsy_data_of_errors_is_left_out(client, service, data):
    service.always("/before_subscribe", refused("No.", data=data))
    assert client.ask(subscribe("books.x")) == error_reply("subscribe", "No.", "books.x")


def test_data_of_a_failed_auth_is_not_passed_on(client, service):
    service.always("/auth", refused("No.", data={"a": 1}))
    assert client.ask({"event": "auth", "ticket": "x"}) == error_reply("auth", "No.")


@pytest.mark.parametrize("event", ["subscribe", "message", "unsubscribe"])
@pytest.mark.parametrize("fields", [{}, *({"subscription": falsy} for falsy in (*FALSY, None))], ids=json.dumps)
def test_a_falsy_name_is_not_in_the_reply(client, event, fields):
    assert client.ask({"event": event, **fields}) == error_reply(event, "Invalid subscription format.")


def test_a_push_has_data_even_if_null_and_no_status(shark, client):
    client.subscribe("simple.x")
    shark.publish("simple.x", None)
    assert client.push() == message("simple.x", None)


# Extra fields -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, "", False, [], {"a": 1}, "x"], ids=json.dumps)
def test_extras_are_echoed_unchanged(shark, client, value):
    reply = client.ask(subscribe("books.x", first=value, unknown=1))
    assert reply == ok_reply("subscribe", "books.x", first=value)
    shark.publish("books.x", 1)
    assert client.push() == message("books.x", 1, first=value)


def test_extras_are_those_of_the_subscribe_as_long_as_it_lasts(client, service):
    name, extras = "books.x", {"first": "a", "second": None}
    service.always("/on_message", ok(data=1))
    assert client.ask(client_message(name, first=9, other=1)) == error_reply(
        "message", "Subscription does not exist.", name, first=9)
    assert client.ask(subscribe(name, **extras)) == ok_reply("subscribe", name, **extras)
    assert client.ask(subscribe(name, first="b")) == error_reply("subscribe", "Already subscribed.", name, **extras)
    assert client.ask(client_message(name, first="b")) == ok_reply("message", name, data=1, **extras)
    assert client.ask(unsubscribe(name, first="b")) == ok_reply("unsubscribe", name, **extras)
    assert client.ask(unsubscribe(name, first="b")) == error_reply(
        "unsubscribe", "Subscription does not exist.", name, first="b")


def test_extras_in_error_replies(client, service):
    service.always("/authorizer", refused("No.", data=[1]))
    assert client.ask(subscribe("books.x", second=2, other=3)) == error_reply(
        "subscribe", "No.", "books.x", second=2, data=[1])


@pytest.mark.parametrize("name", ["nobody.x", "books", ".x"])
def test_names_without_a_service_have_no_extras(client, name):
    reply = client.ask(subscribe(name, first=1))
    assert reply["status"] == "error" and "first" not in reply


# §3.4 ping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["", "a", "é😀", "x" * 128])
def test_pong_has_the_data(client, data):
    assert client.ask({"event": "ping", "data": data}) == {"event": "pong", "data": data}


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_pong_is_cut_at_128_code_points(client, character):
    assert client.ask({"event": "ping", "data": character * 129}) == {"event": "pong", "data": character * 128}


@pytest.mark.parametrize("fields", [{}, *({"data": data} for data in (None, 5, True, [], ["a"], {"a": 1}))], ids=json.dumps)
def test_pong_has_null_for_anything_else(client, fields):
    assert client.ask({"event": "ping", **fields}) == {"event": "pong", "data": None}


# §3.5 Exceptions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{", b"nonsense", b"\xff\xfe\xfd"], ids=repr)
def test_an_exception_is_told_and_closes_the_connection(shark, client, service, body):
    """The code was 1000 in SocketShark."""
    service.always("/before_subscribe", Answer(body))
    client.subscribe("simple.before")
    assert client.ask(subscribe("books.x", first=1)) == error_reply("subscribe", "Unhandled exception.", "books.x", first=1)
    client.expect_close(INTERNAL_ERROR)
    client.close()
    shark.wait_for_subscribers("simple.before", 0)
