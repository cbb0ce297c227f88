"""`holdfast drill`: it passes what holds, and it fails what does not. Clients that break the rules are made here."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

import pytest

from holdfast_process import ROOT, binary, clean_environment, eventually, run

ADAPTERS = ROOT / "examples" / "drill-clients"
DEADLINE = 80.0

#: What a client does to the seventh event: numbers go in, and what it says of them.
WRONGS = {
    "nothing": "say('message', data={'n': n})",
    "loses": "None if n == 7 else say('message', data={'n': n})",
    "doubles": "[say('message', data={'n': n}) for _ in range(2 if n == 7 else 1)]",
    "reorders": "[say('message', data={'n': m}) for m in {7: (), 8: (8, 7)}.get(n, (n,))]",
    "invents": "[say('message', data={'n': m}) for m in ((7, 7_000_000) if n == 7 else (n,))]",
    "tells a gap": "say('gap', after=6, next=8) if n == 7 else say('message', data={'n': n})",
    "is silent": "None",
    "writes no JSON": "print('hello there', flush=True)",
    "dies": "sys.exit('I am tired')",
}

WRONG_CLIENT = """
import asyncio, sys
sys.path.insert(0, sys.argv.pop(1))
what = compile(sys.argv.pop(1), "what", "eval")
import plain_websocket as plain
honest = plain.say
def say(saw, **more):
    if saw == "message":
        eval(what, {"say": honest, "sys": sys, "n": more["data"]["n"]})
    else:
        honest(saw, **more)
plain.say = say
asyncio.run(plain.main())
"""

PUBLISHER = """
import http.client, json, os, sys, urllib.parse
assert os.environ["HOLDFAST_DRILL_NAME"] and os.environ["HOLDFAST_DRILL_SUBSCRIPTION"]
api = http.client.HTTPConnection(urllib.parse.urlsplit(os.environ["HOLDFAST_DRILL_URL"]).netloc)
for line in sys.stdin:
    api.request("POST", "/api/publish", line, {"Content-Type": "application/json"})
    api.getresponse().read()
"""


def command(*words: str) -> str:
    return shlex.join([sys.executable, *words])


def wrong(what: str) -> str:
    return command("-c", WRONG_CLIENT, str(ADAPTERS), WRONGS[what])


def begin(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [binary(), "drill", "--json", *arguments], env=clean_environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The document; its exit code is the process's."""
    try:
        output, errors = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert output, errors
    document = json.loads(output)
    assert document["exit_code"] == process.returncode, errors
    return document


def drill(*arguments: str) -> dict[str, Any]:
    return end(begin(*arguments))


def failed(result: dict[str, Any]) -> set[str]:
    return {check["name"] for check in result["checks"] if not check["passed"]}


def test_passes_and_reports(tmp_path):
    """The shape of both reports, on faults of each kind that the proxy knows."""
    report = tmp_path / "junit.xml"
    names = ["f1", "f4", "f6-404", "f7-silent", "f8", "f15", "f17", "f18"]
    document = drill("--quick", "--junit", str(report), *names)
    results = {result["drill"]: result for result in document["drills"]}
    assert list(results) == names, "in the order of faults.md"
    assert results.pop("f17")["verdict"] == "not_run", "there is no page"
    for result in results.values():
        assert result["verdict"] == "pass", result
        assert result["published"] >= 10 and result["checks"] and result["seconds"] > 0
        assert (result["lost"], result["told"], result["doubled"], result["out_of_order"]) == (0, 0, 0, 0)
    assert 3 < results["f1"]["noticed_after"] <= 6 and results["f1"]["back_after"] <= 2
    assert 1 <= results["f6-404"]["attempts"] <= 2
    assert (document["pace"], document["client"], document["exit_code"]) == ("quick", "holdfast-swift", 4)
    assert (document["passed"], document["failed"], document["errors"], document["not_run"]) == (7, 0, 0, 1)

    suite = xml.parse(report).getroot().find("testsuite")
    assert suite is not None and suite.attrib["name"] == "holdfast drill"
    assert [suite.attrib[key] for key in ("tests", "failures", "errors", "skipped")] == ["8", "0", "0", "1"]
    cases = suite.findall("testcase")
    assert [case.attrib["name"].split(":")[0] for case in cases] == names
    assert [len(case.findall("skipped")) for case in cases].count(1) == 1


def test_catches_clients_that_are_wrong():
    """One good client, and one for each way of being wrong: side by side, each with a drill of its own."""
    running = {what: begin("f2", "--with", wrong(what)) for what in WRONGS}
    found = {what: end(process) for what, process in running.items()}
    result = {what: document["drills"][0] for what, document in found.items()}

    assert result["nothing"]["verdict"] == "pass", result["nothing"]
    for what, column, check in (
        ("loses", "lost", "events lost without a word"),
        ("doubles", "doubled", "events doubled"),
        ("reorders", "out_of_order", "events out of order"),
        ("tells a gap", "told", "events told as a gap"),
    ):
        assert (result[what]["verdict"], result[what][column]) == ("fail", 1), result[what]
        assert failed(result[what]) == {check}
        assert check in result[what]["reason"] and found[what]["exit_code"] == 1
    assert failed(result["invents"]) == {"events that nobody published"}

    # A drill that cannot judge is no pass.
    for what, words in (
        ("is silent", "no events came on a line that is whole"),
        ("writes no JSON", "a line that is no JSON object: hello there"),
        ("dies", "it has ended by itself: "),
    ):
        assert (result[what]["verdict"], found[what]["exit_code"]) == ("error", 3), result[what]
        assert words in result[what]["reason"]


def test_catches_who_does_not_notice(start):
    """A plain WebSocket believes in a dead socket; our client, told to ask after 30 s of silence, notices too late."""
    lazy = start(heartbeat_interval=30)
    plain = begin("f1", "--quick", "--with", command(str(ADAPTERS / "plain_websocket.py")))
    late = begin("f1", "--quick", "--url", f"http://127.0.0.1:{lazy.port}")
    never, too_late = (end(process)["drills"][0] for process in (plain, late))

    assert never["verdict"] == "fail" and never["lost"] > 10, never
    assert failed(never) == {"noticed after", "back after", "events lost without a word"}
    assert "noticed_after" not in never and "back_after" not in never

    assert too_late["verdict"] == "fail" and failed(too_late) == {"noticed after"}, too_late
    assert too_late["lost"] == too_late["doubled"] == 0


def test_a_gateway_of_the_users(gateway):
    """With --url and --publish nothing of ours is started, and what would need it is left out by name."""
    url = f"http://127.0.0.1:{gateway.port}"
    document = drill("f2", "f10", "f20", "--url", url, "--publish", command("-c", PUBLISHER))
    one, *others = document["drills"]
    assert (one["verdict"], document["exit_code"], document["url"]) == ("pass", 4, url), one
    for result in others:
        assert result["verdict"] == "not_run" and "--url" in result["reason"]


def test_the_server_api_of_the_users_gateway(start):
    key = "a key of twenty bytes"
    service = {"require_authentication": False, "history": {"size": 100, "ttl": 60}}
    gateway = start(dev=False, key=key, api_key=key, services={"news": service})
    known = ["f2", "--url", f"http://127.0.0.1:{gateway.port}", "--service", "news"]
    running = [begin(*known, "--api-key", value) for value in (key, "a wrong key, also long")]
    right, refused = (end(process) for process in running)
    assert right["drills"][0]["verdict"] == "pass", right
    assert refused["drills"][0]["verdict"] == "error" and refused["exit_code"] == 3
    assert "no event is accepted; the publisher was told: " in refused["drills"][0]["reason"]


def test_an_interrupt_leaves_nothing_behind():
    process = begin("f1", "f15", "--quick")
    # Two gateways, and the client that is a process.
    seen = eventually(lambda: len(pids := every_child(process.pid)) >= 3 and pids, 20, what="the children")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    eventually(lambda: not any(is_alive(pid) for pid in seen), 10, what="their end")


def every_child(parent: int) -> list[int]:
    return [int(pid) for tasks in Path(f"/proc/{parent}/task").glob("*/children") for pid in tasks.read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_list_names_every_drill():
    listed = run("drill", "--list")
    assert listed.returncode == 0
    names = [line.split()[0] for line in listed.stdout.splitlines() if line and not line.startswith(" ")]
    assert {name.split("-")[0] for name in names} == {f"f{number}" for number in range(1, 21) if number != 16}
    assert len(names) == len(set(names)) >= 30
    some = run("drill", "--list", "F6")
    assert some.stdout.count("\nf6-") + some.stdout.startswith("f6-") == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["f99"], 'There is no drill "f99". `holdfast drill --list` shows all.'),
        (["--quick", "--long"], "exclude each other"),
        (["--at-once", "0"], "--at-once must be from 1 to 64, but is 0"),
        (["--clients", "10001"], "--clients must be from 1 to 10000, but is 10001"),
        (["--url", "https://example.com"], "cannot stand in an encrypted line"),
        (["--url", "example.com"], "is no address of a gateway"),
        (["--service", "a.b"], "--service is a name without a dot"),
    ],
    ids=lambda value: value[0].strip("-") if isinstance(value, list) else "",
)
def test_bad_options(arguments, words):
    ended = run("drill", *arguments)
    assert ended.returncode == 64 and words in ended.stderr.replace("\n", " ")
