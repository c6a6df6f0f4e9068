"""Event history: `wamp.subscription.get_events`. The routers are configured to keep what is published below `com.fanwire.history.`."""

import asyncio
import uuid

from support import ACKNOWLEDGED, case, equal, refused, subscribe

GET = "wamp.subscription.get_events"


async def published(publisher, *topics, count=5):
    """Publishes so many events, in turn to these topics; the mark by which they are found among those of other runs."""
    mark = uuid.uuid4().hex
    for number in range(count):
        await publisher.publish(topics[number % len(topics)], mark, number, k=[number], options=ACKNOWLEDGED)
        await asyncio.sleep(0.02)  # so that their times differ
    return mark


async def kept(session, subscription, mark, limit=1000, **filters):
    """What the history has of this mark."""
    events = await session.call(GET, subscription, limit=limit, **filters)
    return [event for event in events if event["args"][0] == mark]


def numbers(events):
    return [event["args"][1] for event in events]


@case("event_history")
async def events_are_told_in_their_order(clients):
    topic = "com.fanwire.history.plain"
    publisher, reader = await clients.join_many(2)
    mark = await published(publisher, topic)  # nobody was there to hear it
    inbox = await subscribe(reader, topic)
    number = inbox.subscription.id
    live = await published(publisher, topic, count=1)
    _, _, details = await inbox.next()
    events = await kept(publisher, number, mark)
    equal([event["args"] for event in events], [[mark, place] for place in range(5)])
    equal([event["kwargs"] for event in events], [{"k": [place]} for place in range(5)])
    equal({event["subscription"] for event in events}, {number}, "subscription")
    if "publication ids" in clients.client.able:
        [event] = await kept(reader, number, live)
        equal(event["publication"], details.publication, "publication")


@case("event_history")
async def events_are_chosen_by_count_publication_and_time(clients):
    topic = "com.fanwire.history.chosen"
    publisher, reader = await clients.join_many(2)
    mark = await published(publisher, topic)
    number = (await subscribe(reader, topic)).subscription.id
    newest = await kept(reader, number, mark, limit=5, reverse=True)
    equal(numbers(newest), [4, 3, 2, 1, 0], "the newest first")
    ids = [event["publication"] for event in reversed(newest)]
    times = [event["timestamp"] for event in reversed(newest)]
    equal(times, sorted(times), "times")
    equal(len(set(times)), 5, "times that differ")
    for filters, wanted in [
        ({"from_publication": ids[0]}, [0, 1, 2, 3, 4]),
        ({"from_publication": ids[0], "limit": 2}, [0, 1]),
        ({"reverse": True, "limit": 2}, [4, 3]),
        ({"after_publication": ids[1]}, [2, 3, 4]),
        ({"after_publication": ids[1], "reverse": True}, [4, 3, 2]),
        ({"from_publication": ids[1], "until_publication": ids[3]}, [1, 2, 3]),
        ({"after_publication": ids[1], "before_publication": ids[3]}, [2]),
        ({"from_time": times[3]}, [3, 4]),
        ({"after_time": times[3]}, [4]),
        ({"from_time": times[0], "before_time": times[2]}, [0, 1]),
        ({"from_time": times[0], "until_time": times[2]}, [0, 1, 2]),
        ({"from_time": times[2], "before_publication": ids[4]}, [2, 3]),
        ({"after_publication": ids[4]}, []),
    ]:
        equal(numbers(await kept(reader, number, mark, **filters)), wanted, str(list(filters)))


@case("event_history")
async def patterns_have_the_history_of_their_topics(clients):
    prefix = "com.fanwire.history.many"
    topics = [f"{prefix}.a", f"{prefix}.b"]
    publisher, reader = await clients.join_many(2)
    mark = await published(publisher, *topics)
    number = (await subscribe(reader, prefix, "prefix")).subscription.id
    newest = await kept(reader, number, mark, limit=5, reverse=True)
    told = [(event["args"][1], event["details"]["topic"]) for event in newest]
    equal(told, [(place, topics[place % 2]) for place in [4, 3, 2, 1, 0]])
    equal(numbers(await kept(reader, number, mark, topic=topics[1])), [1, 3], "of one topic")


@case("event_history")
async def who_could_not_hear_it_is_not_told(clients):
    topic = "com.fanwire.history.listed"
    publisher, reader = await clients.join_many(2)
    number = (await subscribe(reader, topic)).subscription.id
    mark = uuid.uuid4().hex
    for place, lists in enumerate([
        {}, {"eligible_authrole": ["nobody"]}, {"exclude_authid": [reader.authid]}, {"eligible_authid": [reader.authid]},
    ]):
        await publisher.publish(topic, mark, place, options={**ACKNOWLEDGED, **lists})
    equal(numbers(await kept(reader, number, mark)), [0, 3])


@case("event_history")
async def there_is_no_history_of_what_is_no_subscription(clients):
    reader = await clients.join()
    await refused(reader.call(GET, 2**53), "wamp.error.no_such_subscription")
