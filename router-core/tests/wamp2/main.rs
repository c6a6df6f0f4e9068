//! The WAMP v2 session as its clients see it: conversations with one or two shards, without sockets.

mod support;

mod api;
mod call;
mod disclosure;
mod hooks;
mod lists;
mod login;
mod pattern;
mod publish;
mod renewal;
mod session;
