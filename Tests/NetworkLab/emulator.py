"""A bad way in user space, for kernels without `netem`: packets go through a TUN device to this program.

It does to each what `tc netem delay D J loss L reorder R` does: lost with probability L; of the rest R go at once,
and so overtake; the others wait a time drawn evenly from D − J to D + J, each its own. Runs in the router's namespace.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import time
from dataclasses import dataclass

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PACKET_BYTES = 65_536
#: Packets that wait in one direction; netem's own limit.
LIMIT = 1_000


@dataclass(frozen=True)
class Badness:
    """What is done to packets, in each direction for itself."""

    delay_ms: float
    jitter_ms: float
    #: Shares between 0 and 1.
    loss: float
    reorder: float

    def of_packet(self, random: random.Random) -> float | None:
        """How many seconds the next packet waits; None if it is lost."""
        if random.random() < self.loss:
            return None
        if random.random() < self.reorder:
            return 0.0
        return max(0.0, random.uniform(self.delay_ms - self.jitter_ms, self.delay_ms + self.jitter_ms)) / 1000

    def as_netem(self) -> list[str]:
        return [
            *("delay", f"{self.delay_ms:g}ms", f"{self.jitter_ms:g}ms"),
            *("loss", f"{self.loss:.2%}", "reorder", f"{self.reorder:.2%}", "limit", str(LIMIT)),
        ]

    def __str__(self) -> str:
        shares = f"{self.loss:.0%} lost, {self.reorder:.0%} overtake"
        return f"{self.delay_ms:g} ± {self.jitter_ms:g} ms, {shares}, in each direction"


class Direction:
    """The packets that wait, the next one first."""

    def __init__(self, badness: Badness, seed: str) -> None:
        self._badness = badness
        self._random = random.Random(seed)
        self._waiting: list[tuple[float, int, bytes]] = []
        self._count = 0

    def take(self, packet: bytes, now: float) -> None:
        delay = self._badness.of_packet(self._random)
        if delay is not None and len(self._waiting) < LIMIT:
            self._count += 1
            heapq.heappush(self._waiting, (now + delay, self._count, packet))

    def next_at(self) -> float | None:
        return self._waiting[0][0] if self._waiting else None

    def due(self, now: float) -> list[bytes]:
        packets = []
        while self._waiting and self._waiting[0][0] <= now:
            packets.append(heapq.heappop(self._waiting)[2])
        return packets


def open_tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def carry(device: int, towards_server: bytes, badness: Badness, seed: int) -> None:
    """For ever. What is addressed to the server is one direction, all else the other."""
    up, down = Direction(badness, f"{seed} up"), Direction(badness, f"{seed} down")
    while True:
        soonest = min((at for each in (up, down) if (at := each.next_at()) is not None), default=None)
        patience = None if soonest is None else max(0.0, soonest - time.monotonic())
        if select.select([device], [], [], patience)[0]:
            packet = os.read(device, PACKET_BYTES)
            (up if packet[16:20] == towards_server else down).take(packet, time.monotonic())
        for each in (up, down):
            for packet in each.due(time.monotonic()):
                os.write(device, packet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device")
    parser.add_argument("server", help="its address")
    for name in ("delay-ms", "jitter-ms", "loss", "reorder"):
        parser.add_argument(f"--{name}", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    device = open_tun(options.device)
    print("ready", flush=True)
    badness = Badness(options.delay_ms, options.jitter_ms, options.loss, options.reorder)
    carry(device, socket.inet_aton(options.server), badness, options.seed)


if __name__ == "__main__":
    main()
