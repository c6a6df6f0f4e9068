"""Sessions: how they begin and end."""

from support import SESSIONS, Login, case, equal, refused


@case("sessions")
async def sessions_have_ids_of_their_own(clients):
    sessions = await clients.join_many()
    ids = {session.id for session in sessions}
    equal(len(ids), SESSIONS, "distinct session ids")
    assert all(1 <= number <= 2**53 for number in ids), ids


@case("sessions")
async def unknown_realm_is_refused(clients):
    session = await clients.connect("no.such.realm.here")
    details = await session.left
    equal(details.reason, "wamp.error.no_such_realm")
    await session.disconnected


@case("sessions")
async def sessions_are_who_they_log_in_as(clients):
    session = await clients.join()
    details = session.joined.result()
    if not clients.logins:
        equal(details.authrole, "anonymous", "role")
        assert details.authid, details
        return
    user, ticket = session.login.authid, session.login.secret
    equal(details.authid, user, "authid")
    equal((details.authmethod, details.authprovider), ("ticket", "static"), "method and provider")
    words = []
    for login in [(user, "another"), ("nobody", ticket), ("nobody", "another")]:
        stranger = await clients.connect(login=Login("ticket", *login))
        details = await stranger.left
        equal(details.reason, "wamp.error.authentication_denied")
        words.append(details.message)
        await stranger.disconnected
    equal(len(set(words)), 1, "words for an unknown user and for a wrong ticket")


@case("sessions")
async def goodbye_is_answered(clients):
    session = await clients.join()
    if "sight of GOODBYE" in clients.client.able:
        session.leave("com.fanwire.test.bye", "see you")
    else:
        session.leave()
    details = await session.left
    equal(details.reason, "wamp.close.goodbye_and_out")
    await session.disconnected


@case("uris")
async def reserved_uris_are_refused(clients):
    session = await clients.join()
    reserved = ("wamp.error.invalid_uri", "wamp.error.not_authorized")
    await refused(session.publish("wamp.forged.event", options={"acknowledge": True}), *reserved)
    await refused(session.register(lambda: None, "wamp.forged.procedure"), *reserved)
    await session.publish("com.fanwire.test.still.here", options={"acknowledge": True})


@case("uris")
async def uris_that_are_none_are_refused(clients):
    clients.needs("way to say a URI that is none")
    session = await clients.join()
    for uri in ["", "com..fanwire", ".com", "com.", "com.white space", "com.ha#sh"]:
        await refused(session.subscribe(lambda: None, uri), "wamp.error.invalid_uri")
        await refused(session.call(uri), "wamp.error.invalid_uri")
