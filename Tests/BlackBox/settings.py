"""The configuration keys that these tests use, in one place.

A test says `configuration(tmp_path, session_ttl=1)`; here stands which key of the file that is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# What a test calls it -> where it stands in the file.
KEYS: dict[str, tuple[str, ...]] = {
    "api_key": ("api", "key"),
    "services": ("services",),
    "session_ttl": ("session_ttl",),
    "heartbeat_interval": ("heartbeat", "interval"),
    "ws_ping_interval": ("ws_ping", "interval"),
    "ws_ping_timeout": ("ws_ping", "timeout"),
    "history_count": ("history", "size"),
    "history_age": ("history", "ttl"),
    "history_bytes": ("broker", "history_bytes"),
    "outbox_events": ("limits", "outbox_events"),
    "outbox_bytes": ("limits", "outbox_bytes"),
    "max_message": ("limits", "message_bytes"),
    "max_frame": ("limits", "frame_bytes"),
    "max_publication": ("limits", "publication_bytes"),
    "max_request": ("limits", "request_bytes"),
    "max_batch": ("limits", "batch"),
    "max_name": ("limits", "name_bytes"),
    "max_subscriptions": ("limits", "subscriptions"),
    "max_nesting": ("limits", "json_depth"),
    "max_sessions": ("limits", "sessions"),
    "handshake_timeout": ("limits", "handshake_time"),
    "idle_time": ("limits", "idle_time"),
    "poll_time": ("limits", "poll_time"),
    "idle_time": ("limits", "idle_time"),
    "poll_time": ("limits", "poll_time"),
    "authentication_time": ("limits", "authentication_time"),
    "threads": ("threads",),
    "prefix": ("prefix",),
    "diagnose": ("diagnose",),
    "session_digits": ("session_digits",),
    "cors_origins": ("cors", "origins"),
    "drain_window": ("drain", "window"),
    "drain_deadline": ("drain", "deadline"),
}


def configuration(folder: Path, **values: Any) -> str:
    """Writes a configuration file and answers its path. JSON values are YAML values."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *outer, last = KEYS[name]
        branch = tree
        for key in outer:
            branch = branch.setdefault(key, {})
        branch[last] = value
    return write(folder, "\n".join(lines(tree)) + "\n")


def lines(tree: dict[str, Any]) -> list[str]:
    result = []
    for key, value in tree.items():
        if isinstance(value, dict) and value and key != "services":
            result.append(f"{key}:")
            result += ["  " + line for line in lines(value)]
        else:
            result.append(f"{key}: {json.dumps(value)}")
    return result


def write(folder: Path, text: str, name: str = "holdfast.yaml") -> str:
    path = Path(folder) / name
    path.write_text(text)
    return str(path)
