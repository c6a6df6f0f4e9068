"""Calls of the basic profile."""

import asyncio

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallResult
from support import SESSIONS, VALUES, case, equal, refused


@case("calls")
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


@case("serialization")
async def results_carry_positions_and_keywords(clients):
    callee, caller = await clients.join_many(2)
    await callee.register(lambda *args, **kwargs: CallResult(*args, **kwargs), "com.fanwire.test.mirror")
    result = await caller.call("com.fanwire.test.mirror", *VALUES, every=VALUES)
    equal(list(result.results), VALUES)
    equal(result.kwresults, {"every": VALUES})
    equal(await caller.call("com.fanwire.test.mirror"), None)


@case("serialization")
async def binary_results_stay_binary(clients):
    clients.needs("binary values")
    callee, caller = await clients.join_many(2)
    await callee.register(lambda blob: blob, "com.fanwire.test.blob")
    blob = b"\x00\xff" * 9
    equal(await caller.call("com.fanwire.test.blob", blob), blob)


@case("calls")
async def answers_come_back_in_any_order(clients):
    callee, *callers = await clients.join_many(5)

    async def slow(number):
        await asyncio.sleep((number * 7 % 10) / 200)
        return number

    await callee.register(slow, "com.fanwire.test.slow")
    numbers = range(100)
    found = await asyncio.gather(*(callers[n % 4].call("com.fanwire.test.slow", n) for n in numbers))
    equal(found, list(numbers))


@case("calls")
async def unknown_procedure_is_an_error(clients):
    session = await clients.join()
    await refused(session.call("com.fanwire.test.unknown", 1), "wamp.error.no_such_procedure")


@case("calls")
async def errors_of_the_callee_reach_the_caller(clients):
    callee, caller = await clients.join_many(2)

    def fail(*args, **kwargs):
        raise ApplicationError("com.fanwire.test.error.own", *args, **kwargs)

    def crash():
        raise ValueError("a bug")

    await callee.register(fail, "com.fanwire.test.fail")
    await callee.register(crash, "com.fanwire.test.crash")
    error = await refused(caller.call("com.fanwire.test.fail", 1, "two", key=[3]), "com.fanwire.test.error.own")
    equal(list(error.args), [1, "two"])
    if "keywords of errors" in clients.client.able:
        equal(error.kwargs, {"key": [3]})
    await refused(caller.call("com.fanwire.test.crash"), "wamp.error.runtime_error")


@case("calls")
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


@case("calls")
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
