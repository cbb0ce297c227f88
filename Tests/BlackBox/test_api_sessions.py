"""The server API about sessions, and who may use the API at all (protocol.md, Server API)."""

import json
from datetime import datetime

import pytest

from event_client import EventClient
from holdfast_process import Api, Holdfast, eventually
from test_api import refused

# Who may ------------------------------------------------------------------------------------------------

CALLS = [("POST", "/api/publish"), ("POST", "/api/batch"), ("GET", "/api/history?subscription=a.b"), ("GET", "/api/sessions"),
         ("GET", "/api/sessions/0000000000000000"), ("POST", "/api/sessions/0000000000000000/disconnect")]
EVERY_CALL = pytest.mark.parametrize("method, path", CALLS, ids=[path for _, path in CALLS])
KEY = "s3cret-key-of-tests"
SERVICES = {"a": {"require_authentication": False}}


def call(api: Api, method: str, path: str, **options):
    body = {"subscription": "a.b", "data": 1} if method == "POST" else None
    return api.call(method, path, [body] if path.endswith("batch") else body, **options)


@pytest.fixture(scope="module")
def keyed():
    """A gateway without --dev whose key comes from the environment."""
    with Holdfast("serve", "--port", "0", env={"HOLDFAST_API_KEY": KEY}) as gateway:
        yield gateway
        assert gateway.alive


@pytest.fixture(scope="module")
def keyless():
    with Holdfast("serve", "--port", "0") as gateway:
        yield gateway
        assert gateway.alive


@EVERY_CALL
def test_without_a_key_the_api_is_closed(keyless, method, path):
    assert refused(call(keyless.api, method, path), 401, 403)
    for key in ("", "x", "None"):
        assert refused(call(Api(keyless.port, key), method, path), 401, 403)


@EVERY_CALL
@pytest.mark.parametrize("header", [
    None, "", KEY, "Bearer", "Bearer ", "Bearer x", f"Bearer {KEY[:-1]}", f"Bearer {KEY}y", f"Bearer {KEY.upper()}", f"Basic {KEY}",
    f"Bearer {KEY} x", f"Bearer\t{KEY[:-1]}S",
])
def test_a_wrong_key_is_refused(keyed, method, path, header):
    headers = {} if header is None else {"Authorization": header}
    assert refused(call(keyed.api, method, path, headers=headers), 401)


@EVERY_CALL
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_right_key_is_let_in(keyed, method, path, scheme):
    answer = call(keyed.api, method, path, headers={"Authorization": f"{scheme} {KEY}"})
    assert answer.status not in (401, 403), answer


def test_the_key_may_stand_in_the_configuration(start):
    gateway = start(dev=False, key="from-the-file-0123", api_key="from-the-file-0123", services=SERVICES)
    gateway.api.publish("a.b", 1)
    assert refused(call(Api(gateway.port), "POST", "/api/publish"), 401)


def test_the_environment_wins_over_the_configuration(start):
    gateway = start(dev=False, api_key="from-the-file-0123", services=SERVICES, env={"HOLDFAST_API_KEY": "from-the-environment-0123"})
    Api(gateway.port, "from-the-environment-0123").publish("a.b", 1)
    assert refused(call(Api(gateway.port, "from-the-file-0123"), "POST", "/api/publish"), 401)


def test_a_key_counts_with_dev_too(start):
    gateway = start(env={"HOLDFAST_API_KEY": "k" * 16})
    assert refused(call(Api(gateway.port), "POST", "/api/publish"), 401)
    Api(gateway.port, "k" * 16).publish("a.b", 1)


def test_dev_opens_the_api_on_loopback_only(start):
    """Bound to every address, anybody in the network could publish: then the API stays closed without a key."""
    gateway = start("--host", "0.0.0.0")
    assert refused(call(gateway.api, "POST", "/api/publish"), 401, 403)


def test_the_key_is_shown_nowhere(keyed):
    api = Api(keyed.port, KEY)
    call(api, "POST", "/api/publish")
    for path in ("/api/sessions", "/metrics", "/health"):
        assert KEY.encode() not in api.get(path).body
    assert KEY not in keyed.tail()


@pytest.mark.parametrize("path", ["/health", "/ready", "/holdfast.js"])
def test_these_need_no_key(keyed, path):
    assert Api(keyed.port).get(path).status == 200


def test_a_service_that_is_not_configured_cannot_be_published_to(keyed):
    api = Api(keyed.port, KEY)
    assert refused(api.post("/api/publish", {"subscription": "nope.x", "data": 1}), 400, 404, 422)


# Sessions ------------------------------------------------------------------------------------------------------


def test_the_list_of_sessions(gateway):
    with EventClient.native(gateway.port) as native, EventClient.open(gateway.port) as plain:
        plain.ask({"event": "ping"})
        answer = gateway.api.sessions()
        assert set(answer) >= {"status", "sessions", "total"} and answer["status"] == "ok"
        assert answer["total"] >= 2 and len(answer["sessions"]) <= answer["total"]
        assert native.handle in [session["id"] for session in answer["sessions"]]


def test_a_session_and_its_timeline(gateway, topic):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        session = gateway.api.session(client.handle)
        assert (session["id"], session["dialect"], session["state"]) == (client.handle, "native", "attached")
        assert session["subscriptions"] == [topic]
        assert session["timeline"]
        times = [datetime.fromisoformat(entry["at"].replace("Z", "+00:00")) for entry in session["timeline"]]
        assert times == sorted(times) and all(time.tzinfo for time in times)
        assert all(isinstance(entry["what"], str) and entry["what"] for entry in session["timeline"])


def test_the_timeline_tells_of_ends_and_resumes(gateway, topic):
    with EventClient.native(gateway.port) as first:
        first.subscribe(topic)
        length = len(gateway.api.session(first.handle)["timeline"])
        first.reset()
        waiting = eventually(lambda: [s for s in [gateway.api.session(first.handle)] if s["state"] == "waiting"],
                             what="the detached session")[0]
        assert len(waiting["timeline"]) > length
        with EventClient.resuming(first) as second:
            attached = gateway.api.session(second.handle)
            assert attached["state"] == "attached" and len(attached["timeline"]) > len(waiting["timeline"])
            assert "resum" in " ".join(entry["what"] for entry in attached["timeline"]).lower()


def test_a_plain_session_is_told_of_too(gateway, topic):
    before = {session["id"] for session in gateway.api.sessions()["sessions"]}
    with EventClient.open(gateway.port) as client:
        client.ask({"event": "subscribe", "subscription": topic})
        new = [session["id"] for session in gateway.api.sessions()["sessions"] if session["id"] not in before]
        told = [gateway.api.session(handle) for handle in new]
        assert [topic] in [session["subscriptions"] for session in told if session["dialect"] == "plain"]


def test_a_plain_session_is_gone_with_its_socket(start):
    gateway = start()
    with EventClient.open(gateway.port) as client:
        client.ask({"event": "ping"})
        eventually(lambda: gateway.api.sessions()["total"] == 1, what="the session")
        client.reset()
    eventually(lambda: gateway.api.sessions()["total"] == 0, what="the end of the session")


def test_secrets_are_shown_nowhere(gateway, topic):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        secret = client.session.split(".")[1].encode()
        for path in ("/api/sessions", f"/api/sessions/{client.handle}", "/metrics"):
            assert secret not in gateway.api.get(path).body
        assert secret.decode() not in gateway.tail()


@pytest.mark.parametrize("name", ["0000000000000000", "x", "%00", "a" * 5_000, "%F0%9F%98%80"])
def test_an_unknown_session(api, name):
    assert refused(api.get(f"/api/sessions/{name}"), 404)
    assert refused(api.post(f"/api/sessions/{name}/disconnect", {"code": 4003, "reason": ""}), 404)


def test_the_full_name_of_a_session_is_no_handle(gateway):
    with EventClient.native(gateway.port) as client:
        assert refused(gateway.api.get(f"/api/sessions/{client.session}"), 404)


# Disconnect --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code, reason", [(4003, "bye"), (4001, ""), (1000, "x" * 123), (4999, "später 😀")])
def test_disconnect(gateway, topic, code, reason):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        answer = gateway.api.post(f"/api/sessions/{client.handle}/disconnect", {"code": code, "reason": reason})
        assert answer.status == 200 and answer.json["status"] == "ok"
        assert client.expect_close(code).decode() == reason


def test_a_session_disconnected_as_forbidden_is_gone(gateway):
    with EventClient.native(gateway.port) as client:
        gateway.api.post(f"/api/sessions/{client.handle}/disconnect", {"code": 4003, "reason": "bye"})
        client.expect_close(4003)
        # Why it ended may still be asked for a while, but it is not among the living.
        answer = gateway.api.get(f"/api/sessions/{client.handle}")
        assert answer.status == 404 or answer.json["session"]["state"] == "ended"
        assert client.handle not in [session["id"] for session in gateway.api.sessions()["sessions"]]
        with EventClient.resuming(client) as second:
            assert second.hello_reply["resumed"] is False


def test_what_was_published_before_a_disconnect_is_delivered(gateway, topic):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        for number in range(50):
            gateway.api.publish(topic, number)
        gateway.api.post(f"/api/sessions/{client.handle}/disconnect", {"code": 4003, "reason": "bye"})
        assert client.data(50) == list(range(50))
        client.expect_close(4003)


@pytest.mark.parametrize("body", [
    {"code": 1005}, {"code": 1006}, {"code": 1015}, {"code": 999}, {"code": 0}, {"code": 5000}, {"code": 70_000}, {"code": -1},
    {"code": "4003"}, {"code": 4003.5}, {"code": None}, {"code": 4003, "reason": 5}, {"code": 4003, "reason": "x" * 124},
    {"code": 4003, "reason": "é" * 62}, [], 5,
], ids=lambda body: json.dumps(body)[:30])
def test_a_disconnect_that_makes_no_sense_disconnects_nobody(gateway, body):
    with EventClient.native(gateway.port) as client:
        assert refused(gateway.api.post(f"/api/sessions/{client.handle}/disconnect", body), 400, 422)
        client.barrier()
