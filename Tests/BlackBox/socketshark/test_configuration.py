"""§15: SocketShark's keys, in lower case, with SocketShark's defaults. Mistakes are in test_better.py (17.34)."""

import json

import pytest

from holdfast_process import run
from settings import write
from shark import error_reply, ok_reply, subscribe

#: Every key of SocketShark's defaults that says anything about behaviour on the wire.
DEFAULTS = {
    "ws_host": "127.0.0.1",
    "ws_port": "9000",
    "ws_ssl": {},
    "ws_ping": {"interval": 15, "timeout": 15},
    "http": {"ssl_cafile": None, "timeout": 15, "tries": 3, "wait": 3, "rate_limit_reset_header_name": "X-Rate-Limit-Reset",
             "rate_limit_reset_header_names": []},
    "redis": {"host": "localhost", "port": 6379, "db": 0, "channel_prefix": "", "ping_interval": 10, "ping_timeout": 5},
    "redis_alt": None,
    "authentication": {},
    "metrics": {},
    "services": {},
}  # fmt: skip

SERVICE = {
    "require_authentication": True, "authorizer": "http://localhost/a", "authorizer_fields": ["a"], "extra_fields": ["b"],
    "authorization_renewal_period": 60, "authorization_renewal_jitter": 5, "on_authorization_change": "https://localhost/c",
    "filter_fields": ["c"], "before_subscribe": "http://localhost:8000/d?x=y", "on_subscribe": "http://u:p@localhost/e",
    "on_message": "http://127.0.0.1/f", "before_unsubscribe": "http://localhost/g", "on_unsubscribe": "http://localhost/h",
    "heartbeat_period": 30.5, "on_heartbeat": "http://localhost/i",
}  # fmt: skip


def checked(tmp_path, config: dict) -> None:
    done = run("check", write(tmp_path, json.dumps(config, indent=1)))
    assert done.returncode == 0, done


def test_the_defaults_may_be_written_down(tmp_path):
    checked(tmp_path, DEFAULTS)


def test_every_key_of_a_service(tmp_path):
    ticket = {"validation_url": "http://localhost/v", "auth_fields": ["user_id"]}
    alt = {"host": "elsewhere", "port": 6380, "channel_prefix": "x:", "ping_interval": None, "ping_timeout": None}
    checked(tmp_path, {**DEFAULTS, "services": {"all": SERVICE, "none": {}}, "authentication": {"ticket": ticket},
                       "redis_alt": alt, "metrics": {"prometheus": {"host": "", "port": 9100}, "log": {}}})


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_section_may_be_left_out(tmp_path, name):
    checked(tmp_path, {key: value for key, value in DEFAULTS.items() if key != name})


@pytest.mark.parametrize("section, name", [(section, name) for section in ("ws_ping", "http", "redis")
                                           for name in DEFAULTS[section]])
def test_sections_may_be_partial(tmp_path, section, name):
    checked(tmp_path, {section: {name: DEFAULTS[section][name]}})


def test_services_with_nothing_in_them_require_authentication(serve):
    with serve({"empty": {}}).client() as client:
        assert client.ask(subscribe("empty.x")) == error_reply("subscribe", "Authentication required.", "empty.x")


def test_without_services_there_are_none(serve):
    with serve({}).client() as client:
        assert client.ask(subscribe("any.x")) == error_reply("subscribe", "Invalid service.", "any.x")


@pytest.mark.parametrize("name", ["with-dash", "with_underscore", "UPPER", "é", "with space", "1", "*"])
def test_services_of_any_name(serve, name):
    shark = serve({name: {"require_authentication": False}})
    with shark.client() as client:
        assert client.ask(subscribe(f"{name}.x")) == ok_reply("subscribe", f"{name}.x")
        shark.publish(f"{name}.x", 1)
        assert client.push()["subscription"] == f"{name}.x"
