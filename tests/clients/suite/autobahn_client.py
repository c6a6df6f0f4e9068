"""Autobahn for Python, on asyncio or on Twisted, as cases use it: options in WAMP's words, and futures of asyncio."""

import asyncio
import inspect
import ssl
from urllib.parse import urlsplit

from autobahn.wamp import serializer as serializers
from autobahn.wamp.auth import create_authenticator
from autobahn.wamp.message import Cancel
from autobahn.wamp.types import CallOptions, ComponentConfig, PublishOptions, RegisterOptions, SubscribeOptions
from support import CannotExpress, equal

KINDS = {
    "json": serializers.JsonSerializer,
    "msgpack": serializers.MsgPackSerializer,
    "cbor": serializers.CBORSerializer,
}

# What its authenticators call it.
SECRETS = {"ticket": "ticket", "wampcra": "secret", "scram": "password", "cryptosign": "privkey"}


def options_of(kind, options, **more):
    """Its class of options with these; what it has no word for cannot be expressed."""
    known = inspect.signature(kind.__init__).parameters
    for name in options or {}:
        if name not in known:
            raise CannotExpress(f"it has no {kind.__name__}.{name}")
    return kind(**(options or {}), **more)


class Session:
    """One session. `joined`, `left` and `disconnected` are futures of what becomes of it."""

    def __init__(self, framework, login):
        self.framework, self.login, self.inner = framework, login, None
        loop = asyncio.get_running_loop()
        self.joined, self.left, self.disconnected = loop.create_future(), loop.create_future(), loop.create_future()

    id = property(lambda self: self.inner._session_id)
    authid = property(lambda self: self.inner.authid)
    authrole = property(lambda self: self.inner.authrole)

    def future(self, result):
        return self.framework.future(result)

    def call(self, procedure, *args, options=None, on_progress=None, **kwargs):
        if options or on_progress:
            kwargs["options"] = options_of(CallOptions, options, on_progress=on_progress)
        return self.future(self.inner.call(procedure, *args, **kwargs))

    def cancel(self, mode=None):
        """The one call that is pending."""
        [request] = self.inner._call_reqs
        self.inner._transport.send(Cancel(request, mode=mode))

    def publish(self, topic, *args, options=None, **kwargs):
        if options:
            kwargs["options"] = options_of(PublishOptions, options)
        return self.future(self.inner.publish(topic, *args, **kwargs))

    async def subscribe(self, handler, topic, options=None):
        made = self.inner.subscribe(handler, topic, options_of(SubscribeOptions, options, details=True))
        return Held(self, await self.future(made), "unsubscribe")

    async def register(self, procedure, uri, options=None):
        """`procedure` gets the details if it has a parameter of that name."""
        takes_details = "details" in inspect.signature(procedure).parameters

        def invoke(*args, details, **kwargs):
            if takes_details:
                kwargs["details"] = details
            return self.framework.native(procedure(*args, **kwargs))

        made = self.inner.register(invoke, uri, options_of(RegisterOptions, options, details_arg="details"))
        return Held(self, await self.future(made), "unregister")

    def is_open(self):
        return self.inner.is_attached()

    def leave(self, *words):
        self.inner.leave(*words)

    def cut(self):
        if self.inner._transport:
            self.inner._transport.abort()


class Held:
    """A subscription or registration."""

    def __init__(self, session, made, end):
        self.id = made.id
        self.end = lambda: session.future(getattr(made, end)())

    async def unsubscribe(self):
        await self.end()

    unregister = unsubscribe


def adapter(base):
    """The class of sessions that tell a [`Session`] what happens to them."""

    class Adapter(base):
        def __init__(self, config, face):
            super().__init__(config)
            self.face = face
            face.inner = self

        def onConnect(self):
            login = self.face.login
            if login is None:
                self.join(self.config.realm)
                return
            self.way_in = create_authenticator(login.method, authid=login.authid, **{SECRETS[login.method]: login.secret})
            self.join(self.config.realm, authmethods=[login.method], authid=login.authid, authextra=self.way_in.authextra)

        def onChallenge(self, challenge):
            equal(challenge.method, self.face.login.method, "method")
            return self.way_in.on_challenge(self, challenge)

        def onWelcome(self, welcome):
            # What it says here is why it does not believe the router.
            return self.way_in.on_welcome(self, welcome.authextra) if self.face.login else None

        def onJoin(self, details):
            self.face.joined.set_result(details)

        def onLeave(self, details):
            if not self.face.left.done():
                self.face.left.set_result(details)
            self.disconnect()

        def onDisconnect(self):
            if not self.face.disconnected.done():
                self.face.disconnected.set_result(None)

        def onUserError(self, fail, msg):
            pass  # a procedure that raises on purpose

    return Adapter


class Asyncio:
    """Autobahn's flavour for asyncio."""

    name = "autobahn-asyncio"

    def __init__(self):
        from autobahn.asyncio import rawsocket, wamp, websocket

        self.session, self.websocket = adapter(wamp.ApplicationSession), websocket.WampWebSocketClientFactory
        self.rawsocket = rawsocket.WampRawSocketClientFactory

    @staticmethod
    def future(result):
        return result

    @staticmethod
    def native(result):
        return result if not inspect.isawaitable(result) else asyncio.ensure_future(result)

    @staticmethod
    async def connect(where, factory):
        loop = asyncio.get_running_loop()
        if where.hostname == "unix":
            return (await loop.create_unix_connection(factory, unix_path(where)))[1]
        # What it trusts is named by SSL_CERT_FILE.
        trust = ssl.create_default_context() if where.scheme in ("wss", "rss") else None
        return (await loop.create_connection(factory, where.hostname, where.port, ssl=trust))[1]


class Twisted:
    """Its flavour for Twisted, on asyncio's loop: the reactor must be installed."""

    name = "autobahn-twisted"

    def __init__(self):
        from autobahn.twisted import rawsocket, wamp, websocket

        self.session, self.websocket = adapter(wamp.ApplicationSession), websocket.WampWebSocketClientFactory
        self.rawsocket = rawsocket.WampRawSocketClientFactory

    @staticmethod
    def future(result):
        return result and result.asFuture(asyncio.get_running_loop())

    @staticmethod
    def native(result):
        from twisted.internet.defer import Deferred

        return result if not inspect.isawaitable(result) else Deferred.fromFuture(asyncio.ensure_future(result))

    @staticmethod
    async def connect(where, factory):
        from twisted.internet import endpoints, reactor

        if where.hostname == "unix":
            endpoint = endpoints.UNIXClientEndpoint(reactor, unix_path(where))
        elif where.scheme in ("ws", "rs"):
            endpoint = endpoints.TCP4ClientEndpoint(reactor, where.hostname, where.port)
        else:
            raise CannotExpress("Twisted's TLS needs packages that are not installed here")
        return await endpoint.connect(factory).asFuture(asyncio.get_running_loop())


def unix_path(where):
    return where.netloc.removeprefix("unix:") + where.path


class Client:
    """Connects sessions of one flavour, over one transport, in one serializer."""

    able = {
        "results in parts", "CANCEL", "sight of GOODBYE", "way to cut a connection", "publication ids", "keywords of errors",
        "binary values", "SCRAM",
    }

    def __init__(self, framework, url, serializer, compression=False, batched=False):
        self.framework, self.url, self.serializer = framework, url, serializer
        self.compression, self.batched = compression, batched
        self.name = framework.name

    async def connect(self, realm, login):
        faces = []

        def make():
            face = Session(self.framework, login)
            self.framework.session(ComponentConfig(realm), face)
            faces.append(face)
            return face.inner

        where = urlsplit(self.url)
        protocol = await self.framework.connect(where, self.factory(where, make))
        while not faces:  # it is made when the handshake is over
            await asyncio.sleep(0.005)
        if self.compression and protocol and protocol._perMessageCompress is None:
            raise AssertionError("the router declined to compress")
        return faces[0]

    def factory(self, where, make):
        kind = KINDS[self.serializer]
        if where.scheme in ("rs", "rss"):
            return self.framework.rawsocket(make, kind())
        # Not `False` where it is not wanted: then the name of the subprotocol has an ending too.
        kinds = [kind(batched=True)] if self.batched else [kind()]
        factory = self.framework.websocket(make, url=self.url, serializers=kinds)
        if self.compression:
            from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateResponseAccept

            factory.setProtocolOptions(
                perMessageCompressionOffers=[PerMessageDeflateOffer()],
                perMessageCompressionAccept=PerMessageDeflateResponseAccept,
            )
        return factory
