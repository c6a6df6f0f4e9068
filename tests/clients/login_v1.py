#!/usr/bin/env python2
"""Logs in by the WAMP-CRA of the unmodified Autobahn|Python 0.8.15. It needs Python 2.

    login_v1.py --url ws://127.0.0.1:8080/ws

`FANWIRE_PYTHON2_MODULES` names the folder with `requirements-python2.txt`. The users are those of `tests/end_to_end/wamp1_login.rs`.
"""

from __future__ import print_function

import argparse
import os
import site
import sys

# A folder that pip filled with --target; only so are packages found that are several in one.
site.addsitedir(os.environ["FANWIRE_PYTHON2_MODULES"])

from autobahn.twisted.websocket import connectWS
from autobahn.wamp1.protocol import WampClientFactory, WampCraClientProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks

PATIENCE_S = 60
CHAT = "http://example.com/event#chat"


class Session(WampCraClientProtocol):
    def onSessionOpen(self):
        self.factory.opened.callback(self)


def connect(url):
    factory = WampClientFactory(url)
    factory.protocol, factory.opened = Session, Deferred()
    connectWS(factory)
    return factory.opened


@inlineCallbacks
def checks(url):
    for name, secret in [("ann", "her secret"), ("bob", "his secret")]:
        session = yield connect(url)
        permissions = yield session.authenticate(name, None, secret)
        topics = dict((rule["uri"], rule) for rule in permissions["pubsub"])
        assert topics["http://example.com/event#"]["sub"], permissions
        heard = Deferred()
        session.subscribe(CHAT, lambda topic, event: heard.callback(event))
        session.publish(CHAT, "from " + name, excludeMe=False)
        event = yield heard
        assert event == "from " + name, event
        session.sendClose()
    for name, secret in [("ann", "another"), ("nobody", "her secret")]:
        session = yield connect(url)
        try:
            yield session.authenticate(name, None, secret)
        except Exception as error:
            assert "invalid-signature" in str(error), error
        else:
            raise AssertionError("%s was let in" % name)
        session.sendClose()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--url", required=True)
    url = options.parse_args().url
    ended = []

    def end(outcome):
        ended.append(outcome)
        reactor.stop()

    reactor.callLater(PATIENCE_S, lambda: ended or end("it took too long"))
    reactor.callWhenRunning(lambda: checks(url).addCallbacks(lambda _: end(None), lambda failure: end(failure.getTraceback())))
    reactor.run()
    if ended[0] is not None:
        print(ended[0])
        return 1
    print("autobahn 0.8.15 logs in")
    return 0


if __name__ == "__main__":
    sys.exit(main())
