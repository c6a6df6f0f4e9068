"""A dynamic authenticator in Autobahn, as one writes it for Crossbar, and clients that log in through it by each method.

    authenticators.py --url URL --serializer json|msgpack|cbor

The realms and the procedure are those of `tests/end_to_end/authenticators.rs`.
"""

import argparse
import asyncio
import hashlib
import hmac
import sys

import autobahn
from argon2.low_level import Type, hash_secret
from autobahn.wamp.auth import derive_key
from autobahn.wamp.exception import ApplicationError
from visitor import KINDS, visit

# A seed and the public key that belongs to it (RFC 8032, 7.1, test 1).
PRIVATE = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
SALT, ROUNDS = "salt123", 1000


def scram_credential(password, salt):
    """As `autobahn.wamp.auth.derive_scram_credential` makes it, at a cost that a busy machine can bear."""
    passes, memory = 2, 512
    kind = {"parallelism": 1, "hash_len": 32, "type": Type.ID, "version": 19}
    salted = hash_secret(password.encode(), salt, time_cost=passes, memory_cost=memory, **kind).split(b"$")[-1]
    key = lambda name: hmac.new(salted, name, hashlib.sha256).digest()
    return {
        "kdf": "argon2id-13",
        "memory": memory,
        "iterations": passes,
        "salt": salt.hex(),
        "stored-key": hashlib.sha256(key(b"Client Key")).hexdigest(),
        "server-key": key(b"Server Key").hex(),
    }


CREDENTIALS = {
    "wampcra": {"secret": derive_key("her secret", SALT, ROUNDS).decode(), "salt": SALT, "iterations": ROUNDS, "keylen": 32},
    "scram": scram_credential("her secret", b"sixteen bytes ok"),
    "cryptosign": {"pubkey": PUBLIC, "authid": "ann"},
    "ticket": {},
}


def authenticate(realm, authid, details):
    """The procedure: called with realm, authid and details, it returns a role, or a dictionary, or raises."""
    method = details["authmethod"]
    known = authid == "ann" or authid is None and details["authextra"].get("pubkey") == PUBLIC
    if realm != "realm1" or not known:
        raise ApplicationError("com.shop.no_such_user", f"{authid} is nobody here")
    if method == "ticket":
        if details["ticket"] != "her secret":
            raise ApplicationError("com.shop.wrong_ticket", "this is another ticket")
        return "member"
    return {"role": "member", "extra": {"name": "Ann"}, **CREDENTIALS[method]}


async def checks(options):
    backend, welcome = await visit(options, "admin", ("ticket", {"authid": "joe", "ticket": options.ticket}))
    assert getattr(welcome, "authrole", None) == "backend", welcome
    await backend.register(authenticate, "com.shop.authenticate")
    for name, key, secret, other in [
        ("ticket", "ticket", "her secret", "another"),
        ("wampcra", "secret", "her secret", "another"),
        ("scram", "password", "her secret", "another"),
        ("cryptosign", "privkey", PRIVATE, "42" * 32),
    ]:
        visitor, end = await visit(options, "realm1", (name, {"authid": "ann", key: secret}))
        told = (end.authid, end.authrole, end.authmethod, end.authprovider)
        assert told == ("ann", "member", name, "dynamic"), f"{name}: {end}"
        assert name == "ticket" or end.authextra["name"] == "Ann", end
        visitor.leave()
        refused = set()
        for authid in ["ann", "nobody"]:
            _, end = await visit(options, "realm1", (name, {"authid": authid, key: other}))
            refused.add((end.reason, end.message))
        assert len(refused) == 1 and refused.pop()[0] == "wamp.error.authentication_denied", f"{name}: {refused}"
    # A key says who it is.
    visitor, end = await visit(options, "realm1", ("cryptosign", {"privkey": PRIVATE}))
    assert (end.authid, end.authmethod) == ("ann", "cryptosign"), end
    visitor.leave()
    backend.leave()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--url", required=True)
    options.add_argument("--serializer", choices=KINDS, required=True)
    options.add_argument("--ticket", required=True)
    options = options.parse_args()
    asyncio.run(checks(options))
    print(f"autobahn {autobahn.__version__} answers who may log in, in {options.serializer}")


if __name__ == "__main__":
    sys.exit(main())
