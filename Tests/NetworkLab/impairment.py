"""Makes the router bad: with the kernel's `netem` where there is one, else with emulator.py. Both do the same."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

import emulator
from emulator import Badness
from namespace import DIES_WITH_US, LabError
from network import SERVER, Network
from ping import Way, ping

#: The TUN device, and the routing table that leads into it.
DEVICE, TABLE = "bad", "100"
START_LINE = "ready\n"

#: F14 of the table of faults.
F14 = Badness(delay_ms=300, jitter_ms=100, loss=0.05, reorder=0.05)
PINGS = 400


def has_netem(network: Network) -> bool:
    """Tries it on a device that carries nothing yet."""
    try:
        network.router.run("tc", "qdisc", "add", "dev", "lo", "root", "netem", *F14.as_netem())
    except LabError as reason:
        # Anything else is a mistake of the lab's and must not be taken for a kernel that lacks it.
        if "qdisc kind is unknown" not in str(reason):
            raise
        return False
    network.router.run("tc", "qdisc", "delete", "dev", "lo", "root")
    return True


@contextlib.contextmanager
def impaired(network: Network, badness: Badness, seed: int) -> Iterator[str]:
    """For the length of a block; gives the name of what does it."""
    if has_netem(network):
        for device in ("lan", "wan"):
            network.router.run("tc", "qdisc", "add", "dev", device, "root", "netem", *badness.as_netem())
        yield "the kernel's netem"
        return  # The device takes it along.
    with emulating(network, badness, seed):
        yield "a TUN device (this kernel has no netem)"


@contextlib.contextmanager
def emulating(network: Network, badness: Badness, seed: int) -> Iterator[None]:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(badness).items()]
    program = [sys.executable, str(pathlib.Path(emulator.__file__)), DEVICE, SERVER, *options, f"--seed={seed}"]
    process = subprocess.Popen(
        [*DIES_WITH_US, *network.router.entering, *program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != START_LINE:
            raise LabError("the emulator did not start")
        _lead_through_the_device(network)
        yield
        if process.poll() is not None:
            raise LabError(f"the emulator ended by itself with {process.returncode}")
    finally:
        process.kill()
        process.wait()


def _lead_through_the_device(network: Network) -> None:
    """What comes in by a cable goes to the device; what comes back out of it goes where it was to go."""
    run = network.router.run
    run("ip", "link", "set", DEVICE, "up")
    run("ip", "route", "add", "default", "dev", DEVICE, "table", TABLE)
    for cable in ("lan", "wan"):
        run("ip", "rule", "add", "iif", cable, "lookup", TABLE)


def measure(network: Network, badness: Badness) -> Way:
    """Asks through the router how the way is, and raises if it is not as bad as it should be."""
    with network.browser.inside():
        way = ping(SERVER, PINGS, patience=2 * (badness.delay_ms + badness.jitter_ms) / 1000 + 0.5)
    require(way, badness)
    return way


def require(way: Way, badness: Badness) -> None:
    expected_loss = 1 - (1 - badness.loss) ** 2
    # Four standard deviations of as many independent packets: one run in 16,000 is wrongly refused.
    slack = 4 * (expected_loss * (1 - expected_loss) / way.sent) ** 0.5
    if not abs(way.lost_share - expected_loss) <= slack:
        raise LabError(f"{expected_loss:.1%} ± {slack:.1%} should be lost: {way}")
    if not abs(way.median_ms - 2 * badness.delay_ms) <= 0.1 * 2 * badness.delay_ms + 5:
        raise LabError(f"the round trip should be {2 * badness.delay_ms:g} ms: {way}")
    if badness.jitter_ms and way.quantile_ms(0.9) - way.quantile_ms(0.1) < badness.jitter_ms:
        raise LabError(f"the delay should vary by ± {badness.jitter_ms:g} ms: {way}")
    if badness.reorder and not way.overtaken:
        raise LabError(f"{badness.reorder:.0%} should overtake: {way}")
