"""RFC 6455 §4: the opening handshake, which is HTTP first."""

import base64
import http.client

import pytest

from raw_socket import RawSocket, byte_by_byte
from raw_websocket import TEXT, RawWebSocket, Response, accept_for, make_frame, new_key, read_response, request_bytes


def attempt(port: int, data: bytes, deliver=None) -> Response:
    with RawSocket(port) as connection:
        connection.send(data, deliver)
        return read_response(connection)


def request(port: int, **options) -> bytes:
    return request_bytes(port, options.pop("key", None) or new_key(), **options)


def test_the_example_of_the_rfc(echo, deliver):
    """§1.3: this key gets that Accept."""
    response = attempt(echo.port, request(echo.port, key="dGhlIHNhbXBsZSBub25jZQ=="), deliver)
    assert response.status == 101
    assert response.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert response.headers["upgrade"].lower() == "websocket"
    assert "upgrade" in response.headers["connection"].lower().replace(" ", "").split(",")


def test_each_key_gets_its_own_accept(echo):
    for key in [base64.b64encode(bytes([n]) * 16).decode() for n in (0, 1, 127, 255)]:
        response = attempt(echo.port, request(echo.port, key=key))
        assert response.headers["sec-websocket-accept"] == accept_for(key)


ACCEPTED = {
    "connection is a list": {"Connection": "keep-alive, Upgrade"},
    "connection is a list without blanks": {"Connection": "keep-alive,upgrade,x"},
    "upgrade in capitals": {"Upgrade": "WEBSOCKET", "Connection": "UPGRADE"},
    "upgrade is a list": {"Upgrade": "h2c, websocket"},
    "an origin": {"Origin": "http://elsewhere.example"},
    "a cookie": {"Cookie": "a=b; c=d"},
}


@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(echo, deliver, change):
    assert attempt(echo.port, request(echo.port, change=change), deliver).status == 101


def test_header_names_are_case_insensitive(echo, deliver):
    lower = request(echo.port).replace(b"Sec-WebSocket-Key", b"sec-websocket-KEY")
    lower = lower.replace(b"Upgrade:", b"uPGRADE:").replace(b"Connection:", b"CONNECTION:").replace(b"Host:", b"hOST:")
    assert attempt(echo.port, lower, deliver).status == 101


def test_blanks_around_values_do_not_matter(echo, deliver):
    key = new_key()
    data = request(echo.port, key=key).replace(key.encode(), b"   " + key.encode() + b" \t")
    response = attempt(echo.port, data, deliver)
    assert response.status == 101 and response.headers["sec-websocket-accept"] == accept_for(key)


REFUSED = {
    "no key": {"Sec-WebSocket-Key": None},
    "empty key": {"Sec-WebSocket-Key": ""},
    "key of 15 bytes": {"Sec-WebSocket-Key": base64.b64encode(bytes(15)).decode()},
    "key of 17 bytes": {"Sec-WebSocket-Key": base64.b64encode(bytes(17)).decode()},
    "key that is no base64": {"Sec-WebSocket-Key": "this is not a key at all"},
    "no host": {"Host": None},
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_refused_with_400(echo, deliver, change):
    assert attempt(echo.port, request(echo.port, change=change), deliver).status == 400


def test_two_keys_are_refused(echo, deliver):
    data = request(echo.port, extra=(("Sec-WebSocket-Key", new_key()),))
    assert attempt(echo.port, data, deliver).status == 400


@pytest.mark.parametrize("version", [None, "", "0", "8", "12", "14", "x", "13 13"])
def test_another_version_is_answered_with_ours(echo, deliver, version):
    """§4.4: 426 with the version that is understood."""
    response = attempt(echo.port, request(echo.port, change={"Sec-WebSocket-Version": version}), deliver)
    assert response.status == 426
    assert response.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("change", [{"Upgrade": None}, {"Connection": None}, {"Connection": "close"},
                                    {"Upgrade": "h2c"}], ids=str)
def test_no_upgrade_asked_for(echo, deliver, change):
    """A plain GET of the socket's path is told to upgrade, like SocketShark's port does."""
    response = attempt(echo.port, request(echo.port, change=change), deliver)
    assert response.status in (400, 426)


def test_a_plain_get_of_the_echo_is_426(echo):
    connection = http.client.HTTPConnection("127.0.0.1", echo.port, timeout=10)
    connection.request("GET", "/socket")
    response = connection.getresponse()
    response.read()
    assert response.status == 426 and response.headers["Upgrade"] == "websocket"
    connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "DELETE", "OPTIONS"])
def test_another_method_does_not_open_a_websocket(echo, method):
    response = attempt(echo.port, request(echo.port, method=method, change={"Content-Length": "0"}))
    assert 400 <= response.status < 500


def test_http_1_0_does_not_open_a_websocket(echo, deliver):
    """§4.1: at least HTTP/1.1."""
    with RawSocket(echo.port) as connection:
        connection.send(request(echo.port, version="HTTP/1.0"), deliver)
        assert read_response(connection).status in (400, 426, 505)


@pytest.mark.parametrize("line", [b"GET", b"GET /", b"/ GET HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / FTP/9.9"])
def test_what_is_not_http(echo, deliver, line):
    """Refused or dropped; never upgraded, never left open."""
    with RawSocket(echo.port) as connection:
        connection.send(line + b"\r\n\r\n", deliver)
        connection.finish_writing()
        connection.wait_for_end()
        assert b" 101 " not in connection.buffer


# What is offered and not selected (§9.1, §1.9) -----------------------------------------------------


@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; client_max_window_bits, x-unknown", "x"])
def test_no_extension_is_selected(echo, offer):
    response = attempt(echo.port, request(echo.port, change={"Sec-WebSocket-Extensions": offer}))
    assert response.status == 101 and "sec-websocket-extensions" not in response.headers


@pytest.mark.parametrize("offer", ["chat", "chat, superchat", "graphql-ws"])
def test_no_subprotocol_is_selected(echo, offer):
    response = attempt(echo.port, request(echo.port, change={"Sec-WebSocket-Protocol": offer}))
    assert response.status == 101 and "sec-websocket-protocol" not in response.headers


# Bytes at the seam -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 200])
def test_frames_in_the_same_packet_as_the_handshake(echo, deliver, count):
    with RawWebSocket(echo.port) as ws:
        frames = b"".join(make_frame(TEXT, b"%d" % number) for number in range(count))
        ws.send(request(echo.port) + frames, deliver)
        assert read_response(ws).status == 101
        assert [ws.next_message() for _ in range(count)] == [(TEXT, b"%d" % number) for number in range(count)]


def test_half_a_frame_in_the_same_packet_as_the_handshake(echo):
    frame = make_frame(TEXT, b"cut in two")
    for cut in range(len(frame) + 1):
        with RawWebSocket(echo.port) as ws:
            ws.send(request(echo.port) + frame[:cut])
            assert read_response(ws).status == 101
            ws.send(frame[cut:], byte_by_byte)
            assert ws.next_message() == (TEXT, b"cut in two")


# Limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [
    tuple((f"X-{number}", "v" * 1_000) for number in range(200)),
    (("X-Long", "v" * 1_000_000),),
    tuple((f"X-{number}", "v") for number in range(20_000)),
], ids=["200 KB", "one of 1 MB", "20,000 headers"])
def test_oversized_headers_are_refused(echo, extra):
    with RawSocket(echo.port) as connection:
        connection.send(request(echo.port, extra=extra))
        connection.wait_for_end()
        assert b" 101 " not in connection.buffer
        assert not connection.buffer or connection.buffer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), connection.buffer


def test_an_endless_request_line_is_refused(echo):
    with RawSocket(echo.port) as connection:
        connection.send(b"GET /" + b"a" * 1_000_000)
        connection.wait_for_end()
        assert b" 101 " not in connection.buffer


def test_reasonable_headers_are_not_too_large(echo, deliver):
    extra = tuple((f"X-{number}", "v" * 100) for number in range(40)) + (("Cookie", "c" * 4_000),)
    assert attempt(echo.port, request(echo.port, extra=extra), deliver).status == 101


# The gateway's own paths ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/socket", "/?a=b", "/socket?session=x"])
def test_paths_of_the_gateway(gateway, deliver, path):
    with RawWebSocket.open(gateway.port, path=path, deliver=deliver) as ws:
        ws.expect_open()


def test_refusals_of_the_gateway_are_the_same(gateway):
    wrong = attempt(gateway.port, request(gateway.port, path="/socket", change={"Sec-WebSocket-Version": "8"}))
    assert wrong.status == 426 and wrong.headers["sec-websocket-version"] == "13"
    assert attempt(gateway.port, request(gateway.port, change={"Sec-WebSocket-Key": None})).status == 400
