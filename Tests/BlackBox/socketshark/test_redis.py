"""§10: connections to Redis, channels, the second Redis; and what Holdfast makes of a Redis that is away."""

import json
import time

import pytest

from certificates import certificate
from fake_service import ok
from holdfast_process import eventually, run
from native import Native
from redis_server import RedisServer, free_port
from settings import lines, write
from shark import Shark, configured, error_reply, message, ok_reply, redis_section, subscribe, unsubscribe

SIMPLE = {"simple": {"require_authentication": False}}
NAME = "simple.x"


def is_ready(shark: Shark) -> bool:
    return shark.api.get("/ready").status == 200


def wait_until_ready(shark: Shark, ready: bool = True) -> None:
    eventually(lambda: is_ready(shark) is ready, 20, what=f"ready: {ready}")


# Channels -----------------------------------------------------------------------------------------


def test_a_channel_is_subscribed_once_for_all_sessions(simple):
    clients = [simple.client() for _ in range(5)]
    for client in clients:
        client.subscribe(NAME)
        assert simple.subscribers(NAME) == 1
    for client in clients[:4]:
        assert client.ask(unsubscribe(NAME))["status"] == "ok"
    assert simple.subscribers(NAME) == 1
    clients[4].say_goodbye()
    for client in clients:
        client.close()
    simple.wait_for_subscribers(NAME, 0)


def test_no_patterns_are_subscribed(simple):
    with simple.client() as client:
        client.subscribe("simple.*")
        assert simple.redis.client.command("PUBSUB", "NUMPAT") == 0


def test_a_channel_can_come_and_go(simple):
    with simple.client() as client:
        for number in range(30):
            client.subscribe(NAME)
            simple.publish(NAME, number)
            assert client.push() == message(NAME, number)
            assert client.ask(unsubscribe(NAME))["status"] == "ok"
    simple.wait_for_subscribers(NAME, 0)


def test_many_channels_at_once(simple):
    names = [f"simple.{number}" for number in range(500)]
    with simple.client() as client:
        for name in names:
            client.send_event(subscribe(name))
        assert {client.next_event()["subscription"] for _ in names} == set(names)
        for name in names:
            simple.publish(name, name)
        assert client.pushed(500) == names
    simple.wait_for_subscribers(names[0], 0)
    simple.wait_for_subscribers(names[-1], 0)


def test_a_channel_lingers_for_those_who_may_ask_what_they_missed(serve):
    """Ours: it stays subscribed for a while after its last subscriber has left."""
    shark = serve(SIMPLE, redis={"linger": 1.5})
    with Native.opened("websocket", shark.port) as client:
        client.subscribe(NAME)
        assert client.ask(unsubscribe(NAME))["status"] == "ok"
        left = time.monotonic()
        assert shark.subscribers(NAME) == 1
        shark.publish(NAME, "nobody is there")
        shark.wait_for_subscribers(NAME, 0)
        assert time.monotonic() - left >= 1.4


def test_a_channel_of_plain_clients_goes_at_once(serve):
    """They have no positions: nothing could be recovered from what is kept."""
    shark = serve(SIMPLE, redis={"linger": 60})
    with shark.client() as client:
        client.subscribe(NAME)
        client.ask(unsubscribe(NAME))
        shark.wait_for_subscribers(NAME, 0)


def test_whoever_returns_in_time_keeps_the_channel(serve):
    shark = serve(SIMPLE, redis={"linger": 1})
    with Native.opened("websocket", shark.port) as client:
        position = client.subscribe(NAME)["position"]
        client.ask(unsubscribe(NAME))
        shark.publish(NAME, "missed")
        assert client.subscribe(NAME, since=position)["recovered"] is True
        assert client.data(1) == ["missed"]
        with shark.client() as other:
            assert other.is_quiet_for(2)
        assert shark.subscribers(NAME) == 1
        shark.publish(NAME, "live")
        assert client.data(1) == ["live"]


def test_the_database_is_selected(serve, own_redis):
    shark = serve(SIMPLE, on=own_redis, redis={"db": 3})
    with shark.client() as client:
        client.subscribe(NAME)
        assert {one["db"] for one in own_redis.clients()} == {"3"}


# REDIS_ALT ------------------------------------------------------------------------------------------


def test_both_redis_deliver(serve, redis_alt, prefix):
    shark = serve(SIMPLE, redis_alt=redis_section(redis_alt, f"alt{prefix}"))
    channel = f"alt{prefix}{NAME}"
    with shark.client() as client:
        client.subscribe(NAME)
        assert shark.subscribers(NAME) == 1 and redis_alt.subscribers(channel) == 1
        shark.publish(NAME, "main")
        assert client.push() == message(NAME, "main")
        redis_alt.publish(channel, json.dumps({"subscription": NAME, "data": "alt"}))
        assert client.push() == message(NAME, "alt")
        redis_alt.publish(shark.prefix + NAME, json.dumps({"subscription": NAME, "data": "the prefix of the other"}))
        shark.expect_no_push(client, NAME)
        assert client.ask(unsubscribe(NAME))["status"] == "ok"
    shark.wait_for_subscribers(NAME, 0)
    eventually(lambda: redis_alt.subscribers(channel) == 0)


def test_a_message_in_both_is_delivered_twice(serve, redis_alt, prefix):
    shark = serve(SIMPLE, redis_alt=redis_section(redis_alt, prefix))
    payload = json.dumps({"subscription": NAME, "data": 1})
    with shark.client() as client:
        client.subscribe(NAME)
        redis_alt.publish(prefix + NAME, payload)
        shark.publish_text(NAME, payload)
        assert client.pushed(2) == [1, 1]


def test_order_counts_across_both(serve, redis_alt, prefix):
    shark = serve(SIMPLE, redis_alt=redis_section(redis_alt, prefix))
    with shark.client() as client:
        client.subscribe(NAME)
        redis_alt.publish(prefix + NAME, json.dumps({"subscription": NAME, "data": "first", "options": {"order": 1}}))
        assert client.push()["data"] == "first"
        shark.publish(NAME, "again", options={"order": 1})
        shark.expect_no_push(client, NAME)


# How to reach it: ours ----------------------------------------------------------------------------------


def works(shark: Shark, redis: RedisServer) -> None:
    wait_until_ready(shark)
    with shark.client() as client:
        client.subscribe(NAME)
        redis.client.command("PUBLISH", shark.prefix + NAME, json.dumps({"subscription": NAME, "data": 1}))
        assert client.push() == message(NAME, 1)


def test_a_password(serve, own_redis):
    own_redis.client.command("CONFIG", "SET", "requirepass", "open sesame")
    works(serve(SIMPLE, on=own_redis, redis={"password": "open sesame"}), own_redis)


def test_a_user_with_a_password(serve, own_redis):
    own_redis.client.command("ACL", "SETUSER", "shark", "on", ">secret", "+@all", "allchannels", "allkeys")
    own_redis.client.command("ACL", "SETUSER", "default", "off")
    works(serve(SIMPLE, on=own_redis, redis={"username": "shark", "password": "secret"}), own_redis)


def test_a_wrong_password_is_no_crash(serve, own_redis):
    own_redis.client.command("CONFIG", "SET", "requirepass", "open sesame")
    shark = serve(SIMPLE, on=own_redis, redis={"password": "wrong", "subscribe_timeout": 0.5})
    assert not is_ready(shark)
    with shark.client() as client:
        assert client.ask(subscribe(NAME)) == error_reply("subscribe", "Service unavailable.", NAME)
    own_redis.client.command("CONFIG", "SET", "requirepass", "wrong")
    wait_until_ready(shark)


def test_a_unix_socket(serve, tmp_path):
    path = tmp_path / "r.sock"
    with RedisServer(tmp_path, "--unixsocket", str(path)) as server:
        works(serve(SIMPLE, on=server, redis={"port": free_port(), "socket": str(path)}), server)


def test_tls(serve, tmp_path):
    cert, key = certificate(tmp_path)
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert,
               "--tls-auth-clients", "no"]
    with RedisServer(tmp_path, *options) as server:
        works(serve(SIMPLE, on=server, redis={"host": "localhost", "port": port, "tls": {"ca": cert}}), server)
        distrustful = serve(SIMPLE, on=server, redis={"host": "localhost", "port": port, "tls": True})
        with distrustful.client() as client:
            client.expect_silence()
        assert not is_ready(distrustful)


# Redis is away: ours ------------------------------------------------------------------------------------


def test_away_at_the_start(serve, own_redis):
    own_redis.kill()
    shark = serve(SIMPLE, on=own_redis, redis={"subscribe_timeout": 0.5})
    assert not is_ready(shark)
    with shark.client() as client:
        assert client.ask({"event": "ping"}) == {"event": "pong", "data": None}
        assert client.ask(subscribe(NAME)) == error_reply("subscribe", "Service unavailable.", NAME)
        own_redis.start()
        wait_until_ready(shark)
        client.subscribe(NAME)
        shark.publish(NAME, 1)
        assert client.push() == message(NAME, 1)


def test_away_at_the_start_the_old_way(tmp_path):
    """SocketShark: `could not connect to redis`, exit code 1."""
    config = configured(SIMPLE, free_port(), "", redis={"on_loss": "close"})
    done = run("serve", "--port", "0", "--config", write(tmp_path, "\n".join(lines(config)) + "\n"))
    assert done.returncode == 1 and "could not connect to redis" in done.stdout + done.stderr, done


def test_a_loss_keeps_the_clients(serve, own_redis):
    shark = serve(SIMPLE, on=own_redis)
    clients = [shark.client() for _ in range(3)]
    for number, client in enumerate(clients):
        client.subscribe(NAME)
        client.subscribe(f"simple.{number}")
    own_redis.kill()
    wait_until_ready(shark, False)
    for client in clients:
        client.expect_silence()
    own_redis.start()
    wait_until_ready(shark)
    shark.wait_for_subscribers(NAME, 1)
    shark.publish(NAME, "for all")
    for number, client in enumerate(clients):
        shark.wait_for_subscribers(f"simple.{number}", 1)
        shark.publish(f"simple.{number}", "for one")
        assert client.pushed(2) == ["for all", "for one"]
        client.close()


def test_a_connection_that_redis_ends_is_made_again(serve, own_redis):
    shark = serve(SIMPLE, on=own_redis)
    with shark.client() as client:
        client.subscribe(NAME)
        for number in range(3):
            own_redis.client.command("CLIENT", "KILL", "TYPE", "pubsub")
            shark.wait_for_subscribers(NAME, 0)
            shark.wait_for_subscribers(NAME, 1)
            shark.publish(NAME, number)
            assert client.push() == message(NAME, number)


def test_unsubscribing_during_a_loss(serve, own_redis):
    shark = serve(SIMPLE, on=own_redis)
    with shark.client() as client:
        client.subscribe(NAME)
        client.subscribe("simple.stays")
        own_redis.kill()
        wait_until_ready(shark, False)
        assert client.ask(unsubscribe(NAME)) == ok_reply("unsubscribe", NAME)
        own_redis.start()
        wait_until_ready(shark)
        shark.wait_for_subscribers("simple.stays", 1)
        assert shark.subscribers(NAME) == 0


def test_a_subscribe_during_a_loss_waits_for_redis(serve, own_redis):
    shark = serve(SIMPLE, on=own_redis, redis={"subscribe_timeout": 20})
    with shark.client() as client:
        own_redis.kill()
        wait_until_ready(shark, False)
        client.send_event(subscribe(NAME))
        client.expect_silence()
        own_redis.start()
        assert client.next_event(timeout=20) == ok_reply("subscribe", NAME)
        shark.publish(NAME, 1)
        assert client.push() == message(NAME, 1)


def test_a_subscribe_that_waits_in_vain(serve, own_redis, service):
    """It is undone: it may be tried again, and nothing is delivered from the time in between."""
    shark = serve({"books": {"require_authentication": False, **service.urls("before_subscribe")}}, on=own_redis,
                  redis={"subscribe_timeout": 0.5})
    with shark.client() as client:
        own_redis.kill()
        wait_until_ready(shark, False)
        began = time.monotonic()
        assert client.ask(subscribe("books.x")) == error_reply("subscribe", "Service unavailable.", "books.x")
        assert time.monotonic() - began >= 0.45
        assert not service.paths()
        own_redis.start()
        wait_until_ready(shark)
        service.script("/before_subscribe", ok(data="snapshot"))
        assert client.ask(subscribe("books.x")) == ok_reply("subscribe", "books.x", data="snapshot")


PINGS = {"ping_interval": 0.3, "ping_timeout": 0.5}


def test_a_frozen_redis_is_noticed_by_its_ping(serve, own_redis):
    shark = serve(SIMPLE, on=own_redis, redis=PINGS)
    with shark.client() as client:
        client.subscribe(NAME)
        own_redis.freeze()
        wait_until_ready(shark, False)
        client.expect_silence()
        own_redis.thaw()
        wait_until_ready(shark)
        eventually(lambda: shark.publish(NAME, "x") == 1)
        assert client.push()["data"] == "x"


@pytest.mark.parametrize("off", [{"ping_interval": None}, {"ping_interval": 0}], ids=str)
def test_without_pings_a_frozen_redis_is_waited_for(serve, own_redis, off):
    shark = serve(SIMPLE, on=own_redis, redis={**PINGS, **off})
    with shark.client() as client:
        client.subscribe(NAME)
        before = {one["id"] for one in own_redis.clients()}
        own_redis.freeze()
        assert client.is_quiet_for(2)
        own_redis.thaw()
        shark.publish(NAME, 1)
        assert client.push() == message(NAME, 1)
        assert {one["id"] for one in own_redis.clients()} == before


def test_the_loss_of_the_other_redis(serve, own_redis, prefix):
    shark = serve(SIMPLE, redis_alt=redis_section(own_redis, prefix))
    with shark.client() as client:
        client.subscribe(NAME)
        own_redis.kill()
        shark.publish(NAME, "main")
        assert client.push()["data"] == "main"
        own_redis.start()
        eventually(lambda: own_redis.subscribers(prefix + NAME) == 1, 20)
        own_redis.publish(prefix + NAME, json.dumps({"subscription": NAME, "data": "alt"}))
        assert client.push()["data"] == "alt"


def test_a_loss_the_old_way(serve, own_redis):
    shark = serve(SIMPLE, on=own_redis, redis={"on_loss": "close"})
    with shark.client() as client:
        client.subscribe(NAME)
        own_redis.kill()
        client.expect_close(1012)
