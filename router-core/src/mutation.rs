//! Planted bugs, to test the tests: the simulation must find each one, otherwise it is not trusted.
//!
//! Without the feature `mutations`, which only that test turns on, `planted` is the constant `false` and nothing of this
//! is compiled into the router.

/// One bug that can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "without the feature nothing constructs them")]
pub enum Mutation {
    /// A reply is written without what the connection's streams owe it before.
    PullForwardLeftOut,
    /// UNSUBSCRIBED goes before the events that were due.
    UnsubscribedBeforeDue,
    /// Publisher exclusion does nothing.
    ExcludedPublisherServed,
    /// SUBSCRIBED is sent, and the interest becomes visible later.
    InterestAfterSubscribed,
    /// A cached handle is used though its entry is retired.
    LostRetiredCheck,
    /// A cached miss is believed for ever.
    MissNeverEnds,
    /// An item that finds its ring full disappears.
    RingItemLost,
    /// A ring takes data however many bytes it holds.
    RingBytesUnbounded,
    /// A member's position stays where it was after a short write.
    PositionNotMoved,
    /// A member is sent what the one before it was sent, wherever it stands.
    NeighboursBytes,
    /// Frames are dropped from a stream at once when the cursor wraps.
    TrimmedTooEarly,
    /// A member that is moved over the cursor by a removal is forgotten.
    MovedMemberForgotten,
    /// Members are put in order, and their connections go on with the places that they had before.
    OldPlacesAfterOrdering,
    /// PUBLISHED is sent though the publication still waits for room.
    PublishedBeforePush,
    /// A session with a parked publication is still listened to.
    ParkedStillRead,
    /// A new member is given the stream from its beginning.
    JoinAtBeginning,
    /// Frames of several streams are not merged by sequence.
    MergeLeftOut,
    /// The invocations of a callee that left are never answered.
    GoneCalleeSilent,
    /// A cancelled call is still answered by its callee.
    CancelledStillAnswered,
    /// An invocation is sent though its registration was taken back meanwhile.
    StaleInvocation,
    /// The interest is taken back while members with another encoding remain.
    InterestLostWithEncoding,
    /// A congested stream is deleted and its publishers are not told.
    CongestionOutlivesStream,
    /// The peer of a parked session that ends is never read again.
    ParkedNeverResumed,
    /// Who did not read its answers is never read again, though it has read them.
    HeldNeverResumed,
    /// Something can still be said after the close frame.
    WordsAfterClose,
    /// The events of a backlog that is cut are not counted.
    CutNotCounted,
    /// Where memory is short, the smallest outboxes are given up first.
    SmallestShedFirst,
    /// UNREGISTER leaves the directory's entry.
    RegistrationLeft,
    /// A verdict is taken for that of whoever has the outlet now.
    VerdictOfAnother,
    /// A session whose login was decided is never listened to again.
    VerdictNotResumed,
    /// Who is denied is welcomed.
    DenialForgotten,
    /// A session is listened to while a hook is asked about its request.
    AskedStillRead,
    /// A request that a hook denies is done.
    HookDenialForgotten,
    /// Permissions that always disclose leave it to the request.
    DisclosureLeftToRequest,
    /// Who must not be disclosed is, if it asks for it.
    DisclosureNotRefused,
    /// An empty list of eligible sessions counts as none.
    EmptyEligibleIsEverybody,
    /// Who is in one of several lists of eligible ones gets the event.
    AnyEligibleListSuffices,
    /// The lists of receivers do not come along to other shards.
    ListsLostInRing,
    /// A frame is appended without its lists.
    ListsNotKept,
    /// The lists of a stream go with the first frame that is trimmed.
    ListsTrimmedTooEarly,
    /// An eligible session gets the event although it is not subscribed.
    DirectToStrangers,
    /// An event of a few goes before what was routed earlier.
    DirectOvertakes,
    /// The patterns found for a topic or procedure are believed for ever.
    PatternsNeverEnd,
    /// SUBSCRIBED or REGISTERED is sent, and publishers and callers hear of the new pattern later.
    PatternAfterSubscribed,
    /// An event comes by a pattern though its subscriber's role may not have it.
    PatternUnchecked,
    /// Sessions of all roles share the streams of a pattern.
    RolesShareStreams,
    /// Whoever has a name of its own for a topic is told that of another.
    NamesShareStreams,
    /// At the message center, the answer to a request to unsubscribe is all that comes of it.
    ChannelKept,
    /// Who logs in once more has lost its channels.
    LoginForgetsChannels,
    /// Who subscribes to a topic by another name is told the old one.
    NameKept,
    /// Where a topic has exact subscribers, patterns get nothing.
    ExactHidesPatterns,
    /// Of several patterns that cover a topic, the first one alone gets the event.
    OnePatternOnly,
    /// A call goes to a pattern though its procedure is registered exactly.
    PatternBeforeExact,
    /// A pattern's callee is called for what its role may not register.
    CalleeUnchecked,
    /// Of several patterns that cover a procedure, the least precise one is called.
    LeastPreciseCallee,
    /// A stream of connections that agreed to nothing is compressed too.
    PlainStreamCompressed,
    /// Who has a connection's slot after it is sent what that one agreed to.
    EncoderOutlivesConnection,
    /// A reply goes through its connection's encoder before events that are on the wire before it.
    EncodedWhenSaid,
    /// The next request by API goes on while the one before it waits for room.
    ApiPassesParked,
    /// A request by API that had to wait is never answered.
    ApiUnanswered,
    /// Nobody asks what the role of a request by API may do.
    ApiUnauthorized,
    /// What the publisher's own shard matched counts twice in a receipt.
    ReceiptCountedTwice,
    /// A receipt is given before other shards have said whom they matched.
    ReceiptNotAwaited,
    /// A call by API is never given up.
    ApiCallNeverTimesOut,
    /// A dropped event is counted twice.
    DropCountedTwice,
    /// A frame of which the socket has taken a part is dropped.
    BegunFrameDropped,
    /// A newer event of a key is dropped, and the older one stays.
    ConflateKeepsOlder,
    /// An event that is dropped while it waits is missing in what the client is told.
    GapOfOldestForgotten,
    /// What was lost last is told after newer events.
    GapAfterWhatFollows,
    /// A reply is dropped behind events that wait.
    ReplyDropped,
    /// Publishers wait for a subscriber that has caught up.
    PauseNeverEnds,
    /// What was found out about a role under older permissions is believed under newer ones.
    OldVerdictsKept,
    /// A subscription that newer permissions forbid stays.
    ForbiddenSubscriptionKept,
    /// On other shards an inner subscriber hears what has come from it.
    InnerHearsItself,
    /// The interest is taken back with the last session, though an inner subscriber remains.
    InnerForgottenWithSessions,
    /// What an inner subscriber has no room for counts as delivered.
    InnerRefusalDelivered,
    /// Who says something in a room hears it too, though its sender is to be left out.
    EchoSenderServed,
    /// On other shards, what is said in a room is kept from the connection that has the first number there.
    EchoSenderLeftOutElsewhere,
    /// Who leaves a room takes its stream along from the others.
    EchoRoomEndsWithOne,
    /// Whose words a hook does not allow is not listened to any more.
    EchoDeafAfterDenial,
    /// Who says what its role may not say stays.
    EchoTrespasserStays,
    /// Who may not hear its room stays, and hears nothing.
    EchoStrangerStays,
    /// The hook is not asked whether somebody may hear its room.
    EchoDoorUnasked,
    /// All are called the same.
    EchoNamesForgotten,
    /// What is said as binary is heard as text.
    EchoBinaryIsText,
    /// An order for who has gone is carried out on whoever has the outlet now.
    OrderForAnother,
    /// A client is given orders by backends of other realms.
    OrderFromElsewhere,
    /// A client is said to be subscribed by order, and is not.
    OrderedInVain,
    /// Of what it is subscribed to, a backend ends that alone which a backend began.
    OrderedEndIgnored,
    /// Of several topics of an order that is refused, the first ones are subscribed to.
    RefusedOrderHalfDone,
    /// What a backend sends to a client that waits for a verdict is lost.
    OrderToWaitingLost,
    /// A message goes to a queue, and is a request of the protocol as well.
    MessageHandledTwice,
    /// The verdict on a message is not told to its client.
    MessageUnanswered,
    /// What a queue has no room for is told as done.
    MessageRefusalForgotten,
    /// Who has not come in is asked about like anybody.
    MessageBeforeLogin,
    /// What is for a queue goes to the last one.
    MessageToWrongQueue,
    /// A connection goes on after an error that is to close it.
    ErrorDoesNotClose,
    /// What a hook never answers of calls is never given up.
    AskedCallNeverEnds,
    /// A call that a hook denies has a result.
    AskedCallDenialForgotten,
    /// A callee is interrupted whether it can be or not.
    InterruptsAnybody,
    /// `kill` does not wait for the callee's answer.
    KillAwaitsNothing,
    /// Parts of a result go on coming after the caller has given the call up.
    PartsAfterEnd,
    /// Parts of a result come to who wants none.
    PartsUnasked,
    /// The time of a call is never over.
    TimeNeverOver,
    /// A call's timer stays when the call has ended.
    TimerOutlivesCall,
    /// A part of a result gives its call no more time.
    TimerNotRestarted,
    /// Who was interrupted breaks the rules by answering.
    LateAnswerIsViolation,
    /// A part of a call that has ended is a call.
    LatePartIsCall,
    /// A part that finds no room on its way disappears.
    PartLost,
    /// A callee is told of timeouts though it leaves them to the router.
    TimeoutToldToAll,
    /// The callees of a caller that leaves work on.
    LeaverForgetsCallees,
    /// The last part of a call looks as if others followed.
    LastPartUntold,
    /// What few calls have stays when their caller leaves.
    ExtrasOutliveCaller,
    /// A callee is asked for one call more than it takes.
    OneCallTooMany,
    /// Whose turn it is does not go on.
    TurnStands,
    /// The first of several callees is passed over.
    FirstIsSecond,
    /// In the place of the last of several callees the first one is asked.
    LastIsFirst,
    /// Of several callees the one with most to do is asked.
    MostLoadedAsked,
    /// A registration is taken from callees of other roles.
    ForcedAcrossRoles,
    /// A place at a callee is never given back once its caller has gone.
    PlaceLost,
    /// A place at a callee is given back when the caller gives up, though the callee works on.
    PlaceFreedEarly,
    /// Who did not want a call is asked again.
    RefuserAskedAgain,
    /// Anybody's word for that sends a call to another callee.
    AnybodyReroutes,
    /// What is kept to ask another callee counts for ever.
    KeptBytesStay,
    /// It is told that sessions have left that were sent away with all others.
    QuietEndsTold,
    /// Who sends others away goes too.
    KillerKilled,
    /// Sessions of other realms are sent away as well.
    KilledElsewhere,
    /// Whoever loses something is told, whether it understands that or not.
    RevocationToldToAll,
    /// Nobody hears that a session has come.
    JoinUntold,
    /// What a session leaves behind is forgotten.
    TestamentsLost,
    /// What is for the destroyed session is published before what is for the detached one.
    ScopesSwapped,
    /// What a session takes back of what it leaves behind is published all the same.
    FlushForgotten,
    /// A session may leave behind what it may not publish.
    TestamentUnauthorized,
    /// The end of a registration is told before its last callee has left.
    DeletedFirst,
    /// In version 1, a prefix stands for what it was defined as first.
    OlderPrefixHolds,
    /// Of two rules for a name of version 1, the shorter one decides.
    ShorterRuleDecides,
    /// An error goes to clients of version 1 by the realm's name for it.
    ErrorNameUntranslated,
    /// Who publishes by version 1 never gets its own event.
    PublisherAlwaysExcluded,
    /// What is published by version 1 is for everybody.
    ReceiversForgotten,
    /// Two calls of a session of version 1 are taken for one.
    CallsAlike,
    /// Unsubscribing by version 1 does nothing.
    NamedEndIgnored,
    /// Who subscribes by version 1 under another name is told the old one.
    OlderNameHolds,
    /// No hook is asked whether somebody may subscribe by version 1.
    NameUnasked,
    /// Retained events come to those whom their lists leave out.
    RetainedForAnybody,
    /// By a pattern come retained events of topics that the role may not have.
    RetainedPatternUnchecked,
    /// A live event does not wait for what a replay owes its topic.
    ReplayOvertaken,
    /// What a replay has said comes by the stream too.
    TwinsUnknown,
    /// An event is kept after it was routed, when others have subscribed in between.
    KeptLate,
    /// A replay goes as far as the retained events did before the interest was shown.
    ReplayVersionStale,
    /// However much is kept, there is room.
    RetainedUnbounded,
    /// What finds no room leaves the older one in its place.
    OlderOutlivesRefusal,
    /// A publication without arguments leaves what is kept of its topic.
    RetainedEndIgnored,
    /// Whoever does not hear itself does so later.
    RetainedToPublisher,
    /// Of what is kept of a topic, the oldest comes.
    OldestRetained,
    /// A replay whose connection is full is over.
    BlockedReplayEnds,
    /// Histories have what was for single sessions.
    HistoryOfSessions,
    /// The newest event of a history makes room.
    NewestMakesRoom,
    /// A history has as many events as come.
    HistoryUncounted,
    /// However long they are.
    HistoryUnweighed,
    /// And however old.
    HistoryNeverOld,
    /// Histories together have no limit.
    HistoryLimitless,
    /// Each page of a history leaves out what follows the one before.
    HistoryPageSkips,
    /// The history of a pattern is that of its realm.
    HistoryPatternUnchecked,
    /// Decoding a message panics. Not for the simulation to find: the session must end with 1011 and nothing else.
    DecoderPanics,
}

#[cfg(not(feature = "mutations"))]
pub(crate) const fn planted(_: Mutation) -> bool {
    false
}

pub(crate) use later::{do_later, later};
#[cfg(feature = "mutations")]
pub use planting::plant;
#[cfg(feature = "mutations")]
pub(crate) use planting::planted;

#[cfg(feature = "mutations")]
mod planting {
    use super::Mutation;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Plants a bug in all shards of this thread, or none.
    pub fn plant(mutation: Option<Mutation>) {
        PLANTED.set(mutation);
        super::later::forget();
    }

    pub(crate) fn planted(mutation: Mutation) -> bool {
        PLANTED.get() == Some(mutation)
    }
}

/// What a planted bug does too late.
#[cfg(feature = "mutations")]
mod later {
    use std::cell::RefCell;

    type Deed = Box<dyn FnOnce()>;

    thread_local! {
        static DEEDS: RefCell<Vec<Deed>> = const { RefCell::new(Vec::new()) };
    }

    pub(crate) fn later(deed: impl FnOnce() + 'static) {
        DEEDS.with_borrow_mut(|deeds| deeds.push(Box::new(deed)));
    }

    pub(crate) fn do_later() {
        DEEDS.take().into_iter().for_each(|deed| deed());
    }

    pub(super) fn forget() {
        DEEDS.take();
    }
}

#[cfg(not(feature = "mutations"))]
mod later {
    pub(crate) fn later(_: impl FnOnce() + 'static) {}

    pub(crate) fn do_later() {}
}
