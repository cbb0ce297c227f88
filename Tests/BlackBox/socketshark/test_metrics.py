"""§13: SocketShark's four metrics under their names, on a port of their own; and what Holdfast counts beside them."""

import http.client
import re
import socket

import pytest

import prometheus
from fake_service import ok, refused
from holdfast_process import eventually, run
from redis_server import free_port
from settings import lines, write
from shark import Shark, client_message, configured, subscribe, unsubscribe

OPEN = {"require_authentication": False}
EVENTS = "socketshark_event_success_counter"


class Counted:
    """A gateway whose metrics are on a port of their own."""

    def __init__(self, shark: Shark, port: int):
        self.shark = shark
        self.port = port

    def get(self, path: str = "/metrics") -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        return connection.getresponse()

    def families(self) -> dict[str, prometheus.Family]:
        response = self.get()
        assert response.status == 200 and response.headers["Content-Type"].startswith("text/plain"), response.headers
        return prometheus.parse(response.read().decode())

    def value(self, name: str, **labels: str) -> float:
        family = self.families()[name]
        return family.samples.get((name, tuple(sorted(labels.items()))), 0)

    def wait_for(self, count: float, name: str, **labels: str) -> None:
        eventually(lambda: self.value(name, **labels) == count, what=f"{name} {labels} {count}")


@pytest.fixture
def counted(serve, service) -> Counted:
    port = free_port()
    shark = serve({"books": {**OPEN, **service.urls("authorizer", "on_message")}, "private": {}},
                  metrics={"prometheus": {"host": "127.0.0.1", "port": port}, "log": {}},
                  authentication={"ticket": {"validation_url": service.url("/auth"), "auth_fields": []}})
    return Counted(shark, port)


def test_the_service_is_ready(counted):
    counted.wait_for(1, "socketshark_service_state")
    assert counted.families()["socketshark_service_state"].kind == "gauge"


def test_connections_are_counted(counted):
    before = counted.value("socketshark_connection_total")
    clients = [counted.shark.client() for _ in range(3)]
    for client in clients:
        client.barrier()
    counted.wait_for(3, "socketshark_connection_count")
    for client in clients[:2]:
        client.say_goodbye()
    counted.wait_for(1, "socketshark_connection_count")
    clients[2].reset()
    for client in clients:
        client.close()
    counted.wait_for(0, "socketshark_connection_count")
    assert counted.value("socketshark_connection_total") == before + 3
    assert counted.families()["socketshark_connection_count"].kind == "gauge"


COUNTED = {
    "auth": ({"event": "auth", "ticket": "x"}, "auth", "success"),
    "failed auth": ({"event": "auth"}, "auth", "error"),
    "subscribe": (subscribe("books.x"), "subscribe", "success"),
    "refused subscribe": (subscribe("private.x"), "subscribe", "error"),
    "invalid name": (subscribe("x"), "subscribe", "error"),
    "message without a subscription": (client_message("books.x"), "message", "error"),
    "unsubscribe without a subscription": (unsubscribe("books.x"), "unsubscribe", "error"),
    "ping": ({"event": "ping"}, "ping", "success"),
    "invalid": ({"event": 5}, "invalid", "error"),
    "unknown": ({"event": "nothing known"}, "unknown", "error"),
}


@pytest.mark.parametrize("event, label, status", COUNTED.values(), ids=COUNTED)
def test_events_are_counted_by_name_and_outcome(counted, event, label, status):
    with counted.shark.client() as client:
        client.ask(event)
        counted.wait_for(1, EVENTS, event=label, status=status)
        assert counted.families()[EVENTS].total() == 1


def test_messages_and_unsubscribes(counted, service):
    with counted.shark.client() as client:
        client.subscribe("books.x")
        service.script("/on_message", ok(data=1), refused())
        client.ask(client_message("books.x"))
        client.ask(client_message("books.x"))
        client.ask(unsubscribe("books.x"))
    counted.wait_for(1, EVENTS, event="message", status="success")
    counted.wait_for(1, EVENTS, event="message", status="error")
    counted.wait_for(1, EVENTS, event="unsubscribe", status="success")


def test_what_is_no_json_is_not_counted(counted):
    with counted.shark.client() as client:
        client.send_text("nonsense")
        assert client.next_event()["status"] == "error"
        client.ask({"event": "ping"})
        counted.wait_for(1, EVENTS, event="ping", status="success")
        assert counted.families()[EVENTS].total() == 1


def test_all_labels_are_known_ones(counted):
    with counted.shark.client() as client:
        for event in ({"event": "a"}, {"event": "b"}, {"event": []}, {"event": "ping"}):
            client.ask(event)
    for _, labels in counted.families()[EVENTS].samples:
        assert set(dict(labels)) == {"event", "status"}
        assert dict(labels)["event"] in {"auth", "subscribe", "message", "unsubscribe", "ping", "invalid", "unknown"}


def test_an_unknown_provider_is_named_at_the_start(tmp_path, redis):
    config = configured({}, redis.port, "", metrics={"promtheus": {"port": 1}})
    done = run("serve", "--port", "0", "--config", write(tmp_path, "\n".join(lines(config)) + "\n"))
    assert done.returncode != 0 and "promtheus" in done.stdout + done.stderr, done


# Ours ---------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_told_and_nothing_starts(tmp_path, redis):
    """§17.22: SocketShark ran on without metrics."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = configured({}, redis.port, "", metrics={"prometheus": {"host": "127.0.0.1", "port": port}})
        done = run("serve", "--port", "0", "--config", write(tmp_path, "\n".join(lines(config)) + "\n"))
    assert done.returncode != 0 and re.search(rf"\b{port}\b", done.stdout + done.stderr), done


def test_only_the_main_port_asks_for_the_key(serve):
    port, key = free_port(), "k" * 16
    shark = serve({"books": OPEN}, metrics={"prometheus": {"host": "127.0.0.1", "port": port}}, api={"key": key})
    assert Counted(shark, port).families()["socketshark_service_state"].value() == 1
    assert shark.api.get("/metrics").status == 200
    assert shark.api.get("/metrics", headers={"Authorization": "Bearer wrong"}).status == 401


def test_deliveries_are_counted(counted):
    with counted.shark.client() as client:
        client.subscribe("books.x")
        for number in range(5):
            counted.shark.publish("books.x", number)
        client.pushed(5)
        counted.wait_for(5, "holdfast_deliveries_total", dialect="plain")


def test_dropped_messages_are_counted(counted):
    with counted.shark.client() as client:
        client.subscribe("books.x")
        counted.shark.publish_text("books.x", "nonsense")
        counted.shark.publish_text("books.x", '{"subscription": "books.y", "data": 1}')
        counted.shark.expect_no_push(client, "books.x")
        drops = counted.families()["holdfast_drops_total"]
        assert drops.total() >= 2 and all(dict(labels).keys() == {"reason"} for _, labels in drops.samples)


def test_callbacks_are_timed(counted, service):
    with counted.shark.client() as client:
        client.subscribe("books.x")
        service.script("/authorizer", refused())
        client.ask(subscribe("books.y"))
    family = counted.families()["holdfast_callback_seconds"]
    assert family.kind == "histogram"
    counts = [(dict(labels), value) for (name, labels), value in family.samples.items() if name.endswith("_count")]
    assert all(labels.keys() == {"callback", "outcome"} for labels, _ in counts)
    assert sum(value for labels, value in counts if labels["callback"] == "authorizer") == 2, counts


def test_redis_and_sessions_can_be_watched(counted):
    with counted.shark.client() as client:
        client.subscribe("books.x")
        families = counted.families()
    assert [value for value in families["holdfast_redis_connected"].samples.values()] == [1]
    assert families["holdfast_queue_bytes"].total() >= 0
    sessions = {labels: value for (_, labels), value in families["holdfast_attached_sessions"].samples.items() if value}
    assert [dict(labels)["dialect"] for labels in sessions] == ["plain"] and list(sessions.values()) == [1]
    assert "holdfast_redis_latency_seconds" in families
