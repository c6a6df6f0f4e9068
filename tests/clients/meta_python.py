#!/usr/bin/env python3
"""Drives a router's meta API with the unmodified Python client `autobahn`.

    meta_python.py --url ws://127.0.0.1:8080/ws --serializer json

Ends with `N passed, M failed`.
"""

import argparse
import asyncio
import sys

import autobahn_python as base
from autobahn_python import Clients, equal, refused, subscribe


async def sessions_are_counted_listed_and_described(clients):
    sessions = await clients.join_many(5)
    ids = sorted(session._session_id for session in sessions)
    equal(await sessions[0].call("wamp.session.count"), 5)
    equal(await sessions[0].call("wamp.session.count", ["nobody"]), 0)
    equal(sorted(await sessions[1].call("wamp.session.list")), ids)
    for number in ids:
        details = await sessions[2].call("wamp.session.get", number)
        equal((details["session"], details["authrole"]), (number, "anonymous"))
        equal(details["transport"]["serializer"], clients.serializer)
    await refused(sessions[0].call("wamp.session.get", 1), "wamp.error.no_such_session")


async def a_killed_session_hears_why(clients):
    killer, *victims = await clients.join_many(4)
    await killer.call("wamp.session.kill", victims[0]._session_id, reason="com.example.out", message="bye")
    details = await victims[0].left
    equal((details.reason, details.message), ("com.example.out", "bye"))
    number = victims[1]._session_id
    equal(await killer.call("wamp.session.kill_by_authid", victims[1].authid), [number])
    equal((await victims[1].left).reason, "wamp.close.killed")
    equal(await killer.call("wamp.session.kill_all"), 1)
    await victims[2].left
    await refused(killer.call("wamp.session.kill", killer._session_id), "wamp.error.no_such_session")


async def who_comes_and_goes_is_told(clients):
    observer = await clients.join()
    joins = await subscribe(observer, "wamp.session.on_join")
    leaves = await subscribe(observer, "wamp.session.on_leave")
    for _ in range(3):
        member = await clients.join()
        number, authid = member._session_id, member.authid
        (details,), _, _ = await joins.next()
        equal((details["session"], details["authid"], details["authmethod"]), (number, authid, "anonymous"))
        member.leave()
        equal((await leaves.next())[0], [number, authid, "anonymous"])


async def a_testament_is_published_when_its_session_is_cut(clients):
    heir, testator = await clients.join_many(2)
    inbox = await subscribe(heir, "com.fanwire.test.will")
    blob = bytes(range(9))
    for args, kwargs in [
        (["com.fanwire.test.will", ["second", blob], {"a": 1.5}], {}),
        (["com.fanwire.test.will", ["never"], {}], {"publish_options": {"exclude": [heir._session_id]}}),
        (["com.fanwire.test.will", ["first"], {}], {"scope": "detached"}),
    ]:
        equal(await testator.call("wamp.session.add_testament", *args, **kwargs), None)
    testator._transport.abort()
    equal([event[:2] for event in await inbox.take(2)], [(["first"], {}), (["second", blob], {"a": 1.5})])
    await testator.disconnected


async def subscriptions_are_told_and_described(clients):
    observer, member = await clients.join_many(2)
    events = {}
    for name in ["on_create", "on_subscribe", "on_unsubscribe", "on_delete"]:
        events[name] = await subscribe(observer, f"wamp.subscription.{name}")
    inbox = await subscribe(member, "com.fanwire.test.meta")
    number, session = inbox.subscription.id, member._session_id
    (creator, details), _, _ = await events["on_create"].next()
    equal((creator, details["id"], details["uri"], details["match"]), (session, number, "com.fanwire.test.meta", "exact"))
    equal((await events["on_subscribe"].next())[0], [session, number])
    equal(await observer.call("wamp.subscription.get", number), details)
    equal(await observer.call("wamp.subscription.lookup", "com.fanwire.test.meta"), number)
    equal(await observer.call("wamp.subscription.match", "com.fanwire.test.meta"), [number])
    assert number in (await observer.call("wamp.subscription.list"))["exact"]
    equal(await observer.call("wamp.subscription.list_subscribers", number), [session])
    equal(await observer.call("wamp.subscription.count_subscribers", number), 1)
    await refused(observer.call("wamp.subscription.get", 2**53), "wamp.error.no_such_subscription")
    await refused(observer.call("wamp.subscription.remove_subscriber", number, 2**53), "wamp.error.no_such_session")
    # This client announces revocation, and takes it for a violation.
    await inbox.subscription.unsubscribe()
    equal((await events["on_unsubscribe"].next())[0], [session, number])
    equal((await events["on_delete"].next())[0], [session, number])
    await member.publish("com.fanwire.test.meta", options=base.OWN_TOO)
    await inbox.stays_empty()


async def registrations_are_told_and_described(clients):
    observer, callee = await clients.join_many(2)
    events = {}
    for name in ["on_create", "on_register", "on_unregister", "on_delete"]:
        events[name] = await subscribe(observer, f"wamp.registration.{name}")
    uri, session = "com.fanwire.test.registered", callee._session_id
    registration = await callee.register(lambda: "here", uri)
    number = registration.id
    (creator, details), _, _ = await events["on_create"].next()
    expected = (session, number, uri, "exact", "single")
    equal((creator, details["id"], details["uri"], details["match"], details["invoke"]), expected)
    equal((await events["on_register"].next())[0], [session, number])
    equal(await observer.call("wamp.registration.get", number), details)
    for name in ["lookup", "match"]:
        equal(await observer.call(f"wamp.registration.{name}", uri), number)
    assert number in (await observer.call("wamp.registration.list"))["exact"]
    equal(await observer.call("wamp.registration.list_callees", number), [session])
    equal(await observer.call("wamp.registration.count_callees", number), 1)
    await refused(observer.call("wamp.registration.get", 2**53), "wamp.error.no_such_registration")
    equal(await observer.call(uri), "here")
    # It announces revocation, and stays when it is told of one.
    equal(await observer.call("wamp.registration.remove_callee", number, session, "com.fanwire.moved"), None)
    equal((await events["on_unregister"].next())[0], [session, number])
    equal((await events["on_delete"].next())[0], [session, number])
    await refused(observer.call(uri), "wamp.error.no_such_procedure")
    second = (await callee.register(lambda: "again", uri)).id
    equal((await events["on_create"].next())[0][1]["id"], second)
    options = base.RegisterOptions(force_reregister=True)
    third = (await observer.register(lambda: "forced", uri, options=options)).id
    equal((await events["on_delete"].next())[0], [session, second])
    equal((await events["on_create"].next())[0][1]["id"], third)
    equal(await callee.call(uri), "forced")


CHECKS = [
    sessions_are_counted_listed_and_described,
    a_killed_session_hears_why,
    who_comes_and_goes_is_told,
    a_testament_is_published_when_its_session_is_cut,
    subscriptions_are_told_and_described,
    registrations_are_told_and_described,
]


async def check_all(url, serializer):
    failures = 0
    for check in CHECKS:
        clients = Clients(url, serializer)
        try:
            await asyncio.wait_for(check(clients), base.PATIENCE_S)
            print(f"ok      {check.__name__}")
        except Exception as error:  # each check stands for itself
            failures += 1
            print(f"FAILED  {check.__name__}: {error!r}")
        await clients.close()
    print(f"{len(CHECKS) - failures} passed, {failures} failed")
    return failures


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--url", required=True)
    options.add_argument("--serializer", choices=list(base.KINDS), default="json")
    options = options.parse_args()
    return 1 if asyncio.run(check_all(options.url, options.serializer)) else 0


if __name__ == "__main__":
    sys.exit(main())
