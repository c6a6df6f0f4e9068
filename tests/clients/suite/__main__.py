#!/usr/bin/env python3
"""Drives a router with an unmodified Python client, case by case.

    suite --client autobahn-asyncio|autobahn-twisted|xconn|wampproto --url URL --serializer json|msgpack|cbor
    suite ... --compression                     with permessage-deflate (Autobahn)
    suite ... --batched                         in batches of messages (Autobahn)
    suite ... --users 40 --ticket TICKET        each session logged in as joe0, …, joe39
    suite ... --only NAME ...                   these cases
    suite ... --feature NAME,…                  those of these features
    suite ... --list                            what there is
    suite ... --serve NAME                      a partner for `cross.py`

URL is ws://, wss:// or rs://HOST:PORT, rss://, rs://unix:/PATH. Prints a line of JSON for each case, then `N passed, M failed`.
"""

import argparse
import asyncio
import itertools
import json
import os
import sys
import traceback

import txaio

PATIENCE_S = 20
# Clients write words of their own to the standard output: xconn prints, and Twisted's log takes it over.
OUTPUT = sys.stdout


def say(line):
    print(line, file=OUTPUT, flush=True)


def arguments():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--client", choices=["autobahn-asyncio", "autobahn-twisted", "xconn", "wampproto"], default="autobahn-asyncio")
    options.add_argument("--url")
    options.add_argument("--serializer", choices=["json", "msgpack", "cbor"], default="json")
    options.add_argument("--compression", action="store_true")
    options.add_argument("--batched", action="store_true")
    options.add_argument("--serve", metavar="NAME")
    options.add_argument("--only", nargs="*")
    options.add_argument("--feature")
    options.add_argument("--list", action="store_true")
    options.add_argument("--users", type=int)
    options.add_argument("--ticket", default="")
    options.add_argument("--patience", type=float, default=PATIENCE_S, help="seconds for each case")
    return options.parse_args()


def client_of(options):
    """The client that the options name. Autobahn takes one framework for the whole process."""
    if options.client == "xconn":
        from xconn_client import Client

        return Client(options.url, options.serializer)
    if options.client == "wampproto":
        from wampproto_client import Client

        return Client(options.url, options.serializer)
    from autobahn_client import Asyncio, Client, Twisted

    framework = Twisted() if options.client == "autobahn-twisted" else Asyncio()
    return Client(framework, options.url, options.serializer, options.compression, options.batched)


async def judge(case, clients, patience):
    """What becomes of a case, and why."""
    from support import CannotExpress

    async def whole():
        await case.check(clients)
        await clients.close()

    try:
        await asyncio.wait_for(whole(), patience)
        return "passed", None
    except CannotExpress as why:
        await asyncio.wait_for(clients.close(), patience)
        return "skipped", str(why)
    except asyncio.CancelledError:
        clients.cut()
        return "failed", "what it waited for was given up"
    except asyncio.TimeoutError:
        clients.cut()
        return "failed", f"no answer within {patience:g} s"
    except Exception as error:
        clients.cut()
        if not isinstance(error, AssertionError):
            traceback.print_exc(file=sys.stderr)
        return "failed", str(error) or type(error).__name__


async def run_all(options):
    from support import CASES, Clients, Login

    client = client_of(options)
    logins = None
    if options.users:
        logins = itertools.cycle(Login("ticket", f"joe{number}", options.ticket) for number in range(options.users))
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for case in CASES:
        if options.only and case.name not in options.only:
            continue
        if options.feature and case.feature not in options.feature.split(","):
            continue
        result, why = await judge(case, Clients(client, logins), options.patience)
        counts[result] += 1
        line = {"feature": case.feature, "case": case.name, "result": result}
        if why:
            line["why"] = why[:2000]
        say(json.dumps(line))
    say(f"{counts['skipped']} skipped")
    say(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


async def serve(options):
    """Answers calls of PREFIX.NAME.echo and .fail, and repeats what is published to PREFIX.cast on PREFIX.NAME.seen."""
    from autobahn.wamp.exception import ApplicationError
    from autobahn.wamp.types import CallResult
    from support import Clients

    session = await Clients(client_of(options)).join()
    prefix, name = "com.fanwire.cross", options.serve

    def fail(*args, **kwargs):
        raise ApplicationError(f"{prefix}.error", *args, **kwargs)

    def repeat(*args, details, **kwargs):
        session.publish(f"{prefix}.{name}.seen", *args, **kwargs)

    await session.register(lambda *args, **kwargs: CallResult(*args, **kwargs), f"{prefix}.{name}.echo")
    await session.register(fail, f"{prefix}.{name}.fail")
    await session.subscribe(repeat, f"{prefix}.cast")
    say("ready")
    details = await session.left
    say(f"left {details.reason}")
    await session.disconnected
    return 0


def main():
    options = arguments()
    sys.stdout = open(os.devnull, "w")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    if options.client == "autobahn-twisted":
        from twisted.internet import asyncioreactor

        asyncioreactor.install(loop)
        txaio.use_twisted()
        from twisted.internet import reactor

        reactor.startRunning(installSignalHandlers=False)
    else:
        txaio.use_asyncio()
    txaio.start_logging(level="critical", out=open(os.devnull, "w"))

    import calls  # noqa: F401  each puts its cases into the table
    import calls_advanced  # noqa: F401
    import calls_in_parts  # noqa: F401
    import history  # noqa: F401
    import logins  # noqa: F401
    import meta  # noqa: F401
    import passing  # noqa: F401
    import pubsub  # noqa: F401
    import reflection  # noqa: F401
    import sessions  # noqa: F401
    import trust  # noqa: F401
    from support import CASES

    if options.list:
        for case in CASES:
            say(f"{case.feature:32} {case.name}")
        return 0
    return loop.run_until_complete(serve(options) if options.serve else run_all(options))


if __name__ == "__main__":
    status = main()
    os._exit(status)  # some clients keep threads
