"""Browser, router and server, each in a namespace of its own, and the hand on the cable between them.

    browser 10.77.1.2 ── lan ── 10.77.1.1 router 10.77.2.1 ── wan ── 10.77.2.2 server

The faults are in the router, so neither end sees a link go down: packets are dropped in its forward hook by `nft`, and
delayed, lost and reordered by an Impairment.
"""

from __future__ import annotations

import json
import time
from types import TracebackType

from namespace import Namespace

BROWSER, SERVER = "10.77.1.2", "10.77.2.2"
ROUTER_LAN, ROUTER_WAN = "10.77.1.1", "10.77.2.1"

#: What a cut drops, as `nft` says it.
DIRECTIONS = {
    "both": [],
    "to_client": ["ip", "saddr", SERVER],
    "to_server": ["ip", "saddr", BROWSER],
}


class Network:
    def __init__(self) -> None:
        self.browser, self.router, self.server = Namespace("browser"), Namespace("router"), Namespace("server")

    def __enter__(self) -> Network:
        try:
            self._build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _build(self) -> None:
        for namespace in (self.browser, self.router, self.server):
            namespace.add()
        # While it is impaired, packets come in by another device than the one that leads back to their sender.
        for key in ("all", "default"):
            self.router.set(f"ipv4/conf/{key}/rp_filter", "0")
        self.router.set("ipv4/ip_forward", "1")
        self._cable("lan", self.browser, BROWSER, ROUTER_LAN)
        self._cable("wan", self.server, SERVER, ROUTER_WAN)
        self.router.run("nft", "add table ip lab; add chain ip lab cut { type filter hook forward priority 0; }")

    def _cable(self, device: str, end: Namespace, address: str, router_address: str) -> None:
        # Both ends are made where they belong: nothing is ever seen in the machine's own namespace.
        end.run("ip", "link", "add", device, "type", "veth", "peer", "name", device, "netns", self.router.name)
        for namespace, own in ((end, address), (self.router, router_address)):
            namespace.run("ip", "address", "add", f"{own}/24", "dev", device)
            # Else what the sender's kernel leaves to a card to cut up would be lost or delayed as one.
            namespace.run("ip", "link", "set", "dev", device, "gso_max_segs", "1")
            namespace.run("ip", "link", "set", "dev", device, "up")
        end.run("ip", "route", "add", "default", "via", router_address)

    def remove(self) -> None:
        for namespace in (self.browser, self.server, self.router):
            namespace.remove()

    def cut(self, direction: str) -> float:
        """From now on the router forwards nothing in that direction. Returns the time before the command."""
        at = time.time()
        self.router.run("nft", "add", "rule", "ip", "lab", "cut", *DIRECTIONS[direction], "counter", "drop")
        return at

    def dropped(self) -> int:
        """How many packets the cut has swallowed so far."""
        said = json.loads(self.router.run("nft", "--json", "list", "chain", "ip", "lab", "cut"))["nftables"]
        expressions = [part for each in said for part in each.get("rule", {}).get("expr", [])]
        return sum(part["counter"]["packets"] for part in expressions if "counter" in part)

    def restore(self) -> float:
        """All is as before. Returns the time before the command: figures err to the long side."""
        at = time.time()
        self.router.run("nft", "flush", "chain", "ip", "lab", "cut")
        return at

    def bounce_the_link(self) -> None:
        """The browser's own link goes down and up, so that its operating system says that the network has changed."""
        self.browser.run("ip", "link", "set", "lan", "down")
        self.browser.run("ip", "link", "set", "lan", "up")
        self.browser.run("ip", "route", "replace", "default", "via", ROUTER_LAN)
