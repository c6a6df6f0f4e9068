"""A dynamic authorizer in Autobahn, as one writes it for Crossbar, and a client whose requests it decides on.

    authorizers.py --url URL --serializer json|msgpack|cbor --ticket TICKET

The realm and the procedure are those of `tests/end_to_end/authorizers.rs`.
"""

import argparse
import asyncio
import sys

import autobahn
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallDetails, PublishOptions, RegisterOptions
from visitor import KINDS, visit

REALM = "realm1"
ASKED = []


def authorize(session, uri, action, options):
    """The procedure: called with the session's details, a URI, an action and options, it returns a boolean or a dictionary."""
    ASKED.append((session["authrole"], uri, action, options))
    if uri.endswith(".raise"):
        raise ApplicationError("com.shop.broken", "it does not know")
    if uri.endswith(".cached"):
        return {"allow": True, "cache": True, "disclose": action == "call"}
    return not uri.endswith(".no")


async def refused(request, error):
    try:
        await request
    except ApplicationError as raised:
        assert raised.error == error, raised
    else:
        raise AssertionError(f"it should have been {error}")


async def checks(options):
    backend, _ = await visit(options, REALM, ("ticket", {"authid": "joe", "ticket": options.ticket}))
    await backend.register(authorize, "com.shop.authorize")
    client, _ = await visit(options, REALM)
    told = []
    callers = []

    def procedure(details: CallDetails):
        callers.append(details.caller)
        return 5

    acknowledged = PublishOptions(acknowledge=True, exclude_me=False)
    for name in ["yes", "cached"]:
        uri = f"com.topic.{name}"
        subscription = await client.subscribe(told.append, uri)
        registration = await client.register(procedure, uri, options=RegisterOptions(details=True))
        for number in range(3):
            await client.publish(uri, number, options=acknowledged)
            assert await client.call(uri) == 5
        await subscription.unsubscribe()
        await registration.unregister()
    assert len([asked for asked in ASKED if asked[1] == "com.topic.yes"]) == 8, ASKED
    assert len([asked for asked in ASKED if asked[1] == "com.topic.cached"]) == 4, ASKED
    assert ASKED[0] == ("anonymous", "com.topic.yes", "subscribe", {"match": "exact"}), ASKED[0]
    session = client.session_id if hasattr(client, "session_id") else client._session_id
    assert callers == [None] * 3 + [session] * 3, callers
    for name, error in [("no", "wamp.error.not_authorized"), ("raise", "wamp.error.authorization_failed")]:
        uri = f"com.topic.{name}"
        await refused(client.subscribe(told.append, uri), error)
        await refused(client.register(procedure, uri), error)
        await refused(client.publish(uri, 1, options=acknowledged), error)
        await refused(client.call(uri), error)
    client.leave()
    backend.leave()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--url", required=True)
    options.add_argument("--serializer", choices=KINDS, required=True)
    options.add_argument("--ticket", required=True)
    options = options.parse_args()
    asyncio.run(checks(options))
    print(f"autobahn {autobahn.__version__} answers what sessions may do, in {options.serializer}")


if __name__ == "__main__":
    sys.exit(main())
