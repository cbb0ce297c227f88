"""A session outlives its transport (protocol.md: hello, Counting; client.md)."""

import random
import time

import pytest

from event_client import EventClient, expect_drop
from holdfast_process import Api, background, eventually
from raw_socket import DEADLINE, ConnectionLost, Late
from raw_websocket import CLOSE


def publish_numbers(gateway, topic: str, start: int, count: int) -> None:
    for number in range(start, start + count):
        gateway.api.publish(topic, number)


def abandon(client: EventClient) -> None:
    """The client's machine vanishes: TCP stays open and nobody reads or writes any more."""


def kill(client: EventClient) -> None:
    """The transport ends with RST."""
    client.reset()


ENDINGS = pytest.mark.parametrize("lose", [kill, abandon], ids=["reset", "abandoned"])


@ENDINGS
def test_missed_events_are_repeated_in_order_and_once(gateway, topic, lose):
    with EventClient.native(gateway.port) as first:
        first.subscribe(topic)
        publish_numbers(gateway, topic, 0, 10)
        assert first.data(10) == list(range(10))
        lose(first)
        publish_numbers(gateway, topic, 10, 60)
        with EventClient.resuming(first) as second:
            assert second.hello_reply["resumed"] is True
            publish_numbers(gateway, topic, 70, 10)
            assert second.data(70) == list(range(10, 80))
            second.expect_silence()


@ENDINGS
def test_events_that_the_server_wrote_into_the_dead_line_are_repeated(gateway, topic, lose):
    """They were written, even delivered to the kernel, but the client never counted them."""
    with EventClient.native(gateway.port) as first:
        first.subscribe(topic)
        publish_numbers(gateway, topic, 0, 50)
        assert first.data(20) == list(range(20))
        lose(first)
        with EventClient.resuming(first) as second:
            assert second.data(30) == list(range(20, 50))
            second.expect_silence()


def test_many_cuts_in_a_row_at_full_speed(start, topic):
    """Thirty abrupt ends at random moments while events flow: every number once, in order, in one session."""
    gateway = start()
    total = 1_500

    def publish(stop):
        api = Api(gateway.port)
        for number in range(total):
            api.publish(topic, number)

    rng = random.Random(7)
    client = EventClient.native(gateway.port)
    session = client.session
    client.subscribe(topic)
    seen, cuts = [], 0
    with background(publish):
        until = time.monotonic() + 60
        while len(seen) < total:
            seen += client.data(min(rng.randrange(1, 90), total - len(seen)), timeout=until - time.monotonic())
            if len(seen) < total:
                lost = client
                lost.reset() if rng.random() < 0.7 else lost.close()
                client = EventClient.resuming(lost)
                assert client.hello_reply["resumed"] is True and client.session == session
                cuts += 1
    assert seen == list(range(total)) and cuts >= 10
    client.expect_silence()
    client.close()


def test_a_newer_transport_replaces_the_old_one(gateway, topic):
    with EventClient.native(gateway.port) as first:
        first.subscribe(topic)
        with EventClient.resuming(first) as second:
            assert second.hello_reply["resumed"] is True
            first.expect_close(4000)
            gateway.api.publish(topic, "to the new one")
            assert second.data(1) == ["to the new one"]


def test_after_the_replacement_nothing_goes_to_the_old_transport(gateway, topic):
    with EventClient.native(gateway.port) as first:
        first.subscribe(topic)
        with EventClient.resuming(first) as second:
            publish_numbers(gateway, topic, 0, 20)
            assert second.data(20) == list(range(20))
            with pytest.raises(AssertionError, match="closed by the server"):
                first.next_event()


def test_a_session_resumes_again_and_again(gateway, topic):
    clients = [EventClient.native(gateway.port)]
    clients[0].subscribe(topic)
    for number in range(25):
        gateway.api.publish(topic, number)
        client = EventClient.resuming(clients[-1])
        clients.append(client)
        assert client.hello_reply["resumed"] is True and client.data(1) == [number]
    for client in clients:
        client.close()


def test_subscriptions_are_kept(gateway, topic):
    with EventClient.native(gateway.port) as first:
        names = [f"{topic}.{number}" for number in range(20)]
        for name in names:
            first.subscribe(name)
        first.reset()
        with EventClient.resuming(first) as second:
            for name in names:
                gateway.api.publish(name, name)
            assert second.data(20) == names
            assert second.ask({"event": "subscribe", "subscription": names[3]})["code"] == "already_subscribed"
            assert second.ask({"event": "unsubscribe", "subscription": names[3]})["status"] == "ok"


# A resume that cannot be ------------------------------------------------------------------------------


def wrong_names(session: str) -> dict[str, str]:
    handle, secret = session.split(".")
    other = "0" if secret[-1] != "0" else "1"
    return {
        "wrong secret": f"{handle}.{secret[:-1]}{other}",
        "empty secret": f"{handle}.",
        "no secret": handle,
        "short secret": f"{handle}.{secret[:-1]}",
        "long secret": f"{handle}.{secret}0",
        "unknown handle": f"{handle[::-1] if handle != handle[::-1] else 'a' * len(handle)}.{secret}",
        "swapped": f"{secret}.{handle}",
        "empty": "",
        "three parts": f"{session}.x",
        "unicode": "é😀.é",
        "very long": "a" * 10_000 + "." + "b" * 10_000,
    }


@pytest.mark.parametrize("wrong", wrong_names("a.b"))
def test_a_wrong_name_gets_a_new_session_and_leaves_the_old_one_alone(gateway, topic, wrong):
    with EventClient.native(gateway.port) as first:
        first.subscribe(topic)
        with EventClient.open(gateway.port) as stranger:
            reply = stranger.hello(resume={"session": wrong_names(first.session)[wrong], "received": 1})
            if reply["status"] == "ok":
                assert reply["resumed"] is False and reply["session"] != first.session
                assert "received" not in reply
            else:
                assert reply["code"] == "bad_hello"
            gateway.api.publish(topic, "private")
            stranger.expect_silence()
            assert first.data(1) == ["private"]


@pytest.mark.parametrize("count", [2, 100, 2**31, 2**53, 2**64 - 1])
def test_a_count_beyond_what_was_sent_gets_a_new_session(gateway, topic, count):
    with EventClient.native(gateway.port) as first:
        first.subscribe(topic)
        first.reset()
        with EventClient.resuming(first, received=count) as second:
            assert second.hello_reply["resumed"] is False and second.session != first.session
            gateway.api.publish(topic, 1)
            second.expect_silence()


def test_a_new_session_has_nothing_of_the_old_one(gateway, topic):
    with EventClient.native(gateway.port) as first:
        first.subscribe(topic)
        first.reset()
        with EventClient.resuming(first, received=9) as second:
            assert second.ask({"event": "unsubscribe", "subscription": topic})["code"] == "not_subscribed"
            assert second.subscribe(topic)["status"] == "ok"


# How long it waits ----------------------------------------------------------------------------------------


def listed(gateway, handle: str) -> bool:
    return any(session["id"] == handle for session in gateway.api.sessions()["sessions"])


def test_a_session_expires_after_its_time_and_not_before(start, topic):
    gateway = start(session_ttl=2)
    with EventClient.native(gateway.port) as first:
        assert first.hello_reply["session_ttl"] == 2
        first.subscribe(topic)
        first.reset()
        began = time.monotonic()
        eventually(lambda: not listed(gateway, first.handle), timeout=8, what="the end of the session")
        assert 1.9 <= time.monotonic() - began <= 6
        with EventClient.resuming(first) as second:
            assert second.hello_reply["resumed"] is False


def test_an_attached_session_does_not_expire(start, topic):
    gateway = start(session_ttl=1)
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        assert client.is_quiet_for(2.5)
        gateway.api.publish(topic, "still here")
        assert client.data(1) == ["still here"]


def test_a_resume_within_the_time_starts_it_anew(start, topic):
    gateway = start(session_ttl=2)
    client = EventClient.native(gateway.port)
    client.subscribe(topic)
    for number in range(4):
        client.reset()
        with EventClient.open(gateway.port) as bystander:
            assert bystander.is_quiet_for(1)
        gateway.api.publish(topic, number)
        client = EventClient.resuming(client)
        assert client.hello_reply["resumed"] is True and client.data(1) == [number]
    client.close()


def test_what_a_waiting_session_may_hold_is_limited(start, topic):
    """Beyond the limit the session ends, and the client learns it at its resume: never silently less."""
    gateway = start(outbox_events=50)
    for missed, resumed in ((50, True), (51, False)):
        name = f"{topic}.{missed}"
        with EventClient.native(gateway.port) as first:
            position = first.subscribe(name)["position"]
            first.acknowledge()
            first.barrier()
            first.reset()
            eventually(lambda: gateway.api.session(first.handle)["state"] == "waiting", what="the detached session")
            publish_numbers(gateway, name, 0, missed)
            with EventClient.resuming(first) as second:
                assert second.hello_reply["resumed"] is resumed
                if not resumed:
                    assert second.subscribe(name, since=position)["recovered"] is True
                assert second.data(missed) == list(range(missed))
                second.expect_silence()


def test_sessions_that_moved_between_event_loops_expire_like_any_other(start, topic):
    """A new connection may be on another loop; whatever the old loop still remembers of the session must not matter."""
    gateway = start(session_ttl=0.5, env={"HOLDFAST_THREADS": "4"})
    for _ in range(4):
        clients = [EventClient.native(gateway.port) for _ in range(25)]
        for client in clients:
            client.subscribe(topic)
        for _ in range(3):
            for number, client in enumerate(clients):
                client.reset()
                clients[number] = EventClient.resuming(client)
        assert all(client.hello_reply["resumed"] for client in clients)
        for client in clients:
            client.reset()
        eventually(lambda: gateway.api.sessions()["total"] == 0, what="the end of all sessions")
    assert gateway.alive


# What happens on the wire when it is cut ------------------------------------------------------------------------


def test_a_plain_end_of_tcp_leaves_the_session_waiting(gateway, topic):
    with EventClient.native(gateway.port) as first:
        first.subscribe(topic)
        first.finish_writing()
        first.wait_for_end()
        gateway.api.publish(topic, 1)
        with EventClient.resuming(first) as second:
            assert second.hello_reply["resumed"] is True and second.data(1) == [1]


def test_a_half_sent_event_is_not_an_event(gateway, topic):
    with EventClient.native(gateway.port) as first:
        first.send_frame(0x1, b'{"event":"subscribe","subscription":"', fin=False)
        first.expect_open()
        first.reset()
        with EventClient.resuming(first) as second:
            assert second.hello_reply["resumed"] is True and second.hello_reply["received"] == 0
            second.subscribe(topic)


def test_the_helpers_of_this_file_notice_silence_and_ends(gateway):
    """A canary: a wait that always succeeds would prove nothing."""
    with EventClient.native(gateway.port) as client:
        with pytest.raises(Late):
            client.next_event(timeout=0.1)
        client.send_frame(CLOSE, b"\x03\xe8")
        with pytest.raises(AssertionError):
            expect_drop(client, DEADLINE)
        with pytest.raises(ConnectionLost):
            client.next_frame()
