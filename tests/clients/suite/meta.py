"""The meta API, and testaments."""

from support import OWN_TOO, case, equal, refused, subscribe


@case("session_meta_api")
async def sessions_are_counted_listed_and_described(clients):
    sessions = await clients.join_many(5)
    ids = sorted(session.id for session in sessions)
    counted = await sessions[0].call("wamp.session.count")
    assert counted >= 5, f"{counted} sessions"
    equal(await sessions[0].call("wamp.session.count", ["nobody"]), 0)
    listed = await sessions[1].call("wamp.session.list")
    equal([number for number in ids if number not in listed], [], "sessions that are not listed")
    for number in ids:
        details = await sessions[2].call("wamp.session.get", number)
        equal((details["session"], details["authrole"]), (number, "anonymous"))
    await refused(sessions[0].call("wamp.session.get", 1), "wamp.error.no_such_session")


@case("session_meta_api")
async def a_killed_session_hears_why(clients):
    clients.needs("sight of GOODBYE")
    killer, victim = await clients.join_many(2)
    await killer.call("wamp.session.kill", victim.id, reason="com.example.out", message="bye")
    details = await victim.left
    equal((details.reason, details.message), ("com.example.out", "bye"))


@case("session_meta_api")
async def sessions_are_killed_by_authid(clients):
    killer, victim = await clients.join_many(2)
    number = victim.id
    equal(await killer.call("wamp.session.kill_by_authid", victim.authid), [number])
    await clients.gone(victim)


@case("session_meta_api")
async def sessions_are_killed_by_authrole(clients):
    killer, *victims = await clients.join_many(4)
    equal(await killer.call("wamp.session.kill_by_authrole", "nobody"), 0)
    equal(await killer.call("wamp.session.kill_by_authrole", "anonymous"), 3)
    for victim in victims:
        await clients.gone(victim)
    equal(await killer.call("wamp.session.list"), [killer.id])


@case("session_meta_api")
async def all_are_killed_but_the_caller(clients):
    killer, *victims = await clients.join_many(4)
    equal(await killer.call("wamp.session.kill_all"), 3)
    for victim in victims:
        await clients.gone(victim)
    equal(await killer.call("wamp.session.list"), [killer.id])


@case("session_meta_api")
async def nobody_kills_itself(clients):
    killer = await clients.join()
    await refused(killer.call("wamp.session.kill", killer.id), "wamp.error.no_such_session")


@case("session_meta_api")
async def who_comes_and_goes_is_told(clients):
    observer = await clients.join()
    joins = await subscribe(observer, "wamp.session.on_join")
    leaves = await subscribe(observer, "wamp.session.on_leave")
    for _ in range(3):
        member = await clients.join()
        number, authid = member.id, member.authid
        (details,), _, _ = await joins.next()
        equal((details["session"], details["authid"], details["authrole"]), (number, authid, "anonymous"))
        member.leave()
        equal((await leaves.next())[0], [number, authid, "anonymous"])


@case("testament_meta_api")
async def a_testament_is_published_when_its_session_is_cut(clients):
    clients.needs("way to cut a connection")
    heir, testator = await clients.join_many(2)
    inbox = await subscribe(heir, "com.fanwire.test.will")
    blob = bytes(range(9)) if "binary values" in clients.client.able else "text"
    for args, kwargs in [
        (["com.fanwire.test.will", ["second", blob], {"a": 1.5}], {}),
        (["com.fanwire.test.will", ["never"], {}], {"publish_options": {"exclude": [heir.id]}}),
        (["com.fanwire.test.will", ["first"], {}], {"scope": "detached"}),
    ]:
        equal(await testator.call("wamp.session.add_testament", *args, **kwargs), None)
    testator.cut()
    equal([event[:2] for event in await inbox.take(2)], [(["first"], {}), (["second", blob], {"a": 1.5})])
    await testator.disconnected


@case("testament_meta_api")
async def a_testament_is_published_when_its_session_ends(clients):
    heir, testator = await clients.join_many(2)
    inbox = await subscribe(heir, "com.fanwire.test.will")
    for scope in ["destroyed", "detached"]:
        await testator.call("wamp.session.add_testament", "com.fanwire.test.will", [scope], {"a": 1.5}, scope=scope)
    testator.leave()
    told = [event[:2] for event in await inbox.take(2)]
    equal(sorted(told, key=str), [(["destroyed"], {"a": 1.5}), (["detached"], {"a": 1.5})])


@case("testament_meta_api")
async def testaments_are_taken_back_by_scope(clients):
    heir, testator = await clients.join_many(2)
    inbox = await subscribe(heir, "com.fanwire.test.will")
    for flushed, left in [("detached", "destroyed"), ("destroyed", "detached")]:
        testator = await clients.join()
        for scope in ["destroyed", "detached"]:
            await testator.call("wamp.session.add_testament", "com.fanwire.test.will", [scope], {}, scope=scope)
        await testator.call("wamp.session.flush_testaments", scope=flushed)
        testator.leave()
        equal((await inbox.next())[0], [left])
    await inbox.stays_empty()


@case("subscription_meta_api")
async def subscriptions_are_told_and_described(clients):
    observer, member = await clients.join_many(2)
    events = {}
    for name in ["on_create", "on_subscribe", "on_unsubscribe", "on_delete"]:
        events[name] = await subscribe(observer, f"wamp.subscription.{name}")
    inbox = await subscribe(member, "com.fanwire.test.meta")
    number, session = inbox.subscription.id, member.id
    (creator, details), _, _ = await events["on_create"].next()
    equal((creator, details["id"], details["uri"], details["match"]), (session, number, "com.fanwire.test.meta", "exact"))
    equal((await events["on_subscribe"].next())[0], [session, number])
    equal(await observer.call("wamp.subscription.get", number), details)
    await inbox.subscription.unsubscribe()
    equal((await events["on_unsubscribe"].next())[0], [session, number])
    equal((await events["on_delete"].next())[0], [session, number])
    await member.publish("com.fanwire.test.meta", options=OWN_TOO)
    await inbox.stays_empty()


@case("subscription_meta_api")
async def subscriptions_are_found_and_their_sessions_listed(clients):
    observer, member = await clients.join_many(2)
    inbox = await subscribe(member, "com.fanwire.test.meta")
    number, session = inbox.subscription.id, member.id
    equal(await observer.call("wamp.subscription.lookup", "com.fanwire.test.meta"), number)
    equal(await observer.call("wamp.subscription.match", "com.fanwire.test.meta"), [number])
    assert number in (await observer.call("wamp.subscription.list"))["exact"]
    equal(await observer.call("wamp.subscription.list_subscribers", number), [session])
    equal(await observer.call("wamp.subscription.count_subscribers", number), 1)
    await refused(observer.call("wamp.subscription.get", 2**53), "wamp.error.no_such_subscription")


@case("subscription_revocation")
async def a_subscription_that_is_not_there_cannot_be_revoked(clients):
    # What the victim of a revocation is told is tested in the core: Autobahn for Python announces the feature, and takes
    # the message for a violation.
    observer, member = await clients.join_many(2)
    inbox = await subscribe(member, "com.fanwire.test.revoke")
    number = inbox.subscription.id
    await refused(observer.call("wamp.subscription.remove_subscriber", number, 2**53), "wamp.error.no_such_session")
    await refused(
        observer.call("wamp.subscription.remove_subscriber", 2**53, member.id), "wamp.error.no_such_subscription"
    )


@case("subscription_revocation")
async def who_loses_a_subscription_gets_no_more_events(clients):
    clients.needs("word for an UNSUBSCRIBED that it did not ask for")
    publisher, member, other = await clients.join_many(3)
    inbox, kept = [await subscribe(session, "com.fanwire.test.revoked") for session in (member, other)]
    number = inbox.subscription.id
    await publisher.publish("com.fanwire.test.revoked", 1, options=OWN_TOO)
    equal((await inbox.next())[0], [1])
    equal(await publisher.call("wamp.subscription.remove_subscriber", number, member.id, "com.fanwire.moved"), None)
    equal(await publisher.call("wamp.subscription.list_subscribers", number), [other.id])
    await publisher.publish("com.fanwire.test.revoked", 2, options=OWN_TOO)
    equal([args for args, _, _ in await kept.take(2)], [[1], [2]])
    await inbox.stays_empty()
    equal(await member.call("wamp.session.count", ["nobody"]), 0, "the session goes on")


@case("registration_meta_api")
async def registrations_are_told_and_described(clients):
    observer, callee = await clients.join_many(2)
    events = {}
    for name in ["on_create", "on_register", "on_unregister", "on_delete"]:
        events[name] = await subscribe(observer, f"wamp.registration.{name}")
    uri, session = "com.fanwire.test.registered", callee.id
    registration = await callee.register(lambda: "here", uri)
    number = registration.id
    (creator, details), _, _ = await events["on_create"].next()
    expected = (session, number, uri, "exact", "single")
    equal((creator, details["id"], details["uri"], details["match"], details["invoke"]), expected)
    equal((await events["on_register"].next())[0], [session, number])
    equal(await observer.call("wamp.registration.get", number), details)
    await registration.unregister()
    equal((await events["on_unregister"].next())[0], [session, number])
    equal((await events["on_delete"].next())[0], [session, number])


@case("registration_meta_api")
async def registrations_are_found_and_their_callees_listed(clients):
    observer, callee = await clients.join_many(2)
    uri, session = "com.fanwire.test.registered", callee.id
    number = (await callee.register(lambda: "here", uri)).id
    for name in ["lookup", "match"]:
        equal(await observer.call(f"wamp.registration.{name}", uri), number)
    assert number in (await observer.call("wamp.registration.list"))["exact"]
    equal(await observer.call("wamp.registration.list_callees", number), [session])
    equal(await observer.call("wamp.registration.count_callees", number), 1)
    await refused(observer.call("wamp.registration.get", 2**53), "wamp.error.no_such_registration")


@case("registration_revocation")
async def a_registration_is_taken_from_its_callee(clients):
    observer, callee = await clients.join_many(2)
    uri = "com.fanwire.test.revoked"
    number = (await callee.register(lambda: "here", uri)).id
    equal(await observer.call(uri), "here")
    equal(await observer.call("wamp.registration.remove_callee", number, callee.id, "com.fanwire.moved"), None)
    await refused(observer.call(uri), "wamp.error.no_such_procedure")
    await callee.register(lambda: "again", uri)
    equal(await observer.call(uri), "again")
