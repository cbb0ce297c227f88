"""Runs the drills, some at a time, each in a process with three namespaces of its own, and prints what was measured."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import difflib
import importlib.util
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence

import paths  # noqa: F401
from judging import Row
from namespace import LabError, Namespace, remove_orphans
from plans import PLANS
from table import notes, table, verdict

HERE = pathlib.Path(__file__).resolve().parent
#: Drills at a time. Each is a browser and a gateway, which mostly wait; with more, two cores make figures late.
AT_ONCE = 4
#: Beyond the fault itself: start, 10 s of events before it, the way back, the end.
OVERHEAD_S = 180.0
STOP_TIMEOUT = 30.0
#: A program that the lab calls, and the Debian package that has it.
PROGRAMS = {
    "ip": "iproute2", "tc": "iproute2", "nft": "nftables", "nsenter": "util-linux", "setpriv": "util-linux",
    "chromium": "chromium",
}  # fmt: skip
MODULES = {"websockets": "websockets>=15, from Tests/BlackBox/browser/requirements.txt"}
EXIT_FAILED, EXIT_CANNOT, EXIT_STOPPED = 1, 2, 130


def missing() -> list[str]:
    """Why the lab cannot run here, all of it at once."""
    if sys.platform != "linux":
        return [f"it needs Linux: network namespaces; this is {sys.platform}"]
    reasons = [
        f"the program {name} (Debian: {package})" for name, package in PROGRAMS.items() if not shutil.which(name)
    ]
    reasons += [f"the Python package {said}" for name, said in MODULES.items() if not importlib.util.find_spec(name)]
    if os.geteuid() != 0:
        return [*reasons, f"root: it makes network namespaces; this is user {os.geteuid()}"]
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        reasons.append("/dev/net/tun: a kernel with CONFIG_TUN")
    try:
        from gateway import binary

        binary()
    except (ImportError, FileNotFoundError) as reason:
        reasons.append(f"a gateway: {reason}")
    return reasons or _refused()


def _refused() -> list[str]:
    """Root in a container may not be allowed to make a namespace."""
    trial = Namespace("trial")
    try:
        trial.add()
        return []
    except LabError as reason:
        return [f"the right to make network namespaces (CAP_SYS_ADMIN, CAP_NET_ADMIN): {reason}"]
    finally:
        with contextlib.suppress(LabError):
            trial.remove()


class Lab:
    def __init__(self, at_once: int, seed: int, keep: bool) -> None:
        self._slots = asyncio.Semaphore(at_once)
        #: A browser that starts takes a core for a second: only one at a time.
        self._starting = asyncio.Lock()
        self._seed = seed
        self._keep = keep
        self._kept: list[asyncio.subprocess.Process] = []
        self._begun = time.monotonic()

    def say(self, name: str, text: str) -> None:
        print(f"{time.monotonic() - self._begun:6.1f} s  {name}: {text}", flush=True)

    async def run(self, name: str) -> Row:
        async with self._slots, contextlib.AsyncExitStack() as starting:
            await starting.enter_async_context(self._starting)
            process = await self._start(name)
            row = None
            try:
                async with asyncio.timeout(PLANS[name].seconds + OVERHEAD_S):
                    row = await self._follow(name, process, starting)
            except TimeoutError:
                row = failed(name, f"the drill does not end within {PLANS[name].seconds + OVERHEAD_S:g} s")
                process.terminate()
            finally:
                if row is not None and self._keep:
                    self._kept.append(process)
                else:
                    await self._end(process, finished=row is not None)
            self.say(name, f"{verdict(row)}: {'; '.join(row.complaints)}" if row.complaints else verdict(row))
            return row

    async def _start(self, name: str) -> asyncio.subprocess.Process:
        program = [
            sys.executable,
            str(HERE / "drill.py"),
            name,
            f"--seed={self._seed}",
            *(["--keep"] if self._keep else []),
        ]
        return await asyncio.create_subprocess_exec(
            # Should the lab be killed, its drills tidy up and end.
            *("setpriv", "--pdeathsig", "TERM", "--"),
            *program,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    async def _follow(self, name: str, process: asyncio.subprocess.Process, starting: contextlib.AsyncExitStack) -> Row:
        assert process.stdout is not None
        async for line in process.stdout:
            match json.loads(line):
                case {"say": text}:
                    self.say(name, text)
                case {"connected": _}:
                    await starting.aclose()
                case {"row": row}:
                    row.pop("passed")
                    return Row(**row)
        return failed(name, f"the drill ended with {await process.wait()} and no word")

    async def _end(self, process: asyncio.subprocess.Process, *, finished: bool) -> None:
        """The drill tidies up; what it could not is removed by its name."""
        if not finished and process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
        remove_orphans(process.pid)

    async def hold(self) -> None:
        """With --keep: until Ctrl-C."""
        print("Everything is kept for you to look at; Ctrl-C ends and removes it.", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.gather(*(self._end(process, finished=False) for process in self._kept))


def failed(name: str, complaint: str) -> Row:
    return Row(name, PLANS[name].fault, complaints=[complaint])


async def run_all(names: Sequence[str], lab: Lab) -> list[Row]:
    return list(await asyncio.gather(*(lab.run(name) for name in names)))


def report(rows: Sequence[Row], seed: int, json_path: str | None) -> bool:
    print(f"\n{table(rows)}\n")
    print(*notes(rows), "", sep="\n")
    if json_path:
        pathlib.Path(json_path).write_text(
            json.dumps({"seed": seed, "drills": [row.as_json() for row in rows]}, indent=2) + "\n"
        )
    bad = sum(not row.passed for row in rows)
    print(f"{len(rows) - bad} passed, {bad} failed", flush=True)
    return bad == 0


async def go(names: Sequence[str], options: argparse.Namespace, seed: int) -> int:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    lab = Lab(options.at_once, seed, options.keep)
    good = report(await run_all(names, lab), seed, options.json)
    if options.keep:
        await lab.hold()
    return 0 if good else EXIT_FAILED


def unknown(names: Sequence[str]) -> list[str]:
    said = []
    for name in names:
        if name not in PLANS:
            near = difflib.get_close_matches(name, PLANS, 1)
            hint = f"; did you mean {near[0]}?" if near else "."
            said.append(f"There is no drill called {name}{hint} `scripts/netns-lab --list` names them all.")
    return said


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/netns-lab", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="drills (default: all)")
    parser.add_argument("--list", action="store_true", help="say which drills there are")
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    parser.add_argument("--keep", action="store_true", help="leave networks, gateways and browsers until Ctrl-C")
    parser.add_argument("--seed", type=int, help="of the emulated way (default: drawn, and printed)")
    parser.add_argument(
        "--at-once", type=int, default=AT_ONCE, metavar="N", help=f"drills at a time (default: {AT_ONCE})"
    )
    options = parser.parse_args()
    if options.list:
        print(*(f"{plan.name:<22} {plan.says}" for plan in PLANS.values()), sep="\n")
        return 0
    if mistakes := unknown(options.names):
        print(*mistakes, sep="\n", file=sys.stderr)
        return EXIT_CANNOT
    names = [name for name in PLANS if not options.names or name in options.names]
    if options.at_once < 1:
        parser.error(f"--at-once must be at least 1, but is {options.at_once}")
    if reasons := missing():
        print(
            "The network lab cannot run here. What is missing:",
            *(f"  {reason}" for reason in reasons),
            sep="\n",
            file=sys.stderr,
        )
        return EXIT_CANNOT
    remove_orphans()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"{len(names)} drills, {options.at_once} at a time, seed {seed}", flush=True)
    try:
        return asyncio.run(go(names, options, seed))
    except asyncio.CancelledError:
        print("Stopped. Everything is removed.", file=sys.stderr)
        return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())
