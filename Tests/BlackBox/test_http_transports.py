"""Opening a session without WebSocket, and sending on it (protocol.md, Endpoints)."""

import json

import pytest

from event_client import HELLO_KEYS, EventClient
from holdfast_process import eventually
from http_session import UNKNOWN_SESSION, HttpSession, check_headers
from raw_http import HttpConnection, is_closed, request_bytes

PROBE = [{"event": "probe"}]


@pytest.fixture
def gateway(gateway_of_four_loops):
    return gateway_of_four_loops


@pytest.fixture
def http(gateway):
    with HttpConnection(gateway.port) as connection:
        yield connection


def subscribing(topic: str, *numbers: int) -> list[dict]:
    return [{"event": "subscribe", "subscription": f"{topic}.{number}", "id": number} for number in numbers]


def answers(events: list[dict]) -> list[tuple]:
    """(id, status) of the replies to `subscribing`."""
    return [(event["id"], event["status"]) for event in events if event.get("event") == "subscribe"]


def refused(reply, *statuses: int) -> bool:
    """Whether it is an error in JSON, as everywhere else."""
    assert reply.status in statuses, reply
    body = reply.json[0] if isinstance(reply.json, list) else reply.json
    assert body["status"] == "error" and body["error"] and body["code"], reply
    return True


# Opening -----------------------------------------------------------------------------------------------------------


def test_hello_opens_a_session(gateway):
    with HttpSession.opened(gateway.port, client={"name": "black box", "version": "1"}) as session:
        assert set(session.hello_reply) >= HELLO_KEYS
        handle, secret = session.session.split(".")
        assert len(handle) >= 16 and len(secret) >= 32
        assert session.first == []
        told = gateway.api.session(handle)
        assert (told["dialect"], told["client"]) == ("native", "black box 1")


def test_a_probe_touches_no_session(gateway, http):
    before = gateway.api.sessions_opened()
    reply = http.ask("POST", "/session", PROBE)
    assert (reply.status, reply.json) == (200, [{"event": "probe", "status": "ok"}])
    check_headers(reply)
    assert gateway.api.sessions_opened() == before


def test_the_events_behind_the_hello_are_handled(gateway, topic):
    with HttpSession.opened(gateway.port, *subscribing(topic, 1, 2, 3), {"event": "ping", "data": "x"}) as session:
        # Replies may be in the answer to the request already, or come with the first poll.
        events = session.first + session.barrier()
        assert answers(events) == [(1, "ok"), (2, "ok"), (3, "ok")]
        assert {"event": "ack", "received": 3} in session.first
        gateway.api.publish(f"{topic}.2", "live")
        assert session.data(1) == ["live"]


def test_headers_travel_inside_hello(gateway):
    HttpSession.opened(gateway.port, headers={"X-Tenant": "a", "Accept-Language": "de"}).close()


def test_every_reply_has_the_headers_that_stop_buffering(gateway, http):
    with HttpSession.opened(gateway.port) as session:
        session.send({"event": "nothing"})
        session.poll()
        stream = session.stream()
        check_headers(stream.response)
        assert stream.response.headers["content-type"].split(";")[0] == "text/event-stream"
    for path in ("/session", "/session/x/send", "/session/x/poll"):
        check_headers(http.ask("POST", path, b"x"))


@pytest.mark.parametrize("encodings", ["gzip", "gzip, deflate, br", "br;q=1.0, *;q=0.5"])
def test_nothing_is_ever_compressed(gateway, topic, encodings):
    accept = {"Accept-Encoding": encodings}
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        gateway.api.publish(topic, "x" * 5_000)
        assert session.post("poll", {"received": session.received, "wait": 5}, headers=accept).json["events"]
        stream = session.stream(headers=accept)
        check_headers(stream.response)
        assert stream.data(1) == ["x" * 5_000]


@pytest.mark.parametrize("body", [
    b"", b"x", b"{", b"[", b"null", b"5", b'"hello"', b"{}", b"[]", b"[5]", b"[null]", b"[[]]", b'[{"event":5}]', b'[{}]',
    b'{"event":"hello","version":1}', b'[{"event":"hello","version":1}] x', b'[{"event":"hello","version":1},',
    b'[{"event":"ping"}]', b'[{"event":"subscribe","subscription":"a.b"}]', b'[{"event":"probe"},{"event":"hello","version":1}]',
    b"\xff\xfe", b'[{"event":"hello","version":1,"x":"\xff"}]',
], ids=lambda body: repr(body)[1:40])
def test_what_does_not_begin_with_hello_opens_nothing(gateway, http, body):
    before = gateway.api.sessions_opened()
    reply = http.ask("POST", "/session", body)
    assert refused(reply, 400)
    check_headers(reply)
    assert gateway.api.sessions_opened() == before
    assert http.ask("POST", "/session", PROBE).status == 200, "the connection is still good"


def test_a_version_that_nobody_speaks_is_answered_as_on_a_websocket(gateway, http):
    before = gateway.api.sessions_opened()
    reply = http.ask("POST", "/session", [{"event": "hello", "version": 7}])
    event = reply.json[0] if isinstance(reply.json, list) else reply.json
    assert (event["event"], event["status"]) == ("hello", "error") and event["code"]
    assert gateway.api.sessions_opened() == before


def test_a_body_that_is_too_large(start):
    gateway = start(max_message=4096)
    with HttpConnection(gateway.port) as http:
        events = [{"event": "hello", "version": 1}, *({"event": "message", "data": "x" * 100} for _ in range(50))]
        assert refused(http.ask("POST", "/session", events), 413)
    with HttpSession.opened(gateway.port) as session:
        with HttpConnection(gateway.port) as http:
            body = {"seq": 1, "events": events}
            assert refused(session.post("send", body, on=http), 413)
        assert session.send() == 0, "nothing of it was taken"


def test_other_methods_and_paths(gateway, http):
    with HttpSession.opened(gateway.port) as session:
        for method, path in [("GET", "/session"), ("PUT", "/session"), ("GET", session.url("send")), ("GET", session.url("poll")),
                             ("POST", session.url("stream")), ("DELETE", session.url("send"))]:
            reply = http.ask(method, path, b"{}" if method != "GET" else None, headers=session.authorization)
            assert reply.status in (404, 405), (method, path, reply)
        assert http.ask("POST", f"/session/{session.handle}/nothing", b"{}", headers=session.authorization).status == 404
        session.expect_silence()


def test_everything_hangs_below_the_prefix(start, topic):
    gateway = start(prefix="/live")
    session = HttpSession(gateway.port, "/live")
    with session:
        session.hello()
        session.subscribe(topic)
        gateway.api.call("POST", "/live/api/publish", {"subscription": topic, "data": 1})
        assert session.data(1) == [1]
        with HttpConnection(gateway.port) as http:
            assert http.ask("POST", "/session", PROBE).status == 404


def test_a_full_gateway_says_when_to_come_back(start):
    gateway = start(max_sessions=3)
    with HttpConnection(gateway.port) as http:
        sessions = [HttpSession.opened(gateway.port) for _ in range(3)]
        reply = http.ask("POST", "/session", [{"event": "hello", "version": 1}])
        assert refused(reply, 503)
        assert int(reply.headers["retry-after"]) >= 0
        assert http.ask("POST", "/session", PROBE).status == 200, "a probe needs no session"
        # Those that are there are not disturbed.
        with HttpSession.taking_over(sessions[0]) as session:
            assert session.hello_reply["resumed"] is True
        for session in sessions:
            session.close()


# Resuming over HTTP -----------------------------------------------------------------------------------------------


def test_hello_with_resume_repeats_what_was_missed(gateway, topic):
    with HttpSession.opened(gateway.port) as first:
        first.subscribe(topic)
        for number in range(5):
            gateway.api.publish(topic, number)
        with HttpSession.taking_over(first) as second:
            assert (second.hello_reply["resumed"], second.session) == (True, first.session)
            assert second.hello_reply["received"] == first.sent == 1
            repeated = [event["data"] for event in second.first if event["event"] == "message"]
            assert repeated + second.data(5 - len(repeated)) == [0, 1, 2, 3, 4]
            second.expect_silence()


def test_events_behind_a_resuming_hello_are_taken_once(gateway, topic):
    with HttpSession.opened(gateway.port) as first:
        first.send(*subscribing(topic, 1))
        with HttpSession.taking_over(first, *subscribing(topic, 2)) as second:
            assert second.hello_reply["received"] == 1
            assert answers(second.first + second.barrier()) == [(1, "ok"), (2, "ok")]
            assert second.send() == 2


def test_the_same_resuming_hello_twice(gateway, topic):
    """Its answer was lost on the way: the client asks again, with the counts that it has."""
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        gateway.api.publish(topic, "once")
        with HttpSession.taking_over(session), HttpSession.taking_over(session) as again:
            assert again.hello_reply["resumed"] is True
            repeated = [event["data"] for event in again.first if event["event"] == "message"]
            assert repeated + again.data(1 - len(repeated)) == ["once"]
            again.expect_silence()


@pytest.mark.parametrize("change", [
    lambda handle, secret, received: (handle, "0" * len(secret), received),
    lambda handle, secret, received: (handle, secret[:-1], received),
    lambda handle, secret, received: ("0" * 16, secret, received),
    lambda handle, secret, received: (handle, secret, received + 1),
], ids=["wrong secret", "short secret", "unknown handle", "impossible count"])
def test_what_cannot_be_resumed_gets_a_new_session(gateway, topic, change):
    with HttpSession.opened(gateway.port) as first:
        first.subscribe(topic)
        handle, secret, received = change(*first.session.split("."), first.received)
        with HttpSession(gateway.port) as second:
            second.hello(resume={"session": f"{handle}.{secret}", "received": received})
            assert second.hello_reply["resumed"] is False and second.session != first.session
            assert second.poll(0) == []


# Sending ------------------------------------------------------------------------------------------------------------


def test_batches_are_counted(gateway, topic):
    with HttpSession.opened(gateway.port) as session:
        assert session.send(*subscribing(topic, 1, 2)) == 2
        assert session.send({"event": "ping"}) == 2, "a ping is not counted"
        assert session.send({"event": "ping"}, *subscribing(topic, 3), {"event": "probe"}, {"event": "nothing"}) == 4
        assert session.send() == 4
        assert answers(session.barrier()) == [(1, "ok"), (2, "ok"), (3, "ok")]


def test_a_repeated_batch_is_taken_once(gateway, topic):
    with HttpSession.opened(gateway.port) as session:
        batch = [{"event": "ping", "data": "p"}, *subscribing(topic, 1, 2)]
        for _ in range(3):
            reply = session.post("send", {"seq": 1, "events": batch})
            assert (reply.status, reply.json) == (200, {"received": 2})
        session.sent = 2
        events = session.barrier()
        assert answers(events) == [(1, "ok"), (2, "ok")] and session.send() == 2


def test_uncounted_events_of_a_repeated_batch_are_handled_again(gateway, topic):
    """"Its uncounted events are not" ignored: a ping asks for an answer now."""
    with HttpSession.opened(gateway.port) as session:
        batch = [{"event": "ping", "data": "asked"}, *subscribing(topic, 1)]
        session.post("send", {"seq": 1, "events": batch})
        session.sent = 1
        before = session.poll()
        assert [event["data"] for event in before if event["event"] == "pong"] == ["asked"]
        session.post("send", {"seq": 1, "events": batch})
        after = session.poll()
        assert [event["data"] for event in after if event["event"] == "pong"] == ["asked"]
        assert answers(before + after) == [(1, "ok")]


def test_a_regrouped_batch_is_taken_once(gateway, topic):
    """The client repeats what was not confirmed together with what is new.

    Such a batch begins with what is known and is ignored (or its new part is taken). The count that is answered says which,
    and the client goes on from there: nothing is lost, and nothing doubled.
    """
    with HttpSession.opened(gateway.port) as session:
        counts = []
        batches = [(1, 2), (2, 3, 4), (1, 2, 3, 4, 5)]
        for numbers in batches:
            reply = session.post("send", {"seq": numbers[0], "events": subscribing(topic, *numbers)})
            assert reply.status == 200, reply
            counts.append(reply.json["received"])
        assert counts in ([2, 2, 2], [2, 4, 5])
        rest = range(counts[-1] + 1, 6)
        assert session.post("send", {"seq": counts[-1] + 1, "events": subscribing(topic, *rest)}).json == {"received": 5}
        session.sent = 5
        assert answers(session.barrier()) == [(number, "ok") for number in range(1, 6)]


def test_a_batch_with_a_hole_before_it_is_refused_whole(gateway, topic):
    with HttpSession.opened(gateway.port) as session:
        session.send(*subscribing(topic, 1))
        reply = session.post("send", {"seq": 3, "events": subscribing(topic, 3)})
        assert reply.status == 409 and reply.json["received"] == 1, reply
        check_headers(reply)
        assert answers(session.barrier()) == [(1, "ok")]
        assert session.send(*subscribing(topic, 2, 3)) == 3


@pytest.mark.parametrize("body", [
    b"", b"x", b"{", b"5", b"[]", b"{}", b'{"seq":1}', b'{"events":[]}', b'{"seq":1,"events":5}', b'{"seq":1,"events":{}}',
    b'{"seq":"1","events":[]}', b'{"seq":-1,"events":[]}', b'{"seq":1.5,"events":[]}', b'{"seq":null,"events":[]}',
    b'{"seq":1,"events":[]', b'{"seq":1,"events":[{"event":"nothing"}]} x', b'{"seq":1,"events":[{"event":"nothing"},]}',
    b'{"seq":1e400,"events":[]}', b'{"seq":' + b"9" * 400 + b',"events":[]}', b"\xff", b'{"seq":1,"events":[{"event":"\xff"}]}',
], ids=lambda body: repr(body)[1:40])
def test_a_batch_that_cannot_be_read_is_refused_whole(gateway, body):
    with HttpSession.opened(gateway.port) as session:
        reply = session.post("send", body)
        # A count that is far too high is a hole like any other.
        assert reply.status == 400 or (reply.status == 409 and b"99" in body), reply
        check_headers(reply)
        assert session.send() == 0
        session.expect_silence()


def test_an_element_that_is_no_event_is_answered_as_on_a_websocket(gateway, topic):
    with HttpSession.opened(gateway.port) as session:
        reply = session.post("send", {"seq": 1, "events": [*subscribing(topic, 1), 5, {"event": 5}, *subscribing(topic, 2)]})
        if reply.status == 400:  # Refused whole: nothing of it was taken.
            assert session.send() == 0
            return
        assert (reply.status, reply.json) == (200, {"received": 2})
        session.sent = 2
        assert answers(session.barrier()) == [(1, "ok"), (2, "ok")]


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.99])
def test_a_body_cut_short_is_taken_not_at_all(gateway, topic, keep):
    with HttpSession.opened(gateway.port) as session:
        body = {"seq": 1, "events": subscribing(topic, *range(1, 40))}
        request = request_bytes(gateway.port, "POST", session.url("send"), body, session.authorization)
        head = request.index(b"\r\n\r\n") + 4
        with HttpConnection(gateway.port) as cut:
            cut.send(request[: head + int((len(request) - head) * keep)])
            cut.reset()
        # The same again, as a client does that got no answer.
        assert session.send() == 0
        assert session.send(*body["events"]) == 39
        assert answers(session.barrier()) == [(number, "ok") for number in range(1, 40)]


def test_requests_byte_by_byte(gateway, topic, deliver):
    with HttpSession.opened(gateway.port) as session:
        body = {"seq": 1, "events": subscribing(topic, 1)}
        assert session.post("send", body, deliver=deliver).json == {"received": 1}
        assert answers(session.post("poll", {"received": 0, "wait": 5}, deliver=deliver).json["events"]) == [(1, "ok")]


def test_a_batch_with_chunked_encoding(gateway, topic):
    with HttpSession.opened(gateway.port) as session:
        body = json.dumps({"seq": 1, "events": subscribing(topic, 1)}).encode()
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:7], body[7:])) + b"0\r\n\r\n"
        head = request_bytes(gateway.port, "POST", session.url("send"), None, {**session.authorization, "Transfer-Encoding": "chunked"})
        session.main.send(head + chunks)
        assert session.main.reply().json == {"received": 1}


# Who may ------------------------------------------------------------------------------------------------------------


def dead_sessions(gateway) -> list[tuple[str, dict]]:
    """Handles and headers that open nothing."""
    session = HttpSession.opened(gateway.port)
    session.close()
    secret = session.session.split(".")[1]
    wrong = ["Holdfast " + "0" * len(secret), f"Holdfast {secret[:-1]}", f"Holdfast {secret}0", f"Bearer {secret}",
             f"Holdfast  {session.session}", "Holdfast", "Holdfast ", ""]
    cases = [(session.handle, {"Authorization": value}) for value in wrong]
    cases += [(session.handle, {}), ("0" * 16, session.authorization), ("x", session.authorization), ("%00", session.authorization),
              ("a" * 3_000, session.authorization), (session.session, session.authorization)]
    return cases


def test_a_dead_session_and_a_wrong_secret_look_the_same(gateway, http):
    bodies = set()
    for handle, headers in dead_sessions(gateway):
        for method, what, body in [("POST", "send", {"seq": 1, "events": []}), ("POST", "poll", {"received": 0, "wait": 0}),
                                   ("GET", "stream?received=0", None)]:
            reply = http.ask(method, f"/session/{handle}/{what}", body, headers=headers)
            assert reply.status == 404, (handle, headers, what, reply)
            assert reply.json == UNKNOWN_SESSION
            check_headers(reply)
            bodies.add(reply.body)
    assert len(bodies) == 1, "not a byte tells which of them was right"


def test_an_expired_session_is_unknown(start):
    gateway = start(session_ttl=0.3)
    with HttpSession.opened(gateway.port) as session, HttpConnection(gateway.port) as http:
        eventually(lambda: gateway.api.sessions()["total"] == 0, what="the session expires")
        reply = session.post("poll", {"received": 0, "wait": 0}, on=http)
        assert (reply.status, reply.json) == (404, UNKNOWN_SESSION)


def test_requests_keep_a_session_alive(start, topic):
    """Between two polls nobody listens: each request starts the time anew."""
    gateway = start(session_ttl=1)
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        for number in range(4):
            connection = session.start_poll(0.7)
            assert session.end_poll(connection) == [], "0.7 s of 1 s, four times over"
        assert gateway.api.session(session.handle)["state"] != "ended"


def test_a_session_that_a_websocket_carries(gateway, topic):
    with EventClient.native(gateway.port) as client, HttpConnection(gateway.port) as http:
        client.subscribe(topic)
        handle, secret = client.session.split(".")
        for method, what, body in [("POST", "send", {"seq": 2, "events": [{"event": "nothing"}]}), ("POST", "poll", {"received": 1, "wait": 5}),
                                   ("GET", "stream?received=1", None)]:
            reply = http.ask(method, f"/session/{handle}/{what}", body, headers={"Authorization": f"Holdfast {secret}"})
            assert refused(reply, 409) and reply.json["code"] == "replaced", reply
        client.expect_silence()


def test_secrets_are_shown_nowhere(gateway, topic):
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        secret = session.session.split(".")[1].encode()
        for path in ("/api/sessions", f"/api/sessions/{session.handle}", "/metrics"):
            assert secret not in gateway.api.get(path).body
        assert secret.decode() not in gateway.tail()


# The connection -------------------------------------------------------------------------------------------------------


def test_one_connection_carries_everything(gateway, topic):
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        for number in range(30):
            gateway.api.publish(topic, number)
            assert [event["data"] for event in session.poll()] == [number]
            session.send({"event": "ping"})
            assert [event["event"] for event in session.poll()] == ["pong"]
            assert session.main.ask("POST", "/session", PROBE).status == 200
            assert session.main.ask("GET", "/health").status == 200
        assert not is_closed(session.main)


@pytest.mark.parametrize("header", ["close", "Close", "close, x"])
def test_a_connection_that_is_to_be_closed_is_closed(gateway, header):
    with HttpConnection(gateway.port) as http:
        reply = http.ask("POST", "/session", PROBE, headers={"Connection": header})
        assert reply.status == 200
        assert http.ended_by_server()


def test_pipelined_requests_are_answered_in_order(gateway, topic):
    with HttpSession.opened(gateway.port) as session:
        requests = b"".join(request_bytes(gateway.port, "POST", session.url("send"), {"seq": number, "events": subscribing(topic, number)},
                                          session.authorization) for number in range(1, 21))
        session.main.send(requests)
        assert [session.main.reply().json for _ in range(20)] == [{"received": number} for number in range(1, 21)]


def test_a_request_behind_an_outstanding_poll(gateway, topic):
    """HTTP answers in order: it waits for the poll, and is lost no more than the poll is."""
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        session.start_poll(20, on=session.main)
        session.main.start("POST", session.url("send"), {"seq": 2, "events": subscribing(topic, 2)}, headers=session.authorization)
        session.main.start("POST", "/session", PROBE)
        gateway.api.publish(topic, "ends the poll")
        events = session.end_poll(session.main)
        # The batch may have been handled before, in which case its reply is in the poll.
        assert session.main.reply().json == {"received": 2}
        assert session.main.reply().json == [{"event": "probe", "status": "ok"}]
        session.sent = 2
        events += session.barrier()
        assert [event["data"] for event in events if event["event"] == "message"] == ["ends the poll"]
        assert answers(events) == [(2, "ok")]


def test_a_client_that_resets_its_poll_costs_nothing(gateway, topic):
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        for number in range(20):
            session.start_poll(20).reset()
            gateway.api.publish(topic, number)
        numbers = []
        while len(numbers) < 20:
            numbers += [event["data"] for event in session.poll()]
        assert numbers == list(range(20))
        session.expect_silence()


def test_the_page_for_a_support_call(gateway, start):
    for path, kind in [("/diagnose", "text/html"), ("/diagnose.js", "text/javascript"), ("/holdfast.js", "text/javascript")]:
        answer = gateway.api.get(path)
        assert answer.status == 200 and answer.headers["content-type"].startswith(kind) and "etag" in answer.headers
    without = start(diagnose=False)
    assert [without.api.get(path).status for path in ("/diagnose", "/diagnose.js", "/holdfast.js")] == [404, 404, 200]


def test_http_1_0_with_keep_alive_gets_a_stream_that_ends_with_the_connection(gateway):
    with HttpSession.opened(gateway.port) as session, HttpConnection(gateway.port) as http:
        http.send(
            f"GET {session.url('stream')}?received=0 HTTP/1.0\r\nConnection: keep-alive\r\n"
            f"Authorization: {session.authorization['Authorization']}\r\n\r\n".encode()
        )
        assert http.has_something(5), "it has begun, so the next one is newer"
        session.stream()
        http.wait_for_end(timeout=5)
