"""A seeded generator of malformed input at every layer: JSON text, WebSocket frames, HTTP.

Each generator takes a `random.Random`, so that a seed names a run.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable

from raw_websocket import BINARY, CLOSE, CONTINUATION, PING, TEXT, close_payload, make_frame, new_key, request_bytes

EVENTS: list[dict] = [
    {"event": "ping", "data": "d", "received": 3},
    {"event": "ack", "received": 1},
    {"event": "subscribe", "subscription": "fuzz.topic", "since": {"epoch": "e", "offset": 41}, "id": "i"},
    {"event": "unsubscribe", "subscription": "fuzz.topic"},
    {"event": "message", "subscription": "fuzz.topic", "data": {"a": [1, 2.5, None, True, "\u00e9\U0001f600"]}, "id": 5},
    {"event": "auth", "method": "ticket", "ticket": "t"},
    {"event": "hello", "version": 1, "resume": {"session": "a.b", "received": 17}, "client": {"name": "n"}},
    {"event": "probe"},
]

ODD_VALUES = [
    b"null", b"true", b"0", b"-0", b"1e400", b"-1e400", b"NaN", b"Infinity", b"-Infinity", b"01", b"1.", b".5", b"+1", b"1e", b"0x1",
    b"9" * 400, b"-" + b"9" * 5_000, b"1" * 100_000, b"18446744073709551616", b"9223372036854775808", b"-1", b"1.5",
    b'""', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u12"', b'"\\x41"', b'"\x00"', b'"\x1f"', b'"\n"', b'"' + b"x" * 70_000 + b'"',
    b'"' + "\U0001f600".encode() * 20_000 + b'"', b'"a.b.c"', b'"."', b'"a."', b'"' + b"." * 3_000 + b'"',
    b"[]", b"{}", b"[[[]]]", b"[1,]", b"{,}", b'{"a"}', b"[1 2]", b"{1:2}", b"'a'", b"undefined",
    b"[" * 300, b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b"[{}," * 2_000,
    b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(5_000)) + b"}", b"[" + b"0," * 50_000 + b"0]",
    b'{"epoch":"e","offset":-1}', b'{"epoch":5,"offset":"x"}', b'{"epoch":"e","offset":1e99}', b'{"session":"x","received":-1}',
    b'{"session":"' + b"f" * 16 + b"." + b"0" * 32 + b'","received":18446744073709551615}',
]

FIELDS = [b"event", b"subscription", b"since", b"id", b"data", b"received", b"version", b"resume", b"method", b"ticket", b"client",
          b"", b"x" * 5_000, b"\\u0065vent"]


# JSON texts ------------------------------------------------------------------------------------------


def truncated(rng: random.Random) -> bytes:
    text = json.dumps(rng.choice(EVENTS), ensure_ascii=rng.random() < 0.5).encode()
    return text[: rng.randrange(len(text))]


def mutated(rng: random.Random) -> bytes:
    text = bytearray(json.dumps(rng.choice(EVENTS), ensure_ascii=False).encode())
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(text))
        action = rng.randrange(4)
        if action == 0:
            text[at] = rng.randrange(256)
        elif action == 1:
            del text[at]
        elif action == 2:
            text[at:at] = bytes(rng.choices(b'{}[]",:\\ \x00\x7f\xc3\xff0-eE.', k=rng.randrange(1, 9)))
        else:
            text[at:at] = text[at : at + rng.randrange(20)]
        if not text:
            break
    return bytes(text)


def odd_values(rng: random.Random) -> bytes:
    name = rng.choice(EVENTS)["event"].encode()
    members = [b'"event":"' + name + b'"']
    members += [b'"' + rng.choice(FIELDS) + b'":' + rng.choice(ODD_VALUES) for _ in range(rng.randrange(1, 4))]
    rng.shuffle(members)
    return b"{" + b",".join(members) + b"}"


def odd_alone(rng: random.Random) -> bytes:
    return rng.choice(ODD_VALUES)


def noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice([0, 1, 2, 7, 126, 300, 5_000]))


def spelt_otherwise(rng: random.Random) -> bytes:
    text = json.dumps(rng.choice(EVENTS))
    return rng.choice([text.encode("utf-16"), text.encode("utf-32"), text.encode("utf-16-be"), b"\xef\xbb\xbf" + text.encode(),
                       text.replace('"', "'").encode(), text.encode() * 2, (text + "\x00").encode(), b" " * 50_000 + text.encode()])


TEXTS: list[Callable[[random.Random], bytes]] = [truncated, mutated, mutated, odd_values, odd_values, odd_alone, noise, spelt_otherwise]


def any_text(rng: random.Random) -> bytes:
    return rng.choice(TEXTS)(rng)


def as_frames(rng: random.Random, payload: bytes) -> bytes:
    """A legal way to send it: as text or binary, whole or in pieces, with Pings between."""
    opcode = rng.choice([TEXT, BINARY])
    if rng.random() < 0.6 or len(payload) < 2:
        return make_frame(opcode, payload)
    cuts = sorted(rng.randrange(len(payload) + 1) for _ in range(rng.randrange(1, 6)))
    pieces = [payload[start:end] for start, end in zip([0, *cuts], [*cuts, len(payload)])]
    frames = []
    for number, piece in enumerate(pieces):
        frames.append(make_frame(opcode if number == 0 else CONTINUATION, piece, fin=number == len(pieces) - 1))
        if rng.random() < 0.2 and number < len(pieces) - 1:
            frames.append(make_frame(PING, rng.randbytes(rng.randrange(126))))
    return b"".join(frames)


# Frames --------------------------------------------------------------------------------------------------


def illegal_frame(rng: random.Random) -> bytes:
    payload = rng.randbytes(rng.choice([0, 1, 2, 125, 126, 200]))
    return rng.choice([
        lambda: make_frame(TEXT, payload, mask=None),
        lambda: make_frame(rng.choice([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), payload),
        lambda: make_frame(TEXT, payload, rsv=rng.randrange(1, 8)),
        lambda: make_frame(rng.choice([CLOSE, PING, 0xA]), payload, fin=False),
        lambda: make_frame(rng.choice([CLOSE, PING, 0xA]), payload + b"x" * 126),
        lambda: make_frame(CONTINUATION, payload),
        lambda: make_frame(TEXT, b"{", fin=False) + make_frame(TEXT, payload),
        lambda: make_frame(BINARY, payload[:125], length_form=64),
        lambda: make_frame(BINARY, b"", claimed=rng.choice([1 << 63, (1 << 64) - 1, 1 << 40, 1_048_577])),
        lambda: make_frame(TEXT, b"\xff" + payload),
        lambda: make_frame(CLOSE, b"\x03"),
        lambda: make_frame(CLOSE, close_payload(rng.choice([0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535]))),
        lambda: make_frame(CLOSE, close_payload(1000, b"\xff\xfe")),
    ])()


def cut_frame(rng: random.Random) -> bytes:
    frame = as_frames(rng, json.dumps(rng.choice(EVENTS)).encode())
    return frame[: rng.randrange(len(frame))]


def flipped_frame(rng: random.Random) -> bytes:
    frame = bytearray(as_frames(rng, json.dumps(rng.choice(EVENTS)).encode()))
    for _ in range(rng.randrange(1, 4)):
        frame[rng.randrange(min(len(frame), 16))] ^= 1 << rng.randrange(8)
    return bytes(frame)


FRAMES: list[Callable[[random.Random], bytes]] = [illegal_frame, illegal_frame, cut_frame, flipped_frame,
                                                  lambda rng: rng.randbytes(rng.randrange(1, 400))]


def any_frames(rng: random.Random) -> bytes:
    return rng.choice(FRAMES)(rng)


# HTTP ------------------------------------------------------------------------------------------------------


def bad_request(rng: random.Random, port: int) -> bytes:
    good = request_bytes(port, new_key(), path=rng.choice(["/", "/socket", "/api/publish", "/metrics", "/holdfast.js"]))
    kind = rng.randrange(7)
    if kind == 0:
        return good[: rng.randrange(len(good))]
    if kind == 1:
        text = bytearray(good)
        for _ in range(rng.randrange(1, 8)):
            text[rng.randrange(len(text))] = rng.randrange(256)
        return bytes(text)
    if kind == 2:
        return rng.randbytes(rng.randrange(1, 500)) + rng.choice([b"", b"\r\n\r\n"])
    if kind == 3:
        return b"GET /" + b"a" * rng.choice([10, 9_000, 100_000]) + b" HTTP/1.1\r\n\r\n"
    if kind == 4:
        length = rng.choice([b"-1", b"x", b"99999999999999999999", b"5\r\nContent-Length: 6", b"0x10", b""])
        return b"POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " + length + b"\r\n\r\n{}"
    if kind == 5:
        chunk = rng.choice([b"zz\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n", b"2\r\n{}", b"2\r\n{}\r\n0\r\n", b"5\r\n{}\r\n"])
        return (b"POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
    body = odd_values(rng)[:60_000] if rng.random() < 0.5 else mutated(rng)
    path = rng.choice([b"/api/publish", b"/api/batch", b"/api/sessions/x/disconnect"])
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


def seed() -> int:
    """HOLDFAST_SEED, or always the same one."""
    return int(os.environ.get("HOLDFAST_SEED", "20260101"))
