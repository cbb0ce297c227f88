"""The configuration: what is wrong names itself, its line and the nearest right key, and nothing starts."""

import re
import socket

import pytest

from event_client import EventClient
from holdfast_process import LISTENING, run
from settings import write

GOOD = {
    "empty": "",
    "comments only": "# nothing\n\n# here\n",
    "document markers": "---\nsession_ttl: 30\n...\n",
    "SocketShark's keys": (
        "ws_host: 127.0.0.1\nws_port: 9000\nws_ping:\n  interval: 15\n  timeout: 15\n"
        "services:\n  books:\n    require_authentication: false\n    extra_fields: [a, b]\n"
    ),
    "numbers in many forms": "session_ttl: 60\nws_ping: {interval: 1.5, timeout: 2}\n",
    "flow style": '{"session_ttl": 60, "services": {"a": {"require_authentication": false}}}\n',
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_a_right_file(tmp_path, text):
    done = run("check", write(tmp_path, text))
    assert done.returncode == 0, done


# What is wrong: the text, then what the message must name: the key, the line, the nearest right key ------

WRONG_KEYS = {
    "misspelt": ("# first\n\nsesion_ttl: 5\n", "sesion_ttl", 3, "session_ttl"),
    "capitals": ("WS_PING:\n  interval: 5\n", "WS_PING", 1, "ws_ping"),
    "nested": ("ws_ping:\n  timeout: 5\n  intervall: 5\n", "intervall", 3, "interval"),
    "in a service": ("services:\n  books:\n    require_authentication: false\n    extra_field: [a]\n", "extra_field", 4, "extra_fields"),
    "dashes": ("session-ttl: 5\n", "session-ttl", 1, "session_ttl"),
    "flow style": ("services: {a: {require_authentification: false}}\n", "require_authentification", 1, "require_authentication"),
}


def complaint(done, *needed: str) -> None:
    """It failed, told why on stderr or stdout, and did not start listening."""
    assert done.returncode != 0, done
    told = done.stdout + done.stderr
    assert not LISTENING.search(told), told
    for part in needed:
        assert part in told, f"{part!r} is not in:\n{told}"
    assert "Fatal error" not in told and "Swift/" not in told, told


def names_line(done, line: int) -> bool:
    told = done.stdout + done.stderr
    return bool(re.search(rf"(line {line}\b|:{line}\b)", told))


@pytest.mark.parametrize("command", [("check",), ("serve", "--port", "0", "--config")], ids=["check", "serve"])
@pytest.mark.parametrize("text, key, line, nearest", WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_an_unknown_key_names_itself_its_line_and_the_nearest_right_one(tmp_path, command, text, key, line, nearest):
    done = run(*command, write(tmp_path, text))
    complaint(done, key, nearest)
    assert names_line(done, line), done


def test_a_key_that_is_near_nothing_is_named_without_a_guess(tmp_path):
    done = run("check", write(tmp_path, "xyzzyplugh: 1\n"))
    complaint(done, "xyzzyplugh")
    assert names_line(done, 1)


WRONG_VALUES = {
    "text for a number": ("session_ttl: soon\n", "session_ttl", 1),
    "list for a number": ("# comment\nsession_ttl: [1]\n", "session_ttl", 2),
    "mapping for a number": ("session_ttl: {seconds: 5}\n", "session_ttl", 1),
    "number for a mapping": ("ws_ping: 5\n", "ws_ping", 1),
    "list for a mapping": ("services: [books]\n", "services", 1),
    "text for a service": ("services:\n  books: yes please\n", "books", 2),
    "text for a list": ("services:\n  books:\n    extra_fields: a\n", "extra_fields", 3),
    "number in a list of names": ("services:\n  books:\n    extra_fields: [a, {b: 1}]\n", "extra_fields", 3),
    "text for a truth": ("services:\n  books:\n    require_authentication: perhaps\n", "require_authentication", 3),
    "negative time": ("session_ttl: -1\n", "session_ttl", 1),
    "nested negative time": ("ws_ping:\n  interval: -5\n", "interval", 2),
    "port out of range": ("ws_host: 127.0.0.1\nws_port: 70000\n", "ws_port", 2),
    "not a number": ("session_ttl: .nan\n", "session_ttl", 1),
    "infinite": ("session_ttl: .inf\n", "session_ttl", 1),
    "fewer threads than none": ("threads: -1\n", "threads", 1),
    "half a thread": ("threads: 1.5\n", "threads", 1),
    "a million threads": ("threads: 1000000\n", "threads", 1),
    "a doubled key": ("session_ttl: 5\nsession_ttl: 6\n", "session_ttl", 2),
    "a short API key": ("api:\n  key: short\n", "key", 2),
    "what SocketShark has and Holdfast has not": ("log:\n  trace_level: DEBUG\n", "trace_level", 2),
    "a callback that is no address": ("services:\n  books:\n    authorizer: nowhere\n", "authorizer", 3),
    "an extra field of the protocol": ("services:\n  books:\n    extra_fields: [sent_at]\n", "sent_at", 3),
}


@pytest.mark.parametrize("text, key, line", WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_a_wrong_value_names_its_key_and_line(tmp_path, text, key, line):
    done = run("check", write(tmp_path, text))
    complaint(done, key)
    assert names_line(done, line), done


def test_everything_that_is_wrong_is_told_at_once(tmp_path):
    done = run("check", write(tmp_path, "sesion_ttl: 5\nws_port: 70000\nws_ping:\n  intervall: 5\n"))
    complaint(done, "sesion_ttl", "ws_port", "intervall")
    assert all(names_line(done, line) for line in (1, 2, 4)), done


NOT_A_CONFIGURATION = {"broken YAML": "a: [1, 2\nb: 3\n", "a list": "- a\n- b\n", "a scalar": "hello\n",
                       "tabs": "ws_ping:\n\tinterval: 5\n",
                       "control characters": "a: \x01\x02\n", "deep": "[" * 5_000}


@pytest.mark.parametrize("text", NOT_A_CONFIGURATION.values(), ids=NOT_A_CONFIGURATION)
def test_what_is_no_configuration(tmp_path, text):
    complaint(run("check", write(tmp_path, text)))


def test_a_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "holdfast.yaml"
    path.write_bytes(b"session_ttl: 5\n# \xff\xfe\x80\n")
    complaint(run("check", str(path)))


@pytest.mark.parametrize("command", [("check",), ("serve", "--port", "0", "--config")], ids=["check", "serve"])
def test_a_file_that_is_not_there_is_named(tmp_path, command):
    complaint(run(*command, str(tmp_path / "missing.yaml")), "missing.yaml")
    complaint(run(*command, str(tmp_path)))


# Environment -----------------------------------------------------------------------------------------------


def session_ttl(gateway) -> float:
    with EventClient.native(gateway.port) as client:
        return client.hello_reply["session_ttl"]


def test_the_file_wins_over_the_default_and_the_environment_over_both(start):
    assert session_ttl(start()) == 60
    assert session_ttl(start(session_ttl=30)) == 30
    assert session_ttl(start(session_ttl=30, env={"HOLDFAST_SESSION_TTL": "7"})) == 7
    assert session_ttl(start(env={"HOLDFAST_SESSION_TTL": "8"})) == 8


def test_a_nested_key_by_environment(start):
    gateway = start(ws_ping_interval=30, env={"HOLDFAST_WS_PING_INTERVAL": "0.3"})
    with EventClient.native(gateway.port) as client:
        assert client.next_frame(timeout=3).opcode == 0x9


@pytest.mark.parametrize("value", ["soon", "-1", "", "1e999", "5 s"])
def test_a_wrong_value_in_the_environment_names_its_variable(value):
    complaint(run("serve", "--port", "0", env={"HOLDFAST_SESSION_TTL": value}), "HOLDFAST_SESSION_TTL")


def test_the_command_line_wins_over_file_and_environment(start, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = write(tmp_path, f"ws_port: {taken.getsockname()[1]}\n")
        gateway = start("--config", path)  # And --port 0, as always here.
        assert gateway.api.get("/health").status == 200


# Ports and the command line -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["serve", "echo"])
def test_a_port_that_is_taken_is_told_with_a_way_out(command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(command, "--port", str(port))
        complaint(done, str(port), "--port")


@pytest.mark.parametrize("arguments", [("serve", "--prt", "5"), ("serve", "--port", "70000"), ("serve", "--port", "-1"),
                                       ("serve", "--port", "x"), ("nothing",), ("check",),
                                       ("serve", "--host", "not a host", "--port", "0"),
                                       ("publish",)], ids=" ".join)
def test_a_command_line_that_makes_no_sense(arguments):
    complaint(run(*arguments))


def test_help_teaches_the_commands():
    done = run("--help")
    assert done.returncode == 0
    for command in ("serve", "demo", "publish", "tail", "echo", "bench", "check"):
        assert command in done.stdout
        assert run(command, "--help").returncode == 0


def test_threads_can_be_set(start):
    for settings in ({"env": {"HOLDFAST_THREADS": "1"}}, {"env": {"HOLDFAST_THREADS": "3"}}):
        assert session_ttl(start(**settings)) == 60
