"""Real proxies as processes of their own: nginx, HAProxy, mitmproxy, before a gateway; and what their own logs say.

    with nginx(gateway.port, site=page) as proxy:      # deploy/nginx/holdfast.conf as it is
        ...
        assert len(proxy.log().attempts) <= 2

The files of deploy/ are used as they are, but for addresses: each replacement must fit exactly once, so that a change there
cannot leave a test with something else.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

HERE = pathlib.Path(__file__).resolve().parent
DEPLOY = HERE.parents[2] / "deploy"
START_TIMEOUT = 30.0


@dataclass(frozen=True)
class Entry:
    """A line of a proxy's log: one request that has ended, or a WebSocket handshake."""

    at: float
    method: str
    path: str
    status: int | None
    upgrade: bool
    aborted: bool

    @property
    def kind(self) -> str:
        last = self.path.partition("?")[0].rsplit("/", 1)[-1]
        return last if last in ("poll", "stream", "send", "session") else "other"


@dataclass(frozen=True)
class Log:
    entries: list[Entry]

    @property
    def attempts(self) -> list[Entry]:
        """WebSocket handshakes. One that was let through may only be there when it has ended."""
        return [entry for entry in self.entries if entry.upgrade]

    def of(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind and not entry.upgrade]

    @property
    def aborted_polls(self) -> list[Entry]:
        """Those that the client let go. If it polls again at once, the gateway may answer the old one with 409 before the proxy hears of it."""
        return [entry for entry in self.of("poll") if entry.aborted or entry.status == 409]


@dataclass
class RealProxy:
    name: str
    address: str
    folder: pathlib.Path
    read_log: object
    environment: dict[str, str] = field(default_factory=dict)

    def log(self) -> Log:
        path = self.folder / "access.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return Log([entry for line in lines if (entry := self.read_log(line)) is not None])

    def output(self) -> str:
        return "\n".join((self.folder / name).read_text(errors="replace")[-2_000:] for name in ("output.log", "error.log")
                         if (self.folder / name).exists())


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, 0))
        return probe.getsockname()[1]


def replaced(text: str, **changes: str) -> str:
    """`text` with the new parts in place of the old ones; each old one must stand there exactly once."""
    for old, new in changes.items():
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the file"
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def running(name: str, host: str, read_log, prepare, environment: dict[str, str] | None = None) -> Iterator[RealProxy]:
    """`prepare(folder, port)` writes the configuration and answers the command."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"holdfast-{name}-"))
    folder.chmod(0o755)
    port = free_port(host)
    proxy = RealProxy(name, f"{host}:{port}", folder, read_log)
    process = None
    try:
        command = prepare(folder, port)
        program = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin:/usr/local/sbin")
        assert program, f"{command[0]} is not installed"
        command = [program, *command[1:]]
        if guard := shutil.which("setpriv"):  # A killed test run takes its proxies with it.
            command = [guard, "--pdeathsig", "KILL", "--", *command]
        with (folder / "output.log").open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder,
                                       start_new_session=True, env={**os.environ, **(environment or {}),
                                                                    "LADDER_LOG": str(folder / "access.log"),
                                                                    "LADDER_PAGE": str(folder / "page.html")})
        wait_until_it_accepts(process, host, port, proxy)
        yield proxy
        assert process.poll() is None, f"{name} ended by itself:\n{proxy.output()}"
    finally:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_it_accepts(process: subprocess.Popen, host: str, port: int, proxy: RealProxy) -> None:
    until = time.monotonic() + START_TIMEOUT
    while True:
        assert process.poll() is None, f"{proxy.name} did not start:\n{proxy.output()}"
        with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
            return
        assert time.monotonic() < until, f"{proxy.name} does not accept:\n{proxy.output()}"
        time.sleep(0.02)


# nginx --------------------------------------------------------------------------------------------------------------

NGINX = """
daemon off; master_process off; worker_processes 1; {user}
pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    {temporary}
    types {{ text/html html; }}
    log_format ladder escape=json '{{"ended":$msec,"took":$request_time,"method":"$request_method","path":"$request_uri",'
                                  '"status":$status,"upgrade":"$http_upgrade"}}';
    access_log {folder}/access.log ladder;
    {server}
}}
"""

#: What a location has that nobody has told of WebSockets: nginx's own defaults.
PLAIN = """
    server {{
        listen {host}:{port};
        location / {{ root {folder}; }}
        location /holdfast/ {{ proxy_pass http://127.0.0.1:{gateway}/; {more} }}
    }}
"""
#: Holds a stream back until a buffer is full. Only so with HTTP/1.0 to the gateway, which is nginx's default: chunks of HTTP/1.1 it
#: sends on as they come, even when it buffers.
BUFFERING = "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering; proxy_read_timeout 10s;"


def read_nginx(line: str) -> Entry | None:
    said = json.loads(line)
    # 499: the client went away before the answer was whole.
    return Entry(said["ended"] - said["took"], said["method"], said["path"], said["status"], bool(said["upgrade"]), said["status"] == 499)


def nginx(
    gateway: int,
    *,
    site: bytes,
    host: str = "127.0.0.1",
    more: str | None = None,
    second_gateway: int | None = None,
    change: dict[str, str] | None = None,
):
    """nginx with deploy/nginx/holdfast.conf, changed as told; with `more`, a plain proxy_pass with these lines instead."""

    def prepare(folder: pathlib.Path, port: int) -> list[str]:
        (folder / "page.html").write_bytes(site)
        if more is None:
            server = replaced(shipped_nginx(host, port, gateway, second_gateway, folder), **(change or {}))
        else:
            server = PLAIN.format(host=host, port=port, gateway=gateway, folder=folder, more=more)
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(NGINX.format(user=user, folder=folder, temporary=temporary, server=server))
        return ["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]

    return running("nginx", host, read_nginx, prepare)


def shipped_nginx(host: str, port: int, gateway: int, second_gateway: int | None, folder: pathlib.Path) -> str:
    text = (DEPLOY / "nginx/holdfast.conf").read_text()
    if second_gateway is not None:
        block = re.compile(r"^upstream holdfast \{.*?^\}$", re.M | re.S)
        assert len(block.findall(text)) == 1
        upstream = replaced((DEPLOY / "nginx/two-gateways.conf").read_text(), **{"127.0.0.1:9001": f"127.0.0.1:{second_gateway}"})
        text = block.sub(lambda _: upstream, text)
    return replaced(text, **{"127.0.0.1:9000": f"127.0.0.1:{gateway}", "listen 80;": f"listen {host}:{port};",
                             "root /var/www/html;": f"root {folder};"})


# HAProxy --------------------------------------------------------------------------------------------------------------

HAPROXY_LINE = re.compile(
    r"\[(?P<at>[^\]]+)\] (?P<frontend>\S+) (?P<backend>\S+) (?P<times>\S+) (?P<status>\S+) (?P<bytes>\S+) \S+ \S+ (?P<end>\S{4}) "
    r"\S+ \S+ \{(?P<upgrade>[^}]*)\} \"(?P<method>\S+) (?P<path>\S+)"
)


def read_haproxy(line: str) -> Entry | None:
    found = HAPROXY_LINE.search(line)
    if found is None:
        return None  # Remarks on the health of servers.
    at = datetime.strptime(found["at"], "%d/%b/%Y:%H:%M:%S.%f").timestamp()
    status = int(found["status"])
    # The first letter of the termination state says who ended it before its time; C is the client.
    return Entry(at, found["method"], found["path"], status, bool(found["upgrade"]), found["end"][0] == "C")


def haproxy(gateway: int, *, site: bytes, host: str = "127.0.0.1", timeout: str | None = None):
    """HAProxy with deploy/haproxy/haproxy.cfg; `timeout`: that much for client, server and tunnel instead."""

    def prepare(folder: pathlib.Path, port: int) -> list[str]:
        (folder / "page.html").write_bytes(site)
        text = (DEPLOY / "haproxy/haproxy.cfg").read_text()
        # The site is answered by HAProxy itself, so that no other server is needed; and few files may be open on a test machine.
        page = f"http-request return status 200 content-type text/html file {folder}/page.html"
        text = replaced(text, **{"maxconn 20000": "maxconn 400", "127.0.0.1:9000": f"127.0.0.1:{gateway}",
                                 "bind :80": f"bind {host}:{port}", "server site 127.0.0.1:8000": page})
        if timeout is not None:
            text = replaced(text, **{f"timeout {which} 75s": f"timeout {which} {timeout}" for which in ("client", "server", "tunnel")})
        (folder / "haproxy.cfg").write_text(text)
        # Its log goes to its output.
        (folder / "access.log").symlink_to(folder / "output.log")
        return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]

    return running("haproxy", host, read_haproxy, prepare)


# mitmproxy --------------------------------------------------------------------------------------------------------------


def read_mitmproxy(line: str) -> Entry | None:
    said = json.loads(line)
    return Entry(said["at"], said["method"], said["path"], said["status"], bool(said["upgrade"]), said["aborted"])


def mitmproxy(gateway: int, *, site: bytes, host: str = "127.0.0.1"):
    """mitmproxy with WebSocket switched off: it passes the 101 on, and then closes. It holds answers back until they are whole."""

    def prepare(folder: pathlib.Path, port: int) -> list[str]:
        (folder / "page.html").write_bytes(site)
        options = {"websocket": "false", "rawtcp": "false", "confdir": str(folder / "mitmproxy"),
                   "termlog_verbosity": "warn", "flow_detail": "0"}
        sets = [part for name, value in options.items() for part in ("--set", f"{name}={value}")]
        return ["mitmdump", "--mode", f"reverse:http://127.0.0.1:{gateway}", "--listen-host", host, "--listen-port", str(port),
                "-s", str(HERE / "mitm_addon.py"), *sets]

    return running("mitmproxy", host, read_mitmproxy, prepare)
