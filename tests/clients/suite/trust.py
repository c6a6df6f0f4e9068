"""Trust levels: the routers trust who publishes and calls below `com.fanwire.trusted.` at level 3."""

from support import ACKNOWLEDGED, case, equal, subscribe


@case("publication_trustlevels")
async def subscribers_are_told_how_far_the_publisher_is_trusted(clients):
    clients.needs("view of the detail trustlevel")
    publisher, subscriber = await clients.join_many(2)
    for topic, wanted in [("com.fanwire.trusted.topic", 3), ("com.fanwire.test.trusted", None)]:
        inbox = await subscribe(subscriber, topic)
        await publisher.publish(topic, "x", options=ACKNOWLEDGED)
        equal((await inbox.next())[2].trustlevel, wanted, topic)


@case("call_trustlevels")
async def callees_are_told_how_far_the_caller_is_trusted(clients):
    clients.needs("view of the detail trustlevel")
    callee, caller = await clients.join_many(2)
    for procedure, wanted in [("com.fanwire.trusted.procedure", 3), ("com.fanwire.test.trusted", None)]:
        await callee.register(lambda details: details.trustlevel, procedure)
        equal(await caller.call(procedure), wanted, procedure)
