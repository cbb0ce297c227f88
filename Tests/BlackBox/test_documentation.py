"""The documentation of HoldfastClient: made without a warning, complete, and every line of code in it compiles. The tutorial's
program does what the tutorial says, against the demo that it names.

The modules are those of `swift build`; scripts/docs and these tests build nothing of ours."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest

from holdfast_process import ROOT, binary, clean_environment, eventually
from test_example_embedded import free_port

CATALOGUE = ROOT / "Sources/HoldfastClient/Documentation.docc"
BUILD = ROOT / os.environ.get("HOLDFAST_BUILD", ".build/debug")
# As the targets of Package.swift have them.
LANGUAGE = ["-swift-version", "6", "-enable-upcoming-feature", "ExistentialAny"]
# What code in the articles may take for granted.
PRELUDE = """
import HoldfastClient

struct Call: Codable, Sendable {
    var call: String
    var state: String
}

let client: HoldfastClient = try! HoldfastClient(url: "http://127.0.0.1:8080")
let subscription = client.subscribe("calls.live")

func show(_ value: some Sendable) {}
func reload() async throws {}
func fetchTicket() async throws -> String { "" }
"""


def command(*arguments: str | Path, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        list(map(str, arguments)),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """The documentation as it was made."""
    output = tmp_path_factory.mktemp("docs")
    made = command("scripts/docs", HOLDFAST_DOCS=str(output))
    assert made.returncode == 0, made.stdout
    assert not re.search(r"warning:|error:", made.stdout), made.stdout
    return output / "HoldfastClient.doccarchive"


@pytest.fixture(scope="module")
def compiler() -> list[str]:
    """`swiftc`, and how it finds the built modules."""
    flags = command("scripts/docs", "--flags")
    assert flags.returncode == 0, flags.stdout
    return ["swiftc", *LANGUAGE, *flags.stdout.splitlines()]


@pytest.fixture(scope="module")
def pages(archive) -> dict[str, dict]:
    """By their addresses."""
    found = [json.loads(path.read_text()) for path in (archive / "data/documentation").rglob("*.json")]
    assert found
    return {page["identifier"]["url"]: page for page in found}


def test_every_public_symbol_has_a_page(archive, pages):
    graph = json.loads((archive.parent / "symbolgraph/HoldfastClient.symbols.json").read_text())
    symbols = {symbol["identifier"]["precise"]: ".".join(symbol["pathComponents"]) for symbol in graph["symbols"]}
    assert len(symbols) > 100
    shown = {page["metadata"].get("externalID") for page in pages.values()}
    assert sorted(name for symbol, name in symbols.items() if symbol not in shown) == []


def test_every_public_symbol_has_its_place(pages):
    """The groups of the start page and of the two large types are made by hand, and nothing is left over for DocC to put somewhere.
    Small types need none: their members are in the order of their kinds."""
    start = "doc://holdfast.HoldfastClient/documentation/HoldfastClient"
    for address in (start, f"{start}/HoldfastClient", f"{start}/ClientConfiguration"):
        groups = pages[address]["topicSections"]
        leftover = {group["title"]: group["identifiers"] for group in groups if group.get("generated")}
        # What a type has only because of a protocol.
        leftover.pop("Default Implementations", None)
        assert leftover == {}, address
        for group in groups:
            for member in group["identifiers"]:
                assert member in pages or "/tutorials/" in member, member


def test_types_explain_themselves(pages):
    """Members may be clear by their names. A type says what it is for."""
    kinds = ("class", "struct", "enum", "protocol", "method", "init")
    silent = [
        address
        for address, page in pages.items()
        if page["metadata"].get("symbolKind") in kinds
        and not page.get("abstract")
        and not re.search(r"/(AsyncIterator|makeAsyncIterator\(\)|next\(\)|Login|init\((user:password|host:port:login|subscription:after:next|means:messages|code:text:limit:actual:data):\))(/|$)|Implementations", address)
    ]
    assert silent == []


def samples() -> list[tuple[str, str]]:
    """Every piece of Swift in the articles, the comments of the public API and README.md, by its place."""
    found = []
    for path in [*sorted(CATALOGUE.rglob("*.md")), ROOT / "README.md"]:
        found += [(path, code) for code in re.findall(r"^```swift\n(.*?)^```$", path.read_text(), re.M | re.S)]
    for path in sorted((ROOT / "Sources/HoldfastClient").rglob("*.swift")):
        for code in re.findall(r"^ *///? ```swift\n(.*?)^ */// ```$", path.read_text(), re.M | re.S):
            found.append((path, re.sub(r"^ */// ?", "", code, flags=re.M)))
    return [(f"{path.relative_to(ROOT)}, sample {number}", code) for number, (path, code) in enumerate(found)]


def test_every_sample_compiles(compiler, tmp_path):
    pieces = samples()
    assert len(pieces) > 20, "the samples were not found"
    (tmp_path / "Prelude.swift").write_text(PRELUDE)
    for number, (place, code) in enumerate(pieces):
        lines = code.splitlines()
        imports = [line for line in lines if line.startswith("import ")]
        body = "\n".join("    " + line for line in lines if not line.startswith("import "))
        text = "\n".join(["import HoldfastClient", *imports, f"// {place}", f"func sample{number}() async throws {{", body, "}", ""])
        (tmp_path / f"Sample{number}.swift").write_text(text)
    checked = command(*compiler, "-typecheck", "-suppress-warnings", *tmp_path.glob("*.swift"))
    assert checked.returncode == 0, checked.stdout


def tutorial_code() -> list[Path]:
    return sorted(CATALOGUE.glob("Resources/dashboard-[0-9]*.swift"))


def test_every_step_of_the_tutorial_compiles(compiler):
    """Each is the whole program of that step."""
    steps = tutorial_code()
    assert len(steps) >= 10

    def check(step: Path) -> tuple[Path, subprocess.CompletedProcess]:
        return step, command(*compiler, "-typecheck", "-warnings-as-errors", step)

    # The first one fills the cache of modules for the others.
    results = [check(steps[0])]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results += pool.map(check, steps[1:])
    for step, checked in results:
        assert checked.returncode == 0, f"{step.name}\n{checked.stdout}"


def test_every_file_of_the_tutorial_is_shown(archive):
    text = (CATALOGUE / "Tutorials/Dashboard.tutorial").read_text() + (CATALOGUE / "Tutorials/HoldfastClient.tutorial").read_text()
    for path in (CATALOGUE / "Resources").iterdir():
        assert re.search(rf"(file|source): {re.escape(path.name)}\b", text), f"{path.name} is in no step"
    tutorial = json.loads((archive / "data/tutorials/holdfastclient/dashboard.json").read_text())
    assert len(tutorial["references"]) >= len(tutorial_code())


def test_the_commands_of_the_tutorial_exist():
    """Those of `holdfast`, with their options."""
    lines = [line for path in (CATALOGUE / "Resources").glob("*.sh") for line in path.read_text().splitlines()]
    lines += [line for path in CATALOGUE.rglob("*.md") for line in path.read_text().splitlines()]
    commands = [match for line in lines if (match := re.match(r" *(?:\.build/debug/)?holdfast (\w+)(.*)$", line))]
    assert len(commands) >= 6
    for match in commands:
        name, rest = match.groups()
        described = subprocess.run([binary(), name, "--help"], env=clean_environment(), capture_output=True, text=True, timeout=20)
        assert described.returncode == 0, match.group()
        for option in re.findall(r" (--[a-z-]+)", rest):
            assert option in described.stdout, match.group()


# --- The tutorial, carried out ----------------------------------------------------------------------------------------


def dies_with_us() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, Linux only


class Demo:
    """`holdfast demo`, as in the tutorial."""

    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [binary(), "demo", "--port", str(port), "--rate", "20"],
            env=clean_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=dies_with_us,
        )
        self.line = f"http://127.0.0.1:{eventually(self.proxy_port, 30)}"

    def proxy_port(self) -> int | None:
        assert self.process.poll() is None, "the demo has ended"
        try:
            with urllib.request.urlopen(f"{self.url}/demo/config", timeout=5) as answer:
                return json.load(answer)["proxy_port"]
        except OSError:
            return None

    def post(self, path: str, body: dict) -> None:
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=5).read()

    def cut(self, is_cut: bool) -> None:
        self.post("/demo/cut", {"cut": is_cut})

    def call(self, name: str) -> None:
        """One more call, beside those of the demo's telephone system."""
        self.post("/api/publish", {"subscription": "calls.live", "data": {"call": name, "state": "ringing"}})

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


class Dashboard:
    """The tutorial's program, and what it has drawn."""

    def __init__(self, program: Path, url: str, directory: Path):
        # In a terminal each line is seen at once.
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", program, url],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=dies_with_us,
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip().removeprefix("\x1b[2J\x1b[H"))

    def shows(self, pattern: str, after: int = 0, deadline: float = 30) -> int:
        """Waits for such a line. - Returns: how many there were until then."""

        def found() -> int | None:
            for number, line in enumerate(self.lines[after:], after + 1):
                if re.search(pattern, line):
                    return number
            assert self.process.poll() is None, "\n".join(self.lines[-20:])
            return None

        return eventually(found, deadline)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="module")
def program(compiler, tmp_path_factory) -> Path:
    """The tutorial's last step, linked with what `swift build` has made of the library."""
    objects = BUILD / "holdfast.product/Objects.LinkFileList"
    assert objects.is_file(), f"no list of objects at {objects}: run `swift build`"
    directory = tmp_path_factory.mktemp("dashboard")
    ours = re.compile(r"/(holdfast|HoldfastServer|HoldfastBroker|HoldfastFaults|HoldfastDrills|HoldfastSimulation)\.build/")
    library = [line for line in objects.read_text().splitlines() if not ours.search(line)]
    (directory / "objects").write_text("\n".join(library))
    source = directory / "main.swift"
    source.write_text(tutorial_code_of_last_step())
    linked = command(
        *compiler, "-module-name", "dashboard", source, f"@{directory}/objects", "-lstdc++", "-lm", "-lz", "-o", directory / "dashboard"
    )
    assert linked.returncode == 0, linked.stdout[-3000:]
    return directory / "dashboard"


def tutorial_code_of_last_step() -> str:
    steps = re.findall(r'name: "main.swift", file: ([\w.-]+)', (CATALOGUE / "Tutorials/Dashboard.tutorial").read_text())
    return (CATALOGUE / "Resources" / steps[-1]).read_text()


def test_the_tutorial_keeps_its_word(program, tmp_path):
    def kept() -> dict:
        return json.loads((tmp_path / "dashboard.json").read_text())

    demo = Demo(free_port())
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: demo.stop())
        first = Dashboard(program, demo.line, tmp_path)
        stack.callback(first.stop)

        # A message, and the calls.
        seen = first.shows(r"^! the gateway has our message$")
        first.shows(r"^call_\d+ (ringing|talking|held)$")

        # A cut, which nobody tells. The bound in the text is for a machine that has time: here it is only waited for.
        demo.cut(True)
        seen = first.shows(r"^reconnecting: dead", seen)
        demo.call("call_in_the_cut")
        demo.cut(False)
        seen = first.shows(r"^connected: resumed", seen)
        first.shows(r"^call_in_the_cut ringing$", seen)
        assert not any("lost" in line for line in first.lines)

        # A position over a restart: what was published meanwhile comes, and what was known before is still shown.
        first.stop()
        position = kept()
        demo.call("call_meanwhile")
        second = Dashboard(program, demo.url, tmp_path)
        stack.callback(second.stop)
        second.shows(r"^call_meanwhile ringing$")
        second.shows(r"^call_in_the_cut ringing$")
        assert kept()["epoch"] == position["epoch"]
        assert not any("lost" in line for line in second.lines)

        # A gap: the gateway is restarted.
        demo.stop()
        seen = second.shows(r"^reconnecting: lineClosed")
        demo = Demo(int(demo.url.rpartition(":")[2]))
        second.shows(r"^! messages are lost, how many is not known$", seen)
        eventually(lambda: kept()["epoch"] != position["epoch"], 30)
