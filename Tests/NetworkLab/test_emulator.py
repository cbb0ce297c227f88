"""The bad way in user space does what netem does; nothing here needs a network."""

import random

import pytest

from emulator import LIMIT, Badness, Direction
from impairment import F14, require
from namespace import LabError
from ping import Way

PACKETS = 20_000


def test_the_shares_are_those_that_were_asked_for():
    draws = [F14.of_packet(random.Random(f"seed {n}")) for n in range(PACKETS)]
    kept = [delay for delay in draws if delay is not None]
    late = [delay for delay in kept if delay > 0]
    assert (PACKETS - len(kept)) / PACKETS == pytest.approx(0.05, abs=0.007)
    assert (len(kept) - len(late)) / len(kept) == pytest.approx(0.05, abs=0.007)
    assert 0.2 <= min(late) < 0.201
    assert 0.399 < max(late) <= 0.4
    assert sum(late) / len(late) == pytest.approx(0.3, abs=0.003)


def test_a_packet_with_a_shorter_delay_overtakes():
    way = Direction(Badness(300, 100, 0, 0), "seed")
    for number in range(100):
        way.take(bytes([number]), now=number / 1000)
    assert way.due(0.15) == []
    order = [packet[0] for packet in way.due(1)]
    assert sorted(order) == list(range(100))
    assert order != sorted(order)
    assert way.next_at() is None


def test_the_same_seed_does_the_same():
    def run(seed: str) -> list[bytes]:
        way = Direction(F14, seed)
        for number in range(200):
            way.take(bytes([number]), now=0)
        return way.due(1)

    assert run("1 up") == run("1 up")
    assert run("1 up") != run("2 up")


def test_what_waits_is_bounded():
    way = Direction(Badness(300, 0, 0, 0), "seed")
    for _ in range(LIMIT + 1):
        way.take(b"", now=0)
    assert len(way.due(1)) == LIMIT


def made_up(lost: int, median: float, spread: float, overtaken: int) -> Way:
    answered = 400 - lost
    return Way(400, lost, overtaken, tuple(median + spread * (n / answered - 0.5) for n in range(answered)))


def test_a_way_that_is_not_as_bad_as_it_should_be_is_refused():
    require(made_up(39, 600, 250, 50), F14)
    for way in (
        made_up(0, 600, 250, 50),
        made_up(120, 600, 250, 50),
        made_up(39, 0.2, 250, 50),
        made_up(39, 600, 0, 50),
        made_up(39, 600, 250, 0),
    ):
        with pytest.raises(LabError):
            require(way, F14)
