"""Visits by Autobahn, for programs that look at who is let in."""

import asyncio
from urllib.parse import urlsplit

import txaio

txaio.use_asyncio()
from autobahn.asyncio.wamp import Session  # noqa: E402
from autobahn.asyncio.websocket import WampWebSocketClientFactory  # noqa: E402
from autobahn.wamp import serializer as serializers  # noqa: E402
from autobahn.wamp.auth import create_authenticator  # noqa: E402
from autobahn.wamp.types import ComponentConfig  # noqa: E402

PATIENCE_S = 60
KINDS = {
    "json": serializers.JsonSerializer,
    "msgpack": serializers.MsgPackSerializer,
    "cbor": serializers.CBORSerializer,
}


class Visitor(Session):
    """Says how its login ends."""

    def __init__(self, config):
        super().__init__(config)
        self.end = asyncio.get_running_loop().create_future()

    def on_join(self, details):
        if not self.end.done():
            self.end.set_result(details)

    def on_leave(self, details):
        if not self.end.done():
            self.end.set_result(details)
        self.disconnect()


async def visit(options, realm, *authenticators):
    """Logs in with these pairs of a method and its arguments; returns the session and how that ended."""
    return await asyncio.wait_for(_visit(options, realm, authenticators), PATIENCE_S)


async def _visit(options, realm, authenticators):
    # Here, because whoever makes sessions for Autobahn must not fail.
    made = [create_authenticator(name, **arguments) for name, arguments in authenticators]
    visitor = Visitor(ComponentConfig(realm))
    for authenticator in made:
        visitor.add_authenticator(authenticator)
    factory = WampWebSocketClientFactory(
        lambda: visitor, url=options.url, serializers=[KINDS[options.serializer]()]
    )
    where = urlsplit(options.url)
    await asyncio.get_running_loop().create_connection(factory, where.hostname, where.port)
    return visitor, await visitor.end
