"""Asks with ICMP how the way is: how long, how even, how much is lost. No program `ping` is needed."""

from __future__ import annotations

import os
import select
import socket
import statistics
import struct
import time
from dataclasses import dataclass

ECHO_REQUEST, ECHO_REPLY = 8, 0
IP_HEADER_BYTES = 20


@dataclass(frozen=True)
class Way:
    """There and back."""

    sent: int
    lost: int
    #: Answers that came behind the answer to a later question.
    overtaken: int
    #: Round trips, shortest first.
    rtts_ms: tuple[float, ...]

    @property
    def lost_share(self) -> float:
        return self.lost / self.sent

    @property
    def median_ms(self) -> float:
        return statistics.median(self.rtts_ms)

    def quantile_ms(self, share: float) -> float:
        return self.rtts_ms[min(len(self.rtts_ms) - 1, int(share * len(self.rtts_ms)))]

    def __str__(self) -> str:
        if not self.rtts_ms:
            return f"{self.sent} pings, none answered"
        low, high = self.quantile_ms(0.1), self.quantile_ms(0.9)
        return (
            f"{self.sent} pings, {self.lost_share:.1%} lost, {self.overtaken} overtaken,"
            f" round trip {self.median_ms:.1f} ms (10 %: {low:.1f}, 90 %: {high:.1f})"
        )


def ping(address: str, count: int, interval: float = 0.02, patience: float = 1.5) -> Way:
    """From the namespace of the calling thread. `patience`: seconds for the last answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as line:
        return _ask(line, address, count, interval, patience)


def _ask(line: socket.socket, address: str, count: int, interval: float, patience: float) -> Way:
    name = os.getpid() & 0xFFFF
    sent: dict[int, float] = {}
    rtts: dict[int, float] = {}
    overtaken = 0
    begin = time.monotonic()
    while len(rtts) < count:
        now = time.monotonic()
        due = begin + len(sent) * interval if len(sent) < count else begin + (count - 1) * interval + patience
        if now >= due:
            if len(sent) == count:
                break
            line.sendto(_request(name, len(sent)), (address, 0))
            sent[len(sent)] = now
            continue
        if not select.select([line], [], [], due - now)[0]:
            continue
        kind, _, _, whose, number = struct.unpack("!BBHHH", line.recv(1500)[IP_HEADER_BYTES : IP_HEADER_BYTES + 8])
        if kind == ECHO_REPLY and whose == name and number not in rtts:
            overtaken += number < max(rtts, default=0)
            rtts[number] = time.monotonic() - sent[number]
    return Way(count, count - len(rtts), overtaken, tuple(sorted(rtt * 1000 for rtt in rtts.values())))


def _request(name: int, number: int) -> bytes:
    head = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, name, number)
    total = sum(struct.unpack("!4H", head))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    checksum = ~total & 0xFFFF
    return struct.pack("!BBHHH", ECHO_REQUEST, 0, checksum, name, number)
