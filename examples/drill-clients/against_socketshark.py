"""Drills SocketShark with a plain WebSocket client: the server and the client that most people have.

    python3 examples/drill-clients/against_socketshark.py --socketshark VENV/bin/socketshark f1 f5 --quick

What it does not know goes to `holdfast drill`. Needs `redis-server`, SocketShark (PyPI `socketshark`, in an environment
of its own) and the package `websockets`. SocketShark pings every 15 s and has 15 s of patience, as in its documentation.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile

from servers import HOST, free_port, holdfast, running, until_it_listens

HERE = pathlib.Path(__file__).resolve().parent

CONFIGURATION = """
WS_HOST = "{host}"
WS_PORT = {port}
WS_PING = {{"interval": 15, "timeout": 15}}
REDIS = {{"host": "{host}", "port": {redis_port}, "channel_prefix": ""}}
HTTP = {{"timeout": 5, "tries": 1, "wait": 1}}
AUTHENTICATION = {{}}
SERVICES = {{"drill": {{"require_authentication": False}}}}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Drills SocketShark with a plain WebSocket client.")
    parser.add_argument("--socketshark", default="socketshark", help="the program of SocketShark")
    parser.add_argument("--holdfast", default="holdfast", help="the program of Holdfast")
    options, drills = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="holdfast-drill-") as folder:
        port, redis_port = free_port(), free_port()
        pathlib.Path(folder, "drilled_shark.py").write_text(
            CONFIGURATION.format(host=HOST, port=port, redis_port=redis_port)
        )
        redis = ["redis-server", "--port", str(redis_port), "--bind", HOST, "--save", "", "--dir", folder]
        shark = [options.socketshark, "-c", "drilled_shark"]
        with running(redis, folder), until_it_listens(redis_port, folder):
            with running(shark, folder, PYTHONPATH=folder), until_it_listens(port, folder):
                publish = f"{sys.executable} {HERE / 'publish_redis.py'} --port {redis_port}"
                client = f"{sys.executable} {HERE / 'plain_websocket.py'}"
                return holdfast(options.holdfast, f"ws://{HOST}:{port}", client, publish, drills)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.SubprocessError as error:
        sys.exit(str(error))
