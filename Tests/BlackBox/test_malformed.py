"""Faults F18 and F19: ten thousand malformed inputs, and five hundred handshakes that never end, against one live gateway.

The seed is printed; HOLDFAST_SEED sets another one.
"""

import json
import os
import random
import select
import time

import pytest

import malformed_inputs as inputs
import prometheus
from event_client import EventClient
from holdfast_process import Api, Holdfast, background, eventually
from raw_socket import ConnectionLost, RawSocket, byte_by_byte
from raw_websocket import CLOSE, TEXT, make_frame, new_key, request_bytes

INPUTS = {"texts": 6_000, "frames": 2_500, "requests": 1_500}
EXPECTED_CLOSES = {1000, 1001, 1002, 1003, 1007, 1009, 4000}
MIB = 1_048_576


def session_gauge(api: Api) -> float:
    families = prometheus.parse(api.metrics())
    return sum(family.total() for family in families.values() if family.kind == "gauge" and "session" in family.name)


def open_files(gateway: Holdfast) -> int:
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))


class Attacker:
    """Sends malformed inputs and counts them. What the server answers must itself be right."""

    def __init__(self, port: int, rng: random.Random):
        self.port, self.rng, self.count = port, rng, 0

    def connect(self) -> EventClient:
        client = EventClient.open(self.port)
        kind = self.rng.randrange(3)
        if kind:
            client.hello() if kind == 1 else client.ask({"event": "ping"})
        if self.rng.random() < 0.3:
            client.send_event({"event": "subscribe", "subscription": "fuzz.topic"})
        return client

    def drop(self, client: RawSocket) -> None:
        self.rng.choice([client.close, client.reset])()

    def settle(self, client: EventClient) -> bool:
        """Everything sent so far has been answered in some way; False if that way was a Close."""
        token = os.urandom(6)
        client.send_frame(0x9, token)
        try:
            while True:
                frame = client.next_frame()
                if frame.opcode == CLOSE:
                    code = int.from_bytes(frame.payload[:2], "big")
                    assert code in EXPECTED_CLOSES, f"closed with {code}"
                    return False
                if frame.opcode == TEXT:
                    json.loads(frame.payload)
                elif frame.opcode == 0xA and frame.payload == token:
                    return True
        except ConnectionLost as lost:
            # A Close may be lost when the server resets a line that still sends; that it went down is an answer too.
            assert lost.how in ("end", "reset")
            return False

    def texts(self, count: int) -> None:
        client = self.connect()
        for number in range(count):
            client.send(inputs.as_frames(self.rng, inputs.any_text(self.rng)))
            self.count += 1
            if number % 10 == 9 and not self.settle(client):
                self.drop(client)
                client = self.connect()
        self.drop(client)

    def frames(self, count: int) -> None:
        for _ in range(count):
            client = self.connect()
            client.send(inputs.any_frames(self.rng))
            self.count += 1
            if self.rng.random() < 0.5:
                client.finish_writing()
                client.wait_for_end()
            self.drop(client)

    def requests(self, count: int) -> None:
        for _ in range(count):
            with RawSocket(self.port) as connection:
                connection.send(inputs.bad_request(self.rng, self.port))
                self.count += 1
                if self.rng.random() < 0.3:
                    connection.finish_writing()
                    connection.wait_for_end()
                self.drop(connection)

    def run(self, share: float) -> None:
        for kind, count in INPUTS.items():
            getattr(self, kind)(int(count * share))


def neighbour(gateway: Holdfast, topic: str, seen: list[int]):
    """A well-behaved session that is published to all the time, and notes every number."""

    def publish(stop):
        api = Api(gateway.port)
        number = 0
        while not stop.is_set():
            api.publish(topic, number)
            number += 1
            stop.wait(0.005)
        api.publish(topic, "end")

    def listen(stop):
        with EventClient.native(gateway.port) as client:
            client.subscribe(topic)
            ready.append(True)
            while True:
                event = client.next_event(timeout=20)
                if event["event"] == "ack":
                    continue
                if event["data"] == "end":
                    return
                seen.append(event["data"])
                if len(seen) % 50 == 0:
                    client.acknowledge()

    ready: list[bool] = []
    return publish, listen, ready


def test_ten_thousand_malformed_inputs(start, topic, capsys):
    seed = inputs.seed()
    with capsys.disabled():
        print(f"\n  malformed inputs: seed {seed}", flush=True)
    gateway = start(session_ttl=0.5)
    attacker = Attacker(gateway.port, random.Random(seed))

    def at_rest() -> bool:
        return gateway.api.sessions()["total"] == 0 and session_gauge(gateway.api) == 0

    def rest() -> tuple[int, int]:
        eventually(at_rest, timeout=20, what="the end of the attackers' sessions")
        files = eventually(lambda: open_files(gateway) <= files_before + 2 and open_files(gateway), what="the end of their sockets")
        return gateway.resident_bytes(), files

    files_before = open_files(gateway)
    attacker.run(0.2)  # Warms every path up, so that what grows afterwards is a leak.
    warm, _ = rest()

    seen: list[int] = []
    publish, listen, ready = neighbour(gateway, topic, seen)
    with background(listen):
        eventually(lambda: ready, what="the neighbour")
        with background(publish):
            attacker.run(0.8)
    assert attacker.count == sum(INPUTS.values())
    # All through the attack, which takes seconds; how many, depends on the machine.
    assert seen == list(range(len(seen))) and len(seen) > 20, f"{len(seen)} events came to the neighbour"
    after, _ = rest()
    with capsys.disabled():
        print(f"  memory {warm / MIB:.1f} MiB after a fifth, {after / MIB:.1f} MiB after all", flush=True)
    assert gateway.alive
    assert after - warm < 24 * MIB
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic + ".after")
        gateway.api.publish(topic + ".after", "well")
        assert client.data(1) == ["well"]


@pytest.mark.parametrize("number", range(len(inputs.EVENTS)))
def test_every_event_cut_at_every_byte_of_its_frame(gateway, number):
    """Cut by FIN and by RST, and the rest never comes."""
    frame = make_frame(TEXT, json.dumps(inputs.EVENTS[number]).encode())
    for cut in range(len(frame)):
        client = EventClient.open(gateway.port)
        client.send(make_frame(TEXT, b'{"event":"ping"}') + frame[:cut])
        assert client.next_event()["event"] == "pong"
        (client.reset if cut % 2 else client.close)()
    with EventClient.open(gateway.port) as client:
        assert client.ask({"event": "ping"})["event"] == "pong"


@pytest.mark.parametrize("value", inputs.ODD_VALUES, ids=range(len(inputs.ODD_VALUES)))
def test_an_odd_value_in_any_field_is_answered(gateway, value):
    """Answered with something, and the session goes on; not one of them ends it."""
    with EventClient.native(gateway.port) as client:
        for event in (b"subscribe", b"unsubscribe", b"message", b"auth", b"ping", b"ack", b"hello", b"nothing"):
            for field in (b"subscription", b"since", b"id", b"data", b"received", b"version", b"resume", b"event"):
                client.send_frame(TEXT, b'{"subscription":"odd.x","event":"' + event + b'","' + field + b'":' + value + b"}")
            client.barrier()


# F19 ------------------------------------------------------------------------------------------------------------


def test_handshakes_that_never_end_are_dropped_and_the_service_goes_on(start, topic):
    time_allowed = 2.0
    gateway = start(handshake_timeout=time_allowed)
    files = open_files(gateway)
    data = request_bytes(gateway.port, new_key())
    rng = random.Random(inputs.seed())
    began = time.monotonic()
    stuck = []
    for number in range(500):
        connection = RawSocket(gateway.port)
        connection.send(data[: (0, 1, 20, rng.randrange(len(data)), len(data) - 1)[number % 5]])
        stuck.append(connection)

    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        for number in range(20):
            gateway.api.publish(topic, number)
        assert client.data(20) == list(range(20))

        def dribble() -> bool:
            """A byte now and then does not help; true when all have been dropped."""
            readable, _, _ = select.select([one.sock for one in stuck], [], [], 0)
            for one in [one for one in stuck if one.sock in readable]:
                try:
                    one.fill(time.monotonic() + 1)
                except ConnectionLost:
                    stuck.remove(one)
            for one in stuck[::5]:
                one.send(b"x")
            return not stuck

        eventually(dribble, timeout=time_allowed + 4, every=0.1, what="the end of the unfinished handshakes")
        assert time.monotonic() - began >= time_allowed * 0.8
        gateway.api.publish(topic, "after")
        assert client.data(1) == ["after"]
        eventually(lambda: open_files(gateway) <= files + 3, what="the closing of their sockets")


def test_more_connections_than_files_are_survived(start, topic):
    """With 120 descriptors in all: some are refused or wait, nobody who is in suffers, and room that returns is used."""
    gateway = start(files=120)
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        many = []
        for _ in range(200):
            many.append(RawSocket(gateway.port))
        gateway_side = Api(gateway.port)
        for one in many[20:]:
            one.reset()
        eventually(lambda: gateway.alive and publishes(gateway_side, topic), what="a publication after the flood")
        assert client.data(1) == ["in spite of all"]
        for one in many[:20]:
            one.close()


def publishes(api: Api, topic: str) -> bool:
    try:
        return api.publish(topic, "in spite of all")["status"] == "ok"
    except OSError:
        return False


def test_a_slow_sender_of_an_event_is_no_fault(gateway):
    with EventClient.native(gateway.port) as client:
        client.send_frame(TEXT, b'{"event":"ping","data":"slow"}', byte_by_byte)
        assert client.next_event()["data"] == "slow"
