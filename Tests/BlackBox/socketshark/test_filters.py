"""§9: filter fields, order and throttle, for each session and subscription on its own."""

import json
import time

import pytest

from fake_service import ok
from shark import PlainClient, Shark, message, unsubscribe

OPEN = {"require_authentication": False}
NAME = "books.x"


@pytest.fixture
def shark(serve, service) -> Shark:
    return serve({"books": {**OPEN, "extra_fields": ["shelf"], "filter_fields": ["shelf", "user_id", "org_id"]}},
                 authentication={"ticket": {"validation_url": service.url("/auth"), "auth_fields": ["user_id", "org_id"]}})


@pytest.fixture
def client(shark) -> PlainClient:
    with shark.client() as client:
        yield client


@pytest.fixture
def subscribed(client) -> PlainClient:
    client.subscribe(NAME)
    return client


# §9.1 Filter fields -------------------------------------------------------------------------------


EQUAL = [(1, 1.0), (1, True), (0, False), (0.0, -0.0), ("a", "a"), (None, None), ([1, {"a": None}], [True, {"a": None}]),
         ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}), (10**20, 10**20), (1e2, 100)]
DIFFERENT = [(1, "1"), (1, 2), (True, "true"), (None, 0), (None, False), (None, ""), ("a", "A"), ([], {}), ([1, 2], [2, 1]),
             ({"a": 1}, {"a": 1, "b": None}), ([1], [1, 1]), ("", None)]


@pytest.mark.parametrize("mine, theirs", EQUAL, ids=str)
def test_equal_values_pass(shark, client, mine, theirs):
    client.subscribe(NAME, shelf=mine)
    shark.publish(NAME, "for me", shelf=theirs)
    assert client.push() == message(NAME, "for me", shelf=mine)


@pytest.mark.parametrize("mine, theirs", DIFFERENT, ids=str)
def test_different_values_do_not(shark, client, mine, theirs):
    client.subscribe(NAME, shelf=mine)
    shark.publish(NAME, "for another", shelf=theirs)
    shark.expect_no_push(client, NAME)


def test_fields_that_are_absent_do_not_restrict(shark, subscribed):
    shark.publish(NAME, "for all")
    assert subscribed.push() == message(NAME, "for all")


def test_null_means_those_that_lack_the_value(shark, client):
    with shark.client() as other:
        client.subscribe(NAME)
        other.subscribe(NAME, shelf="a")
        shark.publish(NAME, "for those without", shelf=None)
        shark.publish(NAME, "for a", shelf="a")
        assert client.push()["data"] == "for those without"
        assert other.push()["data"] == "for a"
        shark.expect_no_push(client, NAME)
    shark.publish(NAME, "anonymous", user_id=None)
    assert client.push()["data"] == "anonymous"


def test_auth_fields_are_compared_with_who_it_is(shark, client, service):
    service.always("/auth", ok(user_id="u1", org_id=5))
    client.authenticate()
    client.subscribe(NAME)
    shark.publish(NAME, "u2", user_id="u2")
    shark.publish(NAME, "nobody", user_id=None)
    shark.publish(NAME, "u1 of 6", user_id="u1", org_id=6)
    shark.publish(NAME, "u1 of 5", user_id="u1", org_id=5.0)
    assert client.push() == message(NAME, "u1 of 5")
    shark.expect_no_push(client, NAME)


def test_an_extra_field_wins_over_an_auth_field_of_its_name(serve, service):
    """The client says for itself which it wants: configured that way, the filter is a convenience and no protection."""
    shark = serve({"books": {**OPEN, "extra_fields": ["user_id"], "filter_fields": ["user_id"]}},
                  authentication={"ticket": {"validation_url": service.url("/auth"), "auth_fields": ["user_id"]}})
    service.always("/auth", ok(user_id="u1"))
    with shark.client() as client:
        client.authenticate()
        client.subscribe(NAME, user_id="u2")
        shark.publish(NAME, "u1", user_id="u1")
        shark.publish(NAME, "u2", user_id="u2")
        assert client.push()["data"] == "u2"


def test_fields_that_are_not_configured_do_not_filter(serve):
    shark = serve({"books": {**OPEN, "extra_fields": ["shelf"]}})
    with shark.client() as client:
        client.subscribe(NAME, shelf="a")
        shark.publish(NAME, 1, shelf="b", user_id="u1")
        assert client.push() == message(NAME, 1, shelf="a")


def test_a_filtered_message_changes_neither_order_nor_throttle(shark, client):
    client.subscribe(NAME, shelf="a")
    shark.publish(NAME, "for b", shelf="b", options={"order": 100, "throttle": 30})
    shark.publish(NAME, "for a", shelf="a", options={"order": 1, "throttle": 30})
    assert client.push()["data"] == "for a"


# §9.2 Order -----------------------------------------------------------------------------------------


def delivered(shark: Shark, client: PlainClient, orders: list, **options) -> list[int]:
    """Publishes messages with these orders; answers the numbers of those that arrive."""
    for number, order in enumerate(orders):
        shark.publish(NAME, number, options={"order": order, **options})
    shark.publish(NAME, "end")
    arrived = []
    while (data := client.push()["data"]) != "end":
        arrived.append(data)
    return arrived


@pytest.mark.parametrize("orders, arrive", [
    ([1, 2, 3], [0, 1, 2]),
    ([1, 1, 2, 0, 2, 3], [0, 2, 5]),
    ([-5, -6, -4], [0, 2]),
    ([0, -0.0, 0.5, 0.25, 0.75], [0, 2, 4]),
    ([1e300, 1e301, 1e300], [0, 1]),
    ([2**53, 2**53 + 1, 2**53 + 2], [0, 2]),
    (["1", "2", 1.5, " 3 ", "2.5e0"], [0, 1, 3]),
    ([False, True, 1, 0, 2], [0, 1, 4]),
], ids=str)
def test_only_strictly_greater_orders_are_delivered(shark, subscribed, orders, arrive):
    assert delivered(shark, subscribed, orders) == arrive


@pytest.mark.parametrize("order", ["invalid", "", None, [], [5], {}, {"a": 1}, "1,5", "0x10"], ids=json.dumps)
def test_what_is_no_number_is_delivered_and_changes_nothing(shark, subscribed, order):
    assert delivered(shark, subscribed, [5, order, 4, order, 6]) == [0, 1, 3, 4]


def test_messages_without_order_pass_and_change_nothing(shark, subscribed):
    shark.publish(NAME, "5", options={"order": 5})
    shark.publish(NAME, "none", options={})
    shark.publish(NAME, "none at all")
    shark.publish(NAME, "4", options={"order": 4})
    shark.publish(NAME, "6", options={"order": 6})
    assert subscribed.pushed(4) == ["5", "none", "none at all", "6"]


def test_every_order_key_counts_for_itself(shark, subscribed):
    for data, options in {"a5": {"order": 5, "order_key": "a"}, "b1": {"order": 1, "order_key": "b"}, "none3": {"order": 3},
                          "a4": {"order": 4, "order_key": "a"}, "b2": {"order": 2, "order_key": "b"},
                          "null2": {"order": 2, "order_key": None}, "empty1": {"order": 1, "order_key": ""}}.items():
        shark.publish(NAME, data, options=options)
    assert subscribed.pushed(5) == ["a5", "b1", "none3", "b2", "empty1"]
    shark.expect_no_push(subscribed, NAME)


def test_every_subscription_counts_for_itself(shark, subscribed):
    with shark.client() as other:
        shark.publish(NAME, 5, options={"order": 5})
        assert subscribed.push()["data"] == 5
        other.subscribe(NAME)
        subscribed.subscribe("books.y")
        shark.publish("books.y", "y", options={"order": 1})
        shark.publish(NAME, 1, options={"order": 1})
        assert other.push()["data"] == 1
        assert subscribed.push() == message("books.y", "y")


# §9.3 Throttle ----------------------------------------------------------------------------------------


T = 1.0


def throttled(shark: Shark, data, throttle=T, **options) -> None:
    shark.publish(NAME, data, options={"throttle": throttle, **options})


def test_the_first_at_once_then_the_last_after_the_window(shark, subscribed):
    began = time.monotonic()
    for number in range(5):
        throttled(shark, number)
    assert subscribed.push()["data"] == 0
    assert subscribed.push() == message(NAME, 4)
    assert time.monotonic() - began >= T * 0.95
    shark.expect_no_push(subscribed, NAME)


def test_a_steady_stream_gives_one_per_window_and_the_last(shark, subscribed):
    for number in range(40):
        throttled(shark, number, 0.3)
        time.sleep(0.03)  # The pace of the stream.
    arrived = [subscribed.push()["data"]]
    while arrived[-1] != 39:
        arrived.append(subscribed.push()["data"])
    assert arrived[0] == 0 and arrived == sorted(set(arrived)) and 3 <= len(arrived) < 30


def test_the_window_opens_again_when_its_time_is_over(shark, subscribed):
    throttled(shark, 1, 0.3)
    assert subscribed.push()["data"] == 1
    assert subscribed.is_quiet_for(0.5)
    throttled(shark, 2, 0.3)
    throttled(shark, 3, 30)
    assert subscribed.push()["data"] == 2
    shark.expect_no_push(subscribed, NAME)


def test_a_trailing_message_begins_a_new_window(shark, subscribed):
    throttled(shark, 1)
    throttled(shark, 2)
    assert subscribed.pushed(2) == [1, 2]
    began = time.monotonic()
    throttled(shark, 3)
    throttled(shark, 4)
    assert subscribed.push()["data"] == 4
    assert time.monotonic() - began >= T * 0.6


def test_a_pending_message_keeps_the_time_of_the_first_that_waited(shark, subscribed):
    """The throttle of those that replace it is ignored."""
    throttled(shark, 1)
    throttled(shark, 2)
    throttled(shark, 3, 60)
    throttled(shark, 4, 0)
    assert subscribed.pushed(2) == [1, 4]


def test_the_time_of_the_one_that_waits_counts_from_the_last_that_was_sent(shark, subscribed):
    throttled(shark, 1, 30)
    began = time.monotonic()
    throttled(shark, 2, 0.5)
    assert subscribed.pushed(2) == [1, 2]
    assert time.monotonic() - began < 10


def test_every_throttle_key_has_its_own_window(shark, subscribed):
    for key in ("a", "b", None):
        throttled(shark, f"{key} first", 30, **({} if key is None else {"throttle_key": key}))
        throttled(shark, f"{key} second", 30, **({} if key is None else {"throttle_key": key}))
    assert subscribed.pushed(3) == ["a first", "b first", "None first"]
    shark.expect_no_push(subscribed, NAME)


@pytest.mark.parametrize("throttle", ["invalid", None, [], {}, ""], ids=json.dumps)
def test_what_is_no_number_is_not_throttled(shark, subscribed, throttle):
    throttled(shark, 1, 30)
    throttled(shark, 2, throttle)
    throttled(shark, 3, throttle)
    assert subscribed.pushed(3) == [1, 2, 3]


@pytest.mark.parametrize("throttle", [0, -1, "0", False], ids=json.dumps)
def test_no_time_at_all_is_delivered_at_once(shark, subscribed, throttle):
    for number in range(3):
        throttled(shark, number, throttle)
    assert subscribed.pushed(3) == [0, 1, 2]


def test_a_numeric_string_is_a_time(shark, subscribed):
    throttled(shark, 1, "1.0")
    throttled(shark, 2, "1.0")
    throttled(shark, 3, "1.0")
    assert subscribed.pushed(2) == [1, 3]


def test_messages_without_throttle_pass_those_that_wait(shark, subscribed):
    throttled(shark, 1)
    throttled(shark, "waits")
    shark.publish(NAME, "passes")
    assert subscribed.pushed(3) == [1, "passes", "waits"]


def test_order_is_looked_at_before_throttle(shark, subscribed):
    """Its state moves on even with a message that throttle replaces later."""
    throttled(shark, 1, order=1)
    throttled(shark, 5, order=5)
    throttled(shark, 3, order=3)
    assert subscribed.pushed(2) == [1, 5]
    shark.publish(NAME, 4, options={"order": 4})
    shark.expect_no_push(subscribed, NAME)


def test_unsubscribe_forgets_what_waits(shark, subscribed):
    throttled(shark, 1)
    throttled(shark, "stale")
    assert subscribed.push()["data"] == 1
    assert subscribed.ask(unsubscribe(NAME))["status"] == "ok"
    subscribed.subscribe(NAME)
    throttled(shark, "fresh", 30)
    assert subscribed.push()["data"] == "fresh"  # There is no window from before.
    assert subscribed.is_quiet_for(T * 1.5)


def test_a_close_with_a_waiting_message_is_clean(shark, subscribed):
    throttled(shark, 1)
    throttled(shark, 2)
    assert subscribed.push()["data"] == 1
    subscribed.say_goodbye()
    subscribed.close()
    shark.wait_for_subscribers(NAME, 0)
    with shark.client() as other:
        other.subscribe(NAME)
        shark.expect_no_push(other, NAME)


def test_extras_are_in_trailing_messages(shark, client):
    client.subscribe(NAME, shelf="a")
    throttled(shark, 1)
    throttled(shark, 2)
    assert [client.push(), client.push()] == [message(NAME, 1, shelf="a"), message(NAME, 2, shelf="a")]
