#!/usr/bin/env python3
"""Breaks the rules on raw sockets, one rule per connection, and expects exactly what the protocols prescribe.

    violations.py --url ws://127.0.0.1:8080/ws [--only NAME ...]

Shares no code with the router: frames are written by hand. A healthy pair of sessions lives through all of it and must
lose nothing. Ends with `N passed, M failed`.
"""

import argparse
import base64
import hashlib
import json
import os
import socket
import struct
import sys
import time
from urllib.parse import urlsplit

import cbor2
import msgpack

PATIENCE_S = 8
MESSAGE_BYTES_MAX = 1 << 20
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
HELLO = [1, "realm1", {"roles": {"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}}}]
VIOLATION = "wamp.error.protocol_violation"


class Raw:
    """One WebSocket connection, byte by byte."""

    def __init__(self, url, serializer="json"):
        where = urlsplit(url)
        self.serializer = serializer
        self.socket = socket.create_connection((where.hostname, where.port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        key = base64.b64encode(os.urandom(16))
        self.socket.sendall(
            b"GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: wamp.2.%s\r\n\r\n"
            % (where.path.encode(), where.netloc.encode(), key, serializer.encode())
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.exactly(1)
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert accept in head and b"wamp.2." + serializer.encode() in head, head

    def exactly(self, count):
        while len(self.buffer) < count:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError("connection ended")
            self.buffer += more
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    # -- frames

    def bytes(self, data):
        self.socket.sendall(data)

    def frame(self, opcode, payload=b"", fin=True, rsv=0, masked=True, length=None, wide=None):
        """`length` lies about the length; `wide` (2 or 8) writes it wider than it need be."""
        count = len(payload) if length is None else length
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        bit = 0x80 if masked else 0
        if wide == 8 or (wide is None and count > 65535):
            head += bytes([bit | 127]) + struct.pack(">Q", count)
        elif wide == 2 or count > 125:
            head += bytes([bit | 126]) + struct.pack(">H", count)
        else:
            head += bytes([bit | count])
        if masked:
            key = os.urandom(4)
            repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")
            head += key
        self.bytes(head + payload)

    def next_frame(self):
        first, second = self.exactly(2)
        assert first & 0x80 and not first & 0x70, f"first byte {first:#x} of a frame"
        assert not second & 0x80, "the router masked a frame"
        count = second
        if count == 126:
            (count,) = struct.unpack(">H", self.exactly(2))
        elif count == 127:
            (count,) = struct.unpack(">Q", self.exactly(8))
        return first & 0x0F, self.exactly(count)

    # -- messages

    def send(self, message):
        if self.serializer == "json":
            self.frame(TEXT, json.dumps(message).encode())
        else:
            self.frame(BINARY, cbor2.dumps(message) if self.serializer == "cbor" else msgpack.packb(message))

    def expect_message(self):
        while True:
            opcode, payload = self.next_frame()
            if opcode == PING:
                self.frame(PONG, payload)
            elif opcode == CLOSE:
                raise AssertionError(f"closed: {payload!r}")
            else:
                break
        if self.serializer == "json":
            assert opcode == TEXT, opcode
            return json.loads(payload)
        assert opcode == BINARY, opcode
        return cbor2.loads(payload) if self.serializer == "cbor" else msgpack.unpackb(payload)

    def join(self):
        self.send(HELLO)
        welcome = self.expect_message()
        assert welcome[0] == 2 and 1 <= welcome[1] <= 2**53, welcome
        assert {"broker", "dealer"} <= set(welcome[2]["roles"]), welcome
        return self

    def expect_end(self):
        try:
            rest = self.exactly(1)
        except (EOFError, ConnectionResetError):
            return
        raise AssertionError(f"more after the end: {rest + self.buffer!r}")

    def expect_close(self, *codes, answer=True):
        opcode, payload = self.next_frame()
        while opcode in (PING, PONG):
            opcode, payload = self.next_frame()
        assert opcode == CLOSE, f"expected a close frame, got opcode {opcode} {payload[:200]!r}"
        (code,) = struct.unpack(">H", payload[:2])
        assert code in codes, f"close code {code} {payload[2:]!r}, expected {codes}"
        payload[2:].decode()
        if answer:
            try:
                self.frame(CLOSE, payload[:2])  # RFC 6455, 5.5.1: who gets a close frame answers it
            except OSError:
                pass
        self.expect_end()

    def expect_abort(self, reason=VIOLATION, code=1002):
        abort = self.expect_message()
        assert abort[0] == 3 and abort[2] == reason, f"expected ABORT {reason}, got {abort}"
        words = abort[1].get("message")
        assert isinstance(words, str) and len(words) > 10, f"words in {abort}"
        self.expect_close(code)

    def expect_error(self, kind, request, *uris):
        error = self.expect_message()
        assert error[:3] == [8, kind, request] and error[4] in uris, f"expected {uris}, got {error}"
        assert isinstance(error[3], dict), error


CASES = {}


def case(check):
    CASES[check.__name__] = check
    return check


def table(name, rows, check):
    """One case per row: (words, arguments)."""
    for words, row in rows:
        CASES[f"{name}: {words}"] = lambda url, row=row: check(url, row)


# ---- the session ---------------------------------------------------------------------------------------------------


@case
def unknown_realm(url):
    raw = Raw(url)
    raw.send([1, "no.such.realm", HELLO[2]])
    raw.expect_abort("wamp.error.no_such_realm", 1008)


@case
def second_hello(url):
    raw = Raw(url).join()
    raw.send(HELLO)
    raw.expect_abort()


@case
def second_hello_in_one_packet(url):
    raw = Raw(url)
    raw.send(HELLO)
    raw.send(HELLO)
    assert raw.expect_message()[0] == 2
    raw.expect_abort()


@case
def goodbye_is_answered_and_the_connection_ends(url):
    raw = Raw(url).join()
    raw.send([6, {}, "wamp.close.close_realm"])
    goodbye = raw.expect_message()
    assert goodbye[0] == 6 and goodbye[2] == "wamp.close.goodbye_and_out", goodbye
    raw.frame(CLOSE, struct.pack(">H", 1000))
    raw.expect_close(1000)


@case
def abort_of_a_client_is_not_answered(url):
    raw = Raw(url)
    raw.send([3, {}, "wamp.error.abort"])
    try:
        raw.expect_close(1000, 1002)
    except (EOFError, ConnectionResetError):
        pass


@case
def close_frame_may_stay_unanswered(url):
    raw = Raw(url).join()
    raw.frame(TEXT, b"")
    assert raw.expect_message()[0] == 3
    raw.expect_close(1002, answer=False)


def before_hello(url, message):
    raw = Raw(url)
    raw.send(message)
    raw.expect_abort()


table("before HELLO", [
    ("SUBSCRIBE", [32, 1, {}, "com.topic"]),
    ("PUBLISH", [16, 1, {}, "com.topic"]),
    ("CALL", [48, 1, {}, "com.procedure"]),
    ("GOODBYE", [6, {}, "wamp.close.close_realm"]),
    ("AUTHENTICATE", [5, "signature", {}]),
    ("WELCOME", [2, 1, {}]),
    ("an empty array", []),
    ("no array", {"HELLO": 1}),
    ("HELLO without details", [1, "realm1"]),
    ("HELLO with a number as realm", [1, 1, {}]),
    ("HELLO with an array as details", [1, "realm1", []]),
], before_hello)


def in_session(url, message):
    for serializer in ("json", "msgpack", "cbor"):
        raw = Raw(url, serializer).join()
        raw.send(message)
        raw.expect_abort()


table("in a session", [
    ("no array", "SUBSCRIBE"),
    ("an object", {}),
    ("an empty array", []),
    ("type as text", ["32", 1, {}, "com.topic"]),
    ("type is null", [None]),
    ("unknown type", [999, 1, {}]),
    ("type zero", [0]),
    ("negative type", [-1, 1]),
    ("WELCOME", [2, 1, {}]),
    ("CHALLENGE", [4, "ticket", {}]),
    ("AUTHENTICATE", [5, "signature", {}]),
    ("PUBLISHED", [17, 1, 1]),
    ("SUBSCRIBED", [33, 1, 1]),
    ("UNSUBSCRIBED", [35, 1]),
    ("EVENT", [36, 1, 1, {}]),
    ("RESULT", [50, 1, {}]),
    ("REGISTERED", [65, 1, 1]),
    ("UNREGISTERED", [67, 1]),
    ("INVOCATION", [68, 1, 1, {}]),
    ("INTERRUPT", [69, 1, {}]),
    ("SUBSCRIBE without topic", [32, 1, {}]),
    ("SUBSCRIBE and nothing", [32]),
    ("SUBSCRIBE with too much", [32, 1, {}, "com.topic", []]),
    ("PUBLISH with too much", [16, 1, {}, "com.topic", [], {}, 1]),
    ("UNSUBSCRIBE without subscription", [34, 1]),
    ("CALL without procedure", [48, 1, {}]),
    ("REGISTER without procedure", [64, 1, {}]),
    ("YIELD without options", [70, 1]),
    ("GOODBYE without reason", [6, {}]),
    ("ERROR for something that no callee is asked", [8, 32, 1, {}, "com.error"]),
    ("id zero", [32, 0, {}, "com.topic"]),
    ("negative id", [32, -1, {}, "com.topic"]),
    ("id beyond 2^53", [32, 2**53 + 1, {}, "com.topic"]),
    ("id of 64 bits", [32, 2**64 - 1, {}, "com.topic"]),
    ("id as text", [32, "1", {}, "com.topic"]),
    ("id with a fraction", [32, 1.5, {}, "com.topic"]),
    ("id is null", [32, None, {}, "com.topic"]),
    ("id is true", [32, True, {}, "com.topic"]),
    ("options as array", [32, 1, [], "com.topic"]),
    ("topic as number", [32, 1, {}, 5]),
    ("topic as array", [16, 1, {}, ["com.topic"]]),
], in_session)


def text(url, payload):
    raw = Raw(url).join()
    raw.frame(TEXT, payload)
    raw.expect_abort()


table("JSON", [
    ("nothing", b""),
    ("only space", b"  "),
    ("cut", b'[32, 1, {}, "com.topic"'),
    ("two values", b'[32, 1, {}, "com.topic"] []'),
    ("rubbish behind", b'[32, 1, {}, "com.topic"]x'),
    ("trailing comma", b'[32, 1, {}, "com.topic",]'),
    ("missing comma", b'[32 1, {}, "com.topic"]'),
    ("single quotes", b"[32, 1, {}, 'com.topic']"),
    ("bare word", b"[32, 1, {}, com.topic]"),
    ("control character in a text", b'[32, 1, {}, "com.\ntopic"]'),
    ("bad escape", b'[32, 1, {}, "com.\\x74opic"]'),
    ("bad number in the payload", b'[16, 1, {}, "com.topic", [01]]'),
    ("not a number in the payload", b'[16, 1, {}, "com.topic", [NaN]]'),
    ("half a text in the payload", b'[16, 1, {}, "com.topic", ["abc]]'),
    ("object without value in the payload", b'[16, 1, {}, "com.topic", [{"a"}]]'),
    ("too deep", b'[16, 1, {}, "com.topic", ' + b"[" * 5000 + b"]" * 5000 + b"]"),
    ("never closed", b"[" * 100_000),
], text)


def pack(url, payload):
    raw = Raw(url, "msgpack").join()
    raw.frame(BINARY, payload)
    raw.expect_abort()


PACKED_PUBLISH = b"\x95\x10\x01\x80\xa9com.topic"
table("MessagePack", [
    ("nothing", b""),
    ("cut", b"\x94\x20\x01\x80\xa9com.to"),
    ("rubbish behind", msgpack.packb([32, 1, {}, "com.topic"]) + b"\xc0"),
    ("never used byte", PACKED_PUBLISH + b"\x91\xc1"),
    ("an array that claims four thousand million", PACKED_PUBLISH + b"\xdd\xff\xff\xff\xff\xc0"),
    ("a map that claims four thousand million", b"\x94\x20\x01\xdf\xff\xff\xff\xff"),
    ("a text that claims four thousand million", b"\x94\x20\x01\x80\xdb\xff\xff\xff\xffabc"),
    ("a topic that is not UTF-8", b"\x94\x20\x01\x80\xa3\xff\xfe\xfd"),
    ("a topic that is binary", b"\x94\x20\x01\x80\xc4\x03abc"),
    ("a payload text that is not UTF-8", PACKED_PUBLISH + b"\x91\xa2\xc3\x28"),
    ("too deep", PACKED_PUBLISH + b"\x91" * 5000 + b"\xc0"),
    ("never closed", b"\x91" * 100_000),
], pack)


def cbor(url, payload):
    raw = Raw(url, "cbor").join()
    raw.frame(BINARY, payload)
    raw.expect_abort()


CBOR_PUBLISH = b"\x85\x10\x01\xa0\x69com.topic"
table("CBOR", [
    ("nothing", b""),
    ("cut", b"\x84\x18\x20\x01\xa0\x69com.to"),
    ("rubbish behind", cbor2.dumps([32, 1, {}, "com.topic"]) + b"\xf6"),
    ("a reserved byte", CBOR_PUBLISH + b"\x81\x1c"),
    ("a break without a beginning", CBOR_PUBLISH + b"\x81\xff"),
    ("a break behind a key", CBOR_PUBLISH + b"\x9f\xbf\x61k\xff\xff"),
    ("a list without end", b"\x9f\x18\x20\x01\xa0\x69com.topic"),
    ("a list that claims four thousand million", CBOR_PUBLISH + b"\x9a\xff\xff\xff\xff\xf6"),
    ("a list that claims more than there are addresses", CBOR_PUBLISH + b"\x9b" + b"\xff" * 8),
    ("a map that claims four thousand million", b"\x84\x18\x20\x01\xba\xff\xff\xff\xff"),
    ("a text that claims four thousand million", b"\x84\x18\x20\x01\xa0\x7a\xff\xff\xff\xffabc"),
    ("a topic that is not UTF-8", b"\x84\x18\x20\x01\xa0\x63\xff\xfe\xfd"),
    ("a topic that is binary", b"\x84\x18\x20\x01\xa0\x43abc"),
    ("a payload text that is not UTF-8", CBOR_PUBLISH + b"\x81\x62\xc3\x28"),
    ("a character that is spread between chunks", CBOR_PUBLISH + b"\x81\x7f\x61\xc3\x61\xa9\xff"),
    ("too deep", CBOR_PUBLISH + b"\x81" * 5000 + b"\xf6"),
    ("too deep in tags", CBOR_PUBLISH + b"\x81" + b"\xc1" * 5000 + b"\xf6"),
    ("never closed", b"\x9f" * 100_000),
], cbor)


# ---- requests that are answered -----------------------------------------------------------------------------------

SUBSCRIBE, UNSUBSCRIBE, PUBLISH, CALL, REGISTER, UNREGISTER = 32, 34, 16, 48, 64, 66


def answered(url, row):
    message, *uris = row
    for serializer in ("json", "msgpack", "cbor"):
        raw = Raw(url, serializer).join()
        raw.send(message)
        raw.expect_error(message[0], message[1], *uris)
        raw.send([SUBSCRIBE, 2, {}, "com.fanwire.alive"])
        assert raw.expect_message()[:2] == [33, 2], "the session must live on"


INVALID_URI, INVALID_ARGUMENT = "wamp.error.invalid_uri", "wamp.error.invalid_argument"
URI_PLACES = [("PUBLISH", [PUBLISH, 1, {"acknowledge": True}]), ("SUBSCRIBE", [SUBSCRIBE, 1, {}]),
              ("CALL", [CALL, 1, {}]), ("REGISTER", [REGISTER, 1, {}])]
BAD_URIS = [("empty", ""), ("an empty component", "com..topic"), ("space", "com.to pic"), ("a hash", "com.#"),
            ("a dot at the end", "com."), ("a dot in front", ".com"), ("a line feed", "com\ntopic"),
            ("256 bytes", "c" * 256)]
table("answered", [
    (f"{place} with {words} in the URI", ([*start, uri], INVALID_URI))
    for place, start in URI_PLACES for words, uri in BAD_URIS
] + [
    ("unknown procedure", ([CALL, 1, {}, "com.fanwire.nobody"], "wamp.error.no_such_procedure")),
    ("unknown subscription", ([UNSUBSCRIBE, 1, 4503599627370495], "wamp.error.no_such_subscription")),
    ("unknown registration", ([UNREGISTER, 1, 4503599627370495], "wamp.error.no_such_registration")),
    ("arguments as object", ([PUBLISH, 1, {"acknowledge": True}, "com.topic", {}], INVALID_ARGUMENT)),
    ("arguments as text", ([CALL, 1, {}, "com.topic", "text"], INVALID_ARGUMENT)),
    ("keywords as array", ([PUBLISH, 1, {"acknowledge": True}, "com.topic", [], []], INVALID_ARGUMENT)),
    ("keywords as number", ([CALL, 1, {}, "com.topic", [], 1], INVALID_ARGUMENT)),
    ("acknowledge that is no boolean", ([PUBLISH, 1, {"acknowledge": "yes"}, "com.topic"], INVALID_ARGUMENT)),
    ("unknown match policy", ([SUBSCRIBE, 1, {"match": "regex"}, "com.topic"], INVALID_ARGUMENT)),
    ("match policy that is no text", ([SUBSCRIBE, 1, {"match": 1}, "com.topic"], INVALID_ARGUMENT)),
    ("unknown invocation policy", ([REGISTER, 1, {"invoke": "best"}, "com.topic"], INVALID_ARGUMENT)),
    ("reserved topic", ([PUBLISH, 1, {"acknowledge": True}, "wamp.session.on_join"], INVALID_URI,
                        "wamp.error.not_authorized")),
    ("reserved procedure", ([REGISTER, 1, {}, "wamp.session.count"], INVALID_URI, "wamp.error.not_authorized")),
], answered)


@case
def refused_publication_without_acknowledge_is_not_answered(url):
    raw = Raw(url).join()
    raw.send([PUBLISH, 1, {}, "com..topic"])
    raw.send([SUBSCRIBE, 2, {}, "com.topic"])
    assert raw.expect_message()[:2] == [33, 2]


@case
def unknown_options_are_ignored(url):
    raw = Raw(url).join()
    raw.send([SUBSCRIBE, 1, {"_mine": [1, {"a": 2}], "nonsense": None}, "com.topic"])
    assert raw.expect_message()[:2] == [33, 1]


@case
def null_stands_for_no_options(url):
    raw = Raw(url).join()
    raw.send([SUBSCRIBE, 1, None, "com.topic"])
    assert raw.expect_message()[:2] == [33, 1]


@case
def ids_may_be_floats_without_fraction(url):
    raw = Raw(url).join()
    raw.frame(TEXT, b'[32.0, 1.0, {}, "com.topic"]')
    assert raw.expect_message()[:2] == [33, 1]
    raw = Raw(url, "msgpack").join()
    raw.frame(BINARY, b"\x94\xcb" + struct.pack(">d", 32) + b"\xcb" + struct.pack(">d", 7) + b"\x80\xa9com.topic")
    assert raw.expect_message()[:2] == [33, 7]


@case
def own_event_comes_before_published(url):
    raw = Raw(url).join()
    raw.send([SUBSCRIBE, 1, {}, "com.fanwire.own"])
    subscription = raw.expect_message()[2]
    raw.send([PUBLISH, 2, {"acknowledge": True, "exclude_me": False}, "com.fanwire.own", [1]])
    event, published = raw.expect_message(), raw.expect_message()
    assert event[:2] == [36, subscription] and event[4] == [1], event
    assert published == [17, 2, event[2]], (event, published)


# ---- frames --------------------------------------------------------------------------------------------------------


def frames(url, row):
    serializer, codes, steps = row
    raw = Raw(url, serializer).join()
    try:
        for step in steps:
            step(raw)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it was answered before the last byte had left
    raw.expect_close(*codes)


def f(*arguments, **named):
    return lambda raw: raw.frame(*arguments, **named)


GOOD = b'[32, 1, {}, "com.topic"]'
table("frames", [
    ("not masked", ("json", [1002], [f(TEXT, GOOD, masked=False)])),
    *((f"RSV {bits}", ("json", [1002], [f(TEXT, GOOD, rsv=bits)])) for bits in (1, 2, 4)),
    *((f"reserved opcode {code}", ("json", [1002], [f(code, b"")])) for code in (3, 7, 11, 15)),
    ("ping in fragments", ("json", [1002], [f(PING, b"", fin=False)])),
    ("close in fragments", ("json", [1002], [f(CLOSE, b"", fin=False)])),
    ("ping of 126 bytes", ("json", [1002], [f(PING, b"x" * 126)])),
    ("continuation of nothing", ("json", [1002], [f(0, GOOD)])),
    ("text within a message", ("json", [1002], [f(TEXT, GOOD[:5], fin=False), f(TEXT, GOOD)])),
    ("length wider than need be, 16 bits", ("json", [1002], [f(TEXT, GOOD, wide=2)])),
    ("length wider than need be, 64 bits", ("json", [1002], [f(TEXT, GOOD, wide=8)])),
    ("length with the top bit set", ("json", [1002], [f(TEXT, b"", length=2**63, wide=8)])),
    ("the longest length", ("json", [1002], [f(TEXT, b"", length=2**64 - 1, wide=8)])),
    ("one byte too long, told at once", ("json", [1009], [f(TEXT, b"", length=MESSAGE_BYTES_MAX + 1)])),
    ("4 GiB", ("json", [1009], [f(TEXT, b"", length=2**32, wide=8)])),
    ("one byte too long, in fragments", ("json", [1009], [
        f(TEXT, b"[" + b" " * (MESSAGE_BYTES_MAX - 1), fin=False), f(0, b"", length=1)])),
    ("binary where JSON was agreed", ("json", [1003], [f(BINARY, GOOD)])),
    ("text where MessagePack was agreed", ("msgpack", [1003], [f(TEXT, GOOD)])),
    ("bad UTF-8", ("json", [1007], [f(TEXT, b'[16, 1, {}, "com.topic", ["\xc3\x28"]]')])),
    ("surrogate in UTF-8", ("json", [1007], [f(TEXT, b'["\xed\xa0\x80"]')])),
    ("UTF-8 cut at the end", ("json", [1007], [f(TEXT, b'["\xf0\x9f\x98')])),
    ("bad UTF-8 in a frame that is not complete", ("json", [1007], [f(TEXT, b'["\xff', length=100)])),
    ("close with one byte", ("json", [1002], [f(CLOSE, b"\x03")])),
    *((f"close with code {code}", ("json", [1002], [f(CLOSE, struct.pack(">H", code))]))
      for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)),
    ("close with bad UTF-8", ("json", [1007], [f(CLOSE, b"\x03\xe8\xff")])),
    ("close is echoed", ("json", [1000], [f(CLOSE, struct.pack(">H", 1000) + b"bye")])),
    ("close with a code of one's own", ("json", [4321], [f(CLOSE, struct.pack(">H", 4321))])),
], frames)


@case
def before_hello_little_is_taken(url):
    raw = Raw(url)
    raw.frame(TEXT, b"", length=17 << 10)
    raw.expect_close(1009)


@case
def largest_message_passes(url):
    raw = Raw(url).join()
    start, end = b'[16, 1, {"acknowledge": true}, "com.topic", ["', b'"]]'
    raw.frame(TEXT, start + b"x" * (MESSAGE_BYTES_MAX - len(start) - len(end)) + end)
    assert raw.expect_message()[:2] == [17, 1]


@case
def message_in_bytes_and_fragments_passes(url):
    raw = Raw(url).join()
    for index, byte in enumerate(GOOD):
        raw.frame(0 if index else TEXT, bytes([byte]), fin=False)
        if index == 9:
            raw.frame(PING, b"between")
    raw.frame(0, b"")
    opcode, payload = raw.next_frame()
    assert (opcode, payload) == (PONG, b"between"), (opcode, payload)
    assert raw.expect_message()[:2] == [33, 1]


# ---- the run -------------------------------------------------------------------------------------------------------


class Healthy:
    """A pair of sessions that has nothing to do with the rest and must not notice it."""

    def __init__(self, url):
        self.publisher, self.subscriber = Raw(url).join(), Raw(url, "msgpack").join()
        self.subscriber.send([SUBSCRIBE, 1, {}, "com.fanwire.healthy"])
        assert self.subscriber.expect_message()[0] == 33
        self.number = 0

    def check(self):
        self.number += 1
        self.publisher.send([PUBLISH, self.number, {"acknowledge": True}, "com.fanwire.healthy", [self.number]])
        assert self.publisher.expect_message()[:2] == [17, self.number]
        event = self.subscriber.expect_message()
        assert event[0] == 36 and event[4] == [self.number], event


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--url", required=True)
    options.add_argument("--only", nargs="*")
    options = options.parse_args()
    passed = failed = 0
    healthy = Healthy(options.url)
    for name, check in CASES.items():
        if options.only and not any(part in name for part in options.only):
            continue
        started = time.monotonic()
        try:
            check(options.url)
            healthy.check()
            took = time.monotonic() - started
            assert took < (8 if "unanswered" in name else 2), f"right, but after {took:.1f} s"
            passed += 1
        except Exception as error:
            failed += 1
            print(f"FAIL {name}: {type(error).__name__} {error}"[:600], flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
