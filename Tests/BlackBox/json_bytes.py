"""Finds the exact bytes of a member of a JSON object, without decoding it.

Written apart from any JSON library on purpose: a library decodes, and what these tests
ask is whether anything was decoded on the way.
"""

from __future__ import annotations

import json
import re

SPACE = re.compile(rb"[ \t\r\n]*")
STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
SCALAR = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")


def skip_space(text: bytes, at: int) -> int:
    return SPACE.match(text, at).end()


def skip_value(text: bytes, at: int) -> int:
    """The end of the value that starts at `at`. Not recursive: depth costs nothing."""
    depth = 0
    while True:
        at = skip_space(text, at)
        match = STRING.match(text, at) or SCALAR.match(text, at)
        if match:
            at = match.end()
        elif text[at : at + 1] in (b"[", b"{"):
            depth += 1
            at += 1
            continue
        elif text[at : at + 1] in (b"]", b"}"):
            depth -= 1
            at += 1
        elif text[at : at + 1] in (b",", b":") and depth:
            at += 1
            continue
        else:
            raise AssertionError(f"no JSON at {at}: {text[at:at + 40]!r}")
        if depth == 0:
            return at


def members(text: bytes) -> list[tuple[str, bytes]]:
    """The members of an object as (name, bytes of the value), in order, doubles included."""
    at = skip_space(text, 0)
    assert text[at : at + 1] == b"{", text[:40]
    at = skip_space(text, at + 1)
    found = []
    while text[at : at + 1] != b"}":
        name = STRING.match(text, at)
        assert name, text[at : at + 40]
        at = skip_space(text, name.end())
        assert text[at : at + 1] == b":", text[at : at + 40]
        start = skip_space(text, at + 1)
        end = skip_value(text, start)
        found.append((json.loads(name.group()), text[start:end]))
        at = skip_space(text, end)
        if text[at : at + 1] == b",":
            at = skip_space(text, at + 1)
    assert skip_space(text, at + 1) == len(text), "something after the object"
    return found


def member(text: bytes, name: str) -> bytes:
    """The bytes of the one member of that name; its being there twice is an error."""
    values = [value for key, value in members(text) if key == name]
    assert len(values) == 1, f"{name} stands {len(values)} times in {text[:200]!r}"
    return values[0]


def elements(text: bytes) -> list[bytes]:
    """The bytes of each element of an array."""
    at = skip_space(text, 0)
    assert text[at : at + 1] == b"[", text[:40]
    at = skip_space(text, at + 1)
    found = []
    while text[at : at + 1] != b"]":
        end = skip_value(text, at)
        found.append(text[at:end])
        at = skip_space(text, end)
        if text[at : at + 1] == b",":
            at = skip_space(text, at + 1)
    return found
