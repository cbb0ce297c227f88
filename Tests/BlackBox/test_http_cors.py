"""Pages of other origins: which may use the HTTP transports, and which get no headers at all (protocol.md, Endpoints)."""

import pytest

from event_client import EventClient
from http_session import HttpSession, directives
from raw_http import HttpConnection

LISTED = "https://app.example.org"
ORIGINS = [LISTED, "http://localhost:5173"]
#: What looks like a listed origin and is none.
STRANGERS = ["https://evil.example.net", "http://app.example.org", "https://app.example.org:8443", "https://app.example.org.evil.net",
             "https://xapp.example.org", "https://app.example.or", "HTTPS://APP.EXAMPLE.ORG.", "null", "", "https://app.example.org/",
             "https://app.example.org, https://evil.example.net", "*"]
SERVICES = {"t": {"require_authentication": False}}


@pytest.fixture
def listed(start):
    """A gateway without --dev that lists two origins."""
    return start(dev=False, cors_origins=ORIGINS, services=SERVICES)


def paths(session: HttpSession) -> list[tuple[str, str]]:
    return [("POST", "/session"), ("POST", session.url("send")), ("POST", session.url("poll")), ("GET", session.url("stream"))]


def preflight(http: HttpConnection, origin: str, method: str, path: str, headers: str = "authorization,content-type"):
    return http.ask("OPTIONS", path, headers={"Origin": origin, "Access-Control-Request-Method": method,
                                              "Access-Control-Request-Headers": headers})


def cors_headers(reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_listed_origin_may(listed, origin):
    with HttpSession.opened(listed.port) as session, HttpConnection(listed.port) as http:
        for method, path in paths(session):
            reply = preflight(http, origin, method, path)
            assert reply.status in (200, 204), reply
            assert reply.headers["access-control-allow-origin"] == origin
            assert reply.headers["access-control-allow-credentials"] == "true"
            assert method in reply.headers["access-control-allow-methods"].replace(" ", "").split(",")
            assert {"authorization", "content-type"} <= directives(reply.headers["access-control-allow-headers"])
            assert "origin" in directives(reply.headers["vary"])
        reply = http.ask("POST", "/session", [{"event": "probe"}], headers={"Origin": origin})
        assert (reply.headers["access-control-allow-origin"], reply.headers["access-control-allow-credentials"]) == (origin, "true")
        stream = session.stream(headers={"Origin": origin})
        assert stream.response.headers["access-control-allow-origin"] == origin


def test_custom_headers_of_the_app_are_allowed(listed):
    with HttpConnection(listed.port) as http:
        reply = preflight(http, LISTED, "POST", "/session", "authorization,content-type,x-tenant,x-request-id")
        allowed = directives(reply.headers["access-control-allow-headers"])
        assert "*" not in allowed, "a star means nothing where credentials are allowed"
        assert {"authorization", "content-type", "x-tenant", "x-request-id"} <= allowed


def test_errors_can_be_read_by_the_page_too(listed):
    with HttpSession.opened(listed.port) as session, HttpConnection(listed.port) as http:
        for path, headers, body, status in [("/session", {}, b"x", 400), (session.url("poll"), {}, b"{}", 404),
                                            (session.url("send"), session.authorization, {"seq": 9, "events": []}, 409)]:
            reply = http.ask("POST", path, body, headers={"Origin": LISTED, **headers})
            assert reply.status == status, reply
            assert reply.headers["access-control-allow-origin"] == LISTED


def test_retry_after_is_exposed(start):
    """A page may only read a header that it is told it may read: without that, the advice is lost across origins."""
    gateway = start(dev=False, cors_origins=ORIGINS, services=SERVICES, max_sessions=1)
    with HttpSession.opened(gateway.port), HttpConnection(gateway.port) as http:
        reply = http.ask("POST", "/session", [{"event": "hello", "version": 1}], headers={"Origin": LISTED})
        assert reply.status == 503 and "retry-after" in reply.headers
        assert reply.headers["access-control-allow-origin"] == LISTED
        assert "retry-after" in directives(reply.headers["access-control-expose-headers"])


@pytest.mark.parametrize("origin", STRANGERS)
def test_any_other_origin_gets_no_headers(listed, origin):
    with HttpSession.opened(listed.port) as session, HttpConnection(listed.port) as http:
        for method, path in paths(session):
            reply = preflight(http, origin, method, path)
            assert cors_headers(reply) == {}, reply
        reply = http.ask("POST", "/session", [{"event": "probe"}], headers={"Origin": origin})
        assert cors_headers(reply) == {}, reply


def test_a_request_without_an_origin_is_not_changed(listed):
    with HttpConnection(listed.port) as http:
        reply = http.ask("POST", "/session", [{"event": "probe"}])
        assert reply.status == 200 and "access-control-allow-origin" not in reply.headers


def test_without_configuration_no_origin_may(start):
    gateway = start(dev=False, services=SERVICES)
    with HttpConnection(gateway.port) as http:
        assert cors_headers(preflight(http, LISTED, "POST", "/session")) == {}
        assert cors_headers(http.ask("POST", "/session", [{"event": "probe"}], headers={"Origin": LISTED})) == {}


@pytest.mark.parametrize("origin", [LISTED, "http://127.0.0.1:12345", "null"])
def test_dev_allows_any_origin_without_credentials(gateway, origin):
    with HttpConnection(gateway.port) as http:
        reply = preflight(http, origin, "POST", "/session")
        assert reply.status in (200, 204) and reply.headers["access-control-allow-origin"] in ("*", origin)
        assert "access-control-allow-credentials" not in reply.headers
        assert {"authorization", "content-type"} <= directives(reply.headers["access-control-allow-headers"])
        reply = http.ask("POST", "/session", [{"event": "probe"}], headers={"Origin": origin})
        assert reply.headers["access-control-allow-origin"] in ("*", origin)
        assert "access-control-allow-credentials" not in reply.headers


def test_the_server_api_is_for_no_page(listed, gateway):
    """A page that could publish with the API would need its key; --dev needs none on loopback, so a page must not reach it."""
    for one, origin in ((listed, LISTED), (gateway, "https://evil.example.net")):
        with HttpConnection(one.port) as http:
            for path in ("/api/publish", "/api/sessions", "/metrics"):
                assert cors_headers(preflight(http, origin, "POST", path)) == {}, path
                assert cors_headers(http.ask("GET", path, headers={"Origin": origin})) == {}, path


@pytest.mark.parametrize("origins", ["*", ["app.example.org"], ["https://app.example.org/path"], [5], "https://app.example.org x"], ids=repr)
def test_what_is_no_origin_is_a_mistake_in_the_configuration(tmp_path, origins):
    from holdfast_process import run
    from settings import configuration

    done = run("check", configuration(tmp_path, cors_origins=origins))
    assert done.returncode != 0 and "cors.origins" in done.stdout + done.stderr, done


def test_a_session_opened_across_origins_works_like_any_other(listed, topic):
    with HttpSession.opened(listed.port) as session:
        session.post("send", {"seq": 1, "events": [{"event": "nothing"}]}, headers={"Origin": LISTED})
        session.sent = 1
        assert [event["event"] for event in session.poll()] == ["nothing"]
        with EventClient.resuming(session) as socket:
            assert socket.hello_reply["resumed"] is True
