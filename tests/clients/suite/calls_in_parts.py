"""Calls whose arguments come in parts, and results in parts that are more than what fits between."""

import asyncio

from support import case, equal, refused


@case("progressive_call_invocations")
async def a_call_in_parts_is_one_invocation(clients):
    clients.needs("calls in parts")
    callee, caller = await clients.join_many(2)
    begun = []

    async def collect(*args, details):
        begun.append(args)
        found = list(args)
        while True:
            args, kwargs, more = await details.parts.get()
            found.extend(args)
            if not more:
                return [found, kwargs]

    await callee.register(collect, "com.fanwire.test.upload")
    for _ in range(3):
        call = caller.start("com.fanwire.test.upload", 0, options={"progress": True})
        for number in range(1, 50):
            call.send(number)
        call.send(50, progress=False, last=True)
        equal(await call.answer, [list(range(51)), {"last": True}])
    equal(begun, [(0,)] * 3, "invocations")


@case("progressive_call_invocations")
async def parts_are_answered_in_parts(clients):
    clients.needs("calls in parts")
    callee, caller = await clients.join_many(2)

    async def double(number, details):
        more = True
        while more:
            details.progress(number * 2)
            [number], _, more = await details.parts.get()
        return number * 2

    await callee.register(double, "com.fanwire.test.double")
    answers = asyncio.Queue()
    call = caller.start("com.fanwire.test.double", 0, options={"progress": True}, on_progress=answers.put_nowait)
    for number in range(20):
        equal(await answers.get(), number * 2)
        call.send(number + 1, progress=number < 19)
    equal(await call.answer, 40)


@case("progressive_call_invocations")
async def a_call_in_parts_can_be_cancelled(clients):
    clients.needs("calls in parts")
    callee, caller = await clients.join_many(2)
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def collect(details):
        begun.set()
        try:
            while True:
                await details.parts.get()
        finally:
            stopped.set()

    await callee.register(collect, "com.fanwire.test.upload.cancelled")
    call = caller.start("com.fanwire.test.upload.cancelled", options={"progress": True})
    await begun.wait()
    call.send("more")
    call.cancel("killnowait")
    await refused(call.answer, "wamp.error.canceled")
    await stopped.wait()
    # What is late is no new call, and no fault.
    call.send("late")
    call.send("later", progress=False)
    await callee.register(lambda: "alive", "com.fanwire.test.upload.alive")
    equal(await caller.call("com.fanwire.test.upload.alive"), "alive")


@case("progressive_call_invocations")
async def who_answers_early_gets_no_more_parts(clients):
    clients.needs("calls in parts")
    callee, caller = await clients.join_many(2)
    begun = []

    async def first_of_all(*args, details):
        begun.append(args)
        return "enough"

    await callee.register(first_of_all, "com.fanwire.test.upload.enough")
    call = caller.start("com.fanwire.test.upload.enough", 1, options={"progress": True})
    equal(await call.answer, "enough")
    call.send(2)
    call.send(3, progress=False)
    equal(await caller.call("com.fanwire.test.upload.enough", 4), "enough")
    equal(begun, [(1,), (4,)], "invocations")


@case("progressive_call_results")
async def long_results_wait_for_their_caller(clients):
    clients.needs("results in parts")
    callee, caller = await clients.join_many(2)
    count, text = 1000, "x" * 8192  # 8 MiB: more than may wait for one session

    def tell(details):
        # All at once: meanwhile nobody reads, for it is this program that should.
        for number in range(count):
            details.progress(number, text)
        return count

    await callee.register(tell, "com.fanwire.test.long")
    parts = []
    add = lambda number, text: parts.append((number, len(text)))  # noqa: E731
    equal(await caller.call("com.fanwire.test.long", on_progress=add), count)
    equal(parts, [(number, len(text)) for number in range(count)])
