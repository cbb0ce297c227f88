"""The three namespaces do what the drills rely on, and nothing is left of them. Needs root on Linux, and says so."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

import lab
from impairment import F14, emulating, has_netem, impaired, measure
from namespace import Namespace, remove_orphans
from network import SERVER, Network
from ping import Way, ping

NAMESPACES = pathlib.Path("/run/netns")
LAB = pathlib.Path(lab.__file__)
STOP_TIMEOUT = 60
TIDY_TIMEOUT = 20


@pytest.fixture
def network():
    with Network() as built:
        yield built


@pytest.fixture
def folder():
    """For temporary files. pytest's own has too long a name for the sockets that Chromium puts there."""
    with tempfile.TemporaryDirectory(prefix="lab-") as path:
        yield pathlib.Path(path)


def from_browser(network: Network, count: int = 5) -> Way:
    with network.browser.inside():
        return ping(SERVER, count, patience=0.3)


def left(owner: int) -> list[str]:
    return [path.name for path in NAMESPACES.glob(f"holdfast-{owner}-*")]


def test_packets_pass_until_they_are_cut_and_after_they_are_restored(network):
    assert from_browser(network).lost == 0
    for direction in ("both", "to_client", "to_server"):
        network.cut(direction)
        assert from_browser(network).lost == 5
        assert network.dropped() >= 5
        network.restore()
        assert network.dropped() == 0
        assert from_browser(network).lost == 0


@pytest.mark.parametrize(("direction", "arrives"), [("to_client", True), ("to_server", False)])
def test_one_direction_is_cut_and_the_other_is_not(network, direction, arrives):
    with network.server.inside():
        heard = _udp()
    network.cut(direction)
    with network.browser.inside(), _udp() as says:
        says.sendto(b"there", (SERVER, heard.getsockname()[1]))
    with heard:
        if arrives:
            assert heard.recvfrom(10)[0] == b"there"
        else:
            with pytest.raises(TimeoutError):
                heard.recvfrom(10)


def _udp() -> socket.socket:
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.bind(("0.0.0.0", 0))
    line.settimeout(0.5)
    return line


def test_the_bad_way_is_bad_and_good_again(network):
    with impaired(network, F14, seed=1):
        measure(network, F14)


def test_the_emulator_is_as_bad_as_netem_would_be(network):
    """Where the kernel has netem, the test above has measured that, and this one the other."""
    with emulating(network, F14, seed=2):
        measure(network, F14)
    assert has_netem(network) in (True, False), "and the options of netem are known to tc"


def test_nothing_is_left_after_a_failure():
    class Failure(Exception):
        pass

    with pytest.raises(Failure), Network() as network:
        names = [each.name for each in (network.browser, network.router, network.server)]
        assert all((NAMESPACES / name).exists() for name in names)
        child = subprocess.Popen([*network.server.entering, "sleep", "600"])
        raise Failure
    assert not any((NAMESPACES / name).exists() for name in names)
    assert child.wait(5) == -signal.SIGKILL, "what ran inside is gone too"


def test_what_a_killed_lab_has_left_is_removed():
    with subprocess.Popen(["true"]) as gone:
        pass
    Namespace("router", owner=gone.pid).add()
    assert f"holdfast-{gone.pid}-router" in remove_orphans()
    assert left(gone.pid) == []


def drills_of(pid: int) -> list[int]:
    """The processes that a lab has started."""
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    """Nobody may be there to collect a dead one whose parent was killed."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_lab_that_is_stopped_leaves_nothing(number, folder):
    process = subprocess.Popen(
        [sys.executable, str(LAB), "F2", "F1"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if ": cut (" in line:
            break
    drills = drills_of(process.pid)
    assert drills and all(left(drill) for drill in drills), "".join(said)
    process.send_signal(number)
    assert process.wait(STOP_TIMEOUT) == (lab.EXIT_STOPPED if number != signal.SIGKILL else -signal.SIGKILL)

    def remains() -> list:
        return [name for drill in drills for name in left(drill)] + list(folder.iterdir()) + list(filter(runs, drills))

    # Its drills tidy up by themselves when it cannot tell them to.
    deadline = time.monotonic() + TIDY_TIMEOUT
    while remains() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert remains() == []


def run_lab(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(LAB), *arguments], capture_output=True, text=True, timeout=60, **options)


def test_a_mistyped_name_is_told_the_right_one():
    done = run_lab("F1-netwrok")
    assert done.returncode == lab.EXIT_CANNOT
    assert "did you mean F1-network?" in done.stderr


def test_what_is_missing_is_named_all_at_once():
    done = run_lab("F2", env={"PATH": "/nonexistent", "HOLDFAST_BIN": "/nonexistent/holdfast"})
    assert done.returncode == lab.EXIT_CANNOT
    for name in (
        "nft (Debian: nftables)",
        "chromium (Debian: chromium)",
        "a gateway: /nonexistent/holdfast is not there",
    ):
        assert name in done.stderr
