#!/usr/bin/env python3
"""Different clients and serializers with each other: JSON, MessagePack and CBOR meet in one topic and in one call.

    cross.py --url ws://127.0.0.1:8080/ws [--without wampy_msgpack ...]

Starts the other clients as partners (see `--serve` of the scripts beside this one), every second one with
compression, then calls each of them and publishes to all of them, from a session in each serializer. What comes back
must be what was sent.
"""

import argparse
import asyncio
import os
import sys

import cbor2
import txaio

txaio.use_asyncio()
from autobahn.wamp.types import CallResult  # noqa: E402

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "suite")
sys.path.insert(0, PROGRAM)
import support as ours  # noqa: E402
from autobahn_client import Asyncio, Client  # noqa: E402

PREFIX = "com.fanwire.cross"
HERE = os.path.dirname(PROGRAM)
PATIENCE_S = 20
PARTNERS = [(c, s) for c in ("python", "autobahn", "wampy") for s in ("json", "msgpack", "cbor")]
# JavaScript has no other integers than these.
VALUES = [value for value in ours.VALUES if not isinstance(value, int) or abs(value) < 2**53] + [2**53 - 1, 1 - 2**53]
BLOB = bytes(range(256)) + b"\x00\xff"


def values_for(name):
    """What a partner can read: wampy's CBOR (cbor-x 1.6, int64AsNumber) takes 3b001ffffffffffffe for 1."""
    return [value for value in VALUES if name != "wampy_cbor" or value != 1 - 2**53]


def untagged(values):
    """wampy's CBOR sends its Uint8Array with tag 64, which a CBOR session gets as it was sent."""
    return [value.value if isinstance(value, cbor2.CBORTag) and value.tag == 64 else value for value in values]


def command(client, serializer, url):
    if client == "python":
        start = [sys.executable, PROGRAM]
    else:
        start = ["node", os.path.join(HERE, "javascript.mjs"), "--client", client]
    compression = ["--compression"] if PARTNERS.index((client, serializer)) % 2 else []
    return [*start, "--url", url, "--serializer", serializer, *compression, "--serve", f"{client}_{serializer}"]


class Partners:
    """The other clients, as processes that end with this block."""

    def __init__(self, partners, url):
        self.partners, self.url, self.processes = partners, url, []

    async def __aenter__(self):
        try:
            await asyncio.gather(*(self.start(*partner) for partner in self.partners))
        except BaseException:
            await self.__aexit__()
            raise

    async def start(self, client, serializer):
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command(client, serializer, self.url), stdout=pipe)
        self.processes.append(process)
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        if line.strip() != b"ready":
            raise AssertionError(f"{client} {serializer} did not start: {line!r}")

    async def __aexit__(self, *_):
        for process in self.processes:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def both(result):
    """Positions and keywords of a result, in whichever form the client hands it over."""
    if isinstance(result, CallResult):
        return list(result.results), result.kwresults or {}
    return ([] if result is None else [result]), {}


async def call_echoes(session, name):
    values = values_for(name)
    found = both(await session.call(f"{PREFIX}.{name}.echo", *values, every=values))
    ours.equal(found, (values, {"every": values}), f"echo of {name}")


async def call_echoes_binary(session, name):
    args, kwargs = both(await session.call(f"{PREFIX}.{name}.echo", BLOB, b""))
    ours.equal((untagged(args), kwargs), ([BLOB, b""], {}), f"binary echo of {name}")


async def call_fails_as_said(session, name):
    error = await ours.refused(session.call(f"{PREFIX}.{name}.fail", 1, "ü", key=[None]), f"{PREFIX}.error")
    ours.equal((list(error.args), error.kwargs), ([1, "ü"], {"key": [None]}), f"error of {name}")


async def publication_is_seen(session, name):
    inbox = await ours.subscribe(session, f"{PREFIX}.{name}.seen")
    values = values_for(name)
    await session.publish(f"{PREFIX}.cast", *values, every=values, options=ours.ACKNOWLEDGED)
    await session.publish(f"{PREFIX}.cast", BLOB, options=ours.ACKNOWLEDGED)
    await session.publish(f"{PREFIX}.cast", options=ours.ACKNOWLEDGED)
    found = [(untagged(args), kwargs) for args, kwargs, _ in await inbox.take(3)]
    ours.equal(found, [(values, {"every": values}), ([BLOB], {}), ([], {})], f"what {name} saw")
    await inbox.subscription.unsubscribe()


async def check_all(url, partners):
    passed = failed = 0
    async with Partners(partners, url):
        # Several sessions ask, so that they are on all shards, where the partners are on some.
        for number, asker in enumerate(("json", "msgpack", "cbor") * 4):
            clients = ours.Clients(Client(Asyncio(), url, asker, compression=number % 2 == 1))
            session = await clients.join()
            for client, serializer in partners:
                for check in (call_echoes, call_echoes_binary, call_fails_as_said, publication_is_seen):
                    try:
                        await asyncio.wait_for(check(session, f"{client}_{serializer}"), PATIENCE_S)
                        passed += 1
                    except Exception as error:
                        failed += 1
                        words = str(error) or type(error).__name__
                        print(f"FAIL {asker} asks {client} {serializer}: {check.__name__}: {words[:2000]}")
            await clients.close()
    print(f"{passed} passed, {failed} failed", flush=True)
    return failed


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--url", required=True)
    options.add_argument("--without", nargs="*", default=[])
    options = options.parse_args()
    partners = [p for p in PARTNERS if f"{p[0]}_{p[1]}" not in options.without]
    return 1 if asyncio.run(check_all(options.url, partners)) else 0


if __name__ == "__main__":
    sys.exit(main())
