"""The fault proxies, that of the ladder's tests and `holdfast proxy`: they do what they are told, count what they see, and
disturb nothing else."""

import asyncio
import contextlib
import pathlib
import re
import signal
import socket
import sys
import threading
import time

import pytest

from event_client import EventClient
from holdfast_process import Api, Holdfast, eventually, run
from http_session import HttpSession
from raw_http import Comment, HttpConnection, is_closed
from raw_socket import ConnectionLost, Late
from raw_websocket import new_key
from raw_websocket import request_bytes as handshake

sys.path.insert(0, str(pathlib.Path(__file__).parent / "proxies"))

import faults  # noqa: E402

PATH = "/holdfast/socket"


@contextlib.contextmanager
def running(port: int, treatment: str):
    """The proxy in a loop of its own; what it counts is read from here. Answers it and its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    manager = faults.fault_proxy(port, treatment=treatment)
    proxy = run(manager.__aenter__())
    block = proxy.block

    async def in_the_loop(treatment: str) -> int:
        return block(treatment)

    proxy.block = lambda treatment: run(in_the_loop(treatment))
    try:
        yield proxy, int(proxy.address.split(":")[1])
        run(manager.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


@pytest.fixture
def behind(gateway):
    with contextlib.ExitStack() as stack:
        yield lambda treatment: stack.enter_context(running(gateway.port, treatment))


def knock(port: int) -> HttpConnection:
    """A handshake that was sent; whatever comes of it is to be read."""
    connection = HttpConnection(port)
    connection.send(handshake(port, new_key(), path=PATH))
    return connection


@pytest.mark.parametrize("status", faults.STATUSES)
def test_refused_with_a_status(behind, status):
    proxy, port = behind(status)
    with knock(port) as connection:
        assert connection.reply().status == int(status)
        assert connection.ask("POST", "/holdfast/session", [{"event": "probe"}]).status == 200, "the connection is kept"
    assert [attempt.treatment for attempt in proxy.attempts] == [status]
    assert abs(proxy.attempts[0].at - time.time()) < 5


def test_reset_and_hang(behind):
    proxy, port = behind("reset")
    with knock(port) as connection:
        assert connection.wait_for_end() == "reset"
    proxy, port = behind("hang")
    with knock(port) as connection:
        assert not connection.has_something(0.5) and len(proxy.attempts) == 1


def test_silent(behind, gateway):
    """A good handshake, and then nothing either way: the gateway never hears of it."""
    before = gateway.api.sessions_opened()
    _, port = behind("silent")
    with EventClient.open(port, path=PATH) as client:
        client.send_event({"event": "hello", "version": 1})
        assert client.is_quiet_for(0.5)
    assert gateway.api.sessions_opened() == before


@pytest.mark.parametrize(("treatment", "is_heard"), [("client-only", True), ("server-only", False)])
def test_one_way(behind, start, treatment, is_heard):
    gateway = start()
    with running(gateway.port, treatment) as (_, port), EventClient.open(port, path=PATH) as client:
        client.send_event({"event": "hello", "version": 1})
        if is_heard:
            eventually(lambda: gateway.api.sessions()["total"] == 1, what="the gateway hears it")
        assert client.is_quiet_for(0.5)
        assert gateway.api.sessions()["total"] == int(is_heard)


def test_server_only_carries_what_the_server_says(start):
    """Its Pings are the only thing that it says unasked."""
    gateway = start(ws_ping_interval=0.3, ws_ping_timeout=5)
    with running(gateway.port, "server-only") as (_, port), EventClient.open(port, path=PATH) as client:
        assert client.next_frame().opcode == 0x9


def test_dies(behind):
    _, port = behind("dies")
    with EventClient.open(port, path=PATH) as client:
        began = time.monotonic()
        assert client.hello()["status"] == "ok"
        assert client.wait_for_end() == "reset"
        assert faults.SHORT_LIFE - 0.05 < time.monotonic() - began < faults.SHORT_LIFE + 1


def test_works_then_blocked_then_works(behind, gateway, topic):
    proxy, port = behind("ok")
    with EventClient.open(port, path=PATH) as client:
        client.hello()
        client.subscribe(topic)
        gateway.api.publish(topic, "x" * 200_000)
        assert client.data(1) == ["x" * 200_000]
        assert proxy.block("400") == 1
        assert client.wait_for_end() == "reset"
    with knock(port) as connection:
        assert connection.reply().status == 400
    proxy.treatment = "ok"
    with EventClient.open(port, path=PATH) as client:
        assert client.hello()["status"] == "ok"
    assert [attempt.treatment for attempt in proxy.attempts] == ["ok", "400", "ok"]


def test_everything_else_passes_as_it_comes(behind, gateway, topic):
    proxy, port = behind("400")
    with HttpSession(port, "/holdfast") as session:
        session.hello()
        session.subscribe(topic)
        stream = session.stream()
        assert isinstance(stream.next(), Comment)
        for number in range(10):
            gateway.api.publish(topic, number)
            assert stream.data(1, 1) == [number]
        session.start_poll(20, on=session.main)
        assert stream.last_word()["code"] == 4000
        gateway.api.publish(topic, "x" * 300_000)
        assert session.end_poll(session.main)[0]["data"] == "x" * 300_000
        session.poll(0)
        assert not is_closed(session.main)
        polls = proxy.of("poll")
        assert [poll.status for poll in polls] == [200] * len(polls) and not any(poll.aborted for poll in polls)
        assert len({poll.connection for poll in polls}) == 1, "one connection for all of them"
        assert proxy.attempts == []


def test_an_aborted_poll_is_seen_and_reaches_the_gateway(behind, gateway, topic):
    proxy, port = behind("ok")
    with HttpSession(port, "/holdfast") as session:
        session.hello()
        for _ in range(3):
            poll = session.start_poll(20)
            eventually(lambda: gateway.api.session(session.handle)["state"] == "attached", what="the poll has come")
            assert not poll.has_something(0.2)
            poll.close()
            eventually(lambda: proxy.requests[-1].aborted, what="the proxy sees it")
        assert len(proxy.aborted_polls) == 3


def test_mistakes_of_the_proxy_are_raised(gateway):
    with pytest.raises(ZeroDivisionError):
        with running(gateway.port, "ok") as (proxy, port):
            proxy._site = lambda _: 1 // 0
            with HttpConnection(port) as http, contextlib.suppress(ConnectionLost, Late):
                http.ask("GET", "/")
            eventually(lambda: proxy.mistakes, what="the mistake")


# `holdfast proxy` -------------------------------------------------------------------------------


CONTROL = re.compile(r"^control on http://127.0.0.1:(\d+)/$")


class Proxy(Holdfast):
    """`holdfast proxy` before a gateway, with its control server."""

    def __init__(self, server: int, *flags: str):
        super().__init__("proxy", "--to", f"127.0.0.1:{server}", "--control", "127.0.0.1:0", *flags)
        self.control = Api(int(next(match[1] for match in map(CONTROL.match, list(self.log)) if match)))

    def statistics(self) -> dict:
        return self.control.get("/statistics").json

    def do(self, what: str, **words: str) -> dict:
        answer = self.control.post(f"/{what}", words)
        assert answer.status == 200, answer
        return answer.json

    def apply(self, **faults) -> None:
        answer = self.control.call("PUT", "/faults", {name.replace("_", "-"): value for name, value in faults.items()})
        assert answer.status == 200, answer

    def says(self, text: str) -> bool:
        return eventually(lambda: any(text in line for line in list(self.log)), what=f'"{text}"')

    def __exit__(self, *_):
        self.control.close()
        alive = self.alive
        super().__exit__()
        assert alive, self.tail()


@pytest.fixture
def proxied(gateway):
    with contextlib.ExitStack() as stack:
        yield lambda *flags: stack.enter_context(Proxy(gateway.port, *flags))


def test_command_relays_and_leaves_when_asked(proxied, gateway, topic):
    proxy = proxied()
    with EventClient.open(proxy.port, path=PATH) as client:
        assert client.hello()["status"] == "ok"
        client.subscribe(topic)
        gateway.api.publish(topic, "x" * 200_000)
        assert client.data(1) == ["x" * 200_000]
    assert proxy.says("#1 upgraded /holdfast/socket") and proxy.says("#1 ended: over")
    statistics = proxy.statistics()
    assert statistics["bytes-to-client"] > 200_000 and statistics["upgrades-passed"] == 1
    other = Holdfast("proxy", "--to", f"127.0.0.1:{gateway.port}")
    with other:
        other.process.send_signal(signal.SIGINT)
        assert other.wait(10) == 0
        eventually(lambda: any("0 connections;" in line for line in other.log), what="its last words")


@pytest.mark.parametrize("status", faults.STATUSES)
def test_command_answers_upgrades(proxied, status):
    proxy = proxied("--upgrades", status)
    with knock(proxy.port) as connection:
        assert connection.reply().status == int(status)
        assert connection.ask("POST", "/session", [{"event": "probe"}]).status == 200, "the connection is kept"
    assert proxy.says(f"#1 upgrade /holdfast/socket answered with {status}")


def test_command_resets_and_leaves_hanging(proxied):
    proxy = proxied("--upgrades", "reset")
    with knock(proxy.port) as connection:
        assert connection.wait_for_end() == "reset"
    proxy.apply(upgrades="hang")
    with knock(proxy.port) as connection:
        assert proxy.says("left hanging")
        assert not connection.has_something(0.3)


@pytest.mark.parametrize(("fault", "is_heard"), [("silent", False), ("only-to-server", True), ("only-to-client", False)])
def test_command_falls_silent_after_the_upgrade(proxied, gateway, fault, is_heard):
    proxy = proxied("--upgrades", fault)
    before = gateway.api.sessions_opened()
    with EventClient.open(proxy.port, path=PATH) as client:
        client.send_event({"event": "hello", "version": 1})
        if is_heard:
            eventually(lambda: gateway.api.sessions_opened() == before + 1, what="the gateway hears it")
            eventually(lambda: proxy.statistics()["bytes-swallowed-to-client"], what="the answer is lost")
        else:
            eventually(lambda: proxy.statistics()["bytes-swallowed-to-server"], what="the hello is lost")
            assert gateway.api.sessions_opened() == before
        assert not client.has_something()


def test_command_pulls_the_cable_and_another_line_carries(proxied, gateway, topic):
    proxy = proxied()
    with EventClient.open(proxy.port, path=PATH) as client:
        client.hello()
        client.subscribe(topic)
        assert proxy.do("cut")["faults"]["cut"] == "both"
        gateway.api.publish(topic, 1)
        eventually(lambda: proxy.statistics()["bytes-swallowed-to-client"], what="it is lost")
        assert not client.has_something()
        proxy.do("restore")
        with EventClient.resuming(client, proxy.port) as again:
            assert again.data(1) == [1]
    assert proxy.do("reset", which="all")["connections"] >= 1


def test_command_buffers_streams_and_not_polls(proxied, gateway, topic):
    proxy = proxied("--buffer-bytes", "100000")
    with HttpSession(proxy.port) as session:
        session.hello()
        session.subscribe(topic)
        poll = session.start_poll(20)
        gateway.api.publish(topic, 1)
        assert session.end_poll(poll)[0]["data"] == 1, "an answer that ends passes"
        with session.connection() as stream:
            path = session.url(f"stream?received={session.received}&number={session.next_number()}")
            stream.start("GET", path, headers=session.authorization | {"Accept": "text/event-stream"})
            assert not stream.has_something(0.5), "a stream stalls, its head too"
            proxy.do("clear")
            assert stream.has_something(5), "what was held back comes when the fault goes"


def test_command_takes_time(proxied):
    proxy = proxied("--latency-ms", "200", "--jitter-ms", "50")
    with HttpConnection(proxy.port) as http:
        began = time.monotonic()
        assert http.ask("GET", "/holdfast.js").status == 200
        assert 0.3 <= time.monotonic() - began < 5
        began = time.monotonic()
        proxy.apply(bandwidth_bytes=200_000)
        size = len(http.ask("GET", "/holdfast.js").body)
        assert time.monotonic() - began > size / 200_000 * 0.8


def test_command_repeats_requests(proxied, gateway, topic):
    proxy = proxied("--duplicate-requests")
    with EventClient.open(gateway.port, path=PATH) as client, HttpConnection(proxy.port) as http:
        client.hello()
        client.subscribe(topic)
        assert http.ask("POST", "/api/publish", {"subscription": topic, "data": 7}).status == 200
        assert client.data(2) == [7, 7]
        assert not http.has_something(0.2), "one answer"


def test_command_corrupts_one_byte(proxied, gateway):
    proxy = proxied()
    with HttpConnection(proxy.port) as http:
        good = http.ask("GET", "/holdfast.js").body
    proxy.apply(corrupt="to-client", corrupt_byte=5_000)
    with HttpConnection(proxy.port) as http:
        bad = http.ask("GET", "/holdfast.js").body
    assert len(good) == len(bad) and sum(a != b for a, b in zip(good, bad, strict=True)) == 1


def test_command_refuses_connections_and_opens_again(proxied):
    proxy = proxied("--refuse")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), 5)
    proxy.do("clear")
    with HttpConnection(proxy.port) as http:
        assert http.ask("GET", "/holdfast.js").status == 200


def test_command_plays_a_script(proxied, tmp_path):
    script = tmp_path / "lunch.txt"
    lines = ["# very short", "at 0s: latency-ms 7", "at 300ms: cut to-client", "at 600ms: restore", "at 700ms: jitter-ms 8"]
    script.write_text("\n".join(lines))
    proxy = proxied("--script", str(script))
    assert proxy.says("script, line 3: cut to-client lost everything") and proxy.says("script, line 4: restore")
    assert proxy.says("script, line 5: not done: jitter-ms must be at most latency-ms, which is 7; it is 8")
    assert proxy.says("the script is over; what stands stays")
    assert proxy.control.get("/faults").json["latency-ms"] == 7


def test_control_is_safe_from_other_pages(proxied):
    proxy = proxied("--control-origin", "http://127.0.0.1:3000")
    assert proxy.control.post("/cut", {}, headers={"Host": "evil.example"}).status == 421
    assert proxy.control.post("/cut", {}, headers={"Origin": "http://evil.example"}).status == 403
    assert proxy.control.get("/faults").json["cut"] == "none"
    allowed = proxy.control.post("/cut", {}, headers={"Origin": "http://127.0.0.1:3000"})
    assert allowed.status == 200 and allowed.headers["Access-Control-Allow-Origin"] == "http://127.0.0.1:3000"
    wrong = proxy.control.call("PATCH", "/faults", {"latncy-ms": 5})
    assert wrong.status == 400 and 'did you mean "latency-ms"' in wrong.json["error"]
    page = proxy.control.get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert b"http://" not in page.body and b"https://" not in page.body, "it loads nothing"


def test_every_fault_has_its_flag_and_its_place_in_the_manual(proxied):
    names = [field["name"] for field in proxied().control.get("/fields").json]
    assert len(names) == len(set(names)) == 21
    usage = run("proxy", "--help").stdout
    manual = (pathlib.Path(__file__).parents[2] / "docs/faults.md").read_text()
    for name in names:
        assert f"--{name} " in usage or f"--{name}\n" in usage, name
        assert f"`{name}`" in manual, name


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--latency-ms", "60001"], 'latency-ms must be a whole number of ms from 0 to 60000; it is "60001"'),
        (["--jitter-ms", "5"], "jitter-ms must be at most latency-ms, which is 0; it is 5"),
        (["--upgrades", "101"], 'or a status from 200 to 599; it is "101"'),
        (["--cut", "sideways"], 'cut must be one of none, both, to-server, to-client; it is "sideways"'),
        (["--drip-bytes", "1", "--bandwidth-bytes", "1"], "both say how fast bytes arrive"),
        (["--latncy-ms", "5"], "Unknown option '--latncy-ms'"),
        (["--listen", "8080"], 'it has the form HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080; it is "8080"'),
        (["--control-origin", "http://a"], "--control-origin is of use only with --control"),
        (["--control", "127.0.0.1:0", "--control-origin", "a/"], "what browsers send as Origin"),
    ],
)
def test_wrong_flags_are_explained(flags, words):
    done = run("proxy", "--to", "127.0.0.1:1", *flags)
    assert done.returncode == 64 and words in done.stderr.replace("\n", " "), done.stderr


def test_what_cannot_start_says_why(tmp_path, gateway):
    to = ("proxy", "--to", f"127.0.0.1:{gateway.port}")
    done = run(*to, "--listen", f"127.0.0.1:{gateway.port}")
    assert done.returncode == 1 and f"cannot listen on 127.0.0.1:{gateway.port}" in done.stderr
    done = run(*to, "--control", f"127.0.0.1:{gateway.port}")
    assert done.returncode == 1 and "for --control" in done.stderr
    script = tmp_path / "wrong.txt"
    script.write_text("at 5s: kut both\n")
    done = run(*to, "--script", str(script))
    assert done.returncode == 1 and 'line 1: there is no "kut": did you mean "cut"?' in done.stderr
    assert run(*to, "--script", str(tmp_path / "none")).returncode == 1
