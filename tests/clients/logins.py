"""Every method of logging in, by clients for Python: Autobahn and xconn. Each as itself, with another secret, and as nobody.

    logins.py --url URL --serializer json|msgpack|cbor --key PRIVATE --other PRIVATE

The users are those of `tests/end_to_end/login_clients.rs`.
"""

import argparse
import asyncio
import sys

import autobahn
from visitor import KINDS, visit

REALM = "realm1"


async def autobahn_logs_in(options, *authenticators):
    visitor, end = await visit(options, REALM, *authenticators)
    if hasattr(end, "authmethod"):
        visitor.leave()
    return end


def welcomed(end, authid, method):
    assert getattr(end, "authmethod", None) == method, f"{method} as {authid}: {end}"
    assert (end.authid, end.authrole, end.authprovider) == (authid, "member", "static"), end


def denied(ends):
    told = {(end.reason, end.message) for end in ends}
    assert len(told) == 1 and told.pop()[0] == "wamp.error.authentication_denied", ends


async def autobahn_checks(options):
    right = [
        ("ticket", {"authid": "ann", "ticket": "her ticket"}),
        ("wampcra", {"authid": "ann", "secret": "her secret"}),
        ("wampcra", {"authid": "plain", "secret": "a secret"}),
        ("scram", {"authid": "ann", "password": "her password"}),
        ("cryptosign", {"authid": "ann", "privkey": options.key}),
        ("cryptosign", {"authid": "ann", "privkey": options.other}),
    ]
    for name, arguments in right:
        welcomed(await autobahn_logs_in(options, (name, arguments)), arguments["authid"], name)
    # A key says who it is.
    welcomed(await autobahn_logs_in(options, ("cryptosign", {"privkey": options.key})), "ann", "cryptosign")
    # Several are offered: the first one that the user has.
    both = [("scram", {"authid": "plain", "password": "no"}), ("wampcra", {"authid": "plain", "secret": "a secret"})]
    welcomed(await autobahn_logs_in(options, *both), "plain", "wampcra")
    stranger = "42" * 32
    for name, key in [("ticket", "ticket"), ("wampcra", "secret"), ("scram", "password")]:
        wrong = {"authid": "ann", key: "another"}
        nobody = {"authid": "nobody", key: "another"}
        lacks = {"authid": "lacking", key: "another"}
        denied([await autobahn_logs_in(options, (name, arguments)) for arguments in (wrong, nobody, lacks)])
    of_keys = [{"authid": "ann", "privkey": stranger}, {"authid": "nobody", "privkey": options.key}, {"privkey": stranger}]
    denied([await autobahn_logs_in(options, ("cryptosign", arguments)) for arguments in of_keys])


def xconn_checks(options):
    import xconn

    kinds = {"json": xconn.JSONSerializer, "msgpack": xconn.MsgPackSerializer, "cbor": xconn.CBORSerializer}

    def logs_in(authenticator):
        session = xconn.Client(authenticator, kinds[options.serializer]()).connect(options.url, REALM)
        session.leave()

    for authenticator in [
        xconn.TicketAuthenticator("ann", "her ticket"),
        xconn.WAMPCRAAuthenticator("ann", "her secret", {}),
        xconn.WAMPCRAAuthenticator("plain", "a secret", {}),
        xconn.CryptoSignAuthenticator("ann", options.key, {}),
    ]:
        logs_in(authenticator)
    for authenticator in [
        xconn.TicketAuthenticator("ann", "another"),
        xconn.WAMPCRAAuthenticator("ann", "another", {}),
        xconn.CryptoSignAuthenticator("ann", "42" * 32, {}),
    ]:
        try:
            logs_in(authenticator)
        except Exception as error:  # it has no class of its own for this
            assert "authentication_denied" in str(error), error
        else:
            raise AssertionError(f"{authenticator.auth_method}: another secret was good")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--url", required=True)
    options.add_argument("--serializer", choices=KINDS, required=True)
    options.add_argument("--key", required=True)
    options.add_argument("--other", required=True)
    options = options.parse_args()
    asyncio.run(autobahn_checks(options))
    xconn_checks(options)
    print(f"autobahn {autobahn.__version__} and xconn log in by every method that they have, in {options.serializer}")


if __name__ == "__main__":
    sys.exit(main())
