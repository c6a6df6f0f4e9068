"""Logging in as a user that the routers are configured with."""

from support import Login, case, equal

# Of `routers/fanwire.toml` and `routers/crossbar.json`.
KEY = "5bbde0d00449d62b735105c169232c9587314a2d879f2495f7309930c6c2410e"
OTHER_KEY = "42" * 32
# The third is what the specification once had.
DENIED = {"wamp.error.authentication_denied", "wamp.error.authentication_failed", "wamp.error.not_authorized"}


async def welcomed(clients, login):
    session = await clients.join(login)
    details = session.joined.result()
    equal((session.authid, session.authrole), (login.authid, "member"), "who it is")
    if details.authmethod is not None:
        equal((details.authmethod, details.authprovider), (login.method, "static"), "method and provider")
    return session


async def refused(clients, *logins):
    """All of them are, and in the same words."""
    words = set()
    for login in logins:
        session = await clients.connect(login=login)
        details = await session.left
        assert details.reason in DENIED, f"{login.authid}: {details.reason}"
        words.add((details.reason, details.message))
        await session.disconnected
    equal(len(words), 1, f"ways to say it: {words}")


@case("ticket")
async def a_ticket_lets_its_user_in(clients):
    session = await welcomed(clients, Login("ticket", "ann", "her ticket"))
    equal((await session.call("wamp.session.get", session.id))["authid"], "ann")


@case("ticket")
async def another_ticket_lets_nobody_in(clients):
    await refused(clients, Login("ticket", "ann", "another"), Login("ticket", "nobody", "her ticket"))


@case("wampcra")
async def a_salted_secret_lets_its_user_in(clients):
    await welcomed(clients, Login("wampcra", "ann", "her secret"))


@case("wampcra")
async def a_secret_without_salt_lets_its_user_in(clients):
    await welcomed(clients, Login("wampcra", "plain", "a secret"))


@case("wampcra")
async def another_secret_lets_nobody_in(clients):
    await refused(clients, Login("wampcra", "ann", "another"), Login("wampcra", "nobody", "her secret"))


@case("wamp-scram")
async def a_password_lets_its_user_in(clients):
    clients.needs("SCRAM")
    await welcomed(clients, Login("scram", "ann", "her password"))


@case("wamp-scram")
async def another_password_lets_nobody_in(clients):
    clients.needs("SCRAM")
    await refused(clients, Login("scram", "ann", "another"), Login("scram", "nobody", "her password"))


@case("cryptosign")
async def a_key_lets_its_user_in(clients):
    await welcomed(clients, Login("cryptosign", "ann", KEY))


@case("cryptosign")
async def another_key_lets_nobody_in(clients):
    await refused(clients, Login("cryptosign", "ann", OTHER_KEY), Login("cryptosign", "nobody", KEY))
