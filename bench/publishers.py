"""How many publications a second are taken on one connection to /ws/v1, with a number of them in flight.

    fanwire --preset message-center --shards 1
    python3 bench/publishers.py 127.0.0.1:6789

Requests are written a hundred at a time, and answers only counted, so that the client is not what is measured.
"""

import argparse
import base64
import os
import socket
import time

EVENT = '{"event":"@user","data":{"uid":1001,"msg":"Hello,World!"}}'
BATCH = 100


def connect(address):
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def upgrade(connection, address):
    key = base64.b64encode(os.urandom(16)).decode()
    fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    request = ["GET /ws/v1 HTTP/1.1", f"Host: {address}", *fields, "", ""]
    connection.sendall("\r\n".join(request).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    if not head.startswith(b"HTTP/1.1 101"):
        raise SystemExit(head.decode())
    text = ('{"m":"mesh.publish","p":{"c":"user:1001","d":"%s"},"i":12345}' % EVENT.replace('"', '\\"')).encode()
    # A text frame whose mask is zero.
    return b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text, b'"E":null'


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("address")
    arguments.add_argument("--window", type=int, default=4000, help="publications in flight (default: 4000)")
    arguments.add_argument("--seconds", type=float, default=4)
    given = arguments.parse_args()
    connection = connect(given.address)
    request, mark = upgrade(connection, given.address)
    batch = request * BATCH
    answered = sent = 0
    rest = b""
    begin = time.monotonic()
    while time.monotonic() < begin + given.seconds:
        while sent - answered + BATCH <= given.window:
            connection.sendall(batch)
            sent += BATCH
        received = connection.recv(1 << 18)
        if not received:
            raise SystemExit(f"it closed the connection after {answered} answers")
        rest += received
        answered += rest.count(mark)
        rest = rest[-(len(mark) - 1):]
    print(f"{answered / (time.monotonic() - begin):.0f} publications/s")


main()
