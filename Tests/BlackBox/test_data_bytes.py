"""`data` passes through byte for byte: what was published is what stands in the frame, in the history, in the batch."""

import json
import random

import pytest

from event_client import EventClient
from json_bytes import elements, member, members

PLANES = "".join(chr(plane * 0x10000 + low) for plane in range(17) for low in (0xA0, 0x3B1, 0x4E2D, 0xD7FF, 0xE000, 0xFFFF))


def escaped(text: str) -> bytes:
    """Every character as \\uXXXX, those beyond the first plane as a surrogate pair."""
    units = text.encode("utf-16-be")
    return b'"' + b"".join(b"\\u%02X%02x" % (units[n], units[n + 1]) for n in range(0, len(units), 2)) + b'"'


def deep(size: int, depth: int) -> bytes:
    """JSON of exactly that many bytes in which every element is nested that deep."""
    unit = b'{"k":[' * (depth // 2 - 1) + b"1.10" + b"]}" * (depth // 2 - 1)
    inner = b"[" + b",".join([unit] * ((size - 20) // (len(unit) + 1))) + b"]"
    padding = size - len(inner) - len(b'{"d":,"p":""}')
    assert padding >= 0
    text = b'{"d":' + inner + b',"p":"' + b"p" * padding + b'"}'
    assert len(text) == size
    return text


VALUES: dict[str, bytes] = {
    "null": b"null",
    "true": b"true",
    "false": b"false",
    "zero": b"0",
    "minus zero": b"-0",
    "minus zero point zero": b"-0.0",
    "2^53 + 1": b"9007199254740993",
    "2^64": b"18446744073709551616",
    "minus 2^63 - 1": b"-9223372036854775809",
    "forty digits": b"1234567890123456789012345678901234567890",
    "five thousand digits": b"7" * 5_000,
    "1.10": b"1.10",
    "many decimals": b"0.1000000000000000055511151231257827021181583404541015625",
    "1E+2": b"1E+2",
    "1e-0007": b"1e-0007",
    "1e400": b"1e400",
    "-1E400": b"-1E400",
    "1e-400": b"1e-400",
    "empty string": b'""',
    "empty object": b"{}",
    "empty array": b"[]",
    "empty with white space": b"{ }",
    "duplicate keys": b'{"a":1,"a":2,"a":{"b":1,"b":2}}',
    "key order": b'{"z":1,"a":2,"m":3,"":4,"10":5,"9":6}',
    "white space": b'{ "a" :\t[ 1 ,\r\n 2 ] , "b"\n:\n{ } }',
    "every short escape": rb'"\"\\\/\b\f\n\r\t"',
    "escaped ascii": rb'"\u0041\u004a\u0022\u005c\u002f\u0000\u001f\u007f"',
    "escaped key": rb'{"\u0061":1,"a":2,"\/":3}',
    "escapes in both cases": rb'"\u00e9\u00E9\uABCD\uabcd"',
    "slashes": b'"a/b</script>"',
    "html": b'"<>&\'"',
    "line separators": "\"\u2028\u2029\u0085\"".encode(),
    "escaped surrogate pairs": rb'"\ud83d\ude00 \uD83D\uDE00 \udbff\udfff"',
    "delete and c1": '"\x7f\u0080\u009f"'.encode(),
    "combining and not normal": '"e\u0301 \u00e9 \u212b \u00c5"'.encode(),
    "byte order mark inside": '"\ufeff"'.encode(),
    "every plane": json.dumps(PLANES, ensure_ascii=False).encode(),
    "every plane escaped": escaped(PLANES),
    "what looks like an event": b'{"event":"message","subscription":"x.y","data":1,"offset":5}',
    "what looks like an end": b'"\\"}],\\"data\\":1"',
    "nested two hundred deep": b"[" * 199 + b"{}" + b"]" * 199,
    "long string": b'"' + b"abcdefghij" * 10_000 + b'"',
    "a string of backslashes": b'"' + rb"\\" * 5_001 + b'"',
    "1 MiB two hundred deep": deep(1_048_576, 200),
}

EVERY_VALUE = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
DIALECTS = pytest.mark.parametrize("dialect", ["native", "plain"])


def data_of(text: bytes, value: bytes) -> bytes:
    """The bytes of `data`. A very long value is looked for at once instead of byte by byte: that takes seconds."""
    if len(value) < 200_000:
        return member(text, "data")
    assert text.count(value) == 1
    return value if member(text.replace(value, b"0"), "data") == b"0" else b"something else"


def subscriber(gateway, dialect: str, topic: str) -> EventClient:
    client = EventClient.native(gateway.port) if dialect == "native" else EventClient.open(gateway.port)
    client.subscribe(topic)
    return client


@DIALECTS
@EVERY_VALUE
def test_data_in_a_frame(gateway, topic, dialect, value):
    with subscriber(gateway, dialect, topic) as client:
        gateway.api.publish_bytes(topic, value)
        assert data_of(client.messages(1)[0].raw, value) == value


@EVERY_VALUE
def test_data_in_the_history(gateway, topic, value):
    gateway.api.publish_bytes(topic, value)
    answer = gateway.api.get(f"/api/history?subscription={topic}")
    long = len(value) >= 200_000
    assert answer.body.count(value) == 1 or not long
    body = answer.body.replace(value, b"0") if long else answer.body
    publications = elements(member(body, "publications"))
    assert [member(publication, "data") for publication in publications] == [b"0" if long else value]


@EVERY_VALUE
def test_data_recovered_by_position(gateway, topic, value):
    epoch = gateway.api.publish_bytes(topic, value)["position"]["epoch"]
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic, since={"epoch": epoch, "offset": 0})
        assert data_of(client.messages(1)[0].raw, value) == value


@DIALECTS
def test_data_out_of_one_batch(gateway, topic, dialect):
    values = [value for value in VALUES.values() if len(value) < 20_000]
    name = json.dumps(topic).encode()
    body = b"[" + b" , ".join(b'{"data":' + value + b',"subscription":' + name + b"}" for value in values) + b"]"
    with subscriber(gateway, dialect, topic) as client:
        assert gateway.api.post("/api/batch", body).status == 200
        assert [member(event.raw, "data") for event in client.messages(len(values))] == values


def test_data_repeated_by_a_resume(gateway, topic):
    values = [value for value in VALUES.values() if len(value) < 20_000]
    with EventClient.native(gateway.port) as first:
        first.subscribe(topic)
        first.reset()
        for value in values:
            gateway.api.publish_bytes(topic, value)
        with EventClient.resuming(first) as second:
            assert [member(event.raw, "data") for event in second.messages(len(values))] == values


@pytest.mark.parametrize("body", [
    b'{"subscription":%s,"data":%s}',
    b'{"data_":0,"subscription":%s , "data" : %s , "datax":1}',
    b'\r\n{\t"subscription"\n:\n%s\n,\n"data"\n:\n%s\n}\n',
    b'{"subscription":%s,"unknown":{"data":"not this"},"data":%s,"options":{}}',
], ids=range(4))
def test_white_space_around_the_value_is_not_part_of_it(gateway, topic, body):
    value = b'{ "a" : 1.10 }'
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        assert gateway.api.post("/api/publish", body % (json.dumps(topic).encode(), value)).status == 200
        assert member(client.messages(1)[0].raw, "data") == value


@DIALECTS
def test_random_json_passes_through(gateway, topic, dialect):
    """Three hundred values of a seeded generator that writes JSON in every legal way."""
    rng = random.Random(20_260_101)
    values = [random_value(rng, 4) for _ in range(300)]
    with subscriber(gateway, dialect, topic) as client:
        for value in values:
            gateway.api.publish_bytes(topic, value)
        assert [member(event.raw, "data") for event in client.messages(len(values))] == values


def random_value(rng: random.Random, depth: int) -> bytes:
    def space() -> bytes:
        return bytes(rng.choices(b" \t\r\n", k=rng.choice([0, 0, 0, 1, 3])))

    def string() -> bytes:
        pieces = [rng.choice([rb"\u%04x" % rng.randrange(0xD800), rb"\n", rb"\/", "é😀".encode(), b"plain", b"'", b"\x7f"])
                  for _ in range(rng.randrange(6))]
        return b'"' + b"".join(pieces) + b'"'

    def number() -> bytes:
        text = b"-" * rng.randrange(2) + b"%d" % rng.choice([0, 7, 10**rng.randrange(40)])
        if rng.random() < 0.5:
            text += b".%0*d" % (rng.randrange(1, 20), rng.randrange(10))
        if rng.random() < 0.3:
            text += rng.choice([b"e", b"E"]) + rng.choice([b"", b"+", b"-"]) + b"%d" % rng.randrange(500)
        return text

    kind = rng.randrange(6) if depth else rng.randrange(4)
    if kind < 4:
        return [string, number, lambda: b"null", lambda: rng.choice([b"true", b"false"])][kind]()
    inner = [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 5:
        inner = [string() + space() + b":" + space() + value for value in inner]
    joined = b",".join(space() + value + space() for value in inner) or space()
    return (b"[" + joined + b"]") if kind == 4 else (b"{" + joined + b"}")


def test_the_frame_around_the_data_is_json_without_doubles(gateway, topic):
    for dialect in ("native", "plain"):
        with subscriber(gateway, dialect, f"{topic}.{dialect}") as client:
            gateway.api.publish(f"{topic}.{dialect}", {"a": 1})
            names = [name for name, _ in members(client.messages(1)[0].raw)]
            assert len(names) == len(set(names)) and "data" in names


NOT_JSON = {
    "nothing": b"", "NaN": b"NaN", "Infinity": b"Infinity", "minus infinity": b"-Infinity", "plus": b"+1", "leading zero": b"01",
    "no digit after the point": b"1.", "no digit before the point": b".5", "no exponent": b"1e", "hex": b"0x10",
    "single quotes": b"'a'", "bare word": b"abc", "comma at the end": b"[1,]", "comma in an object": b'{"a":1,}',
    "missing comma": b"[1 2]", "missing colon": b'{"a" 1}', "key that is no string": b"{1:2}", "unknown escape": rb'"\x41"',
    "short escape": rb'"\u12"', "control character": b'"\x01"', "line feed in a string": b'"\n"', "unfinished": b'{"a":[1',
    "unfinished string": b'"abc', "too many brackets": b"[]]", "comment": b"1/**/", "bad utf-8": b'"\xff"', "overlong": b'"\xc0\xaf"',
    "raw surrogate": b'"\xed\xa0\x80"', "form feed as space": b"[\x0c1]", "byte order mark": b"\xef\xbb\xbf1", "True": b"True",
}


@pytest.mark.parametrize("value", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_refused_and_reaches_nobody(gateway, topic, value):
    with EventClient.native(gateway.port) as client:
        client.subscribe(topic)
        answer = gateway.api.post("/api/publish", b'{"subscription":"%s","data":%s}' % (topic.encode(), value))
        assert answer.status == 400 and answer.json["status"] == "error", answer
        client.expect_silence()
