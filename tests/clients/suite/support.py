"""What cases are made of: their table, the waiting, the comparing, and the clients that they are given."""

import asyncio
from dataclasses import dataclass
from typing import Callable

from autobahn.wamp.exception import ApplicationError

REALM = "realm1"
# So many that they are spread over the shards: the chance that all land on one of two is one in 64 thousand.
SESSIONS = 17
# Long enough for an event that must not come.
SILENCE_S = 0.4

ACKNOWLEDGED = {"acknowledge": True}
OWN_TOO = {"acknowledge": True, "exclude_me": False}
VALUES = [
    None, True, False, 0, -1, 2**53, -(2**53), 1.5, "", "text", "ünï©ødé \u2028 😀", "quote\" back\\ slash/ \n\t",
    [], {}, [1, [2, [3, {"four": [5]}]]], {"a": None, "b": {"c": [True, {"d": ""}]}}, "x" * 70_000,
]


class CannotExpress(Exception):
    """The client has no words for what the case is about."""


@dataclass(frozen=True)
class Case:
    """One behaviour of a router, and the feature of the specification that it belongs to."""

    feature: str
    check: Callable

    @property
    def name(self):
        return self.check.__name__


@dataclass(frozen=True)
class Login:
    """Who a session logs in as: by `ticket`, `wampcra`, `scram` or `cryptosign`; the secret is whatever that method wants."""

    method: str
    authid: str
    secret: str


CASES = []


def case(feature):
    """Puts a check into the table. It gets [`Clients`] and raises where the router does something else."""

    def add(check):
        CASES.append(Case(feature, check))
        return check

    return add


class Clients:
    """Opens sessions of one client, and closes those that a case leaves open."""

    def __init__(self, client, logins=None):
        self.client, self.logins, self.open = client, logins, []

    @property
    def serializer(self):
        return self.client.serializer

    def needs(self, *abilities):
        """Goes on only if the client has all of them."""
        for ability in abilities:
            if ability not in self.client.able:
                raise CannotExpress(f"it has no {ability}")

    def lacks(self, ability):
        """Goes on only if the client does not have it."""
        if ability in self.client.able:
            raise CannotExpress(f"it has {ability}")

    async def connect(self, realm=REALM, login=None):
        """A session of which it is not known yet whether it is let in."""
        session = await self.client.connect(realm, login or (self.logins and next(self.logins)))
        self.open.append(session)
        return session

    async def join(self, login=None):
        session = await self.connect(login=login)
        done, _ = await asyncio.wait([session.joined, session.left], return_when=asyncio.FIRST_COMPLETED)
        if session.joined not in done:
            raise AssertionError(f"not let in: {session.left.result()}")
        return session

    async def join_many(self, count=SESSIONS):
        return await asyncio.gather(*(self.join() for _ in range(count)))

    async def gone(self, session):
        """Waits until the router has ended this session."""
        await session.disconnected

    async def close(self):
        for session in self.open:
            if session.is_open():
                session.leave()
        for session in self.open:
            await session.disconnected
        self.open.clear()

    def cut(self):
        """Ends all of them without a word."""
        for session in self.open:
            session.cut()
        self.open.clear()


class Inbox:
    """Events of one subscription."""

    def __init__(self):
        self.queue = asyncio.Queue()

    def __call__(self, *args, **kwargs):
        details = kwargs.pop("details", None)
        self.queue.put_nowait((list(args), kwargs, details))

    async def next(self):
        return await self.queue.get()

    async def take(self, count):
        return [await self.next() for _ in range(count)]

    async def stays_empty(self):
        await asyncio.sleep(SILENCE_S)
        equal(self.queue.qsize(), 0, "events that must not come")


async def subscribe(session, topic, match=None, **options):
    inbox = Inbox()
    if match:
        options["match"] = match
    inbox.subscription = await session.subscribe(inbox, topic, options)
    return inbox


class Hanging:
    """A procedure that does not end by itself, and says what becomes of it."""

    def __init__(self, last_words=None):
        self.last_words = last_words
        loop = asyncio.get_running_loop()
        self.started, self.stopped = loop.create_future(), loop.create_future()

    async def __call__(self, *args, **kwargs):
        self.started.set_result(None)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.stopped.set_result(None)
            if self.last_words is None:
                raise
            return self.last_words


def equal(found, wanted, what="value"):
    if found != wanted:
        raise AssertionError(f"{what}: expected {wanted!r}, got {found!r}")


async def refused(awaitable, *uris):
    """The request must be answered with one of these errors, which is returned."""
    try:
        answer = await awaitable
    except ApplicationError as error:
        if error.error not in uris:
            raise AssertionError(f"expected {' or '.join(uris)}, got {error.error} {error.args}") from error
        return error
    raise AssertionError(f"expected {' or '.join(uris)}, got the answer {answer!r}")
