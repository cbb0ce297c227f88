"""A strict reader of the Prometheus text format, version 0.0.4. Whatever breaks a rule is an error."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)(?: (-?\d+))?")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')
VALUE = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?Inf|NaN")
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


@dataclass
class Family:
    name: str
    kind: str = "untyped"
    help: str | None = None
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)

    def value(self, **labels: str) -> float:
        return self.samples[self.name, tuple(sorted(labels.items()))]

    def total(self) -> float:
        return sum(self.samples.values())


def number(text: str) -> float:
    assert VALUE.fullmatch(text), f"no number: {text}"
    return float(text.replace("Inf", "inf"))


def labels_of(text: str | None) -> tuple[tuple[str, str], ...]:
    found, at = [], 0
    while text and at < len(text):
        match = LABEL.match(text, at)
        assert match, f"bad labels: {text}"
        found.append((match.group(1), match.group(2)))
        at = match.end()
    assert len({name for name, _ in found}) == len(found), f"a label stands twice: {text}"
    return tuple(sorted(found))


def belongs(sample: str, family: Family) -> bool:
    suffixes = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}.get(family.kind, ("",))
    return any(sample == family.name + suffix for suffix in suffixes)


def parse(text: str) -> dict[str, Family]:
    assert text.endswith("\n"), "the last line must end with a line feed"
    assert "\r" not in text
    families: dict[str, Family] = {}
    current: Family | None = None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP ") or line.startswith("# TYPE "):
            _, keyword, name, *rest = line.split(" ", 3)
            assert re.fullmatch(NAME, name), line
            if current is None or current.name != name:
                assert name not in families, f"the lines of {name} do not stand together"
                current = families[name] = Family(name)
            if keyword == "HELP":
                assert current.help is None and not current.samples, line
                current.help = rest[0] if rest else ""
            else:
                assert rest and rest[0] in TYPES and not current.samples and current.kind == "untyped", line
                current.kind = rest[0]
        elif line.startswith("#") or not line:
            continue
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"no sample: {line!r}"
            name = match.group(1)
            if current is None or not belongs(name, current):
                assert name not in families, f"the lines of {name} do not stand together"
                current = families[name] = Family(name)
            key = (name, labels_of(match.group(2)))
            assert key not in current.samples, f"twice: {line}"
            current.samples[key] = number(match.group(3))
    for family in families.values():
        check(family)
    return families


def check(family: Family) -> None:
    if family.kind == "counter":
        assert all(value >= 0 and not math.isnan(value) for value in family.samples.values()), family.name
    if family.kind == "histogram":
        series: dict[tuple, list[tuple[float, float]]] = {}
        for (name, labels), value in family.samples.items():
            if name.endswith("_bucket"):
                rest = tuple(label for label in labels if label[0] != "le")
                series.setdefault(rest, []).append((number(dict(labels)["le"]), value))
        for rest, buckets in series.items():
            counts = [count for _, count in sorted(buckets)]
            assert counts == sorted(counts), f"{family.name}: buckets are cumulative"
            assert max(buckets)[0] == math.inf, f"{family.name}: a bucket +Inf is needed"
            assert family.samples[family.name + "_count", rest] == counts[-1]
            assert (family.name + "_sum", rest) in family.samples
