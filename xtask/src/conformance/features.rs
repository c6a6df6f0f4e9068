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
    /// Tests: `file::name of one test`, or a file all of whose tests are about it.
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
            "router-core/tests/wamp2/session.rs::hello_is_welcomed_with_roles_and_identity",
            "router-core/tests/wamp2/session.rs::violations_of_an_open_session_end_it",
            "router-core/tests/wamp2/session.rs::goodbye_is_answered_and_is_the_last_message",
            "router-core/tests/wamp2/bad_input.rs",
            "tests/clients/violations.py",
        ],
    ),
    other(
        "publish_subscribe",
        "Publish and subscribe",
        Yes,
        &[
            "router-core/tests/wamp2/publish.rs::subscribers_of_all_shards_get_the_event",
            "router-core/tests/wamp2/publish.rs::no_event_comes_after_unsubscribed",
        ],
    ),
    other(
        "calls",
        "Remote procedure calls",
        Yes,
        &[
            "router-core/tests/wamp2/call.rs::a_call_is_invoked_and_its_result_comes_back",
            "router-core/tests/wamp2/call.rs::an_error_of_the_callee_reaches_the_caller_as_it_is",
        ],
    ),
    other(
        "uris",
        "URIs",
        Yes,
        &[
            "router-core/tests/wamp2/publish.rs::requests_that_cannot_be_met_get_their_error",
            "tests/clients/violations.py",
        ],
    ),
    other(
        "serialization",
        "Serializers and values",
        Yes,
        &[
            "codec/tests/wamp_vectors.rs::published_vectors_decode_and_encode",
            "codec/tests/wamp_transcode.rs",
            "codec/tests/wamp_properties.rs",
        ],
    ),
    // Calls.
    announced(
        "progressive_call_results",
        "Progressive call results",
        Yes,
        &[
            "router-core/tests/wamp2/progress.rs::a_result_in_parts_comes_in_order",
            "tests/end_to_end/parts.rs::a_callee_waits_for_a_caller_that_reads_slowly",
        ],
    ),
    announced(
        "progressive_call_invocations",
        "Progressive call invocations",
        Yes,
        &[
            "router-core/tests/wamp2/progress.rs::a_call_in_parts_is_one_invocation",
            "router-core/tests/wamp2/progress.rs::calls_in_parts_that_break_the_rules_end_the_session",
            "tests/end_to_end/parts.rs::a_caller_waits_for_a_callee_that_reads_slowly",
        ],
    ),
    announced(
        "call_timeout",
        "Call timeout",
        Yes,
        &[
            "router-core/tests/wamp2/cancel.rs::a_call_ends_when_its_time_is_over",
            "router-core/tests/wamp2/cancel.rs::a_callee_that_wants_the_timeout_gets_it",
        ],
    ),
    announced(
        "call_canceling",
        "Call canceling",
        Yes,
        &[
            "router-core/tests/wamp2/cancel.rs::a_callee_that_can_be_interrupted_is_killed_as_the_caller_says",
            "router-core/tests/wamp2/cancel.rs::a_callee_that_cannot_be_interrupted_is_left_alone",
        ],
    ),
    announced(
        "caller_identification",
        "Caller identification",
        Yes,
        &[
            "router-core/tests/wamp2/disclosure.rs::the_rule_of_the_procedure_discloses_the_caller_or_forbids_it",
            "router-core/tests/wamp2/disclosure.rs::a_callee_may_ask_who_calls",
        ],
    ),
    announced(
        "call_trustlevels",
        "Call trust levels",
        Yes,
        &[
            "router-core/tests/wamp2/trust.rs::invocations_say_how_far_their_caller_is_trusted",
            "tests/end_to_end/trust.rs::subscribers_and_callees_are_told_how_far_to_trust",
        ],
    ),
    announced(
        "registration_meta_api",
        "Registration meta API",
        Yes,
        &[
            "tests/end_to_end/meta_registrations.rs::registrations_are_listed_found_and_described",
            "tests/end_to_end/meta_registrations.rs::what_becomes_of_registrations_is_told_in_order",
        ],
    ),
    announced(
        "pattern_based_registration",
        "Pattern-based registration",
        Yes,
        &[
            "router-core/tests/wamp2/pattern.rs::a_call_goes_to_the_most_precise_registration",
            "router-core/tests/wamp2/pattern.rs::a_pattern_is_not_called_for_what_its_callee_may_not_register",
        ],
    ),
    announced(
        "shared_registration",
        "Shared registration",
        Yes,
        &[
            "router-core/tests/wamp2/shared.rs::each_policy_picks_its_callee",
            "router-core/tests/wamp2/shared.rs::callees_come_and_go",
        ],
    ),
    announced("sharded_registration", "Sharded registration", No("not yet"), &[]),
    announced(
        "registration_revocation",
        "Registration revocation",
        Yes,
        &[
            "tests/end_to_end/meta_registrations.rs::a_registration_is_taken_from_its_callee",
            "router-core/tests/wamp2/meta_registrations.rs::a_revoked_registration_is_not_asked_any_more_and_what_it_was_asked_is_answered_once",
        ],
    ),
    announced(
        "procedure_reflection",
        "Procedure reflection",
        Yes,
        &["tests/end_to_end/reflection.rs::what_is_defined_is_listed_described_and_told"],
    ),
    announced(
        "call_reroute",
        "Call rerouting",
        Yes,
        &[
            "router-core/tests/wamp2/shared.rs::who_is_not_available_is_passed_by_in_the_order_of_the_policy",
            "router-core/tests/wamp2/shared.rs::nobody_is_asked_again_after_a_part_of_the_result_or_a_cancel",
        ],
    ),
    // Publish and subscribe.
    announced(
        "subscriber_blackwhite_listing",
        "Subscriber black- and whitelisting",
        Yes,
        &[
            "router-core/tests/wamp2/lists.rs::sessions_are_excluded_and_eligible_on_all_shards",
            "router-core/tests/wamp2/lists.rs::users_go_by_their_name_and_role",
        ],
    ),
    announced(
        "publisher_exclusion",
        "Publisher exclusion",
        Yes,
        &["router-core/tests/wamp2/publish.rs::the_publisher_is_excluded_unless_it_says_otherwise"],
    ),
    announced(
        "publisher_identification",
        "Publisher identification",
        Yes,
        &[
            "router-core/tests/wamp2/disclosure.rs::the_rule_of_the_topic_discloses_the_publisher_or_forbids_it",
        ],
    ),
    announced(
        "publication_trustlevels",
        "Publication trust levels",
        Yes,
        &[
            "router-core/tests/wamp2/trust.rs::events_say_how_far_their_publisher_is_trusted",
            "tests/end_to_end/trust.rs::subscribers_and_callees_are_told_how_far_to_trust",
        ],
    ),
    announced(
        "subscription_meta_api",
        "Subscription meta API",
        Yes,
        &[
            "tests/end_to_end/meta.rs::subscriptions_are_listed_found_and_described",
            "tests/end_to_end/meta.rs::what_becomes_of_subscriptions_is_told_in_order",
        ],
    ),
    announced(
        "pattern_based_subscription",
        "Pattern-based subscription",
        Yes,
        &["router-core/tests/wamp2/pattern.rs::each_matching_subscription_gets_its_own_event_with_the_topic"],
    ),
    announced("sharded_subscription", "Sharded subscription", No("not yet"), &[]),
    announced(
        "event_history",
        "Event history",
        Yes,
        &[
            "tests/end_to_end/history.rs::filters_do_what_the_specification_says",
            "tests/end_to_end/history.rs::who_may_not_hear_it_is_not_told",
            "router-core/tests/wamp2/history.rs::rules_bound_bytes_and_age_and_limits_bound_them_all",
        ],
    ),
    announced(
        "event_retention",
        "Event retention",
        Yes,
        &[
            "router-core/tests/wamp2/retained.rs::who_asks_gets_the_newest_one_and_who_does_not_gets_none",
            "router-core/tests/wamp2/retained.rs::lists_of_receivers_are_kept_with_it",
            "router-core/tests/wamp2/retained.rs::patterns_bring_those_of_all_topics_that_the_role_may_hear",
        ],
    ),
    announced(
        "subscription_revocation",
        "Subscription revocation",
        Yes,
        &["tests/end_to_end/meta.rs::a_subscription_is_taken_from_its_subscriber"],
    ),
    announced(
        "topic_reflection",
        "Topic reflection",
        Yes,
        &["tests/end_to_end/reflection.rs::what_is_defined_is_listed_described_and_told"],
    ),
    announced(
        "x_acknowledged_event_delivery",
        "Acknowledged event delivery",
        No("provisional in the specification"),
        &[],
    ),
    // Sessions, logins and the rest.
    announced(
        "session_meta_api",
        "Session meta API",
        Yes,
        &[
            "tests/end_to_end/meta.rs::sessions_are_counted_listed_and_described",
            "tests/end_to_end/meta.rs::sessions_are_killed_one_by_one_and_by_what_they_are",
            "tests/end_to_end/meta.rs::who_comes_and_goes_is_told",
        ],
    ),
    announced(
        "testament_meta_api",
        "Testaments",
        Partly("sessions are not resumed, so both scopes end at once"),
        &["tests/end_to_end/meta.rs::testaments_are_published_however_a_session_ends"],
    ),
    announced(
        "payload_passthru_mode",
        "Payload passthru mode",
        Yes,
        &[
            "router-core/tests/wamp2/passthru.rs::a_call_and_its_answers_carry_it_both_ways",
            "router-core/tests/wamp2/passthru.rs::who_has_not_announced_it_is_aborted_for_using_it",
            "codec/tests/wamp_passthru.rs",
        ],
    ),
    other(
        "ticket",
        "Login by ticket",
        Yes,
        &[
            "tests/end_to_end/login_clients.rs::clients_for_python_log_in_by_every_method",
            "router-core/tests/wamp2/login.rs::the_right_ticket_is_welcomed_with_the_users_role",
        ],
    ),
    other(
        "wampcra",
        "Login by WAMP-CRA",
        Yes,
        &[
            "tests/end_to_end/login_clients.rs::clients_for_javascript_log_in_by_their_methods",
            "tests/end_to_end/login_steps.rs::the_challenge_of_wampcra_says_the_sessions_id",
        ],
    ),
    other(
        "wamp-scram",
        "Login by WAMP-SCRAM",
        Yes,
        &[
            "tests/end_to_end/login_clients.rs::the_small_clients_log_in_by_what_the_user_has",
            "tests/end_to_end/login_steps.rs::the_router_shows_that_it_knows_the_password_too",
        ],
    ),
    other(
        "cryptosign",
        "Login by Cryptosign",
        Yes,
        &[
            "tests/end_to_end/login_clients.rs::clients_for_python_log_in_by_every_method",
            "router-core/tests/wamp2/challenges.rs::a_key_says_who_it_is_and_other_methods_do_not",
            "tests/end_to_end/login_steps.rs::a_login_is_good_for_its_own_connection_alone",
        ],
    ),
    other(
        "cookie",
        "Login by cookie",
        Yes,
        &[
            "tests/end_to_end/cookies.rs::a_browser_that_has_logged_in_comes_back_without_its_secret",
            "router-core/tests/wamp2/cookies.rs::who_has_logged_in_is_let_in_by_the_cookie_of_its_connection",
        ],
    ),
    other(
        "dynamic_authentication",
        "Dynamic authenticators",
        Yes,
        &[
            "tests/end_to_end/authenticators.rs::a_procedure_decides_who_logs_in_by_each_method",
            "tests/end_to_end/hooks.rs::a_hook_decides_who_logs_in",
        ],
    ),
    other(
        "authorization",
        "Authorization by role and URI",
        Yes,
        &[
            "router-core/tests/wamp2/publish.rs::permissions_are_asked_on_every_verb",
            "tests/end_to_end/access.rs::a_pattern_brings_nothing_that_its_role_may_not_ask_for",
        ],
    ),
    other(
        "dynamic_authorization",
        "Dynamic authorizers",
        Yes,
        &[
            "tests/end_to_end/authorizers.rs::a_procedure_decides_what_sessions_may_do",
            "tests/end_to_end/hooks.rs::a_hook_decides_on_requests_and_their_order_is_kept",
        ],
    ),
    other(
        "websocket",
        "WebSocket transport",
        Yes,
        &[
            "tests/end_to_end/suites.rs",
            "codec/tests/ws_framing.rs::the_examples_of_rfc_6455_5_7",
            "tests/conformance/autobahn.sh",
        ],
    ),
    other(
        "batched",
        "Batched WebSocket transport",
        Yes,
        &[
            "tests/end_to_end/suites.rs",
            "tests/end_to_end/batches.rs::all_messages_of_a_batch_are_handled_in_order",
        ],
    ),
    other(
        "rawsocket",
        "RawSocket transport",
        Yes,
        &[
            "tests/end_to_end/suites.rs",
            "tests/end_to_end/rawsocket.rs::every_byte_of_the_handshake_is_looked_at",
            "codec/tests/rawsocket.rs",
        ],
    ),
    other(
        "longpoll",
        "HTTP long-poll transport",
        Yes,
        &[
            "tests/end_to_end/suites.rs",
            "tests/end_to_end/longpoll.rs::polled_sessions_and_websockets_share_topics_and_procedures",
            "tests/clients/longpoll.mjs",
        ],
    ),
    other("multiplexed", "Multiplexed transport", No("a sketch in the specification"), &[]),
    other("router_to_router", "Router-to-router links", No("waits for the cluster"), &[]),
    other("interfaces", "Interface definitions and catalogs", No("a sketch in the specification"), &[]),
    other(
        "wamp1",
        "WAMP version 1",
        Yes,
        &[
            "tests/end_to_end/wamp1.rs::both_versions_are_spoken_at_one_path",
            "tests/end_to_end/wamp1.rs::the_last_autobahn_of_version_1",
            "codec/tests/wamp1.rs::each_message_is_read",
        ],
    ),
    other(
        "extensions",
        "Extensions of other routers",
        Yes,
        &[
            "router-core/tests/wamp2/shared.rs::the_least_loaded_is_asked",
            "router-core/tests/wamp2/shared.rs::nobody_works_on_more_than_it_wants",
            "router-core/tests/wamp2/shared.rs::who_forces_its_way_in_has_the_procedure_alone",
        ],
    ),
];
