"""The backend: whose ticket is good, who may see what, and the page itself. `python3 service.py`, then http://127.0.0.1:8000."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TICKETS = {"ticket-of-alice": "alice", "ticket-of-bob": "bob"}


def answer(path: str, body: dict) -> dict:
    if path == "/ticket":
        user = TICKETS.get(body["ticket"])
        return {"status": "ok", "user_id": user} if user else {"status": "error", "error": "No such ticket."}
    if path == "/authorize":  # calls.alice is for alice only
        mine = body["subscription"] == f"calls.{body['user_id']}"
        return {"status": "ok"} if mine else {"status": "error", "error": "Not your calls."}
    if path == "/snapshot":
        return {"status": "ok", "data": {"state": "idle"}}
    return {"status": "ok", "data": {"noted": body["data"], "by": body["user_id"]}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.reply("text/html; charset=utf-8", Path(__file__).with_name("page.html").read_bytes())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply("application/json", json.dumps(answer(self.path, body)).encode())


ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
