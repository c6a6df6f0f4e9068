//! `fanwire pub`: what is published, how often, how fast.
//!
//! The schedule is open: the n-th publication is due n / rate after the start, however long the ones before it took. Each is
//! acknowledged before the next is sent. Whatever is waited for, pings of the router are answered.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanwire_codec::wamp2::{Message, PublishOptions, ReceiverLists, code};

use super::connection::Connection;
use super::failure::Failure;
use super::values::{Values, json_string};
use super::{REPLY_TIME, expect_reply, in_session, print, text, took, unexpected};
use crate::cli::{PubArgs, Receivers};

/// Stands for standard input.
const STANDARD_INPUT: &str = "-";
/// A router takes no longer message anyway.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// While nobody types, pings wait no longer than this for their answer.
const LINE_WAIT: Duration = Duration::from_millis(250);
/// A socket's timeout is a few milliseconds too long (ticks of the kernel); the last part of a wait is slept instead.
const SLEEP_MAX: Duration = Duration::from_millis(10);

/// `fanwire pub`
pub fn publish(args: &PubArgs) -> Result<(), Failure> {
    let rate = args.rate.as_deref().map(Rate::parse).transpose()?;
    let source = Source::new(args)?;
    let count = match (&source, args.count) {
        (_, Some(count)) => Some(count),
        (Source::Lines(_), None) => None,
        (_, None) => rate.is_none().then_some(1),
    };
    in_session(&args.connect, |connection| publish_in(connection, args, source, count, rate))
}

fn publish_in(
    connection: &mut Connection,
    args: &PubArgs,
    mut source: Source,
    count: Option<u64>,
    rate: Option<Rate>,
) -> Result<(), Failure> {
    let started = Instant::now();
    let mut published = 0;
    while count.is_none_or(|count| published < count) {
        if let Some(rate) = rate {
            wait(connection, started + rate.time_of(published))?;
        }
        let request = published + 1;
        let Some(values) = source.next(connection, request)? else { break };
        connection.sender().send(&Message::Publish {
            request,
            options: PublishOptions {
                acknowledge: true,
                disclose_me: args.disclose.then_some(true),
                receivers: lists(&args.receivers),
                conflate_key: args.conflate_key.as_deref().map(Into::into),
                ..PublishOptions::default()
            },
            topic: args.topic.as_str().into(),
            payload: values.to_payload(connection.serializer())?.view(),
        })?;
        let reply = expect_reply(connection, code::PUBLISH, request, REPLY_TIME)?;
        let Message::Published { publication, .. } = connection.decode(&reply)? else {
            return Err(unexpected(connection, &reply));
        };
        published = request;
        if args.json {
            let topic = text(&json_string(&args.topic));
            print(format_args!("{{\"topic\":{topic},\"publication\":{publication}}}"))?;
        }
    }
    match published {
        1 => eprintln!("published to {} ({})", args.topic, took(started)),
        count => eprintln!("published {count} times to {} ({})", args.topic, took(started)),
    }
    Ok(())
}

/// The lists of receivers; a list that was not given is not there, since an empty one would mean nobody.
fn lists(receivers: &Receivers) -> Option<Box<ReceiverLists<'_>>> {
    fn given<'a, T, U>(values: &'a [T], as_given: impl Fn(&'a T) -> U) -> Option<Vec<U>> {
        (!values.is_empty()).then(|| values.iter().map(as_given).collect())
    }
    let names = |names| given(names, |name: &String| Cow::Borrowed(name.as_str()));
    let lists = ReceiverLists {
        exclude: given(&receivers.exclude, |id| *id),
        exclude_authid: names(&receivers.exclude_authid),
        exclude_authrole: names(&receivers.exclude_authrole),
        eligible: given(&receivers.eligible, |id| *id),
        eligible_authid: names(&receivers.eligible_authid),
        eligible_authrole: names(&receivers.eligible_authrole),
    };
    (lists != ReceiverLists::default()).then(|| Box::new(lists))
}

/// Waits until `due`, and answers pings. A goodbye of the router ends it.
fn wait(connection: &mut Connection, due: Instant) -> Result<(), Failure> {
    while let Some(left) = due.checked_duration_since(Instant::now()) {
        if left <= SLEEP_MAX {
            std::thread::sleep(left);
            break;
        }
        read_until(connection, due - SLEEP_MAX)?;
    }
    Ok(())
}

/// Reads what nobody asked for, which is pings and the end.
fn read_until(connection: &mut Connection, deadline: Instant) -> Result<(), Failure> {
    match connection.next(Some(deadline)) {
        Err(Failure::Timeout(_)) => Ok(()),
        Err(other) => Err(other),
        Ok(bytes) => Err(unexpected(connection, &bytes)),
    }
}

/// Where the arguments of each publication come from.
enum Source {
    /// The same each time.
    Words(Values),
    /// Text that is filled in each time, and the keyword arguments.
    Template(Template, Vec<String>),
    /// Lines of standard input.
    Lines(Lines),
}

impl Source {
    fn new(args: &PubArgs) -> Result<Self, Failure> {
        // Also for the other sources: keyword arguments that make no sense are told before anything is published.
        let words = Values::from_words(&args.values.args, &args.values.kw)?;
        if let Some(template) = &args.template {
            return Ok(Self::Template(Template::parse(template)?, args.values.kw.clone()));
        }
        if args.values.args == [STANDARD_INPUT] {
            return Ok(Self::Lines(Lines { kw: args.values.kw.clone(), lines: lines_of_standard_input() }));
        }
        Ok(Self::Words(words))
    }

    /// The arguments of this publication, counted from 1; `None` at the end of standard input.
    fn next(&mut self, connection: &mut Connection, sequence: u64) -> Result<Option<Values>, Failure> {
        match self {
            Self::Words(values) => Ok(Some(values.clone())),
            Self::Template(template, kw) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Values::from_words(&[template.fill(sequence, now)], kw).map(Some)
            }
            Self::Lines(lines) => match lines.next(connection)? {
                Some(line) => Values::from_words(&[line], &lines.kw).map(Some),
                None => Ok(None),
            },
        }
    }
}

/// Standard input is read by a thread of its own, since a person may type slowly and pings do not wait.
struct Lines {
    kw: Vec<String>,
    lines: Receiver<Result<String, Failure>>,
}

impl Lines {
    fn next(&mut self, connection: &mut Connection) -> Result<Option<String>, Failure> {
        loop {
            match self.lines.recv_timeout(LINE_WAIT) {
                Ok(line) => return line.map(Some),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    read_until(connection, Instant::now() + Duration::from_millis(1))?;
                }
            }
        }
    }
}

fn lines_of_standard_input() -> Receiver<Result<String, Failure>> {
    // One line ahead: lines may be long, and the acknowledgements are slower than a pipe.
    let (sender, receiver) = mpsc::sync_channel(1);
    // Nobody waits for the thread: it may be blocked by a terminal when the process ends.
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        for number in 1_u64.. {
            let Some(line) = read_line(&mut input, number).transpose() else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The next line without its end; `None` at the end of the input.
fn read_line(input: &mut impl BufRead, number: u64) -> Result<Option<String>, Failure> {
    let wrong = |what: &str| Failure::Usage(format!("line {number} of standard input {what}"));
    let mut line = Vec::new();
    let count = input
        .take(LINE_BYTES_MAX + 1)
        .read_until(b'\n', &mut line)
        .map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    if count == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if line.len() as u64 > LINE_BYTES_MAX {
        return Err(wrong(&format!("has more than {} MiB", LINE_BYTES_MAX >> 20)));
    }
    let line = String::from_utf8(line).map_err(|_| wrong("is not UTF-8"))?;
    Ok(Some(line))
}

/// Publications per second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate(f64);

impl Rate {
    fn parse(words: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::Usage(format!(
                "--rate {words}: this is no rate; allowed: publications per second from 0.001 to 1M, such as 2, 0.5 or 10k"
            ))
        };
        let number = words.strip_suffix("/s").unwrap_or(words);
        let (number, factor) = match number.strip_suffix(['k', 'M']) {
            Some(thousands) if number.ends_with('k') => (thousands, 1e3),
            Some(millions) => (millions, 1e6),
            None => (number, 1.0),
        };
        let rate = number.parse::<f64>().map_err(|_| wrong())? * factor;
        if (0.001..=1e6).contains(&rate) { Ok(Self(rate)) } else { Err(wrong()) }
    }

    /// When a publication is due that has so many before it.
    fn time_of(self, before: u64) -> Duration {
        // At 0.001 per second, 64 bits of seconds last for 10^16 publications.
        Duration::try_from_secs_f64(before as f64 / self.0).unwrap_or(Duration::MAX)
    }
}

/// A text with places that are filled in for each publication.
#[derive(Debug, PartialEq)]
struct Template(Vec<Piece>);

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Sequence,
    NowMs,
}

impl Template {
    /// `{{word}}` is a place. Other braces stand for themselves: JSON has no `{{` outside of strings.
    fn parse(template: &str) -> Result<Self, Failure> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = template;
        while let Some(at) = rest.find("{{") {
            let inside = &rest[at + 2..];
            let name = inside.find("}}").map(|end| &inside[..end]);
            let Some(name) = name.filter(|name| is_word(name.trim())) else {
                plain.push_str(&rest[..at + 1]);
                rest = &rest[at + 1..];
                continue;
            };
            let piece = match name.trim() {
                "seq" => Piece::Sequence,
                "now_ms" => Piece::NowMs,
                other => {
                    return Err(Failure::Usage(format!(
                        "--template: {{{{{other}}}}} is unknown; allowed: {{{{seq}}}} (1, 2, …), \
                         {{{{now_ms}}}} (Unix time in milliseconds)"
                    )));
                }
            };
            plain.push_str(&rest[..at]);
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
            pieces.push(piece);
            rest = &inside[name.len() + 2..];
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }

    fn fill(&self, sequence: u64, now: Duration) -> String {
        let filled = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Sequence => sequence.to_string(),
            Piece::NowMs => now.as_millis().to_string(),
        });
        filled.collect()
    }
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> String {
        let template = Template::parse(template).expect(template);
        template.fill(7, Duration::from_millis(1_234_567))
    }

    #[test]
    fn lists_that_were_not_given_are_not_there() {
        assert_eq!(lists(&Receivers::default()), None);
        let receivers = Receivers { exclude_authid: vec!["peter".to_owned()], ..Receivers::default() };
        let expected =
            ReceiverLists { exclude_authid: Some(vec!["peter".into()]), ..ReceiverLists::default() };
        assert_eq!(lists(&receivers).as_deref(), Some(&expected));
    }

    #[test]
    fn a_template_is_filled() {
        assert_eq!(filled(r#"{"n":{{seq}},"at":{{now_ms}}}"#), r#"{"n":7,"at":1234567}"#);
        assert_eq!(filled("{{ seq }}{{seq}} of {{{seq}}}"), "77 of {7}");
        assert_eq!(filled(""), "");
    }

    #[test]
    fn other_braces_stand_for_themselves() {
        for text in [r#"{"a":{"b":{}}}"#, "{{", "{{}}", "{{a b}}", "{{seq", "ä{{ö}}"] {
            assert_eq!(filled(text), text);
        }
    }

    #[test]
    fn an_unknown_place_is_told() {
        let Err(Failure::Usage(words)) = Template::parse("{{sequence}}") else { panic!("it is unknown") };
        assert!(
            words.starts_with("--template: {{sequence}} is unknown; allowed: {{seq}} (1, 2, …), {{now_ms}}")
        );
    }

    #[test]
    fn rates_have_units() {
        for (words, expected) in [("2", 2.0), ("0.5", 0.5), ("10k", 1e4), ("1.5k/s", 1500.0), ("1M", 1e6)] {
            assert_eq!(Rate::parse(words), Ok(Rate(expected)), "{words}");
        }
        for words in ["", "0", "-1", "k", "2M", "inf", "NaN", "10 per second", "0.0001"] {
            let Err(Failure::Usage(told)) = Rate::parse(words) else { panic!("{words} is no rate") };
            assert!(told.contains("such as 2, 0.5 or 10k"), "{told}");
        }
    }

    #[test]
    fn the_schedule_depends_on_the_rate_alone() {
        assert_eq!(Rate(4.0).time_of(0), Duration::ZERO);
        assert_eq!(Rate(4.0).time_of(10), Duration::from_millis(2_500));
        assert_eq!(Rate(0.001).time_of(u64::MAX), Duration::MAX);
    }

    #[test]
    fn lines_end_where_they_end() {
        let mut input: &[u8] = b"a\nb\r\n\n c";
        let mut read = || read_line(&mut input, 1).expect("UTF-8");
        assert_eq!(read().as_deref(), Some("a"));
        assert_eq!(read().as_deref(), Some("b"));
        assert_eq!(read().as_deref(), Some(""));
        assert_eq!(read().as_deref(), Some(" c"));
        assert_eq!(read(), None);
    }

    #[test]
    fn a_line_that_cannot_be_published_is_told() {
        let told = |mut input: &[u8]| read_line(&mut input, 3).expect_err("it is wrong").to_string();
        assert_eq!(told(b"\xff\n"), "line 3 of standard input is not UTF-8");
        let long = vec![b'a'; LINE_BYTES_MAX as usize + 1];
        assert_eq!(told(&long), "line 3 of standard input has more than 16 MiB");
    }
}
