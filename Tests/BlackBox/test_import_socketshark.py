"""`holdfast import-socketshark`: the YAML says what the module says, and what it cannot say is told with what to do."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from holdfast_process import binary, clean_environment

FULL = """
import os

BACKEND = 'websockets'
LOG = {'setup_structlog': True, 'level': 'WARNING', 'format': '%(message)s', 'logger_name': 'socketshark',
       'trace_logger_prefix': 'trace', 'trace_level': 'INFO'}
METRICS = {'prometheus': {'host': '', 'port': 9100}, 'log': {}}
WS_HOST = '0.0.0.0'
WS_PORT = '9001'
WS_SSL = {}
WS_PING = {'interval': 10, 'timeout': 2.5}
HTTP = {'ssl_cafile': None, 'timeout': 5, 'tries': 2, 'wait': 0.5, 'rate_limit_reset_header_name': 'X-Reset',
        'rate_limit_reset_header_names': ['X-Rate-Limit-Reset', 'Retry-After']}
REDIS = {'host': 'redis-1', 'port': 6380, 'db': 2, 'channel_prefix': 'live:', 'ping_interval': None, 'ping_timeout': 3}
REDIS_ALT = {'host': 'redis-2', 'port': 6379, 'channel_prefix': '', 'ping_interval': 10, 'ping_timeout': 5}
backend = 'http://backend.example:8000/live'
AUTHENTICATION = {'ticket': {'validation_url': backend + '/auth', 'auth_fields': ['session_id', 'user_id']}}
SERVICES = {
    'books': {
        'require_authentication': True,
        'authorizer': backend + '/authorizer',
        'authorizer_fields': ['role'],
        'authorization_renewal_period': 60,
        'authorization_renewal_jitter': 5.5,
        'on_authorization_change': backend + '/changed',
        'extra_fields': ['page'],
        'filter_fields': ['session_id', 'page'],
        'before_subscribe': backend + '/before_subscribe',
        'on_subscribe': backend + '/on_subscribe',
        'on_message': backend + '/on_message',
        'before_unsubscribe': backend + '/before_unsubscribe',
        'on_unsubscribe': backend + '/on_unsubscribe',
        'heartbeat_period': 30,
        'on_heartbeat': backend + '/heartbeat',
    },
    'news': {'require_authentication': False},
}
"""
URL = "http://backend.example:8000/live"
FULL_TREE = {
    "ws_host": "0.0.0.0",
    "ws_port": 9001,
    "ws_ping": {"interval": 10, "timeout": 2.5},
    "log": {"level": "warning"},
    "http": {"timeout": 5, "tries": 2, "wait": 0.5, "rate_limit_reset_header_name": "X-Reset",
             "rate_limit_reset_header_names": ["X-Rate-Limit-Reset", "Retry-After"]},
    "redis": {"host": "redis-1", "port": 6380, "db": 2, "channel_prefix": "live:", "ping_interval": 0, "ping_timeout": 3},
    "redis_alt": {"host": "redis-2", "port": 6379, "channel_prefix": "", "ping_interval": 10, "ping_timeout": 5},
    "authentication": {"ticket": {"validation_url": URL + "/auth", "auth_fields": ["session_id", "user_id"]}},
    "metrics": {"prometheus": {"host": "0.0.0.0", "port": 9100}, "log": {}},
    "services": {
        "books": {
            "require_authentication": True, "authorizer": URL + "/authorizer", "authorizer_fields": ["role"],
            "authorization_renewal_period": 60, "authorization_renewal_jitter": 5.5,
            "on_authorization_change": URL + "/changed", "extra_fields": ["page"],
            "filter_fields": ["session_id", "page"], "before_subscribe": URL + "/before_subscribe",
            "on_subscribe": URL + "/on_subscribe", "on_message": URL + "/on_message",
            "before_unsubscribe": URL + "/before_unsubscribe", "on_unsubscribe": URL + "/on_unsubscribe",
            "heartbeat_period": 30, "on_heartbeat": URL + "/heartbeat",
        },
        "news": {"require_authentication": False},
    },
}


def command(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    return subprocess.run([binary(), *arguments], cwd=folder, env=clean_environment(env), stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=40, text=True, encoding="utf-8")


def convert(folder: Path, text: str, *arguments: str, name: str = "config.py", **options) -> subprocess.CompletedProcess:
    (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return command(folder, "import-socketshark", name, "--python", sys.executable, *arguments, **options)


def read(yaml: str) -> dict[str, Any]:
    """Reads YAML of the one form that is written: mappings in blocks of two spaces, and values with JSON's rules."""
    root: dict[str, Any] = {}
    open_at = [root]
    for line in yaml.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.fullmatch(r'( *)("(?:[^"\\]|\\.)*"|[A-Za-z_][\w-]*):(?: (.+))?', line)
        assert match, f"not of the form that we write: {line!r}"
        depth, key = len(match[1]) // 2, match[2]
        del open_at[depth + 1 :]
        key = json.loads(key) if key.startswith('"') else key
        assert key not in open_at[depth], f"{key} is there twice"
        open_at[depth][key] = value = json.loads(match[3]) if match[3] else {}
        open_at.append(value)
    return root


def tree(done: subprocess.CompletedProcess) -> dict[str, Any]:
    assert done.returncode == 0, done
    return read(done.stdout)


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 1 and done.stdout == "", done
    for word in words:
        assert word in done.stderr, f"{word!r} is not in:\n{done.stderr}"
    assert "<stdin>" not in done.stderr and "Fatal error" not in done.stderr, done.stderr


def notes(done: subprocess.CompletedProcess, where: str) -> str:
    """The one line about it."""
    found = [line for line in done.stderr.splitlines() if line.startswith(f"note: {where}: ")]
    assert len(found) == 1, f"{where} is told {len(found)} times:\n{done.stderr}"
    return found[0]


# What the YAML says ---------------------------------------------------------------------------------------------------


def test_every_key(tmp_path):
    done = convert(tmp_path, FULL)
    assert tree(done) == FULL_TREE
    assert list(read(done.stdout)["services"]) == ["books", "news"]
    assert "holdfast check" in done.stderr
    for where in ("BACKEND", "LOG.format", "LOG.logger_name", "LOG.setup_structlog", "LOG.trace_level", "METRICS.log"):
        notes(done, where)


def test_the_result_is_a_configuration(tmp_path):
    done = convert(tmp_path, FULL, "--output", "holdfast.yml")
    assert done.returncode == 0, done
    checked = command(tmp_path, "check", "holdfast.yml")
    assert checked.returncode == 0, checked
    assert "2 services" in checked.stdout


def test_the_same_module_gives_the_same_text(tmp_path):
    assert convert(tmp_path, FULL).stdout == convert(tmp_path, FULL, env={"PYTHONHASHSEED": "7"}).stdout


def test_a_minimal_module_still_has_redis(tmp_path):
    """Without the key Holdfast would have no Redis, and SocketShark always has one."""
    done = convert(tmp_path, "SERVICES = {'news': {}}")
    assert tree(done) == {"redis": {"host": "localhost", "port": 6379}, "services": {"news": {}}}
    assert "note:" not in done.stderr


def test_sections_may_be_partial(tmp_path):
    given = tree(convert(tmp_path, "REDIS = {'host': 'a'}\nWS_PING = {'interval': None}\nHTTP = {'tries': 1}\nREDIS_ALT = None\n"))
    assert given == {"redis": {"host": "a", "port": 6379}, "ws_ping": {"interval": 0}, "http": {"tries": 1}}


@pytest.mark.parametrize("value, text", [("None", "0"), ("0", "0"), ("False", "0"), ("0.25", "0.25")])
def test_an_interval_that_is_off(tmp_path, value, text):
    assert f"  interval: {text}\n" in convert(tmp_path, f"WS_PING = {{'interval': {value}}}").stdout


@pytest.mark.parametrize("value, level", [("'INFO'", "info"), ("'debug'", "debug"), ("'WARN'", "warning"),
                                          ("logging.ERROR", "error"), ("'CRITICAL'", "critical")])
def test_log_levels(tmp_path, value, level):
    assert tree(convert(tmp_path, f"import logging\nLOG = {{'level': {value}}}"))["log"] == {"level": level}


def test_text_that_yaml_could_take_for_something_else(tmp_path):
    names = ["yes", "null", "123", "a: b", "# no", "quo\"te\\", "tab\t", "new\nline", "é😀", "\u2028\x85\x7f\ufeff", "- x", "", " a "]
    done = convert(tmp_path, f"SERVICES = {{'on': {{'extra_fields': {names!r}}}, 'so me\"': {{}}}}\nWS_HOST = 'yes'",
                   "--output", "holdfast.yml")
    assert done.returncode == 0, done
    written = (tmp_path / "holdfast.yml").read_text(encoding="utf-8")
    assert read(written)["services"] == {"on": {"extra_fields": names}, 'so me"': {}}
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]", written)
    assert "\\ud83d" not in written


def test_tuples_sets_and_paths(tmp_path):
    given = tree(convert(tmp_path, """
        from pathlib import Path
        WS_SSL = {'cert': Path('/etc/ssl/chain.pem'), 'key': '/etc/ssl/key.pem'}
        SERVICES = {'news': {'extra_fields': ('a', 'b'), 'filter_fields': {'c', 'a'}, 'require_authentication': None}}
    """))
    assert given["ws_ssl"] == {"cert": "/etc/ssl/chain.pem", "key": "/etc/ssl/key.pem"}
    assert given["services"]["news"] == {"require_authentication": False, "extra_fields": ["a", "b"], "filter_fields": ["a", "c"]}


# Where the module is --------------------------------------------------------------------------------------------------


def test_a_dotted_name_from_here(tmp_path):
    folder = tmp_path / "shark" / "settings"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "base.py").write_text("WS_PORT = '9005'\n")
    (folder / "production.py").write_text("from .base import *\nWS_HOST = '::'\n")
    done = command(tmp_path, "import-socketshark", "shark.settings.production", "--python", sys.executable)
    assert tree(done) == {"ws_host": "::", "ws_port": 9005, "redis": {"host": "localhost", "port": 6379}}
    assert not list(tmp_path.rglob("__pycache__"))
    refused(command(tmp_path, "import-socketshark", "shark/settings/production.py", "--python", sys.executable), "dotted name")


def test_a_file_beside_its_helpers(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "helpers.py").write_text("PORT = 9007\n")
    assert tree(convert(tmp_path, "from helpers import PORT\nWS_PORT = PORT\n", name="elsewhere/my-config.py"))["ws_port"] == 9007


def test_the_environment_is_the_one_of_the_command(tmp_path):
    done = convert(tmp_path, "import os\nREDIS = {'host': os.environ['REDIS_HOST']}", env={"REDIS_HOST": "r-9"})
    assert tree(done)["redis"]["host"] == "r-9"


@pytest.mark.parametrize("name", ["missing.py", "missing", "missing.module", "folder/missing.py"])
def test_a_module_that_is_not_there(tmp_path, name):
    refused(command(tmp_path, "import-socketshark", name, "--python", sys.executable), name, "there is n")


@pytest.mark.parametrize("python", ["no-such-python", "/no/such/python", "/"])
def test_a_python_that_is_not_there(tmp_path, python):
    (tmp_path / "config.py").write_text("WS_PORT = 1\n")
    refused(command(tmp_path, "import-socketshark", "config.py", "--python", python), python, "--python")


def test_a_python_that_is_none(tmp_path):
    (tmp_path / "config.py").write_text("WS_PORT = 1\n")
    refused(command(tmp_path, "import-socketshark", "config.py", "--python", "/bin/false"), "Nothing was written")
    refused(command(tmp_path, "import-socketshark", "config.py", "--python", "/bin/true"), "Nothing was written")


# Modules that do not end well -----------------------------------------------------------------------------------------

BROKEN = {
    "syntax": ("WS_PORT = 1\nREDIS = {'host': \n", ["config.py", "SyntaxError"]),
    "exception": ("WS_PORT = 1\nREDIS = {'port': int('six')}\n", ["config.py:2: REDIS = {'port': int('six')}", "ValueError: invalid"]),
    "in a function": ("def f():\n    return {}['x']\nWS_PORT = f()\n", ["config.py:2: return {}['x']", "KeyError: 'x'"]),
    "in the library": ("import json\nWS_PORT = json.loads('{')\n", ["config.py:2:", "JSONDecodeError"]),
    "import": ("import no_such_thing\n", ["config.py:1: import no_such_thing", "ModuleNotFoundError", "--python"]),
    "exit": ("import sys\nWS_PORT = 1\nsys.exit(3)\n", ["config.py:3: sys.exit(3)", "sys.exit(3)"]),
    "exit without a code": ("raise SystemExit\n", ["config.py:1"]),
    "interrupt": ("raise KeyboardInterrupt\n", ["config.py:1", "KeyboardInterrupt"]),
    "silent exit": ("import os\nos._exit(0)\n", ["ends Python"]),
    "killed": ("import os\nos.kill(os.getpid(), 9)\n", ["signal 9"]),
    "nothing of SocketShark's": ("X = 1\nws_port = 2\n", ["none of SocketShark's names"]),
    "password in the line": ("raise ValueError('http://u:hunter2@h/')\n", ["config.py:1", "ValueError"]),
}


@pytest.mark.parametrize("text, words", BROKEN.values(), ids=BROKEN)
def test_a_module_that_does_not_run(tmp_path, text, words):
    done = convert(tmp_path, text, "--output", "holdfast.yml")
    refused(done, *words)
    assert "hunter2" not in done.stderr
    assert not (tmp_path / "holdfast.yml").exists()


@pytest.mark.parametrize("loop, line", [("while True: pass\n", "config.py:2: while True: pass"),
                                        ("import threading\nthreading.Event().wait()\n", "config.py:3: threading.Event()")],
                         ids=["busy", "waiting"])
def test_a_module_that_never_ends(tmp_path, loop, line):
    refused(convert(tmp_path, "WS_PORT = 1\n" + loop, "--timeout", "0.5"), "0.5 s", line, "--timeout")


def test_a_module_that_does_not_let_itself_be_stopped(tmp_path):
    text = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass\n"
    refused(convert(tmp_path, text, "--timeout", "0.1"), f"signal {int(signal.SIGKILL)}")


def test_threads_and_exit_handlers_do_not_hold_it_up(tmp_path):
    done = convert(tmp_path, """
        import atexit, threading
        threading.Thread(target=threading.Event().wait).start()
        atexit.register(lambda: print("bye"))
        WS_PORT = 9003
    """)
    assert tree(done)["ws_port"] == 9003


def test_what_it_prints_does_not_spoil_the_yaml(tmp_path):
    done = convert(tmp_path, """
        import os, sys
        print('printed: yes')
        os.write(1, b'written: yes')
        os.system('echo shell: yes')
        WS_PORT = 9003
    """)
    assert tree(done) == {"ws_port": 9003, "redis": {"host": "localhost", "port": 6379}}
    assert "prints" in notes(done, "config.py") and "yes" not in done.stderr


# What has no counterpart ----------------------------------------------------------------------------------------------


def test_names_that_socketshark_ignores(tmp_path):
    done = convert(tmp_path, "import os\nSERVICE = {}\nDEBUG = True\nWS_PORT = 1\nHTTP = {'retries': 3, 'timout': 1}\n"
                   "SERVICES = {'a': {'on_messages': 'http://x/'}}\n_HIDDEN = 1\n")
    assert tree(done) == {"ws_port": 1, "redis": {"host": "localhost", "port": 6379}, "services": {"a": {}}}
    assert "SERVICES?" in notes(done, "SERVICE") and "ignores" in notes(done, "DEBUG")
    notes(done, "HTTP.retries")
    assert "timeout?" in notes(done, "HTTP.timout") and "on_message?" in notes(done, "SERVICES.a.on_messages")
    assert "HIDDEN" not in done.stderr


def test_extra_fields_that_would_overwrite_the_envelope(tmp_path):
    reserved = ["event", "status", "error", "data", "subscription", "received_at", "sent_at", "published_at", "queue_size"]
    done = convert(tmp_path, f"SERVICES = {{'a': {{'extra_fields': {['x', *reserved, 'y']}, 'filter_fields': ['status']}}}}")
    assert tree(done)["services"]["a"] == {"extra_fields": ["x", "y"], "filter_fields": ["status"]}
    lines = [line for line in done.stderr.splitlines() if "SERVICES.a.extra_fields" in line]
    assert len(lines) == len(reserved)
    assert all(f'"{name}"' in line and "Rename" in line for name, line in zip(reserved, lines))
    assert [line for line in lines if "filter field" in line] == [lines[1]]


def test_extra_fields_that_the_new_client_cannot_give_are_written_and_told(tmp_path):
    names = ["id", "since", "code", "limit", "actual", "position", "recovered", "offset", "after"]
    done = convert(tmp_path, f"SERVICES = {{'a': {{'extra_fields': {['x', *names]}}}}}", "--output", "holdfast.yml")
    assert read((tmp_path / "holdfast.yml").read_text())["services"]["a"] == {"extra_fields": ["x", *names]}
    lines = [line for line in done.stderr.splitlines() if "SERVICES.a.extra_fields" in line]
    assert len(lines) == len(names) and all(f'"{name}"' in line for name, line in zip(names, lines))
    checked = command(tmp_path, "check", "holdfast.yml")
    assert checked.returncode == 0, checked


@pytest.mark.parametrize("value", ["None", "''", "lambda: 1", "['http://x/']", "object()"])
@pytest.mark.parametrize("key", ["authorizer", "before_subscribe", "on_message", "on_unsubscribe"])
def test_an_address_that_is_none(tmp_path, key, value):
    """Where it would let in people whom SocketShark keeps out, the whole service stays out."""
    done = convert(tmp_path, f"SERVICES = {{'a': {{'{key}': {value}, 'require_authentication': False}}, 'b': {{}}}}")
    notes(done, f"SERVICES.a.{key}")
    kept = tree(done)["services"]
    if key in ("authorizer", "before_subscribe"):
        assert kept == {"b": {}}
        assert "left out" in notes(done, "SERVICES.a")
    else:
        assert kept == {"a": {"require_authentication": False}, "b": {}}


ODD = {
    "WS_HOST": "WS_HOST = None",
    "WS_PORT": "WS_PORT = 'http'",
    "WS_PING": "WS_PING = 5",
    "WS_PING.timeout": "WS_PING = {'timeout': None}",
    "HTTP.timeout": "HTTP = {'timeout': float('inf')}",
    "HTTP.wait": "from datetime import timedelta\nHTTP = {'wait': timedelta(seconds=1)}",
    "HTTP.tries": "HTTP = {'tries': 1.5}",
    "REDIS": "REDIS = None",
    "REDIS.host": "REDIS = {'host': b'x'}",
    "REDIS.password": "REDIS = {'password': 'hunter2'}",
    "REDIS_ALT": "REDIS_ALT = 'redis://x'",
    "METRICS.statsd": "METRICS = {'statsd': {}}",
    "METRICS.prometheus": "METRICS = {'prometheus': {'host': 'x'}}",
    "AUTHENTICATION.token": "AUTHENTICATION = {'token': {}}",
    "AUTHENTICATION.ticket": "AUTHENTICATION = {'ticket': {'auth_fields': ['a']}}",
    "SERVICES": "SERVICES = []",
    "SERVICES.a": "SERVICES = {'a': None}",
    "SERVICES.a.b": "SERVICES = {'a.b': {}}",
    "SERVICES.5": "SERVICES = {5: {}}",
    "SERVICES.a.extra_fields": "SERVICES = {'a': {'extra_fields': 'abc'}}",
    "SERVICES.a.filter_fields": "SERVICES = {'a': {'filter_fields': [1]}}",
    "LOG.level": "LOG = {'level': None}",
}


@pytest.mark.parametrize("where, text", ODD.items(), ids=ODD)
def test_what_cannot_be_carried_over_is_told_and_left_out(tmp_path, where, text):
    done = convert(tmp_path, text)
    assert done.returncode == 0, done
    notes(done, where)
    kept = {key: value for key, value in read(done.stdout).items() if value != {}}
    assert kept in ({"redis": {"host": "localhost", "port": 6379}},
                    {"redis": {"host": "localhost", "port": 6379}, "services": {"a": {}}}), done.stdout
    assert "hunter2" not in done.stderr + done.stdout


def test_empty_auth_fields_are_written_and_told(tmp_path):
    """A good ticket is answered with ok, and nobody is authenticated by it, as in SocketShark."""
    done = convert(tmp_path, """
        AUTHENTICATION = {'ticket': {'validation_url': 'http://backend/ticket', 'auth_fields': []}}
    """, "--output", "holdfast.yml")
    assert done.returncode == 0, done
    given = read((tmp_path / "holdfast.yml").read_text())
    assert given["authentication"] == {"ticket": {"validation_url": "http://backend/ticket", "auth_fields": []}}
    assert "nobody" in notes(done, "AUTHENTICATION.ticket.auth_fields")
    checked = command(tmp_path, "check", "holdfast.yml")
    assert checked.returncode == 0, checked


@pytest.mark.parametrize("settings", ["{'validation_url': 'http://x'}", "{'validation_url': 'http://x', 'auth_fields': 'id'}"])
def test_authentication_without_auth_fields_is_left_out(tmp_path, settings):
    done = convert(tmp_path, f"AUTHENTICATION = {{'ticket': {settings}}}")
    assert "authentication" not in tree(done)
    assert "left out" in notes(done, "AUTHENTICATION.ticket")


def test_passwords_are_in_the_file_and_nowhere_else(tmp_path):
    done = convert(tmp_path, """
        BASE = 'https://bob:hunter2@backend:8000'
        AUTHENTICATION = {'ticket': {'validation_url': BASE, 'auth_fields': ['id'], BASE: 1}}
        SERVICES = {'a': {'authorizer': BASE + '/a', BASE: 1}, BASE: {}}
    """)
    given = tree(done)
    assert given["authentication"]["ticket"]["validation_url"] == "https://bob:hunter2@backend:8000"
    assert given["services"]["a"]["authorizer"] == "https://bob:hunter2@backend:8000/a"
    assert "hunter2" not in done.stderr and "bob" not in done.stderr
    notes(done, "passwords")


# Where it is written --------------------------------------------------------------------------------------------------


def test_a_file_is_never_overwritten_unasked(tmp_path):
    done = convert(tmp_path, "WS_PORT = 9003\n", "--output", "out.yml")
    assert done.returncode == 0 and done.stdout == "", done
    assert "holdfast check out.yml" in done.stderr
    first = (tmp_path / "out.yml").read_text()
    assert read(first)["ws_port"] == 9003
    refused(convert(tmp_path, "WS_PORT = 9004\n", "--output", "out.yml"), "out.yml", "--force")
    assert (tmp_path / "out.yml").read_text() == first
    assert convert(tmp_path, "WS_PORT = 9004\n", "-o", "out.yml", "--force").returncode == 0
    assert read((tmp_path / "out.yml").read_text())["ws_port"] == 9004
    refused(convert(tmp_path, "WS_PORT = \n", "--output", "out.yml", "--force"))
    assert read((tmp_path / "out.yml").read_text())["ws_port"] == 9004


def test_a_file_that_cannot_be_written(tmp_path):
    refused(convert(tmp_path, "WS_PORT = 9003\n", "--output", "no/folder/out.yml"), "no/folder/out.yml")
    refused(convert(tmp_path, "WS_PORT = 9003\n", "--output", "."), "--force")


def test_help_teaches(tmp_path):
    done = command(tmp_path, "import-socketshark", "--help")
    assert done.returncode == 0
    for word in ("--output", "--force", "--python", "--timeout", "holdfast check", "environment"):
        assert word in done.stdout


def test_the_example_is_what_it_makes():
    folder = Path(__file__).resolve().parents[2] / "examples/socketshark"
    done = command(folder, "import-socketshark", "shark_config.py", "--python", sys.executable)
    assert done.returncode == 0 and "note:" not in done.stderr, done
    assert done.stdout == (folder / "holdfast.yml").read_text()
