#!/usr/bin/env python3
"""Speaks nonsense: valid conversations with bytes changed, added and missing, in odd pieces, ended in odd ways.

    noise.py --url ws://127.0.0.1:8080/ws [--seed 1] [--seconds 5]

What the router answers does not matter here, only that a healthy pair of sessions misses nothing meanwhile. The same
seed says the same nonsense. Ends with `N passed, M failed`, N being the connections.
"""

import argparse
import json
import random
import socket
import struct
import sys
import time

import cbor2
import msgpack
import violations as ours

CONVERSATION = [
    ours.HELLO,
    [32, 1, {"match": "exact"}, "com.fanwire.noise"],
    [16, 2, {"acknowledge": True, "exclude_me": False}, "com.fanwire.noise", [1, "ü", {"a": [None]}], {"k": 1.5}],
    [64, 3, {}, "com.fanwire.noise"],
    [48, 4, {}, "com.fanwire.noise", [1]],
    [70, 1, {}, [1]],
    [34, 5, 1],
    [66, 6, 1],
    [49, 4, {}],
    [8, 68, 1, {}, "com.fanwire.noise.error", [1]],
    [6, {}, "wamp.close.close_realm"],
]


class Noise:
    """One source of nonsense."""

    def __init__(self, url, seed):
        self.url, self.random = url, random.Random(seed)

    def chance(self, share):
        return self.random.random() < share

    def spoil(self, data):
        """Changes, adds or takes away a few bytes."""
        data = bytearray(data)
        for _ in range(self.random.randrange(1, 4)):
            at = self.random.randrange(len(data) + 1)
            kind = self.random.randrange(3)
            if kind == 0 and at < len(data):
                data[at] = self.random.randrange(256)
            elif kind == 1:
                data[at:at] = self.random.randbytes(self.random.randrange(1, 4))
            else:
                del data[at:at + self.random.randrange(1, 5)]
        return bytes(data)

    def frame(self, opcode, payload):
        key = self.random.randbytes(4)
        masked = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
        return bytes([0x80 | opcode]) + length + key + masked

    def speech(self, serializer):
        encode = {
            "json": lambda message: json.dumps(message).encode(),
            "msgpack": msgpack.packb,
            "cbor": cbor2.dumps,
        }[serializer]
        usual = ours.TEXT if serializer == "json" else ours.BINARY
        data = b""
        for _ in range(self.random.randrange(1, 8)):
            payload = encode(self.random.choice(CONVERSATION))
            if self.chance(0.5):
                payload = self.spoil(payload)
            data += self.frame(self.random.choice([usual] * 8 + [0, 1, 2, 3, 8, 9, 10]), payload)
        return self.spoil(data) if self.chance(0.4) else data

    def connection(self):
        serializer = self.random.choice(["json", "msgpack", "cbor"])
        raw = ours.Raw(self.url, serializer)
        try:
            if self.chance(0.8):
                raw.join()
            data = self.speech(serializer)
            while data:
                size = self.random.choice([1, 3, 50, 500, 5000])
                raw.bytes(data[:size])
                data = data[size:]
            end = self.random.randrange(3)
            if end == 0:  # by a reset
                raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif end == 1:  # after what was answered
                raw.socket.settimeout(0.02)
                while raw.socket.recv(65536):
                    pass
        except (OSError, EOFError):
            pass  # it was cut, as it deserved
        finally:
            raw.socket.close()


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--url", required=True)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--seconds", type=float, default=5)
    options = options.parse_args()
    noise, healthy = Noise(options.url, options.seed), ours.Healthy(options.url)
    end, connections = time.monotonic() + options.seconds, 0
    try:
        while time.monotonic() < end:
            noise.connection()
            connections += 1
            if connections % 50 == 0:
                healthy.check()
        healthy.check()
    except Exception as error:
        print(f"FAIL seed {options.seed}, connection {connections}: {type(error).__name__} {error}"[:600])
        print(f"{connections} passed, 1 failed")
        return 1
    print(f"{connections} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
