"""wampproto as cases use it: its messages, its serializers and its joiner, with all features announced that they can carry.

xconn, which is made of it, announces none. Here is what a program around the library has to do: the pump, and who waits for what.
"""

import asyncio
import inspect
import sys
import traceback
from types import SimpleNamespace
from urllib.parse import urlsplit

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallResult
from wampproto import idgen, messages
from wampproto.exception import ApplicationError as Refused
from wampproto.joiner import Joiner
from xconn.helpers import get_rs_protocol, get_ws_subprotocol
from xconn.transports import AsyncRawSocketTransport, AsyncWebSocketTransport
from xconn.types import TransportConfig
from xconn_client import KINDS, Details, Held, authenticator_of

# Not the revocations: it knows UNSUBSCRIBED and UNREGISTERED of two elements alone.
ROLES = {
    "publisher": ["payload_passthru_mode", "publisher_identification", "publisher_exclusion", "subscriber_blackwhite_listing"],
    "subscriber": ["payload_passthru_mode", "pattern_based_subscription", "publisher_identification", "publication_trustlevels"],
    "caller": [
        "payload_passthru_mode", "call_canceling", "call_timeout", "caller_identification", "progressive_call_results",
        "progressive_call_invocations",
    ],
    "callee": [
        "payload_passthru_mode", "call_canceling", "call_timeout", "caller_identification", "progressive_call_results",
        "progressive_call_invocations", "call_trustlevels", "call_reroute", "pattern_based_registration", "shared_registration",
    ],
}
FEATURES = {role: {"features": dict.fromkeys(names, True)} for role, names in ROLES.items()}


class Packed:
    """What a procedure answers with options of YIELD."""

    def __init__(self, args, options):
        self.args, self.options = args, options


class Told(CallResult):
    """A result with what was told of it."""


class Call:
    """A call under way: `answer` is a future; further parts of it can be sent, and it can be cancelled."""

    def __init__(self, session, request, procedure):
        self.session, self.request, self.procedure = session, request, procedure
        self.answer = session.waits(messages.Call.TYPE, request)

    def send(self, *args, progress=True, **kwargs):
        fields = messages.CallFields(self.request, self.procedure, list(args), kwargs, {"progress": progress})
        self.session.send(messages.Call(fields))

    def cancel(self, mode=None):
        options = {"mode": mode} if mode else {}
        self.session.send(messages.Cancel(messages.CancelFields(self.request, options)))


class Session:
    """One session. `joined`, `left` and `disconnected` are futures of what becomes of it."""

    def __init__(self, transport, serializer, details):
        loop = asyncio.get_running_loop()
        self.transport, self.serializer = transport, serializer
        self.id, self.authid, self.authrole = details.session_id, details.authid, details.authrole
        self.joined, self.left, self.disconnected = loop.create_future(), loop.create_future(), loop.create_future()
        self.ids, self.waiting, self.progress = idgen.SessionScopeIDGenerator(), {}, {}
        # By request what is asked for, then by id what there is: events may come right behind SUBSCRIBED.
        self.asked, self.handlers, self.procedures, self.invocations = {}, {}, {}, {}
        self.outgoing = asyncio.Queue()
        self.tasks = [asyncio.ensure_future(self.write()), asyncio.ensure_future(self.read())]
        self.joined.set_result(Details(authid=self.authid, authrole=self.authrole))

    # The pump.

    def send(self, message):
        self.outgoing.put_nowait(self.serializer.serialize(message))

    async def write(self):
        while True:
            await self.transport.write(await self.outgoing.get())
            self.outgoing.task_done()

    async def read(self):
        while True:
            try:
                read = await self.transport.read()
            except Exception as error:  # each transport has its own for an end
                return self.end(error)
            try:
                self.take(self.serializer.deserialize(read))
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                return self.end(error)

    def end(self, error):
        self.tasks[0].cancel()
        for task, _ in self.invocations.values():
            task.cancel()
        for future in self.waiting.values():
            future.done() or future.set_exception(ConnectionError(f"the session ended: {error}"))
        self.left.done() or self.left.set_result(Details(reason="closed"))
        self.disconnected.done() or self.disconnected.set_result(None)

    def waits(self, kind, request):
        future = asyncio.get_running_loop().create_future()
        self.waiting[kind, request] = future
        return future

    def answer(self, kind, request, result):
        future = self.waiting.pop((kind, request))
        if not future.done():
            future.set_result(result)

    def take(self, message):
        match message:
            case messages.Event():
                details = Details(publication=message.publication_id, **(message.details or {}))
                self.handlers[message.subscription_id](*(message.args or []), **(message.kwargs or {}), details=details)
            case messages.Result():
                self.take_result(message)
            case messages.Invocation():
                self.take_invocation(message)
            case messages.Interrupt():
                if message.request_id in self.invocations:
                    self.invocations[message.request_id][0].cancel()
            case messages.Error():
                error = ApplicationError(message.uri, *(message.args or []), **(message.kwargs or {}))
                self.progress.pop(message.request_id, None)
                future = self.waiting.pop((message.message_type, message.request_id))
                future.done() or future.set_exception(error)
            case messages.Subscribed():
                self.handlers[message.subscription_id] = self.asked.pop(message.request_id)
                self.answer(messages.Subscribe.TYPE, message.request_id, message.subscription_id)
            case messages.Unsubscribed():
                self.answer(messages.Unsubscribe.TYPE, message.request_id, None)
            case messages.Registered():
                self.procedures[message.registration_id] = self.asked.pop(message.request_id)
                self.answer(messages.Register.TYPE, message.request_id, message.registration_id)
            case messages.Unregistered():
                self.answer(messages.Unregister.TYPE, message.request_id, None)
            case messages.Published():
                self.answer(messages.Publish.TYPE, message.request_id, SimpleNamespace(id=message.publication_id))
            case messages.Goodbye():
                self.take_goodbye(message)

    def take_goodbye(self, message):
        if not self.left.done():
            words = (message.details or {}).get("message")
            self.left.set_result(Details(reason=message.reason, message=words))
        if message.reason != "wamp.close.goodbye_and_out":
            self.send(messages.Goodbye(messages.GoodbyeFields({}, "wamp.close.goodbye_and_out")))
        self.tasks.append(asyncio.ensure_future(self.close()))

    async def close(self):
        await self.outgoing.join()
        await self.transport.close()

    def take_result(self, message):
        args, kwargs = message.args or [], message.kwargs or {}
        if (message.details or {}).get("progress"):
            self.progress[message.request_id](*args, **kwargs)
            return
        self.progress.pop(message.request_id, None)
        result = Told(*args, **kwargs)
        result.told = message.details or {}
        if not (kwargs or len(args) > 1 or "ppt_scheme" in result.told):
            result = args[0] if args else None
        self.answer(messages.Call.TYPE, message.request_id, result)

    # A callee.

    def take_invocation(self, message):
        told = dict(message.details or {})
        more = told.pop("progress", False)
        request = message.request_id
        if request in self.invocations:
            self.invocations[request][1].put_nowait((message.args or [], message.kwargs or {}, more))
            return
        parts = asyncio.Queue()
        details = Details(**{"procedure": self.procedures[message.registration_id][1], **told})
        details.parts = parts if more else None
        details.progress = self.part_of(request) if told.get("receive_progress") else None
        task = asyncio.ensure_future(self.invoke(message, details))
        self.invocations[request] = (task, parts)
        task.add_done_callback(lambda _: self.invocations.pop(request, None))

    def part_of(self, request):
        def progress(*args, **kwargs):
            self.send(messages.Yield(messages.YieldFields(request, list(args), kwargs, {"progress": True})))

        return progress

    async def invoke(self, message, details):
        procedure = self.procedures[message.registration_id][0]
        kwargs = dict(message.kwargs or {})
        if "details" in inspect.signature(procedure).parameters:
            kwargs["details"] = details
        options = {}
        try:
            result = procedure(*(message.args or []), **kwargs)
            if inspect.isawaitable(result):
                result = await result
            if isinstance(result, Packed):
                options, result = result.options, CallResult(*result.args)
            if not isinstance(result, CallResult):
                result = CallResult(*([] if result is None else [result]))
            fields = messages.YieldFields(message.request_id, list(result.results), result.kwresults, options)
            self.send(messages.Yield(fields))
        except asyncio.CancelledError:
            self.refuse(message, "wamp.error.canceled")
        except ApplicationError as error:
            self.refuse(message, error.error, list(error.args), error.kwargs)
        except Exception as error:  # what a procedure raises is its caller's error
            self.refuse(message, "wamp.error.runtime_error", [str(error)])

    def refuse(self, message, uri, args=None, kwargs=None):
        self.send(messages.Error(messages.ErrorFields(message.TYPE, message.request_id, uri, args, kwargs)))

    # What cases ask for.

    def start(self, procedure, *args, options=None, on_progress=None, **kwargs):
        call = Call(self, self.ids.next(), procedure)
        options = dict(options or {})
        if on_progress:
            options["receive_progress"] = True
            self.progress[call.request] = on_progress
        self.started = call
        self.send(messages.Call(messages.CallFields(call.request, procedure, list(args), kwargs, options)))
        return call

    def call(self, *args, **kwargs):
        return self.start(*args, **kwargs).answer

    def cancel(self, mode=None):
        """The call that was made last."""
        self.started.cancel(mode)

    def publish(self, topic, *args, options=None, **kwargs):
        options, request = dict(options or {}), self.ids.next()
        answer = self.waits(messages.Publish.TYPE, request) if options.get("acknowledge") else None
        self.send(messages.Publish(messages.PublishFields(request, topic, list(args), kwargs, options)))
        if answer is None:
            answer = asyncio.get_running_loop().create_future()
            answer.set_result(None)
        return answer

    async def subscribe(self, handler, topic, options=None):
        request = self.ids.next()
        answer = self.waits(messages.Subscribe.TYPE, request)
        self.asked[request] = handler
        self.send(messages.Subscribe(messages.SubscribeFields(request, topic, dict(options or {}))))
        number = await answer

        async def end():
            request = self.ids.next()
            ended = self.waits(messages.Unsubscribe.TYPE, request)
            self.send(messages.Unsubscribe(messages.UnsubscribeFields(request, number)))
            await ended

        return Held(self, number, end)

    async def register(self, procedure, uri, options=None):
        request = self.ids.next()
        answer = self.waits(messages.Register.TYPE, request)
        self.asked[request] = (procedure, uri)
        self.send(messages.Register(messages.RegisterFields(request, uri, dict(options or {}))))
        number = await answer

        async def end():
            request = self.ids.next()
            ended = self.waits(messages.Unregister.TYPE, request)
            self.send(messages.Unregister(messages.UnregisterFields(request, number)))
            await ended

        return Held(self, number, end)

    @staticmethod
    def future(coroutine):
        return asyncio.ensure_future(coroutine)

    def is_open(self):
        return not self.disconnected.done()

    def leave(self, reason="wamp.close.close_realm", message=None):
        details = {"message": message} if message else {}
        self.send(messages.Goodbye(messages.GoodbyeFields(details, reason)))

    def cut(self):
        self.tasks[1].cancel()
        self.end("it was cut")
        self.tasks.append(asyncio.ensure_future(self.transport.close()))


class Refusal:
    """A session that was not let in."""

    def __init__(self, error):
        loop = asyncio.get_running_loop()
        self.joined, self.left, self.disconnected = loop.create_future(), loop.create_future(), loop.create_future()
        self.left.set_result(Details(reason=getattr(error, "message", None) or str(error)))
        self.disconnected.set_result(None)

    def is_open(self):
        return False

    def cut(self):
        pass


class Client:
    """Connects sessions over one transport, in one serializer."""

    name = "wampproto"

    def __init__(self, url, serializer):
        where = urlsplit(url)
        self.url = f"unix://{where.netloc.removeprefix('unix:')}{where.path}" if where.hostname == "unix" else url
        self.serializer = serializer
        self.able = {
            "way to say a URI that is none", "results in parts", "CANCEL", "sight of GOODBYE", "way to cut a connection",
            "publication ids", "keywords of errors", "view of the detail trustlevel", "invoke queue_least_loaded",
            "calls in parts", "payload passthru", "announcement of call_reroute", "option forward_timeout", "word for an UNSUBSCRIBED that it did not ask for",
        }
        # In JSON it has no form for bytes.
        self.able |= {"binary values"} if serializer != "json" else set()

    async def transport(self, serializer):
        if self.url.startswith("ws"):
            config = TransportConfig(ping_interval=None)
            return await AsyncWebSocketTransport.connect(self.url, [get_ws_subprotocol(serializer)], config)
        return await AsyncRawSocketTransport.connect(self.url, get_rs_protocol(serializer))

    async def connect(self, realm, login):
        serializer = KINDS[self.serializer]()
        transport = await self.transport(serializer)
        joiner = Joiner(realm, serializer, authenticator_of(login))
        await transport.write(joiner.send_hello(FEATURES))
        try:
            while (answer := joiner.receive(await transport.read())) is not None:
                await transport.write(answer)
        except Refused as error:
            await transport.close()
            return Refusal(error)
        return Session(transport, serializer, joiner.get_session_details())
