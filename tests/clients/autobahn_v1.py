#!/usr/bin/env python2
"""Drives a router with the unmodified Autobahn|Python 0.8.15, the last one with WAMP version 1. It needs Python 2.

    autobahn_v1.py --url ws://127.0.0.1:8080/ws

`FANWIRE_PYTHON2_MODULES` names the folder with `requirements-python2.txt`. There must be a callee of `demo.echo` that answers with its arguments, and somebody who publishes what comes to `demo.ask` to
`demo.reply`. Ends with `N passed, M failed`.
"""

from __future__ import print_function

import argparse
import os
import site
import sys
import traceback

# A folder that pip filled with --target; only so are packages found that are several in one.
site.addsitedir(os.environ["FANWIRE_PYTHON2_MODULES"])

from autobahn.twisted.websocket import connectWS
from autobahn.wamp1.protocol import WampClientFactory, WampClientProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, returnValue

PATIENCE_S = 20
EVENT = "http://example.com/event#"


class Session(WampClientProtocol):
    def connectionMade(self):
        WampClientProtocol.connectionMade(self)
        self.heard, self.waiting, self.ended = [], [], Deferred()

    def onSessionOpen(self):
        self.factory.opened.callback(self)

    def onClose(self, clean, code, reason):
        self.ended.callback(code)

    def listen(self, topic):
        self.subscribe(topic, lambda uri, event: self.hear(uri, event))

    def hear(self, uri, event):
        self.heard.append((uri, event))
        if self.waiting:
            self.waiting.pop(0).callback(None)

    @inlineCallbacks
    def next_event(self):
        while not self.heard:
            self.waiting.append(Deferred())
            yield within(self.waiting[-1])
        returnValue(self.heard.pop(0))

    def settled(self):
        """All that it has said before is done when this is answered."""
        return within(self.call("demo.echo", "settled"))


def within(deferred):
    """What takes too long is an error."""
    late = reactor.callLater(PATIENCE_S, deferred.cancel)

    def done(value):
        if late.active():
            late.cancel()
        return value

    return deferred.addBoth(done)


def open_session(url):
    factory = WampClientFactory(url)
    factory.protocol = Session
    factory.opened = Deferred()
    factory.clientConnectionFailed = lambda _connector, reason: factory.opened.errback(reason)
    connectWS(factory)
    return within(factory.opened)


def equal(found, expected):
    if found != expected:
        raise AssertionError("%r is not %r" % (found, expected))


@inlineCallbacks
def error_of(call):
    try:
        value = yield within(call)
    except Exception as error:
        returnValue(error.args)
    raise AssertionError("%r is no error" % (value,))


@inlineCallbacks
def welcome(url):
    a, b = (yield open_session(url)), (yield open_session(url))
    equal((a.session_protocol_version, a.session_server.startswith("fanwire/")), (1, True))
    equal(a.session_id == b.session_id, False)


@inlineCallbacks
def calls(url):
    a = yield open_session(url)
    for value in [23, 1.5, None, True, u"h\u00e9 \u76f4", [9, 1, 3, 4], {"category": "dinner", "calories": 2309}, []]:
        result = yield within(a.call("demo.echo", value))
        equal(result, value)
    result = yield within(a.call("demo.echo"))
    equal(result, None)
    result = yield within(a.call("demo.echo", 1, 2))
    equal(result, {"args": [1, 2], "kwargs": {}})
    a.prefix("demo", "demo.")
    result = yield within(a.call("demo:echo", "by its short name"))
    equal(result, "by its short name")
    error = yield error_of(a.call("http://example.com/api#nobody"))
    equal(error[0], "http://api.wamp.ws/error#NoSuchRPCEndpoint")
    equal(error[1], "nobody has registered http://example.com/api#nobody")


@inlineCallbacks
def events(url):
    a, b = (yield open_session(url)), (yield open_session(url))
    b.prefix("event", EVENT)
    b.listen("event:chat")
    yield b.settled()
    for value in ["hi", None, 1.5, {"rand": 0.09, "flag": False}, [1, [2]]]:
        a.publish(EVENT + "chat", value)
        heard = yield b.next_event()
        equal(heard, (EVENT + "chat", value))
    b.unsubscribe("event:chat")
    yield b.settled()
    a.publish(EVENT + "chat", "not heard")
    yield a.settled()
    yield b.settled()
    equal(b.heard, [])


@inlineCallbacks
def receivers(url):
    sessions = []
    for _ in range(4):
        session = yield open_session(url)
        session.listen("demo.room")
        yield session.settled()
        sessions.append(session)
    a, b, c, _ = sessions
    ids = [session.session_id for session in sessions]
    for number, (options, expected) in enumerate([
        ({}, [1, 2, 3]),
        ({"excludeMe": True}, [1, 2, 3]),
        ({"excludeMe": False}, [0, 1, 2, 3]),
        ({"exclude": [ids[1]]}, [0, 2, 3]),
        ({"exclude": [ids[0], ids[2], "nobody"]}, [1, 3]),
        ({"exclude": [], "eligible": [ids[1], ids[3]]}, [1, 3]),
        ({"exclude": [ids[1]], "eligible": [ids[1], ids[3]]}, [3]),
    ]):
        a.publish("demo.room", number, **options)
        for index in expected:
            heard = yield sessions[index].next_event()
            equal(heard, ("demo.room", number))
    # What was not meant for somebody would have come before this.
    a.publish("demo.room", "end", excludeMe=False)
    for session in sessions:
        heard = yield session.next_event()
        equal((heard, session.heard), (("demo.room", "end"), []))


@inlineCallbacks
def version_2_hears_and_answers(url):
    a = yield open_session(url)
    a.listen("demo.reply")
    for value in ["hi", {"n": [1, None]}]:
        a.publish("demo.ask", value)
        heard = yield a.next_event()
        equal(heard, ("demo.reply", value))


@inlineCallbacks
def many_in_order(url):
    a, b = (yield open_session(url)), (yield open_session(url))
    b.listen("demo.many")
    yield b.settled()
    for number in range(500):
        a.publish("demo.many", number)
    for number in range(500):
        heard = yield b.next_event()
        equal(heard, ("demo.many", number))


@inlineCallbacks
def a_breach_ends_one_session(url):
    a, b = (yield open_session(url)), (yield open_session(url))
    a.sendMessage('[5]')
    code = yield within(a.ended)
    equal(code, 1002)
    yield b.settled()


CHECKS = [welcome, calls, events, receivers, version_2_hears_and_answers, many_in_order, a_breach_ends_one_session]


@inlineCallbacks
def main(url):
    failed = 0
    for check in CHECKS:
        try:
            yield check(url)
            print("ok", check.__name__)
        except Exception:
            failed += 1
            print("FAILED", check.__name__)
            traceback.print_exc()
    print("%d passed, %d failed" % (len(CHECKS) - failed, failed))
    main.failed = failed
    reactor.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    reactor.callWhenRunning(main, parser.parse_args().url)
    reactor.run()
    sys.exit(1 if main.failed else 0)
