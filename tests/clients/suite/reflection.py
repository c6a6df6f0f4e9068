"""Reflection: what procedures, topics and errors there are, and what is said of them."""

from support import case, equal, subscribe

DEFINE = "wamp.reflect.define"


async def defined_and_taken_back(clients, kind):
    """A definition is told, described and listed, until it is taken back."""
    author, reader = await clients.join_many(2)
    told = await subscribe(reader, "wamp.reflect.on_define")
    taken = await subscribe(reader, "wamp.reflect.on_undefine")
    uri, definition = f"com.fanwire.test.defined.{kind}", {"args": ["integer", {"unit": "m"}], "description": "adds ä"}
    equal(await author.call(DEFINE, uri, definition, type=kind), None)
    equal((await told.next())[0], [uri, kind, definition])
    described = await reader.call(f"wamp.reflection.{kind}.describe", uri)
    equal((described["uri"], described["type"], described["definition"]), (uri, kind, definition))
    equal((await reader.call("wamp.reflect.describe", uri))[kind]["definition"], definition)
    assert uri in await reader.call(f"wamp.reflection.{kind}.list"), "it is not listed"
    equal(await author.call(DEFINE, uri, {}, type=kind), None)
    equal((await taken.next())[0], [uri, kind])
    equal(await reader.call(f"wamp.reflection.{kind}.describe", uri), None)
    assert uri not in await reader.call(f"wamp.reflection.{kind}.list"), "it is still listed"


@case("procedure_reflection")
async def definitions_of_procedures_are_kept_and_told(clients):
    await defined_and_taken_back(clients, "procedure")


@case("procedure_reflection")
async def definitions_of_errors_are_kept_and_told(clients):
    await defined_and_taken_back(clients, "error")


@case("topic_reflection")
async def definitions_of_topics_are_kept_and_told(clients):
    await defined_and_taken_back(clients, "topic")


@case("procedure_reflection")
async def procedures_are_listed_while_somebody_has_registered_them(clients):
    callee, reader = await clients.join_many(2)
    uri = "com.fanwire.test.reflected"
    registration = await callee.register(lambda: 1, uri)
    equal((await reader.call("wamp.reflection.procedure.describe", uri))["registration"], registration.id)
    assert uri in await reader.call("wamp.reflection.procedure.list"), "it is not listed"
    await registration.unregister()
    assert uri not in await reader.call("wamp.reflection.procedure.list"), "it is still listed"


@case("topic_reflection")
async def topics_are_listed_while_somebody_is_subscribed(clients):
    subscriber, reader = await clients.join_many(2)
    uri = "com.fanwire.test.reflected"
    inbox = await subscribe(subscriber, uri)
    described = await reader.call("wamp.reflection.topic.describe", uri)
    equal(described["subscription"], inbox.subscription.id)
    assert uri in await reader.call("wamp.reflection.topic.list"), "it is not listed"
    await inbox.subscription.unsubscribe()
    assert uri not in await reader.call("wamp.reflection.topic.list"), "it is still listed"
