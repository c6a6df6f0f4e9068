#!/usr/bin/env python3
"""Drives a router with the unmodified Python client `autobahn`.

    autobahn_python.py --url ws://127.0.0.1:8080/ws --serializer json            the checks
    autobahn_python.py ... --compression                                         with permessage-deflate
    autobahn_python.py ... --batched                                             in batches of messages
    autobahn_python.py --url rs://127.0.0.1:8080 ...                             over RawSocket; also rss://, rs://unix:/PATH
    autobahn_python.py ... --users 40 --ticket TICKET              the checks, each session logged in as joe0, …, joe39
    autobahn_python.py ... --serve NAME                                          a partner for `cross.py`

Ends with `N passed, M failed`.
"""

import argparse
import asyncio
import itertools
import ssl
import sys
import traceback
from urllib.parse import urlsplit

import txaio

txaio.use_asyncio()
txaio.start_logging(level="error")

from autobahn.asyncio.wamp import ApplicationSession  # noqa: E402
from autobahn.asyncio.rawsocket import WampRawSocketClientFactory  # noqa: E402
from autobahn.asyncio.websocket import WampWebSocketClientFactory  # noqa: E402
from autobahn.wamp import serializer as serializers  # noqa: E402
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept  # noqa: E402
from autobahn.wamp.exception import ApplicationError  # noqa: E402
from autobahn.wamp.message import Cancel  # noqa: E402
from autobahn.wamp.types import (  # noqa: E402
    CallOptions, CallResult, ComponentConfig, EventDetails, PublishOptions, RegisterOptions, SubscribeOptions,
)

REALM = "realm1"
# So many that they are spread over the shards: the chance that all land on one of two is one in 64 thousand.
SESSIONS = 17
PATIENCE_S = 20
# Long enough for an event that must not come.
SILENCE_S = 0.4


class Session(ApplicationSession):
    """A session that keeps what happens to it where a check can wait for it."""

    def __init__(self, config=None, login=None):
        super().__init__(config)
        self.login = login
        loop = asyncio.get_running_loop()
        self.joined, self.left, self.disconnected = loop.create_future(), loop.create_future(), loop.create_future()

    def onConnect(self):
        if self.login:
            self.join(self.config.realm, authmethods=["ticket"], authid=self.login[0])
        else:
            self.join(self.config.realm)

    def onChallenge(self, challenge):
        equal(challenge.method, "ticket", "method")
        return self.login[1]

    def onJoin(self, details):
        self.joined.set_result(details)

    def onLeave(self, details):
        if not self.left.done():
            self.left.set_result(details)
        self.disconnect()

    def onDisconnect(self):
        if not self.disconnected.done():
            self.disconnected.set_result(None)

    def onUserError(self, fail, msg):
        pass  # a procedure that raises on purpose


KINDS = {
    "json": serializers.JsonSerializer,
    "msgpack": serializers.MsgPackSerializer,
    "cbor": serializers.CBORSerializer,
}


class Clients:
    """Opens sessions and closes those that a check leaves open."""

    def __init__(self, url, serializer, compression=False, logins=None, batched=False):
        self.url, self.serializer, self.compression = url, serializer, compression
        self.logins, self.open, self.batched = logins, [], batched

    async def connect(self, realm=REALM, login=None):
        kind = KINDS[self.serializer]
        sessions = []

        def make():
            sessions.append(Session(ComponentConfig(realm), login or (self.logins and next(self.logins))))
            return sessions[-1]

        where = urlsplit(self.url)
        if where.scheme in ("rs", "rss"):
            await self.connect_raw(where, WampRawSocketClientFactory(make, kind()))
            while not sessions:  # it is made when the handshake is over
                await asyncio.sleep(0.005)
            self.open.append(sessions[0])
            return sessions[0]
        # Not `False` where it is not wanted: then the name of the subprotocol has an ending too.
        kinds = [kind(batched=True)] if self.batched else [kind()]
        factory = WampWebSocketClientFactory(make, url=self.url, serializers=kinds)
        if self.compression:
            factory.setProtocolOptions(
                perMessageCompressionOffers=[PerMessageDeflateOffer()],
                perMessageCompressionAccept=PerMessageDeflateResponseAccept,
            )
        # What it trusts is named by SSL_CERT_FILE.
        trust = ssl.create_default_context() if where.scheme == "wss" else None
        connecting = asyncio.get_running_loop().create_connection(factory, where.hostname, where.port, ssl=trust)
        _, protocol = await connecting
        while not sessions:  # it is made when the connection stands
            await asyncio.sleep(0.005)
        if self.compression and protocol._perMessageCompress is None:
            raise AssertionError("the router declined to compress")
        self.open.append(sessions[0])
        return sessions[0]

    @staticmethod
    async def connect_raw(where, factory):
        loop = asyncio.get_running_loop()
        if where.hostname == "unix":
            return await loop.create_unix_connection(factory, where.netloc.removeprefix("unix:") + where.path)
        trust = ssl.create_default_context() if where.scheme == "rss" else None
        return await loop.create_connection(factory, where.hostname, where.port, ssl=trust)

    async def join(self):
        session = await self.connect()
        await session.joined
        return session

    async def join_many(self, count=SESSIONS):
        return await asyncio.gather(*(self.join() for _ in range(count)))

    async def close(self):
        for session in self.open:
            if session.is_attached():
                session.leave()
        for session in self.open:
            await session.disconnected
        self.open.clear()


class Inbox:
    """Events of one subscription."""

    def __init__(self):
        self.queue = asyncio.Queue()

    def __call__(self, *args, **kwargs):
        details = kwargs.pop("details", None)
        self.queue.put_nowait((list(args), kwargs, details))

    async def next(self):
        return await self.queue.get()

    async def take(self, count):
        return [await self.next() for _ in range(count)]

    async def stays_empty(self):
        await asyncio.sleep(SILENCE_S)
        equal(self.queue.qsize(), 0, "events that must not come")


async def subscribe(session, topic, match=None):
    inbox = Inbox()
    inbox.subscription = await session.subscribe(inbox, topic, SubscribeOptions(match=match, details=True))
    return inbox


def equal(found, wanted, what="value"):
    if found != wanted:
        raise AssertionError(f"{what}: expected {wanted!r}, got {found!r}")


async def refused(awaitable, *uris):
    """The request must be answered with one of these errors, which is returned."""
    try:
        answer = await awaitable
    except ApplicationError as error:
        if error.error not in uris:
            raise AssertionError(f"expected {' or '.join(uris)}, got {error.error} {error.args}") from error
        return error
    raise AssertionError(f"expected {' or '.join(uris)}, got the answer {answer!r}")


ACKNOWLEDGED = PublishOptions(acknowledge=True)
OWN_TOO = PublishOptions(acknowledge=True, exclude_me=False)
VALUES = [
    None, True, False, 0, -1, 2**53, -(2**53), 1.5, "", "text", "ünï©ødé \u2028 😀", "quote\" back\\ slash/ \n\t",
    [], {}, [1, [2, [3, {"four": [5]}]]], {"a": None, "b": {"c": [True, {"d": ""}]}}, "x" * 70_000,
]

# ---- the checks ----------------------------------------------------------------------------------------------------


async def sessions_have_ids_of_their_own(clients):
    sessions = await clients.join_many()
    ids = {session._session_id for session in sessions}
    equal(len(ids), SESSIONS, "distinct session ids")
    assert all(1 <= number <= 2**53 for number in ids), ids


async def unknown_realm_is_refused(clients):
    session = await clients.connect("no.such.realm.here")
    details = await session.left
    equal(details.reason, "wamp.error.no_such_realm")
    await session.disconnected


async def sessions_are_who_they_log_in_as(clients):
    session = await clients.join()
    details = session.joined.result()
    if not clients.logins:
        equal((details.authrole, details.authmethod), ("anonymous", "anonymous"), "role and method")
        assert details.authid.startswith("anonymous-"), details.authid
        return
    user, ticket = session.login
    equal(details.authid, user, "authid")
    equal((details.authmethod, details.authprovider), ("ticket", "static"), "method and provider")
    words = []
    for login in [(user, "another"), ("nobody", ticket), ("nobody", "another")]:
        stranger = await clients.connect(login=login)
        details = await stranger.left
        equal(details.reason, "wamp.error.authentication_denied")
        words.append(details.message)
        await stranger.disconnected
    equal(len(set(words)), 1, "words for an unknown user and for a wrong ticket")


async def subscribers_on_every_shard_get_the_event(clients):
    publisher, *subscribers = await clients.join_many()
    inboxes = [await subscribe(session, "com.fanwire.test.fan") for session in subscribers]
    equal(len({inbox.subscription.id for inbox in inboxes}), 1, "subscription ids of one topic")
    publication = await publisher.publish("com.fanwire.test.fan", 1, "two", three=[3], options=ACKNOWLEDGED)
    assert 1 <= publication.id <= 2**53, publication.id
    for inbox in inboxes:
        args, kwargs, details = await inbox.next()
        equal((args, kwargs), ([1, "two"], {"three": [3]}))
        equal(details.publication, publication.id, "publication id")
    for inbox in inboxes:
        equal(inbox.queue.qsize(), 0, "more events")


async def every_value_arrives_as_it_was_sent(clients):
    publisher, *subscribers = await clients.join_many(4)
    inboxes = [await subscribe(session, "com.fanwire.test.values") for session in subscribers]
    await publisher.publish("com.fanwire.test.values", *VALUES, every=VALUES, options=ACKNOWLEDGED)
    for inbox in inboxes:
        args, kwargs, _ = await inbox.next()
        equal(args, VALUES)
        equal(kwargs, {"every": VALUES})


async def event_without_payload_arrives_without(clients):
    publisher, subscriber = await clients.join_many(2)
    inbox = await subscribe(subscriber, "com.fanwire.test.empty")
    await publisher.publish("com.fanwire.test.empty", options=ACKNOWLEDGED)
    equal((await inbox.next())[:2], ([], {}))
    await publisher.publish("com.fanwire.test.empty", only=1, options=ACKNOWLEDGED)
    equal((await inbox.next())[:2], ([], {"only": 1}))


async def binary_arrives_as_binary(clients):
    publisher, subscriber = await clients.join_many(2)
    inbox = await subscribe(subscriber, "com.fanwire.test.binary")
    blob = bytes(range(256)) * 3
    await publisher.publish("com.fanwire.test.binary", blob, blob=b"", options=ACKNOWLEDGED)
    equal((await inbox.next())[:2], ([blob], {"blob": b""}))


async def publisher_is_excluded_unless_it_asks(clients):
    sessions = await clients.join_many(6)
    inboxes = [await subscribe(session, "com.fanwire.test.self") for session in sessions]
    await sessions[0].publish("com.fanwire.test.self", "others", options=ACKNOWLEDGED)
    await sessions[0].publish("com.fanwire.test.self", "all", options=OWN_TOO)
    sessions[0].publish("com.fanwire.test.self", "others", options=PublishOptions(exclude_me=True))
    await sessions[0].publish("com.fanwire.test.self", "end", options=OWN_TOO)
    own = [args[0] for args, _, _ in await inboxes[0].take(2)]
    equal(own, ["all", "end"], "the publisher's own events")
    for inbox in inboxes[1:]:
        equal([args[0] for args, _, _ in await inbox.take(4)], ["others", "all", "others", "end"])


async def lists_of_receivers_decide_who_gets_it(clients):
    publisher, *subscribers = await clients.join_many(9)
    inboxes = [await subscribe(session, "com.fanwire.test.lists") for session in subscribers]
    own = await subscribe(publisher, "com.fanwire.test.lists")
    ids = [session._session_id for session in subscribers]
    authids = [session.authid for session in subscribers]
    everybody = set(range(8))
    for lists, meant in [
        ({"exclude": ids[:3]}, everybody - {0, 1, 2}),
        ({"exclude": ids[4]}, everybody - {4}),
        ({"eligible": ids[2:5] + [2**53]}, {2, 3, 4}),
        ({"eligible": ids[:4], "exclude": ids[1:2]}, {0, 2, 3}),
        ({"eligible": []}, set()),
        ({"exclude": []}, everybody),
        ({"exclude_authid": authids[5:]}, everybody - {5, 6, 7}),
        ({"eligible_authid": authids[5:]}, {5, 6, 7}),
        ({"eligible_authid": authids[5:], "eligible": ids[:6]}, {5}),
        ({"exclude_authrole": ["anonymous"]}, set()),
        ({"eligible_authrole": ["anonymous"]}, everybody),
        ({"eligible_authrole": "nobody"}, set()),
        ({"eligible": [publisher._session_id], "exclude_me": False}, set()),
    ]:
        await publisher.publish("com.fanwire.test.lists", "listed", options=PublishOptions(acknowledge=True, **lists))
        await publisher.publish("com.fanwire.test.lists", "end", options=OWN_TOO)
        got = {index for index, inbox in enumerate(inboxes) if (await inbox.next())[0] == ["listed"]}
        for index in got:
            equal((await inboxes[index].next())[0], ["end"], "the event after it")
        equal(got, meant, str(lists))
        wanted = [["listed"], ["end"]] if "exclude_me" in lists else [["end"]]
        equal([args for args, _, _ in await own.take(len(wanted))], wanted, f"own events of {lists}")


async def publication_to_nobody_is_acknowledged(clients):
    session = await clients.join()
    publication = await session.publish("com.fanwire.test.nobody", options=ACKNOWLEDGED)
    assert publication.id > 0


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


async def calls_go_to_the_most_precise_registration(clients):
    caller, *callees = await clients.join_many(5)

    def answering(name):
        return lambda details: [name, details.procedure]

    registrations = []
    for callee, (uri, match) in zip(callees, [
        ("com.fanwire..tools.add", "wildcard"), ("com.fanwire.test.too", "prefix"),
        ("com.fanwire.test.tools.", "prefix"), ("com.fanwire.test.tools.add", "exact"),
    ]):
        options = RegisterOptions(match=match, details_arg="details")
        registrations.append((uri, await callee.register(answering(uri), uri, options)))
    procedure = "com.fanwire.test.tools.add"
    for uri, registration in reversed(registrations):
        equal(await caller.call(procedure), [uri, procedure])
        await registration.unregister()
    await refused(caller.call(procedure), "wamp.error.no_such_procedure")


async def reserved_uris_are_refused(clients):
    session = await clients.join()
    reserved = ("wamp.error.invalid_uri", "wamp.error.not_authorized")
    await refused(session.publish("wamp.forged.event", options=ACKNOWLEDGED), *reserved)
    await refused(session.register(lambda: None, "wamp.forged.procedure"), *reserved)
    await session.publish("com.fanwire.test.still.here", options=ACKNOWLEDGED)


async def procedures_are_called_from_every_shard(clients):
    sessions = await clients.join_many()
    for number, session in enumerate(sessions[:4]):
        await session.register(lambda a, b, number=number: [number, a + b], f"com.fanwire.test.add{number}")
    calls = [
        session.call(f"com.fanwire.test.add{number}", index, 100)
        for index, session in enumerate(sessions) for number in range(4)
    ]
    wanted = [[number, index + 100] for index in range(SESSIONS) for number in range(4)]
    equal(await asyncio.gather(*calls), wanted)


async def results_carry_positions_and_keywords(clients):
    callee, caller = await clients.join_many(2)
    await callee.register(lambda *args, **kwargs: CallResult(*args, **kwargs), "com.fanwire.test.mirror")
    result = await caller.call("com.fanwire.test.mirror", *VALUES, every=VALUES)
    equal(list(result.results), VALUES)
    equal(result.kwresults, {"every": VALUES})
    equal(await caller.call("com.fanwire.test.mirror"), None)
    blob = b"\x00\xff" * 9
    equal(await caller.call("com.fanwire.test.mirror", blob), blob)


async def answers_come_back_in_any_order(clients):
    callee, *callers = await clients.join_many(5)

    async def slow(number):
        await asyncio.sleep((number * 7 % 10) / 200)
        return number

    await callee.register(slow, "com.fanwire.test.slow")
    numbers = range(100)
    found = await asyncio.gather(*(callers[n % 4].call("com.fanwire.test.slow", n) for n in numbers))
    equal(found, list(numbers))


async def unknown_procedure_is_an_error(clients):
    session = await clients.join()
    await refused(session.call("com.fanwire.test.unknown", 1), "wamp.error.no_such_procedure")


async def errors_of_the_callee_reach_the_caller(clients):
    callee, caller = await clients.join_many(2)

    def fail(*args, **kwargs):
        raise ApplicationError("com.fanwire.test.error.own", *args, **kwargs)

    def crash():
        raise ValueError("a bug")

    await callee.register(fail, "com.fanwire.test.fail")
    await callee.register(crash, "com.fanwire.test.crash")
    error = await refused(caller.call("com.fanwire.test.fail", 1, "two", key=[3]), "com.fanwire.test.error.own")
    equal((list(error.args), error.kwargs), ([1, "two"], {"key": [3]}))
    await refused(caller.call("com.fanwire.test.crash"), "wamp.error.runtime_error")


async def procedure_has_one_callee(clients):
    first, second, *others = await clients.join_many(8)
    registration = await first.register(lambda: "first", "com.fanwire.test.single")
    for session in [first, second, *others]:
        await refused(session.register(lambda: 0, "com.fanwire.test.single"), "wamp.error.procedure_already_exists")
    equal(await second.call("com.fanwire.test.single"), "first")
    await registration.unregister()
    await refused(first.call("com.fanwire.test.single"), "wamp.error.no_such_procedure")
    await second.register(lambda: "second", "com.fanwire.test.single")
    equal(await first.call("com.fanwire.test.single"), "second")


async def a_cancelled_call_stops_its_callee(clients):
    callee, caller = await clients.join_many(2)
    loop = asyncio.get_running_loop()
    started, stopped = loop.create_future(), loop.create_future()

    async def hang():
        started.set_result(None)
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            stopped.set_result(None)
            raise

    await callee.register(hang, "com.fanwire.test.hang")
    call = asyncio.ensure_future(caller.call("com.fanwire.test.hang"))
    await started
    # The client sends CANCEL without a mode, and takes the ERROR.
    [request] = caller._call_reqs
    caller._transport.send(Cancel(request))
    await refused(call, "wamp.error.canceled")
    await stopped
    await callee.register(lambda: "alive", "com.fanwire.test.alive")
    equal(await caller.call("com.fanwire.test.alive"), "alive")


async def a_killed_callee_has_the_last_word(clients):
    callee, caller = await clients.join_many(2)
    loop = asyncio.get_running_loop()
    started = loop.create_future()

    async def hang():
        started.set_result(None)
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            return "cleaned up"

    await callee.register(hang, "com.fanwire.test.kill")
    call = asyncio.ensure_future(caller.call("com.fanwire.test.kill"))
    await started
    [request] = caller._call_reqs
    caller._transport.send(Cancel(request, mode=Cancel.KILL))
    equal(await call, "cleaned up")


async def a_caller_that_leaves_stops_its_callee(clients):
    callee, caller = await clients.join_many(2)
    loop = asyncio.get_running_loop()
    started, stopped = loop.create_future(), loop.create_future()

    async def hang():
        started.set_result(None)
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            stopped.set_result(None)
            raise

    await callee.register(hang, "com.fanwire.test.left")
    # Who has left hears no answer.
    caller.call("com.fanwire.test.left")
    await started
    caller.leave()
    await stopped
    await caller.disconnected


async def a_call_ends_when_its_time_is_over(clients):
    callee, caller = await clients.join_many(2)
    stopped = asyncio.get_running_loop().create_future()

    async def hang():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            stopped.set_result(None)
            raise

    await callee.register(hang, "com.fanwire.test.late")
    await refused(caller.call("com.fanwire.test.late", options=CallOptions(timeout=50)), "wamp.error.timeout")
    await stopped


async def results_come_in_parts(clients):
    callee, *callers = await clients.join_many(5)

    def count(up_to, details=None):
        for number in range(up_to):
            details.progress(number, square=number * number)
        return up_to

    await callee.register(count, "com.fanwire.test.parts", options=RegisterOptions(details_arg="details"))
    for caller in callers:
        parts = []
        options = CallOptions(on_progress=lambda number, square: parts.append((number, square)))
        equal(await caller.call("com.fanwire.test.parts", 50, options=options), 50)
        equal(parts, [(number, number * number) for number in range(50)])


async def callees_share_a_procedure(clients):
    caller, stranger, *callees = await clients.join_many(6)
    for policy, expected in [("roundrobin", [0, 1, 2, 3] * 3), ("first", [0] * 4), ("last", [3] * 4)]:
        name = f"com.fanwire.test.shared.{policy}"
        options = RegisterOptions(invoke=policy)
        registrations = [
            await callee.register(lambda place=place: place, name, options=options)
            for place, callee in enumerate(callees)
        ]
        equal(len({registration.id for registration in registrations}), 1, "registration ids")
        equal([await caller.call(name) for _ in expected], expected, policy)
        await refused(stranger.register(lambda: 9, name), "wamp.error.procedure_already_exists")
        await registrations[0].unregister()
        equal(sorted({await caller.call(name) for _ in range(12)})[0] > 0, True, "who has left is not asked")
    await stranger.register(lambda: "taken", name, options=RegisterOptions(force_reregister=True))
    equal(await caller.call(name), "taken")


async def nobody_works_on_more_than_it_wants(clients):
    callee, caller = await clients.join_many(2)
    loop = asyncio.get_running_loop()
    started, goes_on = loop.create_future(), loop.create_future()

    async def one():
        started.set_result(None)
        return await goes_on

    options = RegisterOptions(concurrency=1)
    await callee.register(one, "com.fanwire.test.concurrency", options=options)
    call = asyncio.ensure_future(caller.call("com.fanwire.test.concurrency"))
    await started
    await refused(caller.call("com.fanwire.test.concurrency"), "wamp.error.no_available_callee")
    goes_on.set_result("done")
    equal(await call, "done")


async def what_a_session_had_goes_with_it(clients):
    leaver, stayer = await clients.join_many(2)
    started = asyncio.get_running_loop().create_future()

    def hang():
        started.set_result(None)
        return asyncio.get_running_loop().create_future()

    await leaver.register(hang, "com.fanwire.test.gone")
    call = asyncio.ensure_future(stayer.call("com.fanwire.test.gone"))
    await started
    leaver.leave()
    await refused(call, "wamp.error.canceled")
    await leaver.disconnected
    await refused(stayer.call("com.fanwire.test.gone"), "wamp.error.no_such_procedure")
    await stayer.register(lambda: "mine now", "com.fanwire.test.gone")
    equal(await stayer.call("com.fanwire.test.gone"), "mine now")


async def goodbye_is_answered(clients):
    session = await clients.join()
    session.leave("com.fanwire.test.bye", "see you")
    details = await session.left
    equal(details.reason, "wamp.close.goodbye_and_out")
    await session.disconnected


CHECKS = [
    sessions_have_ids_of_their_own, unknown_realm_is_refused, sessions_are_who_they_log_in_as,
    subscribers_on_every_shard_get_the_event,
    every_value_arrives_as_it_was_sent, event_without_payload_arrives_without, binary_arrives_as_binary,
    publisher_is_excluded_unless_it_asks, lists_of_receivers_decide_who_gets_it,
    publication_to_nobody_is_acknowledged, order_holds_across_topics, unsubscribed_session_gets_no_event,
    patterns_bring_the_event_with_its_topic, calls_go_to_the_most_precise_registration,
    reserved_uris_are_refused, procedures_are_called_from_every_shard,
    results_carry_positions_and_keywords, answers_come_back_in_any_order, unknown_procedure_is_an_error,
    errors_of_the_callee_reach_the_caller, procedure_has_one_callee, a_cancelled_call_stops_its_callee,
    a_killed_callee_has_the_last_word, a_caller_that_leaves_stops_its_callee, a_call_ends_when_its_time_is_over,
    results_come_in_parts, callees_share_a_procedure, nobody_works_on_more_than_it_wants, what_a_session_had_goes_with_it,
    goodbye_is_answered,
]


async def check_all(url, serializer, compression, only, logins, batched):
    failed = 0
    chosen = [check for check in CHECKS if not only or check.__name__ in only]
    for check in chosen:
        clients = Clients(url, serializer, compression, logins, batched)

        async def one():
            await check(clients)
            await clients.close()

        try:
            await asyncio.wait_for(one(), PATIENCE_S)
        except Exception as error:
            failed += 1
            words = str(error) or type(error).__name__
            print(f"FAIL {check.__name__}: {words}")
            if not isinstance(error, (AssertionError, asyncio.TimeoutError)):
                traceback.print_exc(file=sys.stdout)
            for session in clients.open:
                if session._transport:
                    session._transport.abort()
    print(f"{len(chosen) - failed} passed, {failed} failed", flush=True)
    return failed


# ---- a partner for `cross.py` --------------------------------------------------------------------------------------


async def serve(url, serializer, compression, name):
    """Answers calls of PREFIX.NAME.echo and .fail, and repeats what is published to PREFIX.cast on PREFIX.NAME.seen."""
    session = await Clients(url, serializer, compression).join()
    prefix = "com.fanwire.cross"

    def fail(*args, **kwargs):
        raise ApplicationError(f"{prefix}.error", *args, **kwargs)

    def repeat(*args, **kwargs):
        session.publish(f"{prefix}.{name}.seen", *args, **kwargs)

    await session.register(lambda *args, **kwargs: CallResult(*args, **kwargs), f"{prefix}.{name}.echo")
    await session.register(fail, f"{prefix}.{name}.fail")
    await session.subscribe(repeat, f"{prefix}.cast")
    print("ready", flush=True)
    details = await session.left
    print("left", details.reason, flush=True)
    await session.disconnected


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--url", required=True)
    options.add_argument("--serializer", choices=list(KINDS), default="json")
    options.add_argument("--compression", action="store_true")
    options.add_argument("--batched", action="store_true")
    options.add_argument("--serve", metavar="NAME")
    options.add_argument("--only", nargs="*")
    options.add_argument("--users", type=int)
    options.add_argument("--ticket", default="")
    options = options.parse_args()
    if options.serve:
        asyncio.run(serve(options.url, options.serializer, options.compression, options.serve))
        return 0
    logins = None
    if options.users:
        logins = itertools.cycle((f"joe{number}", options.ticket) for number in range(options.users))
    checks = check_all(options.url, options.serializer, options.compression, options.only, logins, options.batched)
    return 1 if asyncio.run(checks) else 0


if __name__ == "__main__":
    sys.exit(main())
