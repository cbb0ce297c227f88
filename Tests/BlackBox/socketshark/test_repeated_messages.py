"""A native client repeats a message that has no reply, with its id: after a lost line, a lost session, a lost page. The
service hears of it once (docs/protocol.md, "A repeated message")."""

import pytest

from fake_service import Answer, ok, refused
from holdfast_process import eventually
from native import TRANSPORTS, Native
from shark import client_message

OPEN = {"require_authentication": False}
NAME = "books.x"
ID = "q7f3k29d0a.1"


@pytest.fixture
def gateway(serve, service):
    def start(**sections):
        return serve({"books": {**OPEN, **service.urls("on_message")}}, **{"api": {"key": "k" * 16}, **sections})

    return start


over_each = pytest.mark.parametrize("transport", TRANSPORTS)


def said(data, id=ID, name=NAME):
    return {**client_message(name, data), "id": id}


@over_each
def test_in_the_same_session(gateway, service, transport):
    shark = gateway()
    service.script("/on_message", ok(data="first"), ok(data="second"))
    with Native.opened(transport, shark.port) as client:
        client.subscribe(NAME)
        for _ in range(3):
            reply = client.ask(said(1))
            assert (reply["status"], reply["data"], reply["id"]) == ("ok", "first", ID)
    assert service.bodies("/on_message") == [{"subscription": NAME, "data": 1, "message_id": ID}]
    assert shark.api.metric("holdfast_messages_repeated_total") == 2
    assert shark.api.metric("holdfast_message_ids") == 1


@over_each
def test_in_another_session_after_the_first_one_was_lost(gateway, service, transport):
    shark = gateway()
    service.script("/on_message", ok(data="first"))
    with Native.opened(transport, shark.port) as client:
        client.subscribe(NAME)
        client.say(said({"n": 1}))
        service.wait_for("/on_message", 1)
        client.lose_line()
    with Native.opened(transport, shark.port) as client:
        client.subscribe(NAME)
        assert client.ask(said({"n": 1}))["data"] == "first"
    assert len(service.bodies("/on_message")) == 1


def test_while_the_service_still_thinks(gateway, service):
    """Both who wait get the one answer, also if the session of the first one has ended meanwhile."""
    shark = gateway(session_ttl=0.2)
    gate = service.hold("/on_message", ok(data="the one"))
    first = Native.opened("websocket", shark.port)
    first.subscribe(NAME)
    first.say(said(1))
    service.wait_for("/on_message", 1)
    second, third = (Native.opened("websocket", shark.port) for _ in range(2))
    for client in (second, third):
        client.subscribe(NAME)
        client.say(said(1))
    eventually(lambda: shark.api.metric("holdfast_messages_repeated_total") == 2)
    first.lose_line()
    eventually(lambda: shark.api.metric("holdfast_sessions_expired_total") == 1)
    gate.set()
    for client in (second, third):
        assert client.hear()["data"] == "the one"
        client.close()
    assert len(service.bodies("/on_message")) == 1


def test_a_refusal_is_an_answer(gateway, service):
    shark = gateway()
    service.script("/on_message", refused("No.", data=[7]), ok())
    with Native.opened("websocket", shark.port) as client:
        client.subscribe(NAME)
        for _ in range(2):
            reply = client.ask(said(1))
            assert (reply["status"], reply["error"], reply["data"]) == ("error", "No.", [7])
    assert len(service.bodies("/on_message")) == 1


def test_a_service_that_could_not_answer_is_asked_again(gateway, service):
    shark = gateway(http={"tries": 1, "timeout": 2})
    service.script("/on_message", Answer(instead="reset"), ok(data="now"))
    with Native.opened("websocket", shark.port) as client:
        client.subscribe(NAME)
        assert client.ask(said(1))["status"] == "error"
        assert client.ask(said(1))["data"] == "now"
    assert len(service.bodies("/on_message")) == 2


@pytest.mark.parametrize("other", [said(2), said(1, id="q7f3k29d0a.2"), said(1, name="books.y")])
def test_another_message_is_another(gateway, service, other):
    """Data, id or subscription differ."""
    shark = gateway()
    with Native.opened("websocket", shark.port) as client:
        client.subscribe(NAME)
        client.subscribe("books.y")
        client.ask(said(1))
        client.ask(other)
    assert len(service.bodies("/on_message")) == 2


def test_another_user_is_another(serve, service):
    shark = serve(
        {"books": service.urls("on_message")},
        authentication={"ticket": {"validation_url": service.url("/auth"), "auth_fields": ["user"]}},
    )
    service.script("/auth", ok(user="a"), ok(user="b"))
    for user in "ab":
        service.script("/on_message", ok(data=f"for {user}"))
        with Native.opened("websocket", shark.port) as client:
            client.ask({"event": "auth", "ticket": "t"})
            client.subscribe(NAME)
            assert client.ask(said(1))["data"] == f"for {user}"


@pytest.mark.parametrize("id", [1, 1234567890123, "short"])
def test_a_short_id_says_nothing(gateway, service, id):
    """It cannot be unlike those of other clients."""
    shark = gateway()
    with Native.opened("websocket", shark.port) as client:
        client.subscribe(NAME)
        for _ in range(2):
            client.ask(said(1, id=id))
    assert service.bodies("/on_message") == [{"subscription": NAME, "data": 1, "message_id": id}] * 2


def test_a_client_of_socketshark_is_as_before(gateway, service):
    shark = gateway()
    with shark.client() as client:
        client.ask({"event": "subscribe", "subscription": NAME})
        service.always("/on_message", ok(data=1))
        for _ in range(2):
            client.ask(said(1))
    assert service.bodies("/on_message") == [{"subscription": NAME, "data": 1}] * 2


def test_the_window_is_bounded(gateway, service):
    shark = gateway(limits={"message_ids": 2})
    ids = [f"q7f3k29d0a.{number}" for number in range(3)]
    with Native.opened("websocket", shark.port) as client:
        client.subscribe(NAME)
        for id in ids:
            client.ask(said(1, id=id))
        assert shark.api.metric("holdfast_message_ids") == 2
        client.ask(said(1, id=ids[2]))
        assert len(service.bodies("/on_message")) == 3
        client.ask(said(1, id=ids[0]))
    assert len(service.bodies("/on_message")) == 4


def test_the_window_ends(gateway, service):
    shark = gateway(limits={"message_id_time": 1})
    with Native.opened("websocket", shark.port) as client:
        client.subscribe(NAME)
        client.ask(said(1))
        eventually(lambda: client.ask(said(1)) and len(service.bodies("/on_message")) == 2)
