//! What the specification has, feature by feature, and the tests beside the suites that show it.

/// One feature of the basic or the advanced profile.
pub struct Feature {
    /// As it is announced, or a word of our own where the specification has none.
    pub key: &'static str,
    /// For people.
    pub title: &'static str,
    /// Whether it is one of those that WELCOME can announce.
    pub announced: bool,
    /// What works here.
    pub status: Status,
    /// Tests: a file, or `file::name of one test`.
    pub tests: &'static [&'static str],
}

/// What works of a feature, as far as its cases pass.
#[derive(Clone, Copy)]
pub enum Status {
    /// All that the specification says.
    Yes,
    /// What is missing.
    Partly(&'static str),
    /// Why not.
    No(&'static str),
}

use Status::{No, Partly, Yes};

const fn announced(
    key: &'static str,
    title: &'static str,
    status: Status,
    tests: &'static [&'static str],
) -> Feature {
    Feature { key, title, announced: true, status, tests }
}

const fn other(
    key: &'static str,
    title: &'static str,
    status: Status,
    tests: &'static [&'static str],
) -> Feature {
    Feature { key, title, announced: false, status, tests }
}

/// In the order of the specification's tables.
pub const FEATURES: &[Feature] = &[
    // The basic profile.
    other(
        "sessions",
        "Sessions",
        Yes,
        &[
            "router-core/tests/wamp2/session.rs",
            "router-core/tests/wamp2/bad_input.rs",
            "tests/clients/violations.py",
        ],
    ),
    other("publish_subscribe", "Publish and subscribe", Yes, &["router-core/tests/wamp2/publish.rs"]),
    other("calls", "Remote procedure calls", Yes, &["router-core/tests/wamp2/call.rs"]),
    other("uris", "URIs", Yes, &["router-core/tests/wamp2/publish.rs", "tests/clients/violations.py"]),
    other(
        "serialization",
        "Serializers and values",
        Yes,
        &["codec/tests/wamp_vectors.rs", "codec/tests/wamp_transcode.rs", "codec/tests/wamp_properties.rs"],
    ),
    // Calls.
    announced(
        "progressive_call_results",
        "Progressive call results",
        Yes,
        &["router-core/tests/wamp2/progress.rs"],
    ),
    announced(
        "progressive_call_invocations",
        "Progressive call invocations",
        Yes,
        &["router-core/tests/wamp2/progress.rs"],
    ),
    announced("call_timeout", "Call timeout", Yes, &["router-core/tests/wamp2/cancel.rs"]),
    announced("call_canceling", "Call canceling", Yes, &["router-core/tests/wamp2/cancel.rs"]),
    announced(
        "caller_identification",
        "Caller identification",
        Yes,
        &["router-core/tests/wamp2/disclosure.rs"],
    ),
    announced(
        "call_trustlevels",
        "Call trust levels",
        Yes,
        &["router-core/tests/wamp2/trust.rs", "tests/end_to_end/trust.rs"],
    ),
    announced(
        "registration_meta_api",
        "Registration meta API",
        Yes,
        &["tests/end_to_end/meta_registrations.rs"],
    ),
    announced(
        "pattern_based_registration",
        "Pattern-based registration",
        Yes,
        &["router-core/tests/wamp2/pattern.rs"],
    ),
    announced("shared_registration", "Shared registration", Yes, &["router-core/tests/wamp2/shared.rs"]),
    announced("sharded_registration", "Sharded registration", No("not yet"), &[]),
    announced(
        "registration_revocation",
        "Registration revocation",
        Yes,
        &["router-core/tests/wamp2/meta_registrations.rs"],
    ),
    announced("procedure_reflection", "Procedure reflection", Yes, &["tests/end_to_end/reflection.rs"]),
    announced("call_reroute", "Call rerouting", Yes, &["router-core/tests/wamp2/shared.rs"]),
    // Publish and subscribe.
    announced(
        "subscriber_blackwhite_listing",
        "Subscriber black- and whitelisting",
        Yes,
        &["router-core/tests/wamp2/lists.rs"],
    ),
    announced("publisher_exclusion", "Publisher exclusion", Yes, &["router-core/tests/wamp2/publish.rs"]),
    announced(
        "publisher_identification",
        "Publisher identification",
        Yes,
        &["router-core/tests/wamp2/disclosure.rs"],
    ),
    announced(
        "publication_trustlevels",
        "Publication trust levels",
        Yes,
        &["router-core/tests/wamp2/trust.rs", "tests/end_to_end/trust.rs"],
    ),
    announced("subscription_meta_api", "Subscription meta API", Yes, &["tests/end_to_end/meta.rs"]),
    announced(
        "pattern_based_subscription",
        "Pattern-based subscription",
        Yes,
        &["router-core/tests/wamp2/pattern.rs"],
    ),
    announced("sharded_subscription", "Sharded subscription", No("not yet"), &[]),
    announced(
        "event_history",
        "Event history",
        Yes,
        &["router-core/tests/wamp2/history.rs", "tests/end_to_end/history.rs"],
    ),
    announced(
        "event_retention",
        "Event retention",
        Yes,
        &["router-core/tests/wamp2/retained.rs", "tests/end_to_end/retained.rs"],
    ),
    announced("subscription_revocation", "Subscription revocation", Yes, &["tests/end_to_end/meta.rs"]),
    announced("topic_reflection", "Topic reflection", Yes, &["tests/end_to_end/reflection.rs"]),
    announced(
        "x_acknowledged_event_delivery",
        "Acknowledged event delivery",
        No("provisional in the specification"),
        &[],
    ),
    // Sessions, logins and the rest.
    announced("session_meta_api", "Session meta API", Yes, &["tests/end_to_end/meta.rs"]),
    announced(
        "testament_meta_api",
        "Testaments",
        Partly("sessions are not resumed, so both scopes end at once"),
        &["tests/end_to_end/meta.rs"],
    ),
    announced(
        "payload_passthru_mode",
        "Payload passthru mode",
        Yes,
        &["router-core/tests/wamp2/passthru.rs", "codec/tests/wamp_passthru.rs"],
    ),
    other(
        "ticket",
        "Login by ticket",
        Yes,
        &["tests/end_to_end/login_clients.rs", "router-core/tests/wamp2/login.rs"],
    ),
    other(
        "wampcra",
        "Login by WAMP-CRA",
        Yes,
        &["tests/end_to_end/login_clients.rs", "router-core/tests/wamp2/challenges.rs"],
    ),
    other(
        "wamp-scram",
        "Login by WAMP-SCRAM",
        Yes,
        &["tests/end_to_end/login_clients.rs", "tests/end_to_end/login_steps.rs"],
    ),
    other(
        "cryptosign",
        "Login by Cryptosign",
        Yes,
        &["tests/end_to_end/login_clients.rs", "tests/end_to_end/login_steps.rs"],
    ),
    other(
        "cookie",
        "Login by cookie",
        Yes,
        &["tests/end_to_end/cookies.rs", "router-core/tests/wamp2/cookies.rs"],
    ),
    other(
        "dynamic_authentication",
        "Dynamic authenticators",
        Yes,
        &["tests/end_to_end/authenticators.rs", "tests/end_to_end/hooks.rs"],
    ),
    other("authorization", "Authorization by role and URI", Yes, &["tests/end_to_end/access.rs"]),
    other(
        "dynamic_authorization",
        "Dynamic authorizers",
        Yes,
        &["tests/end_to_end/authorizers.rs", "tests/end_to_end/hooks.rs"],
    ),
    other(
        "websocket",
        "WebSocket transport",
        Yes,
        &["codec/tests/ws_framing.rs", "tests/conformance/autobahn.sh"],
    ),
    other("batched", "Batched WebSocket transport", Yes, &["tests/end_to_end/batches.rs"]),
    other(
        "rawsocket",
        "RawSocket transport",
        Yes,
        &["tests/end_to_end/rawsocket.rs", "codec/tests/rawsocket.rs"],
    ),
    other(
        "longpoll",
        "HTTP long-poll transport",
        Yes,
        &["tests/end_to_end/longpoll.rs", "tests/clients/longpoll.mjs"],
    ),
    other("multiplexed", "Multiplexed transport", No("a sketch in the specification"), &[]),
    other("router_to_router", "Router-to-router links", No("waits for the cluster"), &[]),
    other("interfaces", "Interface definitions and catalogs", No("a sketch in the specification"), &[]),
    other("wamp1", "WAMP version 1", Yes, &["tests/end_to_end/wamp1.rs", "codec/tests/wamp1.rs"]),
    other("extensions", "Extensions of other routers", Yes, &["router-core/tests/wamp2/shared.rs"]),
];
