"""xconn for Python (on wampproto) as cases use it: Autobahn's rules for what arguments and results look like."""

import asyncio
import inspect
from types import SimpleNamespace
from urllib.parse import urlsplit

import xconn
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallResult
from support import CannotExpress
from xconn.async_client import AsyncClient

KINDS = {"json": xconn.JSONSerializer, "msgpack": xconn.MsgPackSerializer, "cbor": xconn.CBORSerializer}


class Details(SimpleNamespace):
    """What the router tells about an event or an invocation; None is what it does not tell."""

    def __getattr__(self, name):
        return None


def authenticator_of(login):
    """What answers the challenge, if there is one."""
    match login and login.method:
        case None:
            return xconn.AnonymousAuthenticator("")
        case "ticket":
            return xconn.TicketAuthenticator(login.authid, login.secret)
        case "wampcra":
            return xconn.WAMPCRAAuthenticator(login.authid, login.secret, {})
        case "cryptosign":
            return xconn.CryptoSignAuthenticator(login.authid, login.secret, {})
        case method:
            raise CannotExpress(f"it has no {method}")


def native_error(error):
    """Autobahn's error for one of xconn's."""
    return ApplicationError(error.message, *(error.args or []), **(error.kwargs or {}))


class Session:
    """One session. `joined`, `left` and `disconnected` are futures of what becomes of it."""

    def __init__(self, login):
        loop = asyncio.get_running_loop()
        self.login, self.inner, self.leaving = login, None, None
        self.joined, self.left, self.disconnected = loop.create_future(), loop.create_future(), loop.create_future()

    id = property(lambda self: self.inner._base_session.id)
    authid = property(lambda self: self.inner._base_session.authid)
    authrole = property(lambda self: self.inner._base_session.authrole)

    @staticmethod
    def future(coroutine):
        async def answered():
            try:
                return await coroutine
            except xconn.exception.ApplicationError as error:
                raise native_error(error) from None

        return asyncio.ensure_future(answered())

    def call(self, procedure, *args, options=None, on_progress=None, **kwargs):
        if on_progress:
            raise CannotExpress("it has no results in parts")

        async def answered():
            result = await self.inner.call(procedure, list(args), kwargs, options=options)
            found = result.args or []
            if result.kwargs or len(found) > 1:
                return CallResult(*found, **(result.kwargs or {}))
            return found[0] if found else None

        return self.future(answered())

    def cancel(self, mode=None):
        raise CannotExpress("it has no CANCEL")

    def publish(self, topic, *args, options=None, **kwargs):
        async def published():
            await self.inner.publish(topic, list(args), kwargs, options)
            return SimpleNamespace(id=None)

        return self.future(published())

    async def subscribe(self, handler, topic, options=None):
        async def handle(event):
            handler(*(event.args or []), **(event.kwargs or {}), details=Details(**(event.details or {})))

        made = await self.future(self.inner.subscribe(topic, handle, options))
        return Held(self, made.subscription_id, made.unsubscribe)

    async def register(self, procedure, uri, options=None):
        takes_details = "details" in inspect.signature(procedure).parameters

        async def invoke(invocation):
            kwargs = dict(invocation.kwargs or {})
            if takes_details:
                told = dict(invocation.details or {})
                kwargs["details"] = Details(procedure=told.pop("procedure", uri), **told)
            try:
                result = procedure(*(invocation.args or []), **kwargs)
                if inspect.isawaitable(result):
                    result = await result
            except ApplicationError as error:
                raise xconn.exception.ApplicationError(error.error, *error.args) from error
            if isinstance(result, CallResult):
                return xconn.types.Result(list(result.results), result.kwresults)
            return xconn.types.Result([] if result is None else [result])

        made = await self.future(self.inner.register(uri, invoke, options))
        return Held(self, made.registration_id, made.unregister)

    def is_open(self):
        return self.inner is not None and self.leaving is None and not self.disconnected.done()

    def leave(self, *words):
        if words:
            raise CannotExpress("it cannot say why it leaves")

        async def leave():
            try:
                await self.inner.leave()
                self.left.done() or self.left.set_result(Details(reason="wamp.close.goodbye_and_out"))
            finally:
                self.disconnected.done() or self.disconnected.set_result(None)

        self.leaving = asyncio.ensure_future(leave())

    def cut(self):
        if self.is_open():
            self.inner.wait_task.cancel()
            self.leaving = asyncio.ensure_future(self.inner._base_session.close())


class Held:
    """A subscription or registration."""

    def __init__(self, session, number, end):
        self.id, self.session, self.end = number, session, end

    async def unsubscribe(self):
        await self.session.future(self.end())

    unregister = unsubscribe


class Client:
    """Connects sessions over one transport, in one serializer."""

    name = "xconn"

    def __init__(self, url, serializer):
        where = urlsplit(url)
        self.url = f"unix://{where.netloc.removeprefix('unix:')}{where.path}" if where.hostname == "unix" else url
        self.serializer = serializer
        # In JSON it has no form for bytes.
        self.able = {
            "way to say a URI that is none", "view of the detail trustlevel", "invoke queue_least_loaded",
            "word for an UNSUBSCRIBED that it did not ask for",
        }
        self.able |= {"binary values"} if serializer != "json" else set()

    async def connect(self, realm, login):
        face = Session(login)
        client = AsyncClient(authenticator_of(login), KINDS[self.serializer]())

        async def end():
            face.disconnected.done() or face.disconnected.set_result(None)

        try:
            face.inner = await client.connect(self.url, realm, disconnect_callback=end)
        except Exception as error:  # of wampproto's own or of Python's: it has a reason only if the router gave one
            face.left.set_result(Details(reason=getattr(error, "message", None) or str(error)))
            face.disconnected.set_result(None)
            return face
        face.joined.set_result(Details(authid=face.authid, authrole=face.authrole))
        return face
