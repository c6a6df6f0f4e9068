"""The client of PyPI's redis at the Redis port: RESP2 and RESP3, publish and subscribe, channels and patterns."""

import argparse

import redis


def messages(subscriber, count):
    """So many messages, without confirmations."""
    heard = []
    while len(heard) < count:
        message = subscriber.get_message(timeout=60)
        assert message is not None, f"only {heard}"
        if message["type"] in ("message", "pmessage"):
            heard.append((message["type"], message["channel"], message["data"]))
    return heard


def check(port, protocol):
    client = redis.Redis(port=port, protocol=protocol, socket_timeout=60)
    assert client.ping() is True
    assert client.publish("nobody", "hello") == 0
    subscriber = client.pubsub()
    subscriber.subscribe("channel")
    subscriber.psubscribe("n.*")
    for _ in range(2):
        confirmed = subscriber.get_message(timeout=60)
        assert confirmed["type"] in ("subscribe", "psubscribe"), confirmed
    assert client.publish("channel", "data from Python") == 1
    assert client.publish("n.x", b"\xff\x00") == 1
    assert messages(subscriber, 2) == [
        ("message", b"channel", b"data from Python"),
        ("pmessage", b"n.x", b"\xff\x00"),
    ]
    pipeline = client.pipeline(transaction=False)
    for number in range(1000):
        pipeline.publish("channel", number)
    assert pipeline.execute() == [1] * 1000
    assert [int(data) for _, _, data in messages(subscriber, 1000)] == list(range(1000))
    assert client.pubsub_numsub("channel") == [(b"channel", 1)]
    assert client.pubsub_numpat() == 1
    subscriber.unsubscribe("channel")
    assert subscriber.get_message(timeout=60)["type"] == "unsubscribe"
    assert client.publish("channel", "gone") == 0
    subscriber.close()
    client.close()


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
arguments = parser.parse_args()
for version in (2, 3):
    check(arguments.port, version)
