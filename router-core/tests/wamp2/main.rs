//! The sessions of WAMP in both versions, the message center's that of echo rooms and of endpoints with handlers, as their clients see them: conversations with one or two shards, without sockets.

mod support;

mod api;
mod bad_input;
mod call;
mod cancel;
mod challenges;
mod disclosure;
mod echo;
mod echo_model;
mod handled;
mod hooks;
mod inner;
mod lists;
mod login;
mod message_center;
mod message_center_changes;
mod message_center_model;
mod meta;
mod meta_registrations;
mod passthru;
mod pattern;
mod plain;
mod progress;
mod progress_flow;
mod publish;
mod renewal;
mod retained;
mod session;
mod shared;
mod transport;
mod trust;
mod version_1;
mod version_1_calls;
mod version_1_model;
mod version_1_refusals;
