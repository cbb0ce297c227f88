"""§4: tickets, what a session keeps of the answer, and where it is used."""

import json

import pytest

from fake_service import Answer, ok, refused, unreachable
from shark import INTERNAL_ERROR, client_message, error_reply, ok_reply, subscribe

FALSY = ["", 0, False, None, [], {}]


@pytest.fixture
def shark(serve, service):
    return serve(
        {
            "private": {"filter_fields": ["user_id"], **service.urls("authorizer", "before_subscribe", "on_message")},
            "simple": {"require_authentication": False, "filter_fields": ["user_id"]},
        },
        authentication={"ticket": {"validation_url": service.url("/auth"), "auth_fields": ["user_id", "org_id"]}},
    )


@pytest.fixture
def client(shark):
    with shark.client() as client:
        yield client


def signed_in(client, service, **fields) -> None:
    service.script("/auth", ok(**fields))
    client.authenticate()


# What is asked --------------------------------------------------------------------------------


def test_the_method_is_ticket_unless_said_otherwise(client, service):
    service.always("/auth", ok(user_id=1, org_id=2))
    assert client.ask({"event": "auth", "ticket": "a"}) == {"event": "auth", "status": "ok"}
    assert client.ask({"event": "auth", "method": "ticket", "ticket": "b"}) == {"event": "auth", "status": "ok"}
    assert service.bodies("/auth") == [{"ticket": "a"}, {"ticket": "b"}]


@pytest.mark.parametrize("method", [None, "", "magic", "Ticket", 5, True], ids=json.dumps)
def test_methods_that_are_not_configured(client, service, method):
    reply = client.ask({"event": "auth", "method": method, "ticket": "x"})
    assert reply == error_reply("auth", "Authentication method unsupported.")
    assert not service.paths()


def test_without_any_method(simple):
    with simple.client() as client:
        for fields in ({}, {"ticket": "x"}, {"method": "ticket", "ticket": "x"}):
            assert client.ask({"event": "auth", **fields}) == error_reply("auth", "Authentication method unsupported.")


@pytest.mark.parametrize("fields", [{}, *({"ticket": falsy} for falsy in FALSY)], ids=json.dumps)
def test_a_falsy_ticket_is_refused_without_asking(client, service, fields):
    assert client.ask({"event": "auth", **fields}) == error_reply("auth", "Must specify ticket.")
    assert not service.paths()


@pytest.mark.parametrize("ticket", ["x", "é😀", 5, 1.5, True, [0], {"a": {"b": None}}], ids=json.dumps)
def test_any_other_ticket_is_passed_on_unchanged(client, service, ticket):
    service.always("/auth", ok(user_id=1, org_id=1))
    client.authenticate(ticket)
    assert service.bodies("/auth") == [{"ticket": ticket}]


def test_nothing_else_of_the_event_is_passed_on(client, service):
    service.always("/auth", ok(user_id=1, org_id=1))
    assert client.ask({"event": "auth", "ticket": "x", "user_id": 7, "data": 8})["status"] == "ok"
    assert service.bodies("/auth") == [{"ticket": "x"}]


# What is answered -------------------------------------------------------------------------------


NOT_OK = [{}, {"status": "OK"}, {"status": "ok "}, {"status": None}, {"status": True}, {"status": 0}, {"status": ["ok"]}]


@pytest.mark.parametrize("answer", NOT_OK, ids=json.dumps)
def test_any_other_status_than_ok_is_a_failure(client, service, answer):
    service.always("/auth", {**answer, "user_id": 1, "org_id": 1})
    assert client.ask({"event": "auth", "ticket": "x"}) == error_reply("auth", "Authentication failed.")
    assert client.ask(subscribe("private.x"))["error"] == "Authentication required."


def test_the_error_of_the_service(client, service):
    service.always("/auth", refused("Ticket used."))
    assert client.ask({"event": "auth", "ticket": "x"}) == error_reply("auth", "Ticket used.")


def test_a_service_that_cannot_be_reached(serve, service):
    shark = serve({}, authentication={"ticket": {"validation_url": unreachable(), "auth_fields": ["user_id"]}})
    with shark.client() as client:
        assert client.ask({"event": "auth", "ticket": "x"}) == error_reply("auth", "Service unavailable.")
        client.expect_silence()


def test_the_session_keeps_the_configured_fields_and_no_others(client, service):
    signed_in(client, service, user_id="u1", org_id=None, name="Ann", subscription="spoofed")
    client.subscribe("private.x")
    assert service.bodies("/authorizer") == [{"subscription": "private.x", "user_id": "u1", "org_id": None}]


@pytest.mark.parametrize("answer", [ok(user_id=1), ok()], ids=json.dumps)
def test_an_answer_that_lacks_a_configured_field_is_an_exception(client, service, answer):
    """The code was 1000 in SocketShark."""
    service.always("/auth", answer)
    assert client.ask({"event": "auth", "ticket": "x"}) == error_reply("auth", "Unhandled exception.")
    client.expect_close(INTERNAL_ERROR)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"5", b'"ok"', b"{"], ids=repr)
def test_an_answer_that_is_no_object_is_an_exception(client, service, body):
    service.always("/auth", Answer(body))
    assert client.ask({"event": "auth", "ticket": "x"}) == error_reply("auth", "Unhandled exception.")
    client.expect_close(INTERNAL_ERROR)


# Where it is used ---------------------------------------------------------------------------------


def test_a_failure_keeps_what_was_there(client, service):
    signed_in(client, service, user_id="u1", org_id="o1")
    service.script("/auth", refused("No."))
    assert client.ask({"event": "auth", "ticket": "x"})["status"] == "error"
    client.subscribe("private.x")
    assert service.bodies("/authorizer")[-1] == {"subscription": "private.x", "user_id": "u1", "org_id": "o1"}


def test_a_second_success_replaces_it_for_later_callbacks_and_filters(shark, client, service):
    signed_in(client, service, user_id="u1", org_id="o1")
    client.subscribe("private.x")
    signed_in(client, service, user_id="u2", org_id=None)
    service.always("/on_message", ok(data=1))
    assert client.ask(client_message("private.x", 5)) == ok_reply("message", "private.x", data=1)
    assert service.bodies("/on_message") == [{"subscription": "private.x", "user_id": "u2", "org_id": None, "data": 5}]
    assert len(service.bodies("/authorizer")) == 1  # The subscription is not authorized again.
    shark.publish("private.x", "for u1", user_id="u1")
    shark.publish("private.x", "for u2", user_id="u2")
    assert client.push()["data"] == "for u2"
    shark.expect_no_push(client, "private.x")


def test_sessions_do_not_share_it(shark, client, service):
    signed_in(client, service, user_id="u1", org_id="o1")
    client.subscribe("private.x")
    with shark.client() as other:
        assert other.ask(subscribe("private.x")) == error_reply("subscribe", "Authentication required.", "private.x")


def test_without_auth_fields_nobody_is_ever_authenticated(serve, service):
    shark = serve({"private": {}}, authentication={"ticket": {"validation_url": service.url("/auth"), "auth_fields": []}})
    with shark.client() as client:
        client.authenticate()
        assert client.ask(subscribe("private.x")) == error_reply("subscribe", "Authentication required.", "private.x")


def test_open_services_pass_on_who_it_is(client, shark, service):
    signed_in(client, service, user_id="u1", org_id="o1")
    client.subscribe("simple.x")
    shark.publish("simple.x", "mine", user_id="u1")
    assert client.push()["data"] == "mine"


def test_events_after_an_auth_wait_for_it(client, service):
    gate = service.hold("/auth", ok(user_id="u1", org_id="o1"))
    client.send_event({"event": "auth", "ticket": "x"})
    client.send_event(subscribe("private.x"))
    service.wait_for("/auth")
    assert not service.requests("/authorizer")
    gate.set()
    assert client.next_event() == {"event": "auth", "status": "ok"}
    assert client.next_event() == ok_reply("subscribe", "private.x")


def test_an_auth_waits_for_the_events_before_it(client, service):
    signed_in(client, service, user_id="u1", org_id="o1")
    gate = service.hold("/before_subscribe")
    client.send_event(subscribe("private.x"))
    client.send_event({"event": "auth", "ticket": "second"})
    service.wait_for("/before_subscribe")
    assert service.bodies("/auth") == [{"ticket": "ticket"}]
    service.script("/auth", ok(user_id="u2", org_id="o2"))
    gate.set()
    assert client.next_event() == ok_reply("subscribe", "private.x")
    assert client.next_event() == {"event": "auth", "status": "ok"}
