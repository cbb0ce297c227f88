"""§12: SIGTERM and SIGINT: clients are told, callbacks are made, nobody holds it up, exit code 0."""

import signal
import time

import pytest

from fake_service import Answer
from holdfast_process import eventually
from raw_socket import ConnectionLost, RawSocket
from raw_websocket import CLOSE, close_payload, new_key, read_response, request_bytes
from shark import PlainClient, Shark

GOING_AWAY = 1001  # 1000 in SocketShark
SOON = 8.0


@pytest.fixture
def shark(serve, service) -> Shark:
    return serve({"books": {"require_authentication": False, **service.urls("before_unsubscribe", "on_unsubscribe")}})


def told(client: PlainClient) -> None:
    client.expect_close(GOING_AWAY, timeout=SOON)
    client.close()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_idle_gateway_stops_at_once(shark, name):
    began = time.monotonic()
    shark.process.send_signal(getattr(signal, name))
    assert shark.wait(SOON) == 0
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_clients_are_closed_and_their_callbacks_made(shark, service, name):
    with shark.client() as client:
        client.subscribe("books.x")
        client.subscribe("books.y")
        shark.process.send_signal(getattr(signal, name))
        told(client)
    assert shark.wait(SOON) == 0
    assert [(request.path, request.body["subscription"]) for request in service.received] == [
        ("/before_unsubscribe", "books.y"), ("/on_unsubscribe", "books.y"),
        ("/before_unsubscribe", "books.x"), ("/on_unsubscribe", "books.x")]
    shark.wait_for_subscribers("books.x", 0)


def test_many_clients(shark, service):
    clients = [shark.client() for _ in range(40)]
    for number, client in enumerate(clients):
        client.subscribe(f"books.{number}")
    shark.ask_to_stop()
    for client in clients:
        told(client)
    assert shark.wait(SOON) == 0
    names = {f"books.{number}" for number in range(40)}
    assert {body["subscription"] for body in service.bodies("/on_unsubscribe")} == names


def test_slow_callbacks_are_waited_for(shark, service):
    service.always("/on_unsubscribe", Answer(after=1.5))
    with shark.client() as client:
        client.subscribe("books.x")
        began = time.monotonic()
        shark.ask_to_stop()
        told(client)
    assert shark.wait(SOON) == 0
    assert time.monotonic() - began >= 1.4


def test_failing_callbacks_do_not_matter(shark, service):
    service.always("/before_unsubscribe", Answer(status=500))
    service.always("/on_unsubscribe", Answer(instead="reset"))
    with shark.client() as client:
        client.subscribe("books.x")
        shark.ask_to_stop()
        told(client)
    assert shark.wait(SOON) == 0


def test_a_second_signal_is_ignored(shark, service):
    gate = service.hold("/on_unsubscribe")
    with shark.client() as client:
        client.subscribe("books.x")
        shark.ask_to_stop()
        told(client)
    service.wait_for("/on_unsubscribe")
    shark.ask_to_stop()
    gate.set()
    assert shark.wait(SOON) == 0


def is_refused(port: int) -> bool:
    """At the level of TCP, or with 503."""
    try:
        with RawSocket(port, timeout=2) as late:
            late.send(request_bytes(port, new_key()))
            return read_response(late).status == 503
    except (ConnectionLost, ConnectionRefusedError, ConnectionResetError):
        return True


def test_nobody_new_is_let_in(shark, service):
    gate = service.hold("/on_unsubscribe")
    with shark.client() as client:
        client.subscribe("books.x")
        shark.ask_to_stop()
        told(client)
        service.wait_for("/on_unsubscribe")
        assert is_refused(shark.port)
    gate.set()
    assert shark.wait(SOON) == 0


def test_events_of_a_client_that_is_being_closed_are_ignored(shark, service):
    with shark.client() as client:
        client.subscribe("books.x")
        shark.ask_to_stop()
        while client.next_frame(SOON).opcode != CLOSE:
            pass
        client.send_event({"event": "subscribe", "subscription": "books.y"})
        client.send_frame(CLOSE, close_payload(GOING_AWAY))
        client.wait_for_end(SOON)
    assert shark.wait(SOON) == 0
    assert [body["subscription"] for body in service.bodies("/on_unsubscribe")] == ["books.x"]


# With a deadline: ours (§17.20) ------------------------------------------------------------------------


def test_a_client_that_never_answers_does_not_hold_it_up(shark, service):
    with shark.client() as mute:
        mute.subscribe("books.x")
        shark.ask_to_stop()
        assert shark.wait(5 + 4) == 0
    service.wait_for("/on_unsubscribe")


def test_a_client_that_reads_nothing_does_not_hold_it_up(shark):
    with shark.client(receive_buffer=4_096) as stalled:
        stalled.subscribe("books.x")
        for _ in range(20):
            shark.publish("books.x", "x" * 40_000)
        shark.ask_to_stop()
        assert shark.wait(5 + 4) == 0


def test_callbacks_that_never_end_do_not_hold_it_up(serve, service):
    shark = serve({"books": {"require_authentication": False, **service.urls("on_unsubscribe")}},
                  drain={"window": 0.2, "deadline": 2}, http={"timeout": 60})
    service.always("/on_unsubscribe", Answer(instead="hang"))
    with shark.client() as client:
        client.subscribe("books.x")
        began = time.monotonic()
        shark.ask_to_stop()
        told(client)
        assert shark.wait(2 + 4) == 0
        assert time.monotonic() - began >= 1.5


def test_clients_are_sent_away_over_a_window(serve):
    """Not all in the same moment (§17.13)."""
    shark = serve({"simple": {"require_authentication": False}}, drain={"window": 2, "deadline": 6})
    clients = [shark.client() for _ in range(30)]
    for client in clients:
        client.subscribe("simple.x")
    began = time.monotonic()
    shark.ask_to_stop()
    ends: list[float] = []

    def look() -> bool:
        for client in [one for one in clients if one.has_something()]:
            told(client)
            ends.append(time.monotonic() - began)
            clients.remove(client)
        return not clients

    eventually(look, timeout=10, every=0.005, what="all clients are told")
    assert max(ends) - min(ends) >= 0.5, ends
    assert shark.wait(SOON) == 0


def test_readiness_falls_at_once(shark, service):
    """§17.20: a load balancer is warned before the sessions are gone."""
    gate = service.hold("/on_unsubscribe")
    with shark.client() as client:
        client.subscribe("books.x")
        assert shark.api.get("/ready").status == 200
        shark.ask_to_stop()
        told(client)
        service.wait_for("/on_unsubscribe")
        try:
            assert shark.api.get("/ready").status == 503
        except OSError:
            pass  # Not listening any more is as good a warning.
    gate.set()
    assert shark.wait(SOON) == 0
