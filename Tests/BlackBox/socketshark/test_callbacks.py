"""§6: what services are asked, in which order and with which fields, and what their answers mean."""

import base64
import json

import pytest

from fake_service import Answer, ok, refused
from shark import PlainClient, client_message, error_reply, ok_reply, subscribe, unsubscribe

ALL = ("authorizer", "before_subscribe", "on_subscribe", "on_message", "before_unsubscribe", "on_unsubscribe")
OPEN = {"require_authentication": False}


def auth(service, *fields: str) -> dict:
    return {"ticket": {"validation_url": service.url("/auth"), "auth_fields": list(fields)}}


def whole_life(client: PlainClient, service, name: str, **extras) -> None:
    """Subscribes, sends a message and unsubscribes, so that every callback is asked once."""
    client.subscribe(name, **extras)
    client.send_event(client_message(name, "hi"))
    assert client.ask(unsubscribe(name))["status"] == "ok"
    service.wait_for("/on_unsubscribe")


# §6.1 The request ---------------------------------------------------------------------------------


def test_every_callback_is_a_post_of_json(serve, service):
    shark = serve({"books": {**OPEN, **service.urls(*ALL)}}, authentication=auth(service))
    with shark.client() as client:
        client.authenticate()
        whole_life(client, service, "books.x")
    assert service.paths() == ["/auth", *(f"/{name}" for name in ALL)]
    for request in service.received:
        assert request.method == "POST"
        assert request.headers["content-type"].split(";")[0] == "application/json"
        assert request.headers["host"] == f"127.0.0.1:{service.port}"
        assert isinstance(request.body, dict)


def test_credentials_in_the_url_become_basic_auth(serve, service):
    url = service.url("/hook").replace("//", "//user:secret@")
    with serve({"books": {**OPEN, "before_subscribe": url}}).client() as client:
        client.subscribe("books.x")
    [request] = service.requests("/hook")
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"user:secret").decode()


def test_path_and_query_of_the_url_are_kept(serve, service):
    with serve({"books": {**OPEN, "before_subscribe": service.url("/a/b%20c?key=1&x=y%20z")}}).client() as client:
        client.subscribe("books.x")
    assert service.paths() == ["/a/b%20c?key=1&x=y%20z"]


def test_names_and_values_of_any_alphabet_arrive(serve, service):
    shark = serve({"books": {**OPEN, "extra_fields": ["é"], **service.urls("before_subscribe")}})
    value = {"deep": [1, 2.5, None, True, "\u0000\"\\é😀"], "big": 12345678901234567890}
    with shark.client() as client:
        client.subscribe("books.😀 \n", **{"é": value})
    assert service.bodies("/before_subscribe") == [{"subscription": "books.😀 \n", "é": value}]


# §6.2 The body ------------------------------------------------------------------------------------


def test_the_fields_of_each_body(serve, service):
    shark = serve({"books": {**OPEN, "extra_fields": ["extra"], "authorizer_fields": ["role"], **service.urls(*ALL)}},
                  authentication=auth(service, "user_id"))
    service.always("/auth", ok(user_id="u1", more="not kept"))
    service.always("/authorizer", ok(role="r1", more="not kept"))
    with shark.client() as client:
        client.authenticate("t1")
        whole_life(client, service, "books.x", extra="e1", unknown="not kept")
    before = {"subscription": "books.x", "extra": "e1", "user_id": "u1"}
    usual = {**before, "role": "r1"}
    expected = {"auth": {"ticket": "t1"}, "authorizer": before, "before_subscribe": usual, "on_subscribe": usual,
                "on_message": {**usual, "data": "hi"}, "before_unsubscribe": usual, "on_unsubscribe": usual}
    assert {request.path[1:]: request.body for request in service.received} == expected


PRECEDENCE = {
    "auth over extras": (["x"], [], ["x"], "auth"),
    "auth over the authorizer": ([], ["x"], ["x"], "auth"),
    "auth over everything": (["x"], ["x"], ["x"], "auth"),
    "authorizer over extras": (["x"], ["x"], [], "authorizer"),
    "extras alone": (["x"], [], [], "client"),
}


@pytest.mark.parametrize("extra, authorizer, auth_fields, winner", PRECEDENCE.values(), ids=PRECEDENCE)
def test_who_wins_where_names_clash(serve, service, extra, authorizer, auth_fields, winner):
    """A client cannot pass itself off as somebody else by an extra field."""
    shark = serve({"books": {**OPEN, "extra_fields": extra, "authorizer_fields": authorizer,
                             **service.urls("authorizer", "before_subscribe")}}, authentication=auth(service, *auth_fields))
    service.always("/auth", ok(x="auth"))
    service.always("/authorizer", ok(x="authorizer"))
    with shark.client() as client:
        client.authenticate()
        client.subscribe("books.x", x="client")
    assert service.bodies("/before_subscribe") == [{"subscription": "books.x", "x": winner}]


@pytest.mark.parametrize("source", ["auth", "authorizer"])
def test_data_of_a_message_wins_over_everything(serve, service, source):
    callbacks = service.urls("authorizer", "before_subscribe", "on_message")
    shark = serve({"books": {**OPEN, "authorizer_fields": ["data"], **callbacks}},
                  authentication=auth(service, *(["data"] if source == "auth" else [])))
    service.always("/auth", ok(data="auth"))
    service.always("/authorizer", ok(data="authorizer"))
    service.always("/on_message", ok(data=0))
    with shark.client() as client:
        client.authenticate()
        client.subscribe("books.x")
        assert client.ask(client_message("books.x", "client"))["status"] == "ok"
    assert service.bodies("/before_subscribe")[0]["data"] == source
    assert service.bodies("/on_message") == [{"subscription": "books.x", "data": "client"}]


def test_auth_fields_may_even_replace_the_name(serve, service):
    """Odd, but what SocketShark does: auth_info is the last word."""
    shark = serve({"books": {**OPEN, **service.urls("before_subscribe")}}, authentication=auth(service, "subscription"))
    service.always("/auth", ok(subscription="from auth"))
    with shark.client() as client:
        client.authenticate()
        client.subscribe("books.x")
    assert service.bodies("/before_subscribe") == [{"subscription": "from auth"}]


def test_authorizer_fields_are_never_shown_to_the_client(serve, service):
    shark = serve({"books": {**OPEN, "authorizer_fields": ["role"], "filter_fields": ["role"], **service.urls("authorizer")}})
    service.always("/authorizer", ok(role="r1"))
    with shark.client() as client:
        assert client.ask(subscribe("books.x")) == ok_reply("subscribe", "books.x")
        shark.publish("books.x", "for role r1", role="r1")  # Filters do not look at them either (§9.1).
        shark.publish("books.x", "for all")
        assert client.push() == {"event": "message", "subscription": "books.x", "data": "for all"}


def test_an_authorizer_field_that_is_missing_is_left_out(serve, service):
    shark = serve({"books": {**OPEN, "authorizer_fields": ["a", "b"], **service.urls("authorizer", "before_subscribe")}})
    service.always("/authorizer", ok(b=None))
    with shark.client() as client:
        client.subscribe("books.x")
    assert service.bodies("/before_subscribe") == [{"subscription": "books.x", "b": None}]


# §6.3 The answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["authorizer", "before_subscribe", "on_subscribe", "before_unsubscribe", "on_unsubscribe"])
def test_a_callback_that_is_not_configured_counts_as_ok(serve, service, missing):
    others = [name for name in ALL if name != missing]
    with serve({"books": {**OPEN, **service.urls(*others)}}).client() as client:
        client.subscribe("books.x")
        assert client.ask(unsubscribe("books.x")) == ok_reply("unsubscribe", "books.x")
        client.subscribe("books.y")
        client.expect_silence()
    assert f"/{missing}" not in service.paths()


NOT_OK = [{}, {"status": "OK"}, {"status": "success"}, {"status": None}, {"status": True}, {"status": 200}, {"status": ["ok"]}]


@pytest.mark.parametrize("answer", NOT_OK, ids=json.dumps)
@pytest.mark.parametrize("callback, default", [("authorizer", "Unauthorized."), ("before_subscribe", "Unhandled exception.")])
def test_only_ok_is_ok(serve, service, callback, default, answer):
    service.always(f"/{callback}", answer)
    with serve({"books": {**OPEN, **service.urls(callback)}}).client() as client:
        assert client.ask(subscribe("books.x")) == error_reply("subscribe", default, "books.x")
        client.expect_silence()


def test_a_2xx_answer_with_an_error_is_an_answer(serve, service):
    service.always("/before_subscribe", Answer(refused("No."), status=201))
    with serve({"books": {**OPEN, **service.urls("before_subscribe")}}, http={"tries": 3}).client() as client:
        assert client.ask(subscribe("books.x")) == error_reply("subscribe", "No.", "books.x")
    assert len(service.requests("/before_subscribe")) == 1


def test_what_else_an_answer_holds_is_ignored(serve, service):
    for name in ALL:
        service.always(f"/{name}", ok(subscription="books.other", event="x", error="no error", extra=1, more={"a": 1}))
    with serve({"books": {**OPEN, "extra_fields": ["extra"], **service.urls(*ALL)}}).client() as client:
        assert client.ask(subscribe("books.x")) == ok_reply("subscribe", "books.x")
        assert client.ask(unsubscribe("books.x")) == ok_reply("unsubscribe", "books.x")


def test_a_large_answer_arrives_whole(serve, service):
    service.always("/before_subscribe", ok(data="é" * 150_000))
    with serve({"books": {**OPEN, **service.urls("before_subscribe")}}).client() as client:
        assert client.ask(subscribe("books.x"))["data"] == "é" * 150_000
