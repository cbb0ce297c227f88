"""§7: the HTTP client of the callbacks: what is retried, how long it waits, what counts as an answer."""

import gzip
import itertools
import json

import pytest

from certificates import Certificate, certificate
from fake_service import Answer, FakeService, Request, later, ok, refused, unreachable
from shark import INTERNAL_ERROR, Shark, error_reply, ok_reply, subscribe

OPEN = {"require_authentication": False}
HOOK = "/before_subscribe"
UNAVAILABLE = error_reply("subscribe", "Service unavailable.", "books.x")
DONE = ok_reply("subscribe", "books.x")


def asking(serve, service: FakeService, **http) -> Shark:
    return serve({"books": {**OPEN, **service.urls("before_subscribe")}}, http={"tries": 3, "wait": 0.2, **http})


def outcome(serve, service: FakeService, *answers, **http) -> dict:
    """The reply to a subscribe whose callback is answered like that."""
    service.script(HOOK, *answers)
    with asking(serve, service, **http).client() as client:
        return client.ask(subscribe("books.x"))


def pauses(service: FakeService) -> list[float]:
    times = [request.at for request in service.requests(HOOK)]
    return [second - first for first, second in itertools.pairwise(times)]


# Answers that count -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 203, 299])
def test_any_2xx_with_json_is_an_answer(serve, service, status):
    assert outcome(serve, service, Answer(ok(data=1), status=status)) == {**DONE, "data": 1}
    assert len(service.requests(HOOK)) == 1


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON",
                                  "application/problem+json", "application/vnd.api+json; charset=UTF-8"])
def test_content_types_that_are_json(serve, service, kind):
    assert outcome(serve, service, Answer(ok(data="é"), content_type=kind)) == {**DONE, "data": "é"}
    assert len(service.requests(HOOK)) == 1


def test_a_chunked_answer(serve, service):
    body = b'f\r\n{"status":"ok",\r\n9\r\n"data":1}\r\n0\r\n\r\n'
    chunked = (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    service.script(HOOK, Answer(raw=chunked))
    with asking(serve, service).client() as client:
        assert client.ask(subscribe("books.x")) == {**DONE, "data": 1}


def test_an_answer_that_ends_with_the_connection(serve, service):
    raw = b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"status":"ok","data":1}'
    service.script(HOOK, Answer(raw=raw))
    with asking(serve, service).client() as client:
        assert client.ask(subscribe("books.x")) == {**DONE, "data": 1}


# Failures that are retried ------------------------------------------------------------------------------


RETRIED = {
    "500": Answer(status=500),
    "503 with an error object": Answer(refused("not looked at"), status=503),
    "408": Answer(status=408),
    "connection reset": Answer(instead="reset"),
    "connection closed": Answer(instead="end"),
    "text": Answer(b'{"status":"ok"}', content_type="text/plain"),
    "html": Answer(b"<html>", content_type="text/html"),
    "no content type": Answer(b'{"status":"ok"}', content_type=None),
    "204": Answer(b"", status=204, content_type=None),
    "half an answer": Answer(raw=b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"status"'),
    "no HTTP": Answer(raw=b"this is not HTTP\r\n\r\n"),
    "timeout": Answer(instead="hang"),
}


@pytest.mark.parametrize("answer", RETRIED.values(), ids=RETRIED)
def test_failures_that_are_retried(serve, service, answer):
    assert outcome(serve, service, answer, answer, ok(data=1), timeout=0.5) == {**DONE, "data": 1}
    assert len(service.requests(HOOK)) == 3
    assert min(pauses(service)) >= 0.19


@pytest.mark.parametrize("answer", RETRIED.values(), ids=RETRIED)
def test_tries_that_are_used_up(serve, service, answer):
    assert outcome(serve, service, answer, answer, timeout=0.5, tries=2) == UNAVAILABLE
    assert len(service.requests(HOOK)) == 2


def test_a_service_that_is_not_there(serve):
    shark = serve({"books": {**OPEN, "before_subscribe": unreachable()}}, http={"tries": 2, "wait": 0.1})
    with shark.client() as client:
        assert client.ask(subscribe("books.x")) == UNAVAILABLE
        client.expect_silence()


def test_a_host_that_does_not_exist(serve):
    shark = serve({"books": {**OPEN, "before_subscribe": "http://nobody.invalid/x"}}, http={"tries": 1})
    with shark.client() as client:
        assert client.ask(subscribe("books.x")) == UNAVAILABLE


def test_retries_repeat_the_same_body(serve, service):
    outcome(serve, service, Answer(status=500), Answer(status=500), ok())
    first, *others = service.bodies(HOOK)
    assert first == {"subscription": "books.x"} and others == [first, first]


def test_the_timeout_counts_for_each_try(serve, service):
    assert outcome(serve, service, later(ok(), 5), ok(data=1), timeout=0.5, tries=2, wait=0) == {**DONE, "data": 1}
    assert min(pauses(service)) >= 0.48


def test_an_answer_within_the_timeout(serve, service):
    assert outcome(serve, service, later(ok(data=1), 1), timeout=5) == {**DONE, "data": 1}
    assert len(service.requests(HOOK)) == 1


def test_the_defaults_are_three_tries_three_seconds_apart(serve, service):
    service.always(HOOK, Answer(status=500))
    shark = serve({"books": {**OPEN, **service.urls("before_subscribe")}}, http=None)
    with shark.client() as client:
        client.send_event(subscribe("books.x"))
        assert client.next_event(timeout=20) == UNAVAILABLE
    assert len(service.requests(HOOK)) == 3 and min(pauses(service)) >= 2.95


# Answers that are never retried -------------------------------------------------------------------------


UNREADABLE = {"cut short": b"{", "no JSON": b"nonsense", "no text": b'{"status":"\xff"}', "empty": b"", "null": b"null",
              "list": b"[]", "number": b"5", "string": b'"ok"'}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_json_that_is_none_is_an_exception(serve, service, body):
    service.always(HOOK, Answer(body))
    with asking(serve, service).client() as client:
        assert client.ask(subscribe("books.x")) == error_reply("subscribe", "Unhandled exception.", "books.x")
        client.expect_close(INTERNAL_ERROR)
    assert len(service.requests(HOOK)) == 1


@pytest.mark.parametrize("body", [b"[]", b"null", b""], ids=repr)
@pytest.mark.parametrize("callback", ["on_subscribe", "on_unsubscribe"])
def test_where_the_result_is_ignored_any_json_will_do(serve, service, callback, body):
    service.always(f"/{callback}", Answer(body))
    shark = serve({"books": {**OPEN, **service.urls("on_subscribe", "on_unsubscribe")}})
    with shark.client() as client:
        client.subscribe("books.x")
        assert client.ask({"event": "unsubscribe", "subscription": "books.x"}) == ok_reply("unsubscribe", "books.x")
        client.subscribe("books.y")
        client.expect_silence()


# 429 ------------------------------------------------------------------------------------------------------


def limited(**headers: str) -> Answer:
    return Answer(status=429, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("value, wait", [("0.6", 0.6), ("1", 1), (" 0.5 ", 0.5), ("5e-1", 0.5)])
def test_a_429_says_how_long_to_wait(serve, service, value, wait):
    assert outcome(serve, service, limited(X_Rate_Limit_Reset=value), ok(data=1), wait=0.1) == {**DONE, "data": 1}
    assert pauses(service)[0] >= wait * 0.98


def test_a_429_that_says_zero_is_retried_at_once(serve, service):
    assert outcome(serve, service, limited(X_Rate_Limit_Reset="0"), ok(), wait=4) == DONE
    assert pauses(service)[0] < 3


@pytest.mark.parametrize("value", ["-1", "nan", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "1,5", ""])
def test_a_429_with_an_unusable_value_waits_as_configured(serve, service, value):
    assert outcome(serve, service, limited(X_Rate_Limit_Reset=value), ok(), wait=0.3) == DONE
    assert 0.29 <= pauses(service)[0] < 5


def test_a_429_without_the_header_waits_as_configured(serve, service):
    """Retry-After is not looked at unless it is listed."""
    assert outcome(serve, service, limited(Retry_After="9"), ok(), wait=0.3) == DONE
    assert 0.29 <= pauses(service)[0] < 5


@pytest.mark.parametrize("value", ["3601", "inf", "1e9"])
def test_a_429_with_more_than_an_hour_waits(serve, service, value):
    service.script(HOOK, limited(X_Rate_Limit_Reset=value))
    with asking(serve, service, wait=0).client() as client:
        client.send_event(subscribe("books.x"))
        service.wait_for(HOOK)
        assert client.is_quiet_for(1.5) and len(service.requests(HOOK)) == 1


def test_the_name_of_the_header_can_be_set(serve, service):
    answer = limited(X_Mine="0.6", X_Rate_Limit_Reset="0")
    assert outcome(serve, service, answer, ok(), rate_limit_reset_header_name="x-MINE") == DONE
    assert pauses(service)[0] >= 0.58


NAMES = ["X-First", "X-Second"]


@pytest.mark.parametrize("headers, wait", [
    ({"X_First": "0.6", "X_Second": "0"}, 0.6),
    ({"X_Second": "0.6"}, 0.6),
    ({"x_second": "0.6", "X_Rate_Limit_Reset": "0"}, 0.6),
    ({"X_First": "unusable", "X_Second": "5"}, 0.3),
    ({"X_Rate_Limit_Reset": "5"}, 0.3),
], ids=range(5))
def test_the_first_listed_header_decides(serve, service, headers, wait):
    assert outcome(serve, service, limited(**headers), ok(), wait=0.3, rate_limit_reset_header_names=NAMES) == DONE
    assert wait * 0.98 <= pauses(service)[0] < wait + 4


def test_a_429_on_the_last_try_fails_at_once(serve, service):
    answer = limited(X_Rate_Limit_Reset="60")
    assert outcome(serve, service, answer, tries=1) == UNAVAILABLE
    assert len(service.requests(HOOK)) == 1


def test_the_usual_wait_comes_back_after_another_failure(serve, service):
    answers = limited(X_Rate_Limit_Reset="0.8"), Answer(status=500), ok()
    assert outcome(serve, service, *answers, wait=0.1) == DONE
    long, short = pauses(service)
    assert long >= 0.78 and short >= 0.09


def test_a_connection_error_keeps_the_wait_of_a_429(serve, service):
    answers = limited(X_Rate_Limit_Reset="0.8"), Answer(instead="reset"), ok()
    assert outcome(serve, service, *answers, wait=0.1) == DONE
    assert min(pauses(service)) >= 0.78


# TLS and compression ----------------------------------------------------------------------------------------


@pytest.fixture
def trusted(tmp_path) -> Certificate:
    return certificate(tmp_path)


def test_a_certificate_of_the_configured_authority(serve, trusted):
    with FakeService(trusted) as service:
        assert outcome(serve, service, ok(data=1), ssl_cafile=trusted.cert) == {**DONE, "data": 1}


def test_a_certificate_that_nobody_knows(serve, trusted):
    with FakeService(trusted) as service:
        assert outcome(serve, service, ok(data=1), tries=2) == UNAVAILABLE
        assert not service.paths()


def test_a_service_that_compresses_for_those_who_ask(serve, service):
    """SocketShark asks for gzip and deflate. Whoever asks has to understand the answer."""

    def answer(request: Request) -> Answer:
        plain = json.dumps(ok(data="x" * 1_000)).encode()
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Answer(plain)
        return Answer(gzip.compress(plain), headers={"Content-Encoding": "gzip"})

    assert outcome(serve, service, answer) == {**DONE, "data": "x" * 1_000}


# Where Holdfast differs, on purpose ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422])
def test_other_4xx_are_not_retried(serve, service, status):
    """§17.16: SocketShark retried them. The result is the same."""
    assert outcome(serve, service, Answer(refused("not looked at"), status=status), ok()) == UNAVAILABLE
    assert len(service.requests(HOOK)) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(serve, service, status):
    """SocketShark followed them, some as GET without a body. They are failures, and not retried."""
    redirect = Answer(ok(), status=status, headers={"Location": service.url("/elsewhere")})
    assert outcome(serve, service, redirect, ok()) == UNAVAILABLE
    assert service.paths() == [HOOK]


def test_connections_are_used_again(serve, service):
    with asking(serve, service).client() as client:
        for number in range(20):
            client.subscribe(f"books.{number}")
    assert len({request.peer for request in service.requests(HOOK)}) == 1


def test_a_kept_connection_that_the_service_has_closed_costs_no_try(serve, service):
    """The service answers and closes; the next callback finds out and goes over a new connection."""
    service.always(HOOK, Answer(closes=True))
    with asking(serve, service, tries=1).client() as client:
        for number in range(5):
            client.subscribe(f"books.{number}")


def test_answers_that_are_too_large_are_a_failure(serve, service):
    service.always(HOOK, ok(data="x" * 5_000))
    with asking(serve, service, tries=1, response_bytes=4_096).client() as client:
        assert client.ask(subscribe("books.x")) == UNAVAILABLE
        service.always(HOOK, ok(data="x" * 4_000))
        assert client.ask(subscribe("books.x"))["status"] == "ok"


def test_an_endless_answer_is_cut_off(serve, service):
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b" " * 200_000
    service.always(HOOK, Answer(raw=raw))
    with asking(serve, service, tries=1, response_bytes=4_096).client() as client:
        assert client.ask(subscribe("books.x")) == UNAVAILABLE
