"""Publishes what `holdfast drill --publish` gives it to nchan: a POST to the channel's address."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import urllib.parse


def main() -> None:
    parser = argparse.ArgumentParser(description="Publishes lines of JSON to nchan.")
    parser.add_argument("--port", type=int, default=80)
    nginx = http.client.HTTPConnection("127.0.0.1", parser.parse_args().port, timeout=10)
    for line in sys.stdin:
        event = json.loads(line)
        nginx.request("POST", f"/pub/{urllib.parse.quote(event['subscription'])}", json.dumps(event["data"]))
        answer = nginx.getresponse()
        answer.read()
        if answer.status not in (201, 202):
            sys.exit(f"nchan answered {answer.status}")


if __name__ == "__main__":
    main()
