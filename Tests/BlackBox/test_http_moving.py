"""A session moves between WebSocket, event stream and long poll; what becomes of it when the server has a last word."""

import itertools
import random
import threading
import time

import pytest

from event_client import EventClient
from holdfast_process import Api, background, eventually
from http_session import HttpSession, is_counted
from raw_http import Comment, HttpConnection, LastWord
from raw_socket import Late

DEADLINE = 20.0


@pytest.fixture
def gateway(gateway_of_four_loops):
    return gateway_of_four_loops


class Numbers:
    """Publishes 0, 1, 2 … in the background, every so many seconds, as fast as asked."""

    def __init__(self, port: int, topic: str, count: int, every: float = 0.002):
        self.port, self.topic, self.count, self.every = port, topic, count, every

    def __call__(self, stop: threading.Event) -> None:
        api = Api(self.port)
        for number in range(self.count):
            api.publish(self.topic, number)
            stop.wait(self.every)


class Traveller:
    """One session on changing transports. `step` takes what comes for a while; `numbers` is what it has in all."""

    def __init__(self, port: int, topic: str):
        self.numbers: list[int] = []
        self.line: EventClient | HttpSession = EventClient.native(port)
        self.line.subscribe(topic)
        self.session = self.line.session
        self.replies = 0

    def to_websocket(self) -> None:
        self.line = self._checked(EventClient.resuming(self.line))

    def to_http(self) -> None:
        self.line = self._checked(HttpSession.taking_over(self.line))
        self._keep(self.line.first)

    def _checked(self, line):
        assert line.hello_reply["resumed"] is True and line.session == self.session, line.hello_reply
        assert line.hello_reply["received"] <= line.sent
        return line

    def _keep(self, events) -> None:
        for event in events:
            if event["event"] == "message":
                self.numbers.append(event["data"])
            else:
                self.replies += is_counted(event)

    def by_websocket(self, count: int) -> None:
        self._keep(self.line.messages(count, DEADLINE))

    def by_polls(self, rounds: int, abort: bool) -> None:
        for _ in range(rounds):
            if abort:  # The answer is lost: what it had is asked for again.
                self.line.start_poll(1).reset()
            self._keep(self.line.poll(1))

    def by_stream(self, count: int, abort: bool) -> None:
        stream = self.line.stream()
        self._keep(stream.messages(count, DEADLINE))
        stream.reset() if abort else stream.close()


def test_numbered_events_arrive_once_while_the_session_moves(gateway, topic):
    """WebSocket → poll → stream → WebSocket, over and over, with lines that end well and lines that do not."""
    total, rng = 1_500, random.Random(11)
    traveller = Traveller(gateway.port, topic)
    with background(Numbers(gateway.port, topic, total)):
        for way in itertools.cycle(["websocket", "poll", "stream", "poll then stream"]):
            left = total - len(traveller.numbers)
            if left == 0:
                break
            some = min(left, rng.randrange(1, 60))
            if way == "websocket":
                traveller.by_websocket(some)
                if rng.random() < 0.5:
                    traveller.line.reset()
                continue
            old = traveller.line
            traveller.to_http()
            old.close()
            if "poll" in way:
                traveller.by_polls(rng.randrange(1, 6), abort=rng.random() < 0.3)
            left = total - len(traveller.numbers)
            if "stream" in way and left:
                traveller.by_stream(min(left, some), abort=rng.random() < 0.5)
            if rng.random() < 0.7 and len(traveller.numbers) < total:
                old = traveller.line
                traveller.to_websocket()
                old.close()
                traveller.by_websocket(min(total - len(traveller.numbers), some))
    assert traveller.numbers == list(range(total))


def test_what_the_client_sends_arrives_once_while_the_session_moves(gateway, topic):
    """The client repeats what is not confirmed, on whatever transport it is then."""

    def subscription(number: int) -> dict:
        return {"event": "subscribe", "subscription": f"{topic}.{number}", "id": number}

    line: EventClient | HttpSession = HttpSession.opened(gateway.port)
    replies = []
    # Three batches on HTTP, the answer to the last one never read.
    line.send(subscription(1), subscription(2))
    line.send(subscription(3))
    with HttpConnection(gateway.port) as lost:
        lost.start("POST", line.url("send"), {"seq": 4, "events": [subscription(4), subscription(5)]}, headers=line.authorization)
    line.sent = 5
    second = EventClient.resuming(line)
    assert second.hello_reply["received"] in (3, 5)
    for number in range(second.hello_reply["received"] + 1, 8):
        second.send_event(subscription(number))
    second.sent = 7
    # And the server's answers to the last ones are never read here.
    third = HttpSession.taking_over(second)
    assert 3 <= third.hello_reply["received"] <= 7
    known = third.hello_reply["received"]
    third.sent = known
    third.send(*(subscription(number) for number in range(known + 1, 11)))
    replies = third.first + third.barrier()
    assert [(event["id"], event["status"]) for event in replies if event["event"] == "subscribe"] == [(n, "ok") for n in range(1, 11)]
    assert gateway.api.session(third.handle)["subscription_count"] == 10
    for each in (line, second, third):
        each.close()


def test_a_websocket_takes_the_session_from_an_outstanding_poll(gateway, topic):
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        poll = session.start_poll(20)
        with EventClient.resuming(session) as socket:
            reply = poll.reply()
            assert (reply.status, reply.json["code"]) == (409, "replaced"), reply
            gateway.api.publish(topic, "x")
            assert socket.data(1) == ["x"]


def test_a_websocket_takes_the_session_from_a_stream(gateway, topic):
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        stream = session.stream()
        assert isinstance(stream.next(), Comment)
        with EventClient.resuming(session) as socket:
            assert stream.last_word()["code"] == 4000
            gateway.api.publish(topic, "x")
            assert socket.data(1) == ["x"]


def test_http_takes_the_session_from_a_websocket(gateway, topic):
    with EventClient.native(gateway.port) as socket:
        socket.subscribe(topic)
        with HttpSession.taking_over(socket) as session:
            assert session.hello_reply["resumed"] is True
            assert socket.expect_close(4000) is not None
            gateway.api.publish(topic, "x")
            assert session.data(1) == ["x"]
            session.stream().is_open()


def test_a_probe_beside_a_running_stream_disturbs_nothing(gateway, topic):
    with HttpSession.opened(gateway.port) as session, EventClient.open(gateway.port) as socket, HttpConnection(gateway.port) as http:
        session.subscribe(topic)
        stream = session.stream()
        assert socket.ask({"event": "probe"}) == {"event": "probe", "status": "ok"}
        assert http.ask("POST", "/session", [{"event": "probe"}]).json == [{"event": "probe", "status": "ok"}]
        gateway.api.publish(topic, "x")
        assert stream.data(1) == ["x"]
        stream.is_open()


def test_fifty_clients_on_changing_transports(gateway, topic):
    """Each gets every number once and in order, whatever the others do."""
    total = 150
    travellers = [Traveller(gateway.port, topic) for _ in range(50)]
    errors: list[BaseException] = []

    def travel(traveller: Traveller, seed: int) -> None:
        rng = random.Random(seed)
        try:
            while len(traveller.numbers) < total:
                old = traveller.line
                rng.choice([traveller.to_http, traveller.to_websocket])()
                old.close()
                some = min(total - len(traveller.numbers), rng.randrange(1, 40))
                if isinstance(traveller.line, EventClient):
                    traveller.by_websocket(some)
                elif rng.random() < 0.5:
                    traveller.by_polls(3, abort=rng.random() < 0.3)
                elif some:
                    traveller.by_stream(some, abort=rng.random() < 0.5)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=travel, args=(each, seed), daemon=True) for seed, each in enumerate(travellers)]
    with background(Numbers(gateway.port, topic, total, every=0.02)):
        for thread in threads:
            thread.start()
        until = time.monotonic() + 60
        for thread in threads:
            thread.join(max(0, until - time.monotonic()))
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "somebody still waits for an event"
    assert [each.numbers for each in travellers] == [list(range(total))] * 50
    for each in travellers:
        each.line.close()


@pytest.mark.parametrize("way", ["poll", "stream"])
def test_fifty_clients_that_listen_at_once(gateway, topic, way):
    sessions = [HttpSession.opened(gateway.port) for _ in range(50)]
    for session in sessions:
        session.subscribe(topic)
    if way == "stream":
        streams = [session.stream() for session in sessions]
        for number in range(20):
            gateway.api.publish(topic, number)
        assert [stream.data(20) for stream in streams] == [list(range(20))] * 50
    else:
        for number in range(20):
            polls = [session.start_poll(20, on=session.main) for session in sessions]
            gateway.api.publish(topic, number)
            assert [[event["data"] for event in s.end_poll(p)] for s, p in zip(sessions, polls, strict=True)] == [[number]] * 50
    for session in sessions:
        session.close()


# The last word -------------------------------------------------------------------------------------------------------


def last_word_of_poll(reply) -> dict:
    assert reply.status == 200, reply
    assert set(reply.json) == {"events", "close"}, reply
    return reply.json["close"]


@pytest.mark.parametrize("code, reason", [(4003, "bye"), (4008, ""), (4999, "später 😀")])
def test_disconnect_ends_a_poll_with_the_last_word(gateway, topic, code, reason):
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        poll = session.start_poll(20)
        gateway.api.post(f"/api/sessions/{session.handle}/disconnect", {"code": code, "reason": reason})
        reply = poll.reply()
        assert last_word_of_poll(reply) == {"code": code, "reason": reason}
        assert reply.json["events"] == []


@pytest.mark.parametrize("code, reason", [(4003, "bye"), (4008, ""), (4999, "später 😀")])
def test_disconnect_ends_a_stream_with_the_last_word(gateway, topic, code, reason):
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        stream = session.stream()
        gateway.api.publish(topic, "before")
        gateway.api.post(f"/api/sessions/{session.handle}/disconnect", {"code": code, "reason": reason})
        assert stream.data(1) == ["before"]
        assert stream.last_word() == LastWord(code=code, reason=reason)


def test_disconnect_between_two_polls_is_told_to_the_next(gateway, topic):
    """Nobody listens at that moment: the next request learns that the session is gone, if not why."""
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        gateway.api.post(f"/api/sessions/{session.handle}/disconnect", {"code": 4003, "reason": "bye"})
        reply = session.start_poll(0).reply()
        assert reply.status == 404 or last_word_of_poll(reply)["code"] == 4003
        assert session.post("send", {"seq": 2, "events": [{"event": "nothing"}]}).status == 404


def test_a_planned_stop_tells_those_that_poll(start, topic):
    gateway = start(drain_deadline=2)
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        poll = session.start_poll(30)
        gateway.ask_to_stop()
        events, word = [], None
        until = time.monotonic() + DEADLINE
        while word is None and time.monotonic() < until:
            reply = poll.reply(DEADLINE)
            assert reply.status == 200, reply
            events += reply.json["events"]
            word = reply.json.get("close")
            if word is None:
                poll = session.start_poll(30, on=poll)
        assert [event["event"] for event in events] == ["goaway"] and events[0]["reason"] == "drain"
        assert word["code"] == 4012
    assert gateway.wait(DEADLINE) == 0


def test_a_planned_stop_tells_those_on_a_stream(start, topic):
    gateway = start(drain_deadline=2)
    with HttpSession.opened(gateway.port) as session:
        session.subscribe(topic)
        stream = session.stream()
        gateway.api.publish(topic, "before")
        assert stream.data(1) == ["before"]
        gateway.ask_to_stop()
        advice = stream.event(DEADLINE)
        assert (advice["event"], advice["reason"]) == ("goaway", "drain"), advice
        assert stream.last_word(DEADLINE)["code"] == 4012
    assert gateway.wait(DEADLINE) == 0


def test_nobody_new_gets_a_session_during_a_planned_stop(start):
    gateway = start(drain_deadline=3, drain_window=2)
    with EventClient.native(gateway.port) as mute, HttpConnection(gateway.port) as http:
        assert http.ask("GET", "/ready").status == 200
        gateway.ask_to_stop()
        assert mute.next_event(DEADLINE)["event"] == "goaway"
        http.start("POST", "/session", [{"event": "hello", "version": 1}])
        try:
            reply = http.reply()
        except (ConnectionError, Late, Exception) as lost:
            assert type(lost).__name__ == "ConnectionLost", lost  # It may also have closed its idle connections.
        else:
            assert reply.status == 503 and int(reply.headers["retry-after"]) >= 0, reply
            body = reply.json[0] if isinstance(reply.json, list) else reply.json
            assert body["status"] == "error" and body["code"]
    gateway.kill()


def test_streams_and_polls_do_not_hold_up_a_stop(start, topic):
    gateway = start(drain_deadline=2)
    sessions = [HttpSession.opened(gateway.port) for _ in range(10)]
    for session in sessions[:5]:
        session.stream()
    for session in sessions[5:]:
        session.start_poll(60)
    began = time.monotonic()
    gateway.ask_to_stop()
    assert gateway.wait(DEADLINE) == 0
    assert time.monotonic() - began < 2 + 4
    for session in sessions:
        session.close()


# What an operator sees ---------------------------------------------------------------------------------------------------


def test_the_timeline_names_the_transports(gateway, topic):
    with EventClient.native(gateway.port) as socket, HttpSession.taking_over(socket) as session:
        session.poll(0)
        stream = session.stream()
        assert isinstance(stream.next(), Comment)
        told = gateway.api.session(session.handle)
        assert told["state"] == "attached"
        whole = " ".join(entry["what"] for entry in told["timeline"]).lower()
        assert "websocket" in whole and "poll" in whole and "stream" in whole, whole


def test_a_session_whose_listener_is_gone_is_waiting(gateway):
    with HttpSession.opened(gateway.port) as session:
        stream = session.stream()
        assert isinstance(stream.next(), Comment)
        stream.reset()
        eventually(lambda: gateway.api.session(session.handle)["state"] == "waiting", what="the session waits for its client")
