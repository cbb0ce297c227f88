"""The files of deploy/, each behind the real program: WebSocket, event stream and long poll pass, and nothing else does.

What browsers make of these proxies, and of bad ones, is in browser/test_ladder.py.
"""

import contextlib
import pathlib
import sys
import time

import pytest

from event_client import EventClient
from holdfast_process import Api
from http_session import NO_STORE, HttpSession, directives
from raw_http import Comment, HttpConnection, is_closed

sys.path.insert(0, str(pathlib.Path(__file__).parent / "proxies"))

import real  # noqa: E402

#: For what passes through a proxy at once.
AT_ONCE = 1.5
PREFIX = "/holdfast"
PROXIES = {
    "nginx": lambda port: real.nginx(port, site=b"<p>your site"),
    "haproxy": lambda port: real.haproxy(port, site=b"<p>your site"),
}


@pytest.fixture
def gateway(gateway_of_four_loops):
    return gateway_of_four_loops


@pytest.fixture(params=PROXIES)
def proxy_of(request):
    """Starts the proxy before the gateway on a port."""
    return PROXIES[request.param]


@pytest.fixture
def proxy(proxy_of, gateway):
    with proxy_of(gateway.port) as running:
        yield running


@pytest.fixture
def port(proxy) -> int:
    return int(proxy.address.split(":")[1])


def not_stored(reply) -> None:
    """X-Accel-Buffering is for nginx, which keeps it to itself."""
    assert NO_STORE <= directives(reply.headers["cache-control"]) and "content-encoding" not in reply.headers, reply


@contextlib.contextmanager
def session_at(port: int):
    with HttpSession(port, PREFIX, check=not_stored) as session:
        session.hello()
        assert session.hello_reply["status"] == "ok"
        yield session


def test_the_site_is_there_too(port):
    with HttpConnection(port) as http:
        reply = http.ask("GET", "/page.html")
        assert (reply.status, reply.body) == (200, b"<p>your site")


def test_a_websocket_passes(gateway, port, topic):
    with EventClient.open(port, path=f"{PREFIX}/socket") as client:
        assert client.hello()["status"] == "ok"
        client.subscribe(topic)
        gateway.api.publish(topic, "x")
        assert client.data(1, AT_ONCE) == ["x"]


def test_a_stream_passes_as_it_comes(gateway, port, topic):
    with session_at(port) as session:
        session.subscribe(topic)
        stream = session.stream()
        began = time.monotonic()
        assert isinstance(stream.next(AT_ONCE), Comment)
        for number in range(20):
            gateway.api.publish(topic, number)
            assert stream.data(1, AT_ONCE) == [number], "each event at once, not when a buffer is full"
        assert time.monotonic() - began < 10
        assert stream.response.headers["cache-control"] == "no-store, no-transform"


def test_nothing_is_compressed_on_the_way(gateway, port, topic):
    with session_at(port) as session:
        session.subscribe(topic)
        stream = session.stream(headers={"Accept-Encoding": "gzip, br"})
        assert "content-encoding" not in stream.response.headers
        gateway.api.publish(topic, "x" * 5_000)
        assert stream.data(1, AT_ONCE) == ["x" * 5_000]


def test_polls_pass_over_one_connection(gateway, port, topic):
    with session_at(port) as session:
        session.subscribe(topic)
        for number in range(20):
            session.start_poll(20, on=session.main)
            gateway.api.publish(topic, number)
            assert [event["data"] for event in session.end_poll(session.main, AT_ONCE)] == [number]
        assert not is_closed(session.main)


def test_the_last_word_passes(gateway, port, topic):
    with session_at(port) as session:
        session.subscribe(topic)
        stream = session.stream()
        gateway.api.post(f"/api/sessions/{session.handle}/disconnect", {"code": 4003, "reason": "bye"})
        assert stream.last_word(AT_ONCE) == {"code": 4003, "reason": "bye"}


@pytest.mark.parametrize("path", [
    "api/sessions", "api/publish", "metrics", "health", "ready", "admin", "demo", "api", "//api/sessions", "./api/sessions",
    "%61pi/sessions", "socket/../api/sessions",
])
def test_what_is_for_servers_is_not_shown_outside(port, path):
    with HttpConnection(port) as http:
        reply = http.ask("GET", f"{PREFIX}/{path}")
        assert reply.status in (400, 403, 404), reply


def connections_to(port: int) -> set[str]:
    """The far ends of a port's connections, those that have just ended included (TIME_WAIT, at whichever side closed)."""
    with open("/proc/net/tcp") as table:
        pairs = [line.split()[1:3] for line in table.readlines()[1:]]
    ours = f":{port:04X}"
    return {far for near, far in pairs if near.endswith(ours)} | {near for near, far in pairs if far.endswith(ours)}


def test_the_connections_to_the_gateway_are_kept(start, proxy_of):
    """A proxy that opens one for every poll costs a handshake each, and ports."""
    gateway = start()
    with proxy_of(gateway.port) as proxy, session_at(int(proxy.address.split(":")[1])) as session:
        session.poll(0)
        before = connections_to(gateway.port)
        for _ in range(50):
            session.poll(0)
        assert len(connections_to(gateway.port) - before) < 10


def test_a_reset_poll_stands_in_the_proxy_s_log(proxy, port):
    """The counting that the ladder's tests rely on."""
    from holdfast_process import eventually

    with session_at(port) as session:
        session.poll(0)
        for _ in range(3):
            connection = session.start_poll(20)
            assert not connection.has_something(0.2)
            connection.reset()
        eventually(lambda: len(proxy.log().aborted_polls) == 3, what="three aborted polls in the log")
        assert len([entry for entry in proxy.log().of("poll") if not entry.aborted]) == 1
        assert proxy.log().attempts == []


def test_nginx_before_two_gateways(gateway, start, topic):
    """deploy/nginx/two-gateways.conf: all requests of one client reach one gateway, so that its session is found."""
    second = start()
    with real.nginx(gateway.port, site=b"", second_gateway=second.port) as proxy:
        port = int(proxy.address.split(":")[1])
        for _ in range(5):
            with session_at(port) as session:
                session.subscribe(topic)
                home = next(one for one in (gateway, second) if one.api.get(f"/api/sessions/{session.handle}").status == 200)
                for number in range(5):
                    Api(home.port).publish(topic, number)
                    assert [event["data"] for event in session.poll()] == [number]


def use_a_session(port: int, gateways, topic: str) -> None:
    """Everything that a client does, each event published at every gateway."""
    with session_at(port) as session:
        session.subscribe(topic)
        for number in range(10):
            for one in gateways:
                one.api.publish(topic, number)
            assert [event["data"] for event in session.poll()] == [number]
            session.barrier()
        stream = session.stream()
        for number in range(10, 15):
            for one in gateways:
                one.api.publish(topic, number)
            assert stream.data(1) == [number]
        stream.close()
        homes = [one for one in gateways if one.api.get(f"/api/sessions/{session.handle}").status == 200]
        assert len(homes) == 1, "it has been one session, in one place"


def test_nginx_before_two_gateways_in_strict_turn(gateway, start, topic):
    """No sticky sessions: `proxy_next_upstream … http_404` finds the gateway that has the session."""
    second = start()
    turn = {"hash $remote_addr consistent;": ""}
    with real.nginx(gateway.port, site=b"", second_gateway=second.port, change=turn) as proxy:
        for _ in range(4):
            use_a_session(int(proxy.address.split(":")[1]), (gateway, second), topic)
    # And it is that line which does it.
    with real.nginx(gateway.port, site=b"", second_gateway=second.port, change=turn | {"error http_404": "error"}) as proxy:
        with pytest.raises(AssertionError, match="Unknown session"):
            for _ in range(4):
                use_a_session(int(proxy.address.split(":")[1]), (gateway, second), topic)


def test_nginx_that_routes_by_the_session_s_id(start, topic):
    """`session_digits`, as docs/proxies.md has it."""
    first, second = start(session_digits="01234567"), start(session_digits="89abcdef")
    routes = f"""
upstream holdfast_first {{ server 127.0.0.1:{first.port}; keepalive 8; }}
upstream holdfast_second {{ server 127.0.0.1:{second.port}; keepalive 8; }}
map $uri $holdfast_gateway {{
    "~/session/[0-7]"    holdfast_first;
    "~/session/[89a-f]"  holdfast_second;
    default              holdfast;
}}
"""
    change = {
        "hash $remote_addr consistent;": "",
        "map $http_upgrade": routes + "map $http_upgrade",
        "proxy_pass http://holdfast/": "proxy_pass http://$holdfast_gateway/",
        "proxy_next_upstream error http_404 non_idempotent;": "",
    }
    with real.nginx(first.port, site=b"", second_gateway=second.port, change=change) as proxy:
        for _ in range(6):
            use_a_session(int(proxy.address.split(":")[1]), (first, second), topic)


#: What the gateway serves to pages.
BROWSER_MODULES = ("holdfast", "http", "outbox", "tabs", "tabs-worker", "diagnose", "store", "reconnecting-websocket")


def test_what_browsers_load_passes(port):
    with HttpConnection(port) as http:
        for path in (*(f"{module}.js" for module in BROWSER_MODULES), "diagnose"):
            assert http.ask("GET", f"{PREFIX}/{path}").status == 200, path
