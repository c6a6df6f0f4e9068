//! The small clients: `fanwire pub`, `sub`, `call`, `register`. Blocking, one connection each, nothing shared with the router
//! but the codec. Results go to standard output, everything else to standard error.
#![allow(
    clippy::disallowed_methods,
    reason = "a client is outside of the router: its clock and randomness are its own"
)]

mod connection;
mod connections;
mod exec;
mod failure;
mod login;
mod publish;
mod slow;
mod stats;
mod stream;
mod tls;
mod values;

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fanwire_codec::wamp2::{
    CallOptions, MatchPolicy, Message, RegisterOptions, SubscribeOptions, YieldOptions, code,
};

use crate::cli::{Answer, CallArgs, Connect, RegisterArgs, SubArgs};
use crate::config::units::{Scalar, Time};
use connection::{Connection, Sender};
pub use connections::list as list_connections;
pub use failure::Failure;
pub use publish::publish;
pub use slow::slow;
use stats::Stats;
use values::{Values, json_string};

/// For an acknowledgement of the router itself.
const REPLY_TIME: Duration = Duration::from_secs(10);
/// Calls that `register --exec` works on at once; further ones are answered with an error.
const RUNNING_MAX: usize = 64;

/// Joins, does, leaves: also after a failure, so that the router need not wonder where we are.
fn in_session(
    connect: &Connect,
    command: impl FnOnce(&mut Connection) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut connection = Connection::open(connect)?;
    let outcome = command(&mut connection);
    connection.leave();
    outcome
}

/// `fanwire sub`
pub fn subscribe(args: &SubArgs) -> Result<(), Failure> {
    in_session(&args.connect, |connection| subscribe_in(connection, args))
}

fn subscribe_in(connection: &mut Connection, args: &SubArgs) -> Result<(), Failure> {
    let policy = args.matching.policy;
    warn_of_foreign_wildcards(policy, &args.topic);
    let options = SubscribeOptions { match_policy: policy, ..SubscribeOptions::default() };
    connection.sender().send(&Message::Subscribe {
        request: 1,
        options,
        topic: args.topic.as_str().into(),
    })?;
    let reply = expect_reply(connection, code::SUBSCRIBE, 1, REPLY_TIME)?;
    let Message::Subscribed { .. } = connection.decode(&reply)? else {
        return Err(unexpected(connection, &reply));
    };
    eprintln!("subscribed to {} ({})", in_words(policy, &args.topic), until(args.count));
    let mut stats = args.stats.then(|| Stats::new(Instant::now()));
    let outcome = print_events(connection, args, stats.as_mut());
    if let Some(stats) = stats {
        eprintln!("{}", stats.summary(Instant::now()));
    }
    outcome
}

fn print_events(
    connection: &mut Connection,
    args: &SubArgs,
    mut stats: Option<&mut Stats>,
) -> Result<(), Failure> {
    let mut seen = 0;
    while args.count.is_none_or(|count| seen < count) {
        let bytes = next_message(connection, stats.as_deref_mut())?;
        let Message::Event { publication, details, payload, .. } = connection.decode(&bytes)? else {
            return Err(unexpected(connection, &bytes));
        };
        seen += 1;
        if args.quiet {
            continue;
        }
        let values = Values::from_payload(connection.serializer(), &payload)?;
        if args.json {
            // Told where the subscription is a pattern.
            let topic = text(&json_string(details.topic.as_deref().unwrap_or(&args.topic)));
            let publisher = details.publisher.map(|session| {
                (session, details.publisher_authid.as_deref(), details.publisher_authrole.as_deref())
            });
            print(format_args!(
                "{{\"topic\":{topic},\"publication\":{publication},{}{}}}",
                disclosed("publisher", publisher),
                values.members()
            ))?;
        } else {
            print_numbered(seen, details.topic.as_deref(), &values)?;
        }
    }
    Ok(())
}

/// Who publishes or calls as a member of a JSON object, if the router says so: session, authid and authrole.
fn disclosed(key: &str, who: Option<(u64, Option<&str>, Option<&str>)>) -> String {
    let Some((session, authid, authrole)) = who else { return String::new() };
    let name = |key: &str, name: Option<&str>| {
        name.map_or_else(String::new, |name| format!(",\"{key}\":{}", text(&json_string(name))))
    };
    format!("\"{key}\":{{\"session\":{session}{}{}}},", name("authid", authid), name("authrole", authrole))
}

/// One event or call for people; `name` is its topic or procedure, where that is not known.
fn print_numbered(number: u64, name: Option<&str>, values: &Values) -> Result<(), Failure> {
    let name = name.map_or_else(String::new, |name| format!("{name} "));
    print(format_args!("{}", format!("#{number} {name}{}", values.for_people()).trim_end()))
}

/// A topic, procedure or pattern.
fn in_words(policy: MatchPolicy, uri: &str) -> String {
    match policy {
        MatchPolicy::Exact => uri.to_owned(),
        MatchPolicy::Prefix => format!("all that begin with \"{uri}\""),
        MatchPolicy::Wildcard => format!("all that match \"{uri}\""),
    }
}

/// Other systems write wildcards as characters, which are parts of names here.
fn warn_of_foreign_wildcards(policy: MatchPolicy, uri: &str) {
    if uri.split('.').any(|component| matches!(component, "*" | "**" | "+" | ">")) {
        let policy = policy.name();
        eprintln!(
            "note: with --match {policy}, \"{uri}\" means these very characters; any one component is an empty one: \
             --match wildcard a..c"
        );
    }
}

/// The next message; until it comes, a line about each second that has passed.
fn next_message(connection: &mut Connection, stats: Option<&mut Stats>) -> Result<Vec<u8>, Failure> {
    let Some(stats) = stats else { return connection.next(None) };
    loop {
        if let Some(line) = stats.line(Instant::now()) {
            eprintln!("{line}");
        }
        match connection.next(Some(stats.due())) {
            Ok(bytes) => {
                stats.count(bytes.len());
                return Ok(bytes);
            }
            Err(Failure::Timeout(_)) => {}
            Err(other) => return Err(other),
        }
    }
}

/// `fanwire call`
pub fn call(args: &CallArgs) -> Result<(), Failure> {
    let Time(timeout) = Time::from_text(&args.timeout)
        .map_err(|wrong| Failure::Usage(format!("--timeout: {wrong}; allowed: {}", Time::allowed())))?;
    let values = Values::from_words(&args.values.args, &args.values.kw)?;
    in_session(&args.connect, |connection| call_in(connection, args, &values, timeout))
}

fn call_in(
    connection: &mut Connection,
    args: &CallArgs,
    values: &Values,
    timeout: Duration,
) -> Result<(), Failure> {
    let payload = values.to_payload(connection.serializer())?;
    for request in 1..=args.count {
        let started = Instant::now();
        connection.sender().send(&Message::Call {
            request,
            options: CallOptions { disclose_me: args.disclose.then_some(true), ..CallOptions::default() },
            procedure: args.procedure.as_str().into(),
            payload: payload.view(),
        })?;
        let reply = expect_reply(connection, code::CALL, request, timeout)?;
        let Message::Result { payload, .. } = connection.decode(&reply)? else {
            return Err(unexpected(connection, &reply));
        };
        let values = Values::from_payload(connection.serializer(), &payload)?;
        if args.json {
            let microseconds = started.elapsed().as_micros();
            print(format_args!("{{{},\"microseconds\":{microseconds}}}", values.members()))?;
        } else {
            print(format_args!("{}", values.for_people()))?;
            eprintln!("answered in {}", took(started));
        }
    }
    Ok(())
}

/// `fanwire register`
pub fn register(args: &RegisterArgs) -> Result<(), Failure> {
    in_session(&args.connect, |connection| register_in(connection, args))
}

fn register_in(connection: &mut Connection, args: &RegisterArgs) -> Result<(), Failure> {
    let policy = args.matching.policy;
    warn_of_foreign_wildcards(policy, &args.procedure);
    let options = RegisterOptions { match_policy: policy, ..RegisterOptions::default() };
    let procedure = args.procedure.as_str();
    connection.sender().send(&Message::Register { request: 1, options, procedure: procedure.into() })?;
    let reply = expect_reply(connection, code::REGISTER, 1, REPLY_TIME)?;
    let Message::Registered { .. } = connection.decode(&reply)? else {
        return Err(unexpected(connection, &reply));
    };
    eprintln!("registered {} ({})", in_words(policy, procedure), until(args.count));
    let running = AtomicUsize::new(0);
    // The reading thread answers pings while programs run; leaving waits for all of them.
    std::thread::scope(|scope| {
        let mut seen = 0;
        while args.count.is_none_or(|count| seen < count) {
            let bytes = connection.next(None)?;
            let Message::Invocation { request, details, payload, .. } = connection.decode(&bytes)? else {
                return Err(unexpected(connection, &bytes));
            };
            seen += 1;
            let values = Values::from_payload(connection.serializer(), &payload)?;
            // Told where the registration is a pattern.
            let called = details.procedure.as_deref();
            let name = text(&json_string(called.unwrap_or(procedure)));
            let caller = details.caller.map(|session| {
                (session, details.caller_authid.as_deref(), details.caller_authrole.as_deref())
            });
            let caller = disclosed("caller", caller);
            let call = format!("{{\"procedure\":{name},{caller}{}}}", values.members());
            if args.json {
                print(format_args!("{call}"))?;
            } else {
                print_numbered(seen, called, &values)?;
            }
            let sender = connection.sender();
            let serializer = connection.serializer();
            match &args.answer {
                Answer { exec: None, .. } => {
                    sender.send(&Message::Yield { request, options: YieldOptions::default(), payload })?;
                }
                Answer { .. } if running.load(Ordering::Relaxed) >= RUNNING_MAX => {
                    let words = format!("{RUNNING_MAX} programs are running already");
                    refuse(&sender, serializer, request, "fanwire.error.busy", &words)?;
                }
                Answer { exec: Some(command), .. } => {
                    running.fetch_add(1, Ordering::Relaxed);
                    let running = &running;
                    scope.spawn(move || {
                        answer_by_program(&sender, serializer, request, command, &call);
                        running.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            }
        }
        Ok(())
    })
}

/// Runs the program and answers the call. A broken connection shows in the reading thread.
fn answer_by_program(
    sender: &Sender,
    serializer: fanwire_codec::wamp2::Serializer,
    request: u64,
    command: &str,
    call: &str,
) {
    let sent = match exec::run(command, format!("{call}\n").as_bytes()) {
        Ok(output) => match Values::from_output(&output).to_payload(serializer) {
            Ok(payload) => sender.send(&Message::Yield {
                request,
                options: YieldOptions::default(),
                payload: payload.view(),
            }),
            Err(failure) => {
                refuse(sender, serializer, request, "fanwire.error.command_failed", &failure.to_string())
            }
        },
        Err(words) => {
            // The caller learns that it failed; the command itself is none of its business.
            eprintln!("{command}: {words}");
            let words = format!("the callee's command {words}");
            refuse(sender, serializer, request, "fanwire.error.command_failed", &words)
        }
    };
    if let Err(failure) = sent {
        eprintln!("{failure}");
    }
}

fn refuse(
    sender: &Sender,
    serializer: fanwire_codec::wamp2::Serializer,
    request: u64,
    error: &str,
    words: &str,
) -> Result<(), Failure> {
    let values = Values { args: Some([b"[", &json_string(words)[..], b"]"].concat()), kwargs: None };
    sender.send(&Message::Error {
        request_type: code::INVOCATION,
        request,
        error: error.into(),
        payload: values.to_payload(serializer)?.view(),
    })
}

/// The answer to a request, or why there is none. Events and invocations do not come before it: nothing is subscribed yet.
fn expect_reply(
    connection: &mut Connection,
    request_type: u64,
    request: u64,
    time: Duration,
) -> Result<Vec<u8>, Failure> {
    let bytes = connection.next(Some(Instant::now() + time)).map_err(|failure| match failure {
        Failure::Timeout(_) => Failure::Timeout(format!("no answer in {}", Time(time))),
        other => other,
    })?;
    match connection.decode(&bytes)? {
        Message::Error { request_type: of, request: id, error, payload }
            if (of, id) == (request_type, request) =>
        {
            let values = Values::from_payload(connection.serializer(), &payload)?.for_people();
            let words = plain_string(&values);
            let colon = if words.is_empty() { "" } else { ": " };
            Err(Failure::Refused(format!("{error}{colon}{words}{}", advice(&error, request_type))))
        }
        _ => Ok(bytes),
    }
}

/// A JSON string without its quotes, if it needs no escapes; else as it is.
fn plain_string(json: &str) -> &str {
    let inside = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.filter(|inside| !inside.contains(['\\', '"'])).unwrap_or(json)
}

/// What to do about the errors that people meet first.
fn advice(error: &str, request_type: u64) -> &'static str {
    match error {
        "wamp.error.invalid_uri" if matches!(request_type, code::SUBSCRIBE | code::REGISTER) => {
            "; for patterns there are --match prefix and --match wildcard"
        }
        "wamp.error.no_such_procedure" => "; `fanwire register` could answer it",
        "wamp.error.procedure_already_exists" => "; who did is still there",
        "wamp.error.not_authorized" => "; see realm.role.permission in the router's configuration",
        _ => "",
    }
}

fn unexpected(connection: &Connection, bytes: &[u8]) -> Failure {
    match connection.decode(bytes) {
        Ok(message) => {
            Failure::Refused(format!("the router sent {}, which was not asked for", message.name()))
        }
        Err(failure) => failure,
    }
}

/// Writes a line of result, now.
fn print(line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    // Whoever reads may have gone (`| head`): that is the end, not an error.
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|_| Failure::OutputClosed)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn until(count: Option<u64>) -> String {
    count.map_or_else(|| "Ctrl-C ends".to_owned(), |count| format!("ends after {count}"))
}

fn took(since: Instant) -> String {
    let time = since.elapsed();
    match time.as_micros() {
        micros @ 0..10_000 => format!("{micros} µs"),
        micros @ 10_000..10_000_000 => format!("{} ms", micros / 1_000),
        micros => format!("{} s", micros / 1_000_000),
    }
}
