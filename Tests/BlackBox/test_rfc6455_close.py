"""RFC 6455 §5.5.1 and §7: the closing handshake."""

import select
import socket
import struct
import time

import pytest

from raw_websocket import (
    CLOSE,
    ENDING,
    PING,
    TEXT,
    Frame,
    RawWebSocket,
    close_payload,
    make_frame,
    new_key,
    request_bytes,
)

VALID_CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


def test_an_empty_close_is_answered_with_a_close(echo, deliver):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(CLOSE, b"", deliver)
        # §5.5.1: the answer "typically echoes the status code", and here there is none.
        assert ws.next_frame() in (Frame(CLOSE, b""), Frame(CLOSE, close_payload(1000)))
        ws.wait_for_end()


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
def test_a_code_is_echoed(echo, deliver, code):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(CLOSE, close_payload(code), deliver)
        assert ws.next_frame() == Frame(CLOSE, close_payload(code))
        ws.wait_for_end()


@pytest.mark.parametrize("reason", [b"r", "bis später 😀".encode(), b"x" * 123], ids=["short", "unicode", "longest"])
def test_a_code_with_a_reason_is_answered_with_the_code(echo, deliver, reason):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(CLOSE, close_payload(1000, reason), deliver)
        frame = ws.next_frame()
        assert frame.opcode == CLOSE and frame.payload in (close_payload(1000), close_payload(1000, reason))
        ws.wait_for_end()


@pytest.mark.parametrize("byte", [b"\x00", b"\x03", b"\xff"])
def test_one_byte_is_no_code(echo, deliver, byte):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(CLOSE, byte, deliver)
        ws.expect_close(1002)


@pytest.mark.parametrize("reason", [b"\xff", b"ok \xce", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
def test_a_reason_that_is_not_utf8(echo, deliver, reason):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(CLOSE, close_payload(1000, reason), deliver)
        ws.expect_close(1007, 1002)


@pytest.mark.parametrize("later", [make_frame(TEXT, b"late"), make_frame(PING, b"late"), make_frame(CLOSE, b""),
                                   make_frame(0x3, b"late"), b"\xff" * 50], ids=["text", "ping", "close", "bad", "junk"])
def test_what_comes_after_the_close_is_ignored(echo, deliver, later):
    with RawWebSocket.open(echo.port) as ws:
        ws.send(make_frame(CLOSE, close_payload(1000)) + later, deliver)
        assert ws.next_frame() == Frame(CLOSE, close_payload(1000))
        ws.wait_for_end()
        assert not ws.buffer, bytes(ws.buffer)


def test_messages_before_the_close_are_answered_first(echo, deliver):
    with RawWebSocket.open(echo.port) as ws:
        ws.send(b"".join(make_frame(TEXT, b"%d" % n) for n in range(20)) + make_frame(CLOSE, close_payload(1000)), deliver)
        assert [ws.next_message()[1] for _ in range(20)] == [b"%d" % n for n in range(20)]
        assert ws.next_frame() == Frame(CLOSE, close_payload(1000))
        ws.wait_for_end()


def test_a_large_answer_is_delivered_whole_before_the_close(echo):
    """A deferred flush followed by a close must not lose the last frames."""
    with RawWebSocket.open(echo.port, receive_buffer=8_192) as ws:
        payload = b"x" * 1_000_000
        ws.send(make_frame(TEXT, payload) + make_frame(CLOSE, close_payload(1000)))
        assert ws.next_message() == (TEXT, payload)
        assert ws.next_frame() == Frame(CLOSE, close_payload(1000))
        ws.wait_for_end()


def test_the_server_closes_tcp_first_and_cleanly(echo):
    """§7.1.1: the server closes TCP, with FIN, so that the client need not wait in TIME_WAIT."""
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(CLOSE, close_payload(1000))
        assert ws.next_frame().opcode == CLOSE
        assert ws.wait_for_end() == "end"


def test_a_client_that_only_half_closes_tcp_ends_the_connection(echo):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(TEXT, b"last words")
        ws.finish_writing()
        ws.wait_for_end()


# All 65,536 codes ---------------------------------------------------------------------------------


class Closing:
    """One connection of many: handshake, Close with its code, everything that the server then says until TCP ends."""

    def __init__(self, port: int, code: int):
        self.code, self.answer, self.upgraded = code, bytearray(), False
        self.deadline = time.monotonic() + 10
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.sock.send(request_bytes(port, new_key()))

    def read(self) -> bool:
        """Takes what is there; true at the end."""
        data = self.sock.recv(4_096)
        self.answer += data
        if not self.upgraded and b"\r\n\r\n" in self.answer:
            assert self.answer.startswith(b"HTTP/1.1 101"), self.answer
            del self.answer[: self.answer.index(b"\r\n\r\n") + 4]
            self.upgraded = True
            self.sock.send(make_frame(CLOSE, close_payload(self.code)))
            self.deadline = time.monotonic() + ENDING
        if not data:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()  # RST: no TIME_WAIT for 65,536 connections
        return not data


def answers_to_codes(port: int, codes: range, parallel: int) -> dict[int, bytes]:
    answers: dict[int, bytes] = {}
    running: dict[int, Closing] = {}
    remaining, poll = iter(codes), select.epoll()
    while len(answers) < len(codes):
        while len(running) < parallel and (code := next(remaining, None)) is not None:
            one = Closing(port, code)
            running[one.sock.fileno()] = one
            poll.register(one.sock, select.EPOLLIN)
        for number, _ in poll.poll(0.1):
            if running[number].read():
                one = running.pop(number)
                answers[one.code] = bytes(one.answer)
        late = [one for one in running.values() if one.deadline < time.monotonic()]
        assert not late, f"TCP is still open {ENDING} s after a Close with {late[0].code}, answered {bytes(late[0].answer)!r}"
    return answers


@pytest.mark.parametrize("start", range(0, 65_536, 8_192))
def test_all_close_codes(echo, start):
    """A valid code is echoed, any other fails the connection with 1002. All 65,536 over the eight cases."""
    codes = range(start, start + 8_192)
    answers = answers_to_codes(echo.port, codes, parallel=100)
    assert len(answers) == 8_192

    def expected(code: int) -> int:
        return code if code in VALID_CODES else 1002

    wrong = {
        code: answer[:40]
        for code, answer in answers.items()
        if answer[:1] != b"\x88" or len(answer) != 2 + answer[1] or answer[2:4] != close_payload(expected(code))
    }
    assert not wrong, f"{len(wrong)} wrong, the first: {sorted(wrong.items())[:10]}"
