"""RFC 6455 §5: messages, their lengths and their fragments come back as they were sent."""

import os

import pytest

from raw_websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    RawWebSocket,
    close_payload,
    fragments,
    make_frame,
)

LENGTHS = [0, 1, 125, 126, 127, 65_535, 65_536, 1_048_576]
KINDS = pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])


def content(opcode: int, length: int) -> bytes:
    """Text of two-byte characters as far as it goes, or bytes of every value."""
    if opcode == TEXT:
        return ("é" * (length // 2) + "x" * (length % 2)).encode()
    return bytes(range(256)) * (length // 256) + bytes(range(length % 256))


@KINDS
@pytest.mark.parametrize("length", LENGTHS)
def test_a_message_of_any_length_comes_back(echo, deliver, opcode, length):
    with RawWebSocket.open(echo.port) as ws:
        payload = content(opcode, length)
        ws.send_frame(opcode, payload, deliver)
        assert ws.next_message() == (opcode, payload)
        ws.expect_open()


@KINDS
def test_many_messages_in_one_piece_come_back_in_order(echo, deliver, opcode):
    with RawWebSocket.open(echo.port) as ws:
        payloads = [b"%d" % number for number in range(200)]
        ws.send(b"".join(make_frame(opcode, payload) for payload in payloads), deliver)
        assert [ws.next_message() for _ in payloads] == [(opcode, payload) for payload in payloads]


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x01", b"\x80\x81\x82\x83"])
def test_any_mask_is_undone(echo, deliver, mask):
    with RawWebSocket.open(echo.port) as ws:
        payload = bytes(range(256)) * 5
        ws.send_frame(BINARY, payload, deliver, mask=mask)
        assert ws.next_message() == (BINARY, payload)


def test_each_frame_has_a_mask_of_its_own(echo, deliver):
    with RawWebSocket.open(echo.port) as ws:
        masks = [os.urandom(4) for _ in range(7)]
        pieces = [bytes([65 + number]) * (number + 1) for number in range(7)]
        for number, (mask, piece) in enumerate(zip(masks, pieces)):
            ws.send_frame(TEXT if number == 0 else CONTINUATION, piece, deliver, mask=mask, fin=number == 6)
        assert ws.next_message() == (TEXT, b"".join(pieces))


FRAGMENTS = {
    "two": [b"ab", b"cd"],
    "many": [b"%d," % number for number in range(300)],
    "single bytes": [bytes([byte]) for byte in b"one by one"],
    "first empty": [b"", b"abc"],
    "middle empty": [b"a", b"", b"", b"b"],
    "last empty": [b"abc", b""],
    "all empty": [b"", b"", b""],
    "long ones": [b"x" * 125, b"y" * 126, b"z" * 65_536, b"w"],
}


@KINDS
@pytest.mark.parametrize("pieces", FRAGMENTS.values(), ids=FRAGMENTS)
def test_fragments_are_one_message(echo, deliver, opcode, pieces):
    with RawWebSocket.open(echo.port) as ws:
        ws.send(b"".join(fragments(opcode, pieces)), deliver)
        assert ws.next_message() == (opcode, b"".join(pieces))
        ws.expect_open()


def test_nothing_comes_back_before_the_last_fragment(echo, deliver):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(TEXT, b"a", deliver, fin=False)
        ws.send_frame(CONTINUATION, b"b", deliver, fin=False)
        ws.expect_open()
        ws.send_frame(CONTINUATION, b"", deliver)
        assert ws.next_message() == (TEXT, b"ab")


def test_messages_after_a_fragmented_one_are_not_part_of_it(echo, deliver):
    with RawWebSocket.open(echo.port) as ws:
        for frame in fragments(TEXT, [b"a", b"b"]) + fragments(BINARY, [b"\xff", b"\xfe"]) + [make_frame(TEXT, b"c")]:
            ws.send(frame, deliver)
        assert [ws.next_message() for _ in range(3)] == [(TEXT, b"ab"), (BINARY, b"\xff\xfe"), (TEXT, b"c")]


# Control frames between fragments (§5.4, §5.5) ---------------------------------------------


def test_pings_between_fragments_are_answered_at_once_and_change_nothing(echo, deliver):
    with RawWebSocket.open(echo.port) as ws:
        pieces = [b"al", b"", b"pha"]
        for number, frame in enumerate(fragments(TEXT, pieces)):
            ws.send(frame, deliver)
            if number < 2:
                ping = b"between %d" % number
                ws.send_frame(PING, ping, deliver)
                assert ws.next_frame() == Frame(PONG, ping)
        assert ws.next_message() == (TEXT, b"alpha")


def test_pongs_between_fragments_are_ignored(echo, deliver):
    with RawWebSocket.open(echo.port) as ws:
        first, last = fragments(TEXT, [b"be", b"ta"])
        ws.send(first + make_frame(PONG, b"nobody asked") + last, deliver)
        assert ws.next_message() == (TEXT, b"beta")


def test_a_close_between_fragments_is_answered_and_the_message_is_dropped(echo, deliver):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(TEXT, b"never finished", deliver, fin=False)
        ws.send_frame(CLOSE, close_payload(1000), deliver)
        # A legal frame in a legal place (§5.4), though the message will never be whole: both codes are right.
        ws.expect_close(1000, 1002)


# Ping and Pong (§5.5.2, §5.5.3) ---------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"x", b"\x00\xff\xfe binary", b"p" * 124, b"p" * 125])
def test_a_ping_is_answered_with_its_own_payload(echo, deliver, payload):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(PING, payload, deliver)
        assert ws.next_frame() == Frame(PONG, payload)


def test_many_pings_are_answered_in_order(echo, deliver):
    with RawWebSocket.open(echo.port) as ws:
        payloads = [b"%d" % number for number in range(100)]
        ws.send(b"".join(make_frame(PING, payload) for payload in payloads), deliver)
        answered = [ws.next_frame().payload for _ in range(1)]
        # §5.5.3 allows to answer only the most recent of several; the last must be among them, and the order kept.
        while answered[-1] != payloads[-1]:
            answered.append(ws.next_frame().payload)
        assert [payload for payload in payloads if payload in answered] == answered


@pytest.mark.parametrize("payload", [b"", b"unsolicited", b"p" * 125])
def test_an_unsolicited_pong_is_ignored(echo, deliver, payload):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(PONG, payload, deliver)
        ws.expect_open()
        ws.send_frame(TEXT, b"still here", deliver)
        assert ws.next_message() == (TEXT, b"still here")


def test_a_connection_cut_inside_a_frame_disturbs_nobody(echo):
    frame = make_frame(BINARY, bytes(range(200)))
    with RawWebSocket.open(echo.port) as neighbour:
        for cut in range(len(frame)):
            with RawWebSocket.open(echo.port) as ws:
                ws.send(frame[:cut])
                (ws.reset if cut % 2 else ws.close)()
        neighbour.send_frame(TEXT, b"undisturbed")
        assert neighbour.next_message() == (TEXT, b"undisturbed")
