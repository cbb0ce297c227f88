"""Publishes what `holdfast drill --publish` gives it as a SocketShark service does: to a Redis channel."""

from __future__ import annotations

import argparse
import json
import socket
import sys


def main() -> None:
    parser = argparse.ArgumentParser(description="Publishes lines of JSON to Redis.")
    parser.add_argument("--port", type=int, default=6379)
    redis = socket.create_connection(("127.0.0.1", parser.parse_args().port))
    answers = redis.makefile("rb")
    for line in sys.stdin:
        event = json.loads(line)
        words = [b"PUBLISH", event["subscription"].encode(), json.dumps(event).encode()]
        redis.sendall(b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        if not answers.readline().startswith(b":"):
            sys.exit("Redis did not take it")


if __name__ == "__main__":
    main()
