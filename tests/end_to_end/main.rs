//! Tests of the real process: spawned, spoken to over TCP, disturbed and killed.
//!
//! Each test runs on both drivers. The binary is the one that Cargo built for the tests, or the one that
//! `FANWIRE_BIN` names (`cargo xtask test` names the release build). Scripts of unmodified clients are in
//! `tests/clients`; they need what `cargo xtask test` installs and say so where it is absent.

#![allow(clippy::disallowed_methods, reason = "tests of real time in a real process")]

#[macro_use]
mod support;

mod access;
mod admin;
mod articles;
mod authenticators;
mod authorizers;
mod bad_framing;
mod batches;
mod channels;
mod checks;
mod cli;
mod clients;
mod compression;
mod conformance;
mod cookies;
mod echo;
mod ends;
mod faults;
mod handshakes;
mod history;
mod hooks;
mod hostile;
mod http_api;
mod http_api_described;
mod limits;
mod listeners;
mod live_room;
mod login_clients;
mod login_steps;
mod login_tokens;
mod logins;
mod longpoll;
mod longpoll_limits;
mod lua;
mod message_center;
mod message_center_preset;
mod message_center_wire;
mod meta;
mod meta_registrations;
mod overload;
mod parts;
mod passwd;
mod presets;
mod queues;
mod rawsocket;
mod redis;
mod reflection;
mod reload;
mod resources;
mod retained;
mod server_api;
mod service;
mod shutdown;
mod slow_consumers;
mod start_up;
mod suites;
mod tls;
mod traffic;
mod trust;
mod vectors;
mod wamp1;
mod wamp1_login;
