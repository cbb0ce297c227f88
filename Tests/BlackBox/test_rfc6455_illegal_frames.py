"""RFC 6455 §5: frames that a client must not send fail the connection with 1002, or 1009 when too big."""

import pytest

from raw_websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawWebSocket, fragments, make_frame

OPCODES = {"continuation": CONTINUATION, "text": TEXT, "binary": BINARY, "close": CLOSE, "ping": PING, "pong": PONG}
EVERY_OPCODE = pytest.mark.parametrize("opcode", OPCODES.values(), ids=OPCODES)
CONTROL = pytest.mark.parametrize("opcode", [CLOSE, PING, PONG], ids=["close", "ping", "pong"])


def expect_failure(server, data: bytes, deliver, code: int = 1002, before: bytes = b"") -> None:
    with RawWebSocket.open(server.port) as ws:
        if before:
            ws.send(before)
        ws.send(data, deliver)
        ws.expect_close(code)


# Reserved bits and opcodes (§5.2) -------------------------------------------------------------


@EVERY_OPCODE
@pytest.mark.parametrize("rsv", range(1, 8))
def test_reserved_bits_without_an_extension(echo, deliver, opcode, rsv):
    before = make_frame(TEXT, b"a", fin=False) if opcode == CONTINUATION else b""
    payload = b"\x03\xe8" if opcode == CLOSE else b"payload"
    expect_failure(echo, make_frame(opcode, payload, rsv=rsv), deliver, before=before)


@pytest.mark.parametrize("rsv", [1, 2, 4])
def test_reserved_bits_inside_a_message(echo, deliver, rsv):
    expect_failure(echo, make_frame(CONTINUATION, b"b", rsv=rsv), deliver, before=make_frame(TEXT, b"a", fin=False))


@pytest.mark.parametrize("opcode", [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF])
@pytest.mark.parametrize("payload", [b"", b"payload"], ids=["empty", "payload"])
def test_reserved_opcodes(echo, deliver, opcode, payload):
    expect_failure(echo, make_frame(opcode, payload), deliver)


@pytest.mark.parametrize("opcode", [0x3, 0x7, 0xB, 0xF])
def test_reserved_opcodes_inside_a_message(echo, deliver, opcode):
    expect_failure(echo, make_frame(opcode, b"x"), deliver, before=make_frame(TEXT, b"a", fin=False))


# Masking (§5.1) ---------------------------------------------------------------------------------


@EVERY_OPCODE
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8payload"], ids=["empty", "payload"])
def test_an_unmasked_frame(echo, deliver, opcode, payload):
    before = make_frame(TEXT, b"a", fin=False) if opcode == CONTINUATION else b""
    expect_failure(echo, make_frame(opcode, payload, mask=None), deliver, before=before)


# Lengths (§5.2) -----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 125])
def test_a_length_of_7_bits_written_in_16(echo, deliver, length):
    expect_failure(echo, make_frame(BINARY, b"x" * length, length_form=16), deliver)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535])
def test_a_shorter_length_written_in_64(echo, deliver, length):
    expect_failure(echo, make_frame(BINARY, b"x" * length, length_form=64), deliver)


@pytest.mark.parametrize("length", [1 << 63, (1 << 63) + 5, (1 << 64) - 1])
def test_a_64_bit_length_with_the_top_bit_set(echo, deliver, length):
    expect_failure(echo, make_frame(BINARY, b"", claimed=length), deliver)


@pytest.mark.parametrize("length", [1 << 40, (1 << 62) + 1, (1 << 63) - 1])
def test_a_length_that_no_limit_allows_is_refused_at_the_header(echo, deliver, length):
    expect_failure(echo, make_frame(BINARY, b"", claimed=length), deliver, code=1009)


# Control frames (§5.5) ------------------------------------------------------------------------------


@CONTROL
@pytest.mark.parametrize("length", [126, 127, 65_536])
def test_a_control_frame_over_125_bytes(echo, deliver, opcode, length):
    payload = b"\x03\xe8" + b"r" * (length - 2)
    expect_failure(echo, make_frame(opcode, payload), deliver)


@CONTROL
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8"], ids=["empty", "payload"])
def test_a_fragmented_control_frame(echo, deliver, opcode, payload):
    expect_failure(echo, make_frame(opcode, payload, fin=False), deliver)


@CONTROL
def test_a_fragmented_control_frame_inside_a_message(echo, deliver, opcode):
    start = make_frame(TEXT, b"a", fin=False)
    expect_failure(echo, make_frame(opcode, b"\x03\xe8", fin=False), deliver, before=start)


# Order of fragments (§5.4) ----------------------------------------------------------------------------


@pytest.mark.parametrize("fin", [True, False], ids=["final", "not final"])
@pytest.mark.parametrize("payload", [b"", b"payload"], ids=["empty", "payload"])
def test_a_continuation_without_a_start(echo, deliver, fin, payload):
    expect_failure(echo, make_frame(CONTINUATION, payload, fin=fin), deliver)


def test_a_continuation_after_a_finished_message(echo, deliver):
    finished = b"".join(fragments(TEXT, [b"a", b"b"]))
    expect_failure(echo, make_frame(CONTINUATION, b"c"), deliver, before=finished)


@pytest.mark.parametrize("start", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("second", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("fin", [True, False], ids=["final", "not final"])
def test_a_start_inside_a_message(echo, deliver, start, second, fin):
    expect_failure(echo, make_frame(second, b"b", fin=fin), deliver, before=make_frame(start, b"a", fin=False))


# What was right before the fault is still answered ----------------------------------------------------


def test_messages_before_the_fault_are_answered(echo, deliver):
    with RawWebSocket.open(echo.port) as ws:
        ws.send(make_frame(TEXT, b"good") + make_frame(TEXT, b"bad", rsv=4), deliver)
        assert ws.next_message() == (TEXT, b"good")
        ws.expect_close(1002)


def test_nothing_after_the_fault_is_answered(echo, deliver):
    with RawWebSocket.open(echo.port) as ws:
        ws.send(make_frame(0x3, b"bad") + make_frame(TEXT, b"good") + make_frame(PING, b"good"), deliver)
        ws.expect_close(1002)  # Which also fails if anything follows the Close.


def test_a_peer_that_never_answers_the_close_is_let_go(echo):
    with RawWebSocket.open(echo.port) as ws:
        ws.send_frame(TEXT, b"bad", rsv=1)
        ws.expect_close(1002, end=False)
        ws.wait_for_end(timeout=15)


# Too big (§7.4.1, 1009): the gateway's limit is 1 MiB, exactly ------------------------------------------


MIB = 1_048_576


def test_a_message_of_exactly_the_limit_is_taken(gateway, deliver):
    with RawWebSocket.open(gateway.port) as ws:
        ws.send_frame(TEXT, b'{"event":"ping","data":"' + b"x" * (MIB - 26) + b'"}', deliver)
        _, payload = ws.next_message()
        assert payload.startswith(b"{") and b"pong" in payload


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_a_message_of_one_byte_more_is_too_big(gateway, deliver, opcode):
    expect_failure(gateway, make_frame(opcode, b"x" * (MIB + 1)), deliver, code=1009)


def test_a_message_too_big_is_refused_as_soon_as_its_length_is_known(gateway, deliver):
    expect_failure(gateway, make_frame(TEXT, b"", claimed=MIB + 1), deliver, code=1009)


@pytest.mark.parametrize("sizes", [(MIB, 1), (1, MIB), (MIB // 2, MIB // 2, 1)], ids=str)
def test_fragments_that_are_too_big_together(gateway, deliver, sizes):
    frames = fragments(BINARY, [b"x" * size for size in sizes])
    expect_failure(gateway, b"".join(frames), deliver, code=1009)


def test_endless_empty_fragments_do_not_hold_a_message_open_for_free(gateway):
    """A hundred thousand empty fragments are either joined or refused, and the gateway answers others meanwhile."""
    with RawWebSocket.open(gateway.port) as ws, RawWebSocket.open(gateway.port) as other:
        ws.send(make_frame(TEXT, b"{", fin=False) + make_frame(CONTINUATION, b"", fin=False) * 100_000)
        other.expect_open()
