"""For mitmdump: takes the prefix off the gateway's paths, answers the page, and writes down what passes, one JSON object a line."""

import json
import os
import time

LOG = os.environ["LADDER_LOG"]
PAGE = os.environ["LADDER_PAGE"]
PREFIX = "/holdfast/"


def write(flow, **more):
    request = flow.request
    line = {"at": request.timestamp_start, "now": time.time(), "method": request.method, "path": request.path,
            "upgrade": request.headers.get("upgrade", ""), **more}
    with open(LOG, "a") as log:
        log.write(json.dumps(line) + "\n")


def request(flow):
    if flow.request.path.startswith(PREFIX):
        flow.request.path = flow.request.path[len(PREFIX) - 1 :]
        if flow.request.headers.get("upgrade"):
            write(flow, status=None, aborted=False)  # Now: a WebSocket that is carried would only be written at its end.
        return
    from mitmproxy import http

    with open(PAGE, "rb") as page:
        flow.response = http.Response.make(200, page.read(), {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"})


def response(flow):
    if not flow.request.headers.get("upgrade"):
        write(flow, status=flow.response.status_code, aborted=False)


def error(flow):
    if not flow.request.headers.get("upgrade"):
        write(flow, status=None, aborted="client" in flow.error.msg.lower(), error=flow.error.msg)
