"""The drills of the lab: the faults that faults.md marks with N, and canaries that the judge must catch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from judging import LET_GO_LIMIT_S, SUSPECT_LIMIT_S, SUSPECT_STREAM_LIMIT_S, Demands

STREAM, POLL = ("stream",), ("poll",)
CANARY = "canary: "


@dataclass(frozen=True)
class Plan:
    name: str
    fault: str
    #: For `--list`.
    says: str
    #: See network.DIRECTIONS.
    direction: str = "both"
    seconds: float = 60.0
    #: Who says that the way is open again: nobody, the network, the app, or the page that is shown.
    told_by: str = "nobody"
    #: The client's transports; None: its default.
    transports: tuple[str, ...] | None = None
    #: A call is answered during the cut, when the server has let go.
    answered: bool = False
    # Canaries: what is broken, and what must be complained about.
    must_complain: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    withheld: int | None = None
    no_cut: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The client's."""
        return {} if self.transports is None else {"transports": list(self.transports)}

    @property
    def demands(self) -> Demands:
        return Demands(
            noticeable=self.seconds > LET_GO_LIMIT_S,
            told=self.told_by != "nobody",
            silent=self.direction != "to_server",
            holds_a_line=self.transports != POLL,
            suspect_limit_s=SUSPECT_STREAM_LIMIT_S if self.transports == STREAM else SUSPECT_LIMIT_S,
        )


@dataclass(frozen=True)
class BadWay:
    name: str
    fault: str
    says: str
    seconds: float
    must_complain: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        return {}


#: The longest first: the others run beside it.
PLANS: dict[str, Plan | BadWay] = {
    plan.name: plan
    for plan in (
        BadWay("F14", "F14", "5 % lost, 300 ± 100 ms, reordering, in each direction, 10 min", 600),
        Plan("F5", "F5", "as F1; the server's timeout closes meanwhile, and then a call is answered", answered=True),
        Plan("F1", "F1", "cut 60 s in both directions, nobody says when it is over"),
        Plan("F1-network", "F1", "the same; the operating system says that the network has changed", told_by="network"),
        Plan("F1-app", "F1", "the same; the app says when it is over", told_by="app"),
        Plan("F1-shown", "F1", "the same; the page is hidden 10 s later and shown when it is over", told_by="shown"),
        Plan("F2", "F2", "cut 5 s in both directions", seconds=5),
        Plan("F3", "F3", "60 s, server to client only", direction="to_client"),
        Plan("F4", "F4", "60 s, client to server only", direction="to_server"),
        Plan("F1-stream", "F1", "F1 on the event stream", transports=STREAM),
        Plan("F3-stream", "F3", "F3 on the event stream", direction="to_client", transports=STREAM),
        Plan("F4-stream", "F4", "F4 on the event stream", direction="to_server", transports=STREAM),
        Plan("F5-stream", "F5", "F5 on the event stream", answered=True, transports=STREAM),
        Plan("F1-poll", "F1", "F1 on the long poll", transports=POLL),
        Plan(
            "canary-no-cut", "F2", CANARY + "nothing is cut", seconds=5, no_cut=True,
            must_complain="the cut was not there",
        ),
        Plan(
            "canary-slow-heartbeat", "F1", CANARY + "clients are told to ask after 60 s of silence", seconds=32,
            settings={"HOLDFAST_HEARTBEAT_INTERVAL": "60"}, must_complain="the client suspected the line",
        ),
        Plan(
            "canary-patient-server", "F1", CANARY + "the gateway sends no WebSocket Pings", seconds=32,
            settings={"HOLDFAST_WS_PING_INTERVAL": "0"}, must_complain="the server let go",
        ),
        Plan("canary-lost-event", "F2", CANARY + "one event is lost", seconds=5, withheld=70, must_complain="lost: 70"),
    )
}  # fmt: skip
