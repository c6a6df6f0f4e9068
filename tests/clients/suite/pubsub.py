"""Publish and subscribe."""

from support import ACKNOWLEDGED, OWN_TOO, SESSIONS, VALUES, Inbox, case, equal, subscribe


@case("publish_subscribe")
async def subscribers_on_every_shard_get_the_event(clients):
    publisher, *subscribers = await clients.join_many()
    inboxes = [await subscribe(session, "com.fanwire.test.fan") for session in subscribers]
    equal(len({inbox.subscription.id for inbox in inboxes}), 1, "subscription ids of one topic")
    publication = await publisher.publish("com.fanwire.test.fan", 1, "two", three=[3], options=ACKNOWLEDGED)
    known = "publication ids" in clients.client.able
    assert not known or 1 <= publication.id <= 2**53, publication.id
    for inbox in inboxes:
        args, kwargs, details = await inbox.next()
        equal((args, kwargs), ([1, "two"], {"three": [3]}))
        equal(details.publication, publication.id if known else None, "publication id")
    for inbox in inboxes:
        equal(inbox.queue.qsize(), 0, "more events")


@case("serialization")
async def every_value_arrives_as_it_was_sent(clients):
    publisher, *subscribers = await clients.join_many(4)
    inboxes = [await subscribe(session, "com.fanwire.test.values") for session in subscribers]
    await publisher.publish("com.fanwire.test.values", *VALUES, every=VALUES, options=ACKNOWLEDGED)
    for inbox in inboxes:
        args, kwargs, _ = await inbox.next()
        equal(args, VALUES)
        equal(kwargs, {"every": VALUES})


@case("publish_subscribe")
async def event_without_payload_arrives_without(clients):
    publisher, subscriber = await clients.join_many(2)
    inbox = await subscribe(subscriber, "com.fanwire.test.empty")
    await publisher.publish("com.fanwire.test.empty", options=ACKNOWLEDGED)
    equal((await inbox.next())[:2], ([], {}))
    await publisher.publish("com.fanwire.test.empty", only=1, options=ACKNOWLEDGED)
    equal((await inbox.next())[:2], ([], {"only": 1}))


@case("serialization")
async def binary_arrives_as_binary(clients):
    clients.needs("binary values")
    publisher, subscriber = await clients.join_many(2)
    inbox = await subscribe(subscriber, "com.fanwire.test.binary")
    blob = bytes(range(256)) * 3
    await publisher.publish("com.fanwire.test.binary", blob, blob=b"", options=ACKNOWLEDGED)
    equal((await inbox.next())[:2], ([blob], {"blob": b""}))


@case("publisher_exclusion")
async def publisher_is_excluded_unless_it_asks(clients):
    sessions = await clients.join_many(6)
    inboxes = [await subscribe(session, "com.fanwire.test.self") for session in sessions]
    await sessions[0].publish("com.fanwire.test.self", "others", options=ACKNOWLEDGED)
    await sessions[0].publish("com.fanwire.test.self", "all", options=OWN_TOO)
    sessions[0].publish("com.fanwire.test.self", "others", options={"exclude_me": True})
    await sessions[0].publish("com.fanwire.test.self", "end", options=OWN_TOO)
    own = [args[0] for args, _, _ in await inboxes[0].take(2)]
    equal(own, ["all", "end"], "the publisher's own events")
    for inbox in inboxes[1:]:
        equal([args[0] for args, _, _ in await inbox.take(4)], ["others", "all", "others", "end"])


@case("subscriber_blackwhite_listing")
async def lists_of_receivers_decide_who_gets_it(clients):
    publisher, *subscribers = await clients.join_many(9)
    inboxes = [await subscribe(session, "com.fanwire.test.lists") for session in subscribers]
    own = await subscribe(publisher, "com.fanwire.test.lists")
    ids = [session.id for session in subscribers]
    authids = [session.authid for session in subscribers]
    everybody = set(range(8))
    for lists, meant in [
        ({"exclude": ids[:3]}, everybody - {0, 1, 2}),
        ({"exclude": ids[4:5]}, everybody - {4}),
        ({"eligible": ids[2:5] + [2**53]}, {2, 3, 4}),
        ({"eligible": ids[:4], "exclude": ids[1:2]}, {0, 2, 3}),
        ({"eligible": []}, set()),
        ({"exclude": []}, everybody),
        ({"exclude_authid": authids[5:]}, everybody - {5, 6, 7}),
        ({"eligible_authid": authids[5:]}, {5, 6, 7}),
        ({"eligible_authid": authids[5:], "eligible": ids[:6]}, {5}),
        ({"exclude_authrole": ["anonymous"]}, set()),
        ({"eligible_authrole": ["anonymous"]}, everybody),
        ({"eligible_authrole": ["nobody"]}, set()),
        ({"eligible": [publisher.id], "exclude_me": False}, set()),
    ]:
        await publisher.publish("com.fanwire.test.lists", "listed", options={"acknowledge": True, **lists})
        await publisher.publish("com.fanwire.test.lists", "end", options=OWN_TOO)
        got = {index for index, inbox in enumerate(inboxes) if (await inbox.next())[0] == ["listed"]}
        for index in got:
            equal((await inboxes[index].next())[0], ["end"], "the event after it")
        equal(got, meant, str(lists))
        wanted = [["listed"], ["end"]] if "exclude_me" in lists else [["end"]]
        equal([args for args, _, _ in await own.take(len(wanted))], wanted, f"own events of {lists}")


@case("publisher_identification")
async def publisher_is_named_if_it_asks(clients):
    publisher, subscriber = await clients.join_many(2)
    inbox = await subscribe(subscriber, "com.fanwire.test.named")
    await publisher.publish("com.fanwire.test.named", "nobody", options=ACKNOWLEDGED)
    equal((await inbox.next())[2].publisher, None, "nobody asked for it")
    await publisher.publish("com.fanwire.test.named", "me", options={**ACKNOWLEDGED, "disclose_me": True})
    _, _, details = await inbox.next()
    told = (details.publisher, details.publisher_authid, details.publisher_authrole)
    equal(told, (publisher.id, publisher.authid, publisher.authrole))


@case("publish_subscribe")
async def publication_to_nobody_is_acknowledged(clients):
    session = await clients.join()
    publication = await session.publish("com.fanwire.test.nobody", options=ACKNOWLEDGED)
    assert publication.id is None or publication.id > 0


@case("publish_subscribe")
async def order_holds_across_topics(clients):
    publisher, *subscribers = await clients.join_many(9)
    topics = ["com.fanwire.test.order.a", "com.fanwire.test.order.b", "com.fanwire.test.order.c"]
    inboxes = []
    for session in subscribers:
        inbox = Inbox()
        for topic in topics:
            await session.subscribe(inbox, topic)
        inboxes.append(inbox)
    count = 600
    for number in range(count):
        publisher.publish(topics[number % 3 if number % 7 else 0], number)
    for inbox in inboxes:
        equal([args[0] for args, _, _ in await inbox.take(count)], list(range(count)), "order")


@case("publish_subscribe")
async def unsubscribed_session_gets_no_event(clients):
    publisher, leaver, stayer = await clients.join_many(3)
    gone, kept = await subscribe(leaver, "com.fanwire.test.leave"), await subscribe(stayer, "com.fanwire.test.leave")
    await publisher.publish("com.fanwire.test.leave", 1, options=ACKNOWLEDGED)
    await gone.next()
    await gone.subscription.unsubscribe()
    await publisher.publish("com.fanwire.test.leave", 2, options=ACKNOWLEDGED)
    equal([args for args, _, _ in await kept.take(2)], [[1], [2]])
    await gone.stays_empty()
    again = await subscribe(leaver, "com.fanwire.test.leave")
    await publisher.publish("com.fanwire.test.leave", 3, options=ACKNOWLEDGED)
    equal((await again.next())[0], [3])


@case("pattern_based_subscription")
async def patterns_bring_the_event_with_its_topic(clients):
    publisher, *subscribers = await clients.join_many(9)
    inboxes = [
        [
            await subscribe(session, "com.fanwire.test.pat", "prefix"),
            await subscribe(session, "com.fanwire..pattern.b", "wildcard"),
            await subscribe(session, "com.fanwire.test.pattern.b"),
        ]
        for session in subscribers
    ]
    equal(len({prefix.subscription.id for prefix, _, _ in inboxes}), 1, "subscription ids of one pattern")
    for topic in ["test.pattern.a", "test.pattern.b", "other.pattern.b", "test.pattern.b.c", "test.pa"]:
        await publisher.publish(f"com.fanwire.{topic}", topic, options=ACKNOWLEDGED)
    for prefix, wildcard, exact in inboxes:
        for inbox, topics in [
            (prefix, ["test.pattern.a", "test.pattern.b", "test.pattern.b.c"]),
            (wildcard, ["test.pattern.b", "other.pattern.b"]),
            (exact, ["test.pattern.b"]),
        ]:
            events = await inbox.take(len(topics))
            equal([args[0] for args, _, _ in events], topics)
            if inbox is not exact:
                equal([details.topic for _, _, details in events], [f"com.fanwire.{topic}" for topic in topics])
        await prefix.subscription.unsubscribe()
    await publisher.publish("com.fanwire.test.pattern.b", "after", options=ACKNOWLEDGED)
    for prefix, wildcard, _ in inboxes:
        equal((await wildcard.next())[0], ["after"])
        equal(prefix.queue.qsize(), 0, "events after unsubscribing")


KEEP = {"acknowledge": True, "retain": True}


async def keep(publisher, *topics):
    """Publishes what is kept, what took its place, and what is not kept."""
    for topic in topics:
        await publisher.publish(topic, "old", options=KEEP)
        await publisher.publish(topic, topic, k=[1, "two"], options=KEEP)
        await publisher.publish(topic, "passes by", options=ACKNOWLEDGED)


async def brings(session, uri, match, topics, publisher):
    """A subscription brings what is kept of these topics, and then what is new."""
    inbox = await subscribe(session, uri, match, get_retained=True)
    for topic in topics:
        args, kwargs, details = await inbox.next()
        equal((args, kwargs, details.retained), ([topic], {"k": [1, "two"]}, True))
    await publisher.publish(topics[-1], "live", options=ACKNOWLEDGED)
    args, _, details = await inbox.next()
    equal((args, bool(details.retained)), (["live"], False))
    equal(inbox.queue.qsize(), 0, "more events")


@case("event_retention")
async def retained_events_come_to_those_who_ask(clients):
    publisher, *others = await clients.join_many(5)
    topic = "com.fanwire.test.kept.asked"
    await keep(publisher, topic)
    for session in others:
        await brings(session, topic, None, [topic], publisher)


@case("event_retention")
async def who_does_not_ask_gets_no_retained_event(clients):
    publisher, subscriber = await clients.join_many(2)
    topic = "com.fanwire.test.kept.unasked"
    await keep(publisher, topic)
    inbox = await subscribe(subscriber, topic)
    await publisher.publish(topic, "live", options=ACKNOWLEDGED)
    equal((await inbox.next())[0], ["live"])


@case("event_retention")
async def retained_events_come_for_patterns(clients):
    publisher, first, second = await clients.join_many(3)
    topics = ["com.fanwire.test.kept.many.1", "com.fanwire.test.kept.many.2"]
    await keep(publisher, *topics)
    await brings(first, "com.fanwire.test.kept.many.", "prefix", topics, publisher)
    await brings(second, "com.fanwire..kept.many.", "wildcard", topics, publisher)


@case("event_retention")
async def a_retained_event_is_for_those_it_was_for(clients):
    publisher, one, other = await clients.join_many(3)
    topic = "com.fanwire.test.kept.private"
    await publisher.publish(topic, "for all", options=KEEP)
    await publisher.publish(topic, "for one", options={**KEEP, "eligible": [one.id]})
    for session, wanted in [(one, "for one"), (other, "for all")]:
        inbox = await subscribe(session, topic, get_retained=True)
        equal((await inbox.next())[0], [wanted])
    inbox = await subscribe(publisher, topic, get_retained=True)
    await inbox.stays_empty()  # it does not hear itself, now as then


@case("extensions")
async def a_retained_event_without_arguments_ends_it(clients):
    publisher, subscriber = await clients.join_many(2)
    topic = "com.fanwire.test.kept.ended"
    await publisher.publish(topic, "kept", options=KEEP)
    await publisher.publish(topic, options=KEEP)
    inbox = await subscribe(subscriber, topic, get_retained=True)
    await inbox.stays_empty()
