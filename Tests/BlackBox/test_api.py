"""The server API: publish, batch, history, metrics, health, the browser module (protocol.md, Server API)."""

import json
import re
from urllib.parse import quote

import pytest

import prometheus
from event_client import EventClient
from holdfast_process import Answer, eventually
from raw_socket import RawSocket
from raw_websocket import read_response

POSITION = {"epoch", "offset"}


def refused(answer: Answer, *statuses: int) -> bool:
    """An error of the API's shape: JSON with status, error and code."""
    assert answer.status in statuses, answer
    assert answer.headers["Content-Type"].startswith("application/json"), answer.headers["Content-Type"]
    body = answer.json
    assert body["status"] == "error" and body["error"] and re.fullmatch(r"[a-z_]+", body["code"]), body
    return True


# publish ----------------------------------------------------------------------------------------------


def test_publish_answers_with_position_and_id(api, topic):
    answer = api.post("/api/publish", {"subscription": topic, "data": {"a": 1}})
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("application/json")
    assert set(answer.json) == {"status", "position", "id"} and answer.json["status"] == "ok"
    assert set(answer.json["position"]) == POSITION and answer.json["position"]["offset"] == 1
    assert isinstance(answer.json["id"], str) and answer.json["id"]


def test_each_publication_has_an_id_of_its_own(api, topic):
    assert len({api.publish(topic, 1)["id"] for _ in range(50)}) == 50


@pytest.mark.parametrize("body, statuses", [
    (b"", (400,)), (b"x", (400,)), (b"[]", (400,)), (b"5", (400,)), (b"null", (400,)), (b"{}", (400,)),
    (b'{"subscription":"a.b"}', (400,)), (b'{"data":1}', (400,)), (b'{"subscription":null,"data":1}', (400,)),
    (b'{"subscription":5,"data":1}', (400,)), (b'{"subscription":"","data":1}', (400,)),
    (b'{"subscription":"nodot","data":1}', (400,)), (b'{"subscription":"a.","data":1}', (400,)),
    (b'{"subscription":"a.b","data":1', (400,)), (b'{"subscription":"a.b","data":1}x', (400,)),
    (b'\xff\xfe', (400,)), (b'{"subscription":"a.\xff","data":1}', (400,)),
], ids=range(17))
def test_publish_refuses_what_it_cannot_read(api, body, statuses):
    assert refused(api.post("/api/publish", body), *statuses, 422)


def test_publish_refuses_another_content_type(api, topic):
    body = json.dumps({"subscription": topic, "data": 1})
    assert refused(api.post("/api/publish", body, headers={"Content-Type": "text/plain"}), 415)
    for good in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
        assert api.post("/api/publish", body, headers={"Content-Type": good}).status == 200


def test_publish_refuses_a_name_too_long(api, topic):
    longest = topic + "." + "x" * (255 - len(topic))
    assert len(longest) == 256
    assert api.post("/api/publish", {"subscription": longest, "data": 1}).status == 200
    assert refused(api.post("/api/publish", {"subscription": longest + "x", "data": 1}), 400, 413, 422)


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_a_body_too_large_is_refused(api, topic, chunked):
    body = b'{"subscription":"%s","data":"%s"}' % (topic.encode(), b"x" * 64_000_000)
    pieces = iter([body[start : start + 65_536] for start in range(0, len(body), 65_536)])
    try:
        answer = api.attempt("POST", "/api/publish", pieces if chunked else body, {"Content-Type": "application/json"})
    except ConnectionError:
        return  # It may answer and close before all of it is sent, and http.client then loses the answer.
    assert answer.status == 413


def test_a_body_too_large_is_refused_before_it_is_sent(gateway):
    with RawSocket(gateway.port) as connection:
        connection.send(b"POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                        b"Content-Length: 4000000000\r\n\r\n")
        assert read_response(connection).status == 413


def test_too_deep_is_refused_and_the_gateway_lives(api, topic):
    for depth in (5_000, 400_000):
        body = b'{"subscription":"%s","data":%s%s}' % (topic.encode(), b"[" * depth, b"]" * depth)
        assert refused(api.post("/api/publish", body), 400, 413, 422)
    api.publish(topic, 1)


# Idempotency keys -----------------------------------------------------------------------------------------


def test_the_same_key_publishes_once(gateway, topic):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        first = gateway.api.publish(topic, "once", idempotency_key="k1")
        for _ in range(3):
            assert gateway.api.publish(topic, "once", idempotency_key="k1") == first
        second = gateway.api.publish(topic, "twice", idempotency_key="k2")
        assert second["position"]["offset"] == 2 and second["id"] != first["id"]
        assert client.data(2) == ["once", "twice"]
        client.expect_silence()


def test_the_same_key_within_a_batch(gateway, topic):
    entry = {"subscription": topic, "data": 1, "idempotency_key": "same"}
    replies = gateway.api.post("/api/batch", [entry, entry]).json
    assert replies[0] == replies[1]
    assert gateway.api.publish(topic, 2)["position"]["offset"] == 2


@pytest.mark.parametrize("key", [5, [], {}, True], ids=json.dumps)
def test_a_key_that_is_no_string(api, topic, key):
    answer = api.post("/api/publish", {"subscription": topic, "data": 1, "idempotency_key": key})
    assert refused(answer, 400, 422)


# batch ------------------------------------------------------------------------------------------------------


def test_a_batch_is_answered_in_order(gateway, topic):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        answer = gateway.api.post("/api/batch", [{"subscription": topic, "data": number} for number in range(100)])
        assert answer.status == 200
        assert [reply["status"] for reply in answer.json] == ["ok"] * 100
        assert [reply["position"]["offset"] for reply in answer.json] == list(range(1, 101))
        assert client.data(100) == list(range(100))


def test_a_bad_entry_of_a_batch_does_not_spoil_the_others(api, topic):
    answer = api.post("/api/batch", [{"subscription": topic, "data": 1}, {"subscription": "nodot", "data": 2}, 5,
                                     {"subscription": topic, "data": 3}])
    assert answer.status == 200
    assert [reply["status"] for reply in answer.json] == ["ok", "error", "error", "ok"]
    assert all(reply["error"] and reply["code"] for reply in answer.json[1:3])
    assert answer.json[3]["position"]["offset"] == 2


def test_an_empty_batch(api):
    answer = api.post("/api/batch", [])
    assert answer.status == 200 and answer.json == []


@pytest.mark.parametrize("body", [b"", b"x", b"{}", b"5", b"[", b'[{"subscription":"a.b","data":1}', b'[1,]'])
def test_a_batch_that_is_no_array(api, body):
    assert refused(api.post("/api/batch", body), 400, 422)


# history --------------------------------------------------------------------------------------------------------


def history(api, topic: str, **query) -> dict:
    text = "".join(f"&{name}={value}" for name, value in query.items())
    answer = api.get(f"/api/history?subscription={topic}{text}")
    assert answer.status == 200, answer
    assert set(answer.json) == {"status", "subscription", "position", "publications", "more"}
    assert answer.json["status"] == "ok" and answer.json["subscription"] == topic
    return answer.json


def test_the_publications_of_a_history(api, topic):
    published = [api.publish(topic, {"n": number}) for number in range(3)]
    page = history(api, topic)
    assert page["position"] == published[-1]["position"] and page["more"] is False
    assert [(one["offset"], one["data"], one["id"]) for one in page["publications"]] == [
        (number + 1, {"n": number}, published[number]["id"]) for number in range(3)]
    assert all(set(one) <= {"offset", "data", "id", "published_at", "received_at"} for one in page["publications"])


def test_history_in_pages(api, topic):
    for number in range(1, 26):
        api.publish(topic, number)
    seen, since, pages = [], 0, 0
    while True:
        page = history(api, topic, since=since, limit=10)
        seen += [one["data"] for one in page["publications"]]
        since, pages = page["publications"][-1]["offset"], pages + 1
        assert page["position"]["offset"] == 25
        if not page["more"]:
            break
    assert seen == list(range(1, 26)) and pages == 3


@pytest.mark.parametrize("since, limit, expected, more", [
    (0, 1, [1], True), (0, 5, [1, 2, 3, 4, 5], False), (0, 6, [1, 2, 3, 4, 5], False), (0, 4, [1, 2, 3, 4], True),
    (4, 1, [5], False), (4, 9, [5], False), (5, 9, [], False), (6, 9, [], False), (10**15, 9, [], False)])
def test_the_edges_of_a_page(api, topic, since, limit, expected, more):
    for number in range(1, 6):
        api.publish(topic, number)
    page = history(api, topic, since=since, limit=limit)
    assert ([one["offset"] for one in page["publications"]], page["more"]) == (expected, more)


def test_the_history_of_an_unknown_topic_is_empty(api, topic):
    page = history(api, topic)
    assert page["publications"] == [] and page["more"] is False and page["position"]["offset"] == 0


def test_a_name_with_every_kind_of_character(api, topic):
    name = topic + ".ä 😀&=+#?%/"
    api.publish(name, 1)
    answer = api.get(f"/api/history?subscription={quote(name, safe='')}")
    assert answer.status == 200 and [one["data"] for one in answer.json["publications"]] == [1], answer


@pytest.mark.parametrize("query", ["", "subscription=", "subscription=nodot", "subscription=a.b&since=x", "subscription=a.b&since=-1",
                                   "subscription=a.b&limit=0", "subscription=a.b&limit=-1", "subscription=a.b&limit=x",
                                   "subscription=a.b&since=1.5", "subscription=a.b&since=" + "9" * 30])
def test_a_query_that_makes_no_sense(api, query):
    assert refused(api.get("/api/history?" + query), 400, 422)


# metrics, health, ready --------------------------------------------------------------------------------------------


def test_metrics_are_strictly_prometheus(api, topic):
    api.publish(topic, 1)
    answer = api.get("/metrics")
    assert answer.status == 200
    assert re.match(r"text/plain; ?version=0\.0\.4", answer.headers["Content-Type"]), answer.headers["Content-Type"]
    families = prometheus.parse(answer.body.decode())
    assert families
    for family in families.values():
        assert family.kind != "untyped" and family.help, f"{family.name} needs HELP and TYPE"
    assert {"counter", "gauge"} <= {family.kind for family in families.values()}


def session_gauges(api) -> dict[str, float]:
    families = prometheus.parse(api.metrics())
    return {name: family.total() for name, family in families.items() if family.kind == "gauge" and "session" in name}


def test_a_gauge_follows_the_sessions(start):
    gateway = start()
    before = session_gauges(gateway.api)
    assert before, "no gauge of sessions"
    clients = [EventClient.native(gateway.port) for _ in range(7)]
    eventually(lambda: any(session_gauges(gateway.api)[name] == before[name] + 7 for name in before), what="seven more sessions")
    for client in clients:
        client.close()


def test_a_counter_follows_the_publications(start, topic):
    gateway = start()

    def counters():
        families = prometheus.parse(gateway.api.metrics())
        return {name: family.total() for name, family in families.items() if family.kind == "counter" and "publi" in name}

    before = counters()
    for number in range(9):
        gateway.api.publish(topic, number)
    after = counters()
    assert any(after[name] - before.get(name, 0) == 9 for name in after), after


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_health_and_ready(gateway, path):
    answer = gateway.api.get(path)
    assert answer.status == 200
    assert gateway.api.call("HEAD", path).status in (200, 405)


# What is not there ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/publish/x", "/api/sessions/a/b/c"])
def test_unknown_paths_of_the_api(api, path):
    assert refused(api.get(path), 404, 405)


@pytest.mark.parametrize("method, path", [("GET", "/api/publish"), ("PUT", "/api/publish"), ("DELETE", "/api/batch"),
                                          ("POST", "/api/history?subscription=a.b"), ("POST", "/api/sessions")])
def test_another_method(api, method, path):
    assert refused(api.call(method, path, {} if method != "GET" else None), 405)


@pytest.mark.parametrize("path", ["/nothing/here", "/api/../etc/passwd", "/../../etc/passwd", "/holdfast.js/x", "/%00"])
def test_an_unknown_path(api, path):
    assert api.get(path).status in (400, 404)


# The browser client -----------------------------------------------------------------------------------------------------


def test_the_module_is_served_with_an_etag(api):
    answer = api.get("/holdfast.js")
    assert answer.status == 200 and len(answer.body) > 1_000
    assert re.match(r"(text|application)/javascript", answer.headers["Content-Type"])
    assert re.fullmatch(r'(W/)?"[^"]+"', answer.headers["ETag"])
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert b"export" in answer.body
    assert api.get("/holdfast.js").headers["ETag"] == answer.headers["ETag"]


def test_the_module_is_not_sent_again(api):
    etag = api.get("/holdfast.js").headers["ETag"]
    for given in (etag, f'"other", {etag}', "*", f"W/{etag.removeprefix('W/')}"):
        answer = api.get("/holdfast.js", headers={"If-None-Match": given})
        assert answer.status == 304 and answer.body == b"" and answer.headers["ETag"] == etag, given
    for given in ('"other"', "", etag.strip('"'), etag[:-1]):
        assert api.get("/holdfast.js", headers={"If-None-Match": given}).status == 200, given


def test_the_head_of_the_module(api):
    full = api.get("/holdfast.js")
    head = api.call("HEAD", "/holdfast.js")
    assert head.status == 200 and head.body == b"" and head.headers["ETag"] == full.headers["ETag"]
