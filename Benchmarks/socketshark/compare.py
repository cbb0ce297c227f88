#!/usr/bin/env python3
"""SocketShark and Holdfast side by side: the same load through Redis, one after the other, on the same machine.

`./run` makes the virtual environment for SocketShark and starts this; README.md says what is measured and how.
Exit code: 0 if all targets are met, 1 if not, 2 if nothing could be measured or a message was lost or doubled.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, quantiles

from processes import Child, Failed, Load, Publisher, processors, start_holdfast, start_redis, start_socketshark

ROOT = Path(__file__).resolve().parents[2]
TOPIC = "bench.topic"
STALL = 30.0  # seconds without progress after which a message counts as lost
CPU_TARGET, MEMORY_TARGET = 1 / 4, 2 / 3
TITLES = {"socketshark": "SocketShark", "holdfast": "Holdfast"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run", description="SocketShark and Holdfast side by side.")
    default = os.environ.get("HOLDFAST_BIN") or ROOT / ".build/release/holdfast"
    parser.add_argument("--holdfast", type=Path, default=default, help="the binary (.build/release/holdfast, HOLDFAST_BIN)")
    parser.add_argument("--venv", type=Path, default=ROOT / ".build/socketshark-venv", help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=TITLES, help="measure one of the two; no ratios then, and exit code 1")
    parser.add_argument("--subscribers", type=int, default=1_000, help="WebSocket connections (%(default)s)")
    parser.add_argument("--bytes", type=int, default=100, help="size of `data` in a message, 64 to 10000 (%(default)s)")
    parser.add_argument("--rate", type=float, default=10, help="paced: messages per second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="paced: how long (%(default)s)")
    parser.add_argument("--messages", type=int, default=400, help="flood: messages (%(default)s)")
    parser.add_argument("--window", type=int, default=100, help="flood: messages under way at most (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="times that both are measured, in alternating order (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="Holdfast's event loops; SocketShark has one (%(default)s)")
    parser.add_argument("--nap", type=float, default=1, metavar="MS", help="the load process's pause between reads (%(default)s)")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="leave the processors to the kernel")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    options = parser.parse_args()
    bounds = {"bytes": (64, 10_000), "subscribers": (1, 100_000), "window": (2, 1_000), "rounds": (1, 100), "nap": (0, 100)}
    for name, (least, most) in bounds.items():
        if not least <= getattr(options, name) <= most:
            parser.error(f"--{name} is from {least} to {most}")
    if options.messages < 1 or options.rate <= 0 or options.seconds * options.rate < 1:
        parser.error("there would be no message to measure")
    if options.only != "socketshark" and not os.access(options.holdfast, os.X_OK):
        parser.error(f"no binary at {options.holdfast}: swift build -c release, or --holdfast FILE")
    options.holdfast = Path(options.holdfast).resolve()
    return options


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# The loads ----------------------------------------------------------------------------------


class Run:
    """One server with all its subscribers connected."""

    def __init__(self, options: argparse.Namespace, server: Child, load: Load, publisher: Publisher):
        self.options, self.server, self.load, self.publisher = options, server, load, publisher
        self.published = 0

    def next_messages(self, count: int) -> list[bytes]:
        """The same for both servers: numbered, and each `data` as long as was asked for."""
        made = []
        for number in range(self.published + 1, self.published + count + 1):
            data = {"n": f"#{number:08d}#", "state": "ringing", "note": ""}
            data["note"] = "x" * (self.options.bytes - len(json.dumps(data)))
            made.append(json.dumps({"subscription": TOPIC, "data": data}).encode())
        self.published += count
        return made

    def publish(self, count: int) -> None:
        self.publisher.publish(TOPIC.encode(), self.next_messages(count))

    def measured(self, work) -> dict:
        """Runs one load to its last delivery, and what the processes took meanwhile."""
        before, first = (self.server.cpu(), self.load.cpu()), self.published
        begun = time.monotonic()
        result = work()
        self.load.wait_for(self.published, STALL)
        seconds = self.load.times[self.published] - begun
        server, load = self.server.cpu() - before[0], self.load.cpu() - before[1]
        deliveries = (self.published - first) * self.options.subscribers
        return {
            "deliveries": deliveries, "seconds": seconds, "cpu": server.total, "kernel": server.kernel, "load_cpu": load.total
        } | (result or {})  # fmt: skip

    def paced(self) -> dict:
        sent = {}
        count = round(self.options.rate * self.options.seconds)
        begun = time.monotonic()
        for index in range(count):
            time.sleep(max(0.0, begun + index / self.options.rate - time.monotonic()))
            sent[self.published + 1] = time.monotonic()
            self.publish(1)
        self.load.wait_for(self.published, STALL)
        return {"latency": [self.load.times[number] - moment for number, moment in sent.items()]}

    def flood(self, count: int) -> None:
        """Half a window at a time: the next half leaves once everybody has had all but the last half."""
        half = self.options.window // 2
        left = count
        while left:
            chunk = min(half, left)
            self.load.wait_for(self.published - half, STALL)
            self.publish(chunk)
            left -= chunk


def measure(name: str, options: argparse.Namespace, directory: Path, redis: int) -> dict:
    """Starts one server, loads it, stops it."""
    server_cores, other_cores = processors(options.pin)
    files = options.subscribers + 200
    place = {"directory": directory, "redis": redis, "cores": server_cores, "files": files}
    with contextlib.ExitStack() as stack:
        if name == "holdfast":
            server, port = start_holdfast(options.holdfast, options.threads, **place)
        else:
            server, port = start_socketshark(options.venv / "bin/python", **place)
        stack.enter_context(server)
        load = stack.enter_context(Load(directory, port, TOPIC, options.nap / 1_000, other_cores, files))
        publisher = stack.enter_context(contextlib.closing(Publisher(redis)))
        run = Run(options, server, load, publisher)
        try:
            return phases(name, run)
        except Failed as error:
            state = server.process.poll()
            state = "it is still running" if state is None else f"it ended with {state}"
            raise Failed(f"{TITLES[name]}: {error}\n{state}; its log ends with:\n{server.tail()}") from None


def phases(name: str, run: Run) -> dict:
    options, server, load = run.options, run.server, run.load
    load.order("warm", 10)
    load.answer("warm", STALL)
    time.sleep(1)
    before, cpu = server.memory(), server.cpu()
    load.order("connect", options.subscribers)
    taken = float(load.answer("connected", 120)[0])
    connect_cpu = server.cpu() - cpu
    time.sleep(1)
    after = server.memory()
    result = {
        "server": name,
        "connect_seconds": taken,
        "connect_cpu": connect_cpu.total,
        "resident": (after.resident - before.resident) / options.subscribers,
        "proportional": (after.proportional - before.proportional) / options.subscribers,
        "resident_before": before.resident,
    }
    progress(f"  {options.subscribers} connected in {taken:.1f} s, {result['resident'] / 1024:.1f} KiB of memory each")
    run.flood(10)  # What happens once only shall not be part of a figure.
    load.wait_for(run.published, STALL)
    for kind, work in (("paced", run.paced), ("flood", lambda: run.flood(options.messages))):
        figures = result[kind] = run.measured(work)
        each = figures["cpu"] / figures["deliveries"] * 1e6
        progress(
            f"  {kind}: {figures['deliveries']} deliveries in {figures['seconds']:.1f} s, {each:.1f} µs of CPU each; "
            f"server {share(figures, 'cpu'):.0%} busy, load {share(figures, 'load_cpu'):.0%}"
        )
    result["resident_loaded"] = (server.memory().resident - before.resident) / options.subscribers
    time.sleep(0.5)  # A message that comes twice may come late.
    load.order("stop")
    total, lowest, highest = map(int, load.answer("total", STALL))
    expected = run.published * options.subscribers
    if (total, lowest, highest) != (expected, run.published, run.published):
        raise Failed(f"{total} deliveries instead of {expected}; a connection had from {lowest} to {highest}")
    progress(f"  all {total} deliveries came, each once and in order")
    result["total"] = total
    return result


def share(figures: dict, key: str) -> float:
    return figures[key] / figures["seconds"]


# The table ----------------------------------------------------------------------------------


def summary(runs: list[dict]) -> dict:
    """One server over all rounds. Times in µs, memory in KiB."""
    result = {name: mean(run[name] for run in runs) / 1024 for name in ("resident", "proportional", "resident_loaded")}
    result["connect"] = mean(run["connect_cpu"] for run in runs) / runs[0]["total_subscribers"] * 1e6
    for kind in ("paced", "flood"):
        total = {key: sum(run[kind][key] for run in runs) for key in ("deliveries", "seconds", "cpu", "kernel", "load_cpu")}
        result[kind] = total["cpu"] / total["deliveries"] * 1e6
        result[f"{kind}_kernel"] = total["kernel"] / total["deliveries"] * 1e6
        result[f"{kind}_each"] = [run[kind]["cpu"] / run[kind]["deliveries"] * 1e6 for run in runs]
        result[f"{kind}_busy"], result[f"{kind}_load_busy"] = share(total, "cpu"), share(total, "load_cpu")
        result[f"{kind}_load"] = total["load_cpu"] / total["deliveries"] * 1e6
        result[f"{kind}_rate"] = total["deliveries"] / total["seconds"]
    latency = sorted(one * 1e3 for run in runs for one in run["paced"]["latency"])
    cuts = quantiles(latency, n=100, method="inclusive") if len(latency) > 1 else latency * 99
    result |= {"latency_p50": cuts[49], "latency_p99": cuts[98], "latency_max": latency[-1]}
    return result


ROWS = [  # title, key, unit, target for the ratio
    ("paced: CPU per delivery", "paced", "µs", ("1/4", CPU_TARGET)),
    ("… of which in the kernel", "paced_kernel", "µs", None),
    ("… publish to last subscriber, p50", "latency_p50", "ms", None),
    ("… p99", "latency_p99", "ms", None),
    ("… server busy", "paced_busy", "%", None),
    ("… load process busy", "paced_load_busy", "%", None),
    ("flood: CPU per delivery", "flood", "µs", ("1/4", CPU_TARGET)),
    ("… of which in the kernel", "flood_kernel", "µs", None),
    ("… deliveries per second", "flood_rate", "", None),
    ("… server busy", "flood_busy", "%", None),
    ("… load process busy", "flood_load_busy", "%", None),
    ("… load process, CPU per delivery", "flood_load", "µs", None),
    ("memory per session (RSS)", "resident", "KiB", ("2/3", MEMORY_TARGET)),
    ("… as PSS", "proportional", "KiB", None),
    ("… RSS after the loads", "resident_loaded", "KiB", None),
    ("connect and subscribe, CPU each", "connect", "µs", None),
]


def shown(value: float, unit: str) -> str:
    if unit == "%":
        return f"{value:.0%}"
    return f"{value:,.0f}" if not unit else f"{value:.1f} {unit}"


def table(results: dict[str, dict]) -> tuple[list[str], list[dict]]:
    """The lines, and the targets with what was reached."""
    both = len(results) == 2
    lines = ["".join([" " * 38] + [f"{TITLES[name]:>14}" for name in results] + (["   ratio  target"] if both else []))]
    targets = []
    for title, key, unit, target in ROWS:
        line = f"{title:<38}" + "".join(f"{shown(result[key], unit):>14}" for result in results.values())
        if both and unit != "%" and not key.endswith("_load"):
            base = results["socketshark"][key]
            ratio = results["holdfast"][key] / base if base > 0 else float("nan")
            line += f"{ratio:>8.2f}" if ratio < 10 else f"{ratio:>8.1f}"
            if target:
                met = ratio <= target[1]  # Never met by NaN.
                targets.append({"figure": title, "ratio": ratio, "at_most": target[1], "met": met})
                line += f"  <= {target[0]}  {'met' if met else 'NOT MET'}"
        lines.append(line)
    return lines + [line for name, result in results.items() for line in notes(TITLES[name], result)], targets


def notes(title: str, result: dict) -> list[str]:
    """How far the rounds are apart, and what makes a figure doubtful."""
    each = {kind: ", ".join(f"{one:.1f}" for one in result[f"{kind}_each"]) for kind in ("paced", "flood")}
    lines = [f"{title}, CPU per delivery in each round, µs: paced {each['paced']}; flood {each['flood']}"]
    for kind in each:
        if result[f"{kind}_load_busy"] > 0.9:
            lines.append(f"note: {title}, {kind}: the load process was the limit, the server may be able to do more")
    if result["paced_busy"] > 0.9:
        lines.append(f"note: {title}, paced: the server was busy all the time, its latency is that of a queue")
    return lines


def version(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()


def main() -> int:
    options = parse_arguments()
    names = [options.only] if options.only else list(TITLES)
    cores, rest = processors(options.pin)
    where = f"server on core {min(cores)}, the rest on {sorted(rest)}" if cores else "not pinned"
    machine = {"python": platform.python_version(), "kernel": platform.release(), "cores": os.cpu_count(), "placed": where}
    machine["redis"] = version(["redis-server", "--version"])
    if "holdfast" in names:
        machine["holdfast"] = f"{options.holdfast} {version([str(options.holdfast), '--version'])}"
        if "/debug/" in str(options.holdfast):
            progress("note: a debug build measures nothing")
    found: dict[str, list[dict]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as temporary:
        redis, port = start_redis(Path(temporary), rest, 1_000)
        with redis:
            for index in range(options.rounds):
                for name in names if index % 2 == 0 else reversed(names):
                    progress(f"round {index + 1} of {options.rounds}: {TITLES[name]}")
                    result = measure(name, options, Path(temporary), port)
                    found[name].append(result | {"total_subscribers": options.subscribers})
    results = {name: summary(runs) for name, runs in found.items()}
    lines, targets = table(results)
    print(
        f"{options.subscribers} subscribers of one topic, {options.bytes} bytes of data; paced at {options.rate:g}/s for "
        f"{options.seconds:g} s; flood of {options.messages}, {options.window} under way at most; rounds: {options.rounds}; {where}"
    )
    print("\n".join(lines))
    met = len(targets) == 3 and all(target["met"] for target in targets)
    if options.json:
        arguments = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
        everything = {"options": arguments, "machine": machine, "summary": results, "targets": targets, "met": met}
        options.json.write_text(json.dumps(everything | {"runs": found}, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # So that everything that was started is stopped.
    try:
        sys.exit(main())
    except Failed as error:
        progress(f"FAILED: {error}")
        sys.exit(2)
