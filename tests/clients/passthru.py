#!/usr/bin/env python3
"""Payloads that only their receivers understand, in raw frames, between sessions of each serializer and each other.

    passthru.py --url ws://127.0.0.1:8080/ws

Ends with `N passed, M failed`.
"""

import argparse
import base64
import sys

from violations import PATIENCE_S, Raw

SERIALIZERS = ("json", "msgpack", "cbor")
ROLES = ("publisher", "subscriber", "caller", "callee")
ABOUT = {"ppt_scheme": "wamp", "ppt_serializer": "cbor", "ppt_cipher": "xsalsa20poly1305", "ppt_keyid": "GT\"é\n="}
# Every byte, and enough of them for more than one frame's shortest length.
OPAQUE = bytes(range(256)) * 300


class Session(Raw):
    def __init__(self, url, serializer, passthru=True):
        super().__init__(url, serializer)
        features = {"payload_passthru_mode": passthru, "progressive_call_results": True, "call_canceling": True}
        self.send([1, "realm1", {"roles": {role: {"features": features} for role in ROLES}}])
        welcome = self.expect_message()
        for role in ("broker", "dealer"):
            assert welcome[2]["roles"][role]["features"]["payload_passthru_mode"] is True, welcome

    def binary(self, data):
        return "\0" + base64.b64encode(data).decode() if self.serializer == "json" else data

    def ask(self, message, answer):
        self.send(message)
        heard = self.expect_message()
        assert heard[:2] == [answer, message[1]], heard
        return heard[2]

    def expect_opaque(self, head, details, what):
        message = self.expect_message()
        count = len(head)
        assert message[:count] == head, f"{what}: {str(message)[:200]}"
        assert message[count] == details, f"{what}: {message[count]}"
        assert message[-1] == [self.binary(OPAQUE)], f"{what}: {str(message[-1])[:200]}"


def publications(url, one, other, number):
    publisher, subscriber = Session(url, one), Session(url, other, passthru=False)
    topic = f"com.fanwire.passthru.{number}"
    exact = subscriber.ask([32, 1, {}, topic], 33)
    prefix = subscriber.ask([32, 2, {"match": "prefix"}, topic[:-1]], 33)
    options = {"acknowledge": True, "exclude_me": False, **ABOUT}
    id = publisher.ask([16, 1, options, topic, [publisher.binary(OPAQUE)]], 17)
    subscriber.expect_opaque([36, exact, id], ABOUT, "event")
    subscriber.expect_opaque([36, prefix, id], {"topic": topic, **ABOUT}, "event by prefix")


def calls(url, one, other, number):
    caller, callee = Session(url, one), Session(url, other)
    procedure = f"com.fanwire.passthru.{number}"
    registration = callee.ask([64, 1, {}, procedure], 65)
    for request in (1, 2):
        caller.send([48, request, {"receive_progress": True, **ABOUT}, procedure, [caller.binary(OPAQUE)]])
        callee.expect_opaque([68, request, registration], {"receive_progress": True, **ABOUT}, "invocation")
    payload = [callee.binary(OPAQUE)]
    callee.send([70, 1, {"progress": True, **ABOUT}, payload])
    caller.expect_opaque([50, 1], {"progress": True, **ABOUT}, "part")
    callee.send([70, 1, ABOUT, payload])
    caller.expect_opaque([50, 1], ABOUT, "result")
    callee.send([8, 68, 2, ABOUT, "com.fanwire.error", payload])
    error = caller.expect_message()
    assert error[:5] == [8, 48, 2, ABOUT, "com.fanwire.error"] and error[5] == [caller.binary(OPAQUE)], str(error)[:200]


def refusals(url, one, other, number):
    plain, able = Session(url, one, passthru=False), Session(url, other)
    procedure = f"com.fanwire.passthru.{number}"
    for session, name in ((plain, f"{procedure}.plain"), (able, f"{procedure}.able")):
        session.ask([64, 1, {}, name], 65)
    unsupported = "wamp.error.feature_not_supported"
    able.send([48, 5, ABOUT, f"{procedure}.plain", [able.binary(OPAQUE)]])
    able.expect_error(48, 5, unsupported)
    plain.send([48, 5, {}, f"{procedure}.able"])
    assert able.expect_message()[0] == 68
    able.send([70, 1, ABOUT, [able.binary(OPAQUE)]])
    plain.expect_error(48, 5, unsupported)
    able.ask([16, 6, {"acknowledge": True}, procedure], 17)
    plain.send([16, 7, ABOUT, procedure, [plain.binary(OPAQUE)]])
    plain.expect_abort()


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--url", required=True)
    url = options.parse_args().url
    passed = failed = 0
    for check in (publications, calls, refusals):
        for number, (one, other) in enumerate((one, other) for one in SERIALIZERS for other in SERIALIZERS):
            try:
                check(url, one, other, f"{check.__name__}.{number}")
                passed += 1
            except Exception as error:
                failed += 1
                print(f"FAIL {check.__name__} from {one} to {other}: {type(error).__name__} {error}"[:600], flush=True)
    print(f"{passed} passed, {failed} failed within {PATIENCE_S} s each", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
