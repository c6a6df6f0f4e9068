"""Payload passthru: what is said of a payload that only its receivers understand."""

from support import ACKNOWLEDGED, case, equal, refused, subscribe

SAID = [
    {"ppt_scheme": "mqtt"},
    {"ppt_scheme": "x_own", "ppt_serializer": "cbor", "ppt_cipher": "xsalsa20poly1305", "ppt_keyid": "a\n\"é"},
]


def told(details):
    return {name: details[name] for name in details if name.startswith("ppt_")}


def payload(clients):
    return b"\x00\xffpacked" if clients.serializer != "json" else "packed"


@case("payload_passthru_mode")
async def events_say_how_their_payload_is_packed(clients):
    clients.needs("payload passthru")
    publisher, *subscribers = await clients.join_many(4)
    inboxes = [await subscribe(session, "com.fanwire.test.ppt") for session in subscribers]
    for said in SAID:
        await publisher.publish("com.fanwire.test.ppt", payload(clients), options={**ACKNOWLEDGED, **said})
        for inbox in inboxes:
            args, _, details = await inbox.next()
            equal((args, told(vars(details))), ([payload(clients)], said))


@case("payload_passthru_mode")
async def calls_and_results_say_it_too(clients):
    clients.needs("payload passthru")
    from wampproto_client import Packed

    callee, caller = await clients.join_many(2)
    for place, said in enumerate(SAID):
        heard = []

        def answer(packed, details):
            heard.append((packed, told(vars(details))))
            return Packed([packed, "back"], SAID[place])

        await callee.register(answer, f"com.fanwire.test.ppt.{place}")
        result = await caller.call(f"com.fanwire.test.ppt.{place}", payload(clients), options=said)
        equal(heard, [(payload(clients), said)])
        equal((list(result.results), told(result.told)), ([payload(clients), "back"], said))


@case("payload_passthru_mode")
async def nobody_is_asked_in_vain(clients):
    clients.needs("payload passthru")
    caller = await clients.join()
    call = caller.call("com.fanwire.test.ppt.nobody", "packed", options=SAID[0])
    await refused(call, "wamp.error.no_such_procedure")
    await refused(caller.call("wamp.session.count", options=SAID[0]), "wamp.error.feature_not_supported")
