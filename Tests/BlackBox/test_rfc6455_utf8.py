"""RFC 6455 §8.1: text must be UTF-8, over fragments too; what is not fails the connection with 1007."""

import pytest

from raw_websocket import BINARY, CONTINUATION, PING, PONG, TEXT, Frame, RawWebSocket, fragments

VALID = {
    "empty": "",
    "ascii": "Hello-\x00\x01\x7f",
    "two bytes": "\u0080\u07ff",
    "three bytes": "\u0800\ud7ff\ue000\uffff",
    "four bytes": "\U00010000\U0010ffff",
    "greek": "κόσμε",
    "byte order mark": "\ufeffx",
    "non-characters": "\ufdd0\ufffe\uffff\U0001fffe\U0010fffe",
    "every plane": "".join(chr(plane * 0x10000 + 0x123) for plane in range(17)),
}

INVALID = {
    "lone continuation": b"\x80",
    "two lone continuations": b"\x80\xbf",
    "start byte then ascii": b"\xc3(",
    "overlong two bytes": b"\xc0\xaf",
    "overlong two bytes c1": b"\xc1\xbf",
    "overlong three bytes": b"\xe0\x80\xaf",
    "overlong three bytes, highest": b"\xe0\x9f\xbf",
    "overlong four bytes": b"\xf0\x80\x80\xaf",
    "overlong four bytes, highest": b"\xf0\x8f\xbf\xbf",
    "first surrogate": b"\xed\xa0\x80",
    "last surrogate": b"\xed\xbf\xbf",
    "surrogate pair": b"\xed\xa0\xbd\xed\xb8\x80",
    "above U+10FFFF": b"\xf4\x90\x80\x80",
    "f5": b"\xf5\x80\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "six bytes": b"\xfc\x84\x80\x80\x80\x80",
    "fe": b"\xfe",
    "ff": b"\xff",
    "three bytes broken in the middle": b"\xe2\x82x",
    "four bytes broken at the end": b"\xf0\x9f\x98x",
    "unfinished two bytes": b"\xc3",
    "unfinished three bytes": b"\xe2\x82",
    "unfinished four bytes": b"\xf0\x9f\x98",
}

VALIDS = pytest.mark.parametrize("text", VALID.values(), ids=VALID)
INVALIDS = pytest.mark.parametrize("bad", INVALID.values(), ids=INVALID)


@VALIDS
def test_valid_text_comes_back(echo, deliver, text):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(TEXT, text.encode(), deliver)
        assert ws.next_message() == (TEXT, text.encode())


@VALIDS
def test_valid_text_may_be_cut_anywhere_also_inside_a_code_point(echo, deliver, text):
    payload = text.encode()
    with RawWebSocket.open(echo.port) as ws:
        for cut in range(len(payload) + 1):
            for frame in fragments(TEXT, [payload[:cut], b"", payload[cut:]]):
                ws.send(frame, deliver)
            assert ws.next_message() == (TEXT, payload), f"cut at {cut}"


@VALIDS
def test_valid_text_in_fragments_of_one_byte(echo, deliver, text):
    payload = text.encode()
    with RawWebSocket.open(echo.port) as ws:
        pieces = [payload[index : index + 1] for index in range(len(payload))] or [b""]
        ws.send(b"".join(fragments(TEXT, pieces)), deliver)
        assert ws.next_message() == (TEXT, payload)


def test_a_ping_inside_a_code_point(echo, deliver):
    first, last = fragments(TEXT, [b"\xf0\x9f", b"\x98\x80"])
    with RawWebSocket.open(echo.port) as ws:
        ws.send(first, deliver)
        ws.send_frame(PING, b"\xff not text", deliver)
        assert ws.next_frame() == Frame(PONG, b"\xff not text")
        ws.send(last, deliver)
        assert ws.next_message() == (TEXT, "😀".encode())


def test_every_code_point_comes_back(echo):
    """All 1,112,064 of them, 4,096 to a message."""
    with RawWebSocket.open(echo.port) as ws:
        for start in range(0, 0x110000, 0x1000):
            if 0xD800 <= start <= 0xDFFF:
                continue
            points = (chr(point) for point in range(start, start + 0x1000) if not 0xD800 <= point <= 0xDFFF)
            payload = "".join(points).encode()
            ws.send_frame(TEXT, payload)
            assert ws.next_message() == (TEXT, payload), hex(start)


# Invalid --------------------------------------------------------------------------------------


def expect_refusal(echo, frames: list[bytes], deliver) -> None:
    with RawWebSocket.open(echo.port) as ws:
        for frame in frames:
            ws.send(frame, deliver)
        ws.expect_close(1007)


@INVALIDS
@pytest.mark.parametrize("before", [b"", "good κόσμε ".encode()], ids=["alone", "after good text"])
def test_invalid_text_in_one_frame(echo, deliver, bad, before):
    expect_refusal(echo, fragments(TEXT, [before + bad]), deliver)


@INVALIDS
def test_invalid_text_over_fragments(echo, deliver, bad):
    for cut in range(len(bad) + 1):
        expect_refusal(echo, fragments(TEXT, [b"a" + bad[:cut], bad[cut:]]), deliver)


@INVALIDS
def test_invalid_text_in_fragments_of_one_byte_with_an_empty_end(echo, deliver, bad):
    expect_refusal(echo, fragments(TEXT, [bad[index : index + 1] for index in range(len(bad))] + [b""]), deliver)


@pytest.mark.parametrize("bad", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"])
def test_a_code_point_does_not_reach_into_the_next_message(echo, deliver, bad):
    """The rest of the character in a message of its own does not help the first."""
    expect_refusal(echo, fragments(TEXT, [bad]) + fragments(TEXT, [b"\xa9"]), deliver)


@INVALIDS
def test_the_same_bytes_are_fine_in_a_binary_message(echo, deliver, bad):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(BINARY, b"a" + bad[:1], deliver, fin=False)
        ws.send_frame(CONTINUATION, bad[1:] + b"b", deliver)
        assert ws.next_message() == (BINARY, b"a" + bad + b"b")


@INVALIDS
def test_the_same_bytes_are_fine_in_a_ping(echo, deliver, bad):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(PING, bad, deliver)
        assert ws.next_frame() == Frame(PONG, bad)


def test_invalid_text_in_the_gateway_too(gateway, deliver):
    with RawWebSocket.open(gateway.port) as ws:
        ws.send_frame(TEXT, b'{"event":"\xff"}', deliver)
        ws.expect_close(1007)
