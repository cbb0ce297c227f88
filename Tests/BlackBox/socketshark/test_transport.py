"""§2: what a client can observe of the WebSocket itself."""

import json

import pytest

from raw_websocket import BINARY
from shark import ok_reply, subscribe

LARGEST = 2**20


@pytest.mark.parametrize("path", ["/", "/any/path", "/socket?token=x&y=%20", "/a%2Fb"])
def test_any_path_and_query_is_accepted(simple, path):
    with simple.client(path=path) as client:
        assert client.ask({"event": "ping"}) == {"event": "pong", "data": None}


@pytest.mark.parametrize("headers", [{"Origin": "http://elsewhere.example"}, {"Host": "gateway.example"}], ids=str)
def test_origin_and_host_are_not_looked_at(simple, headers):
    with simple.client(change=headers) as client:
        assert client.ask({"event": "ping", "data": "x"}) == {"event": "pong", "data": "x"}


def test_no_subprotocol_is_selected(simple):
    with simple.client(change={"Sec-WebSocket-Protocol": "chat, superchat"}) as client:
        assert "sec-websocket-protocol" not in client.response.headers


def test_binary_frames_are_read_as_json(simple):
    with simple.client() as client:
        client.send_frame(BINARY, json.dumps(subscribe("simple.x")).encode())
        assert client.next_event() == ok_reply("subscribe", "simple.x")


def ping_of(size: int) -> str:
    empty = json.dumps({"event": "ping", "data": ""})
    return json.dumps({"event": "ping", "data": "x" * (size - len(empty))})


def test_a_message_of_one_mebibyte_is_read(simple):
    with simple.client() as client:
        client.send_text(ping_of(LARGEST))
        assert client.next_event() == {"event": "pong", "data": "x" * 128}


def test_a_larger_message_closes_with_1009(simple):
    with simple.client() as client:
        client.send_text(ping_of(LARGEST + 1))
        client.expect_close(1009)


def test_a_million_characters_arrive_unharmed(simple):
    """3.6 MB as services write it. Nothing limits what they publish to SocketShark's clients."""
    with simple.client() as client:
        client.subscribe("simple.x")
        simple.publish("simple.x", "é😀" * 200_000)
        assert client.push()["data"] == "é😀" * 200_000


def test_sixty_events_sent_at_once_are_answered_in_order(simple):
    with simple.client() as client:
        client.send_text(json.dumps(subscribe("simple.0")))
        for number in range(1, 60):
            client.send_event(subscribe(f"simple.{number}"))
        assert [client.next_event()["subscription"] for _ in range(60)] == [f"simple.{number}" for number in range(60)]


def test_events_received_before_the_close_are_processed(serve, service):
    """Callbacks included, and before the callbacks of the close."""
    shark = serve({"books": {"require_authentication": False, **service.urls("on_message", "on_unsubscribe")}})
    with shark.client() as client:
        client.subscribe("books.x")
        for number in range(3):
            client.send_event({"event": "message", "subscription": "books.x", "data": number})
        client.say_goodbye()
    service.wait_for("/on_unsubscribe")
    assert [body["data"] for body in service.bodies("/on_message")] == [0, 1, 2]
    assert service.paths()[-1] == "/on_unsubscribe"
