//! The two sides of a rule for topics: what a client says, and which topic that is.
//!
//! ```text
//! match   = "{symbol}@{kind:depth|trades}"     text, and captures of what the client says
//! channel = "ex:{symbol}@{kind}"               text, captures, and {ctx.…}: what is known of the connection
//! ```
//!
//! A capture has at least one character, and no `@`, white space, `#` or control character. It ends where the text behind it
//! comes first, or for the last text of a pattern where that ends it; so what it takes hangs on nothing but the pattern, and
//! is found without trying. Two captures side by side would leave open where one ends, and are refused.
//!
//! A topic can be read backwards: what fills a place of `channel` may not have the character that stands behind it there. So
//! two clients that say different things by one rule never mean the same topic.

use std::fmt;

use crate::uri::{self, UriError, UriRule};

/// One piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Capture(Capture),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Capture {
    name: Box<str>,
    /// What it may be; empty: anything.
    pub(crate) choices: Box<[Box<str>]>,
}

/// What a client calls a channel, with captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    parts: Box<[Part]>,
}

/// One piece of a topic's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(Box<str>),
    /// What the capture of this number took.
    Capture(usize),
    /// What is known of the connection under this name.
    Context(Box<str>),
}

/// The topic's name, with what is to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pieces: Box<[Piece]>,
}

/// Which side of a rule is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What clients say.
    Match,
    /// The topic.
    Channel,
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateError {
    /// There is nothing.
    Empty,
    /// `{` without `}`, or the other way round.
    Brace,
    /// What stands between braces is no name.
    CaptureName(String),
    /// A capture may be nothing.
    Choice(String),
    /// A capture may be what would end it sooner.
    CutChoice(String),
    /// Two captures have one name.
    Twice(String),
    /// It could not be said where one ends.
    SideBySide(String),
    /// More captures than [`CAPTURES_MAX`].
    TooMany,
    /// What a client says cannot have the part that is known of its connection.
    ContextInMatch(String),
    /// The channel names a capture that is not there.
    NoCapture(String),
    /// Nothing is known of the connection.
    NoContext(String),
    /// The name of a parameter in a query is not written out.
    Parameter(String),
    /// Two names of one client could be one channel.
    Unused(String),
    /// Not a name of a topic.
    Topic(UriError),
    /// Such topics are the router's own.
    Reserved,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Brace => f.write_str("a brace is not closed, or not opened"),
            Self::CaptureName(name) => {
                write!(f, "{{{name}}}: a name has lower-case letters, digits and _, and begins with a letter")
            }
            Self::Choice(capture) => write!(f, "{{{capture}}}: there is an empty choice"),
            Self::CutChoice(choice) => {
                write!(
                    f,
                    "the choice {choice:?} has in it what stands behind its capture, and would end there"
                )
            }
            Self::Twice(name) => write!(f, "there are two captures {{{name}}}"),
            Self::SideBySide(name) => {
                write!(f, "{{{name}}} stands side by side with another one: put text between them")
            }
            Self::TooMany => write!(f, "it has more than {CAPTURES_MAX} captures"),
            Self::ContextInMatch(name) => {
                write!(f, "{{{name}}}: the context is for the channel; what a client says has captures")
            }
            Self::NoCapture(name) => {
                write!(f, "{{{name}}} is not in match; what is known of the connection is {{ctx.…}}")
            }
            Self::NoContext(name) => write!(f, "{{ctx.{name}}}: nothing is known of who connects here"),
            Self::Parameter(name) => {
                write!(
                    f,
                    "{name:?} in the query is no parameter: its name is written out, as in ?room={{room}}"
                )
            }
            Self::Unused(name) => {
                write!(f, "{{{name}}} of match is not in channel: all that it takes would be one channel")
            }
            Self::Topic(why) => write!(f, "no topic can be named so: {why}"),
            Self::Reserved => {
                f.write_str("topics that begin with \"wamp.\" or \"fanwire.\" are the router's own")
            }
        }
    }
}

impl std::error::Error for TemplateError {}

/// Captures of one rule: what they took is on the stack.
pub const CAPTURES_MAX: usize = 8;

/// What the captures of a pattern took, in their order.
pub(crate) type Captures<'a> = [&'a str; CAPTURES_MAX];

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts: Vec<Part> = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for piece in pieces(text)? {
            let inside = match piece {
                Written::Text(text) => {
                    parts.push(Part::Text(text.into()));
                    continue;
                }
                Written::Braced(inside) => inside,
            };
            let (name, choices) = match inside.split_once(':') {
                Some((name, choices)) => (name, choices.split('|').map(Box::from).collect()),
                None => (inside, Box::<[Box<str>]>::default()),
            };
            if name.starts_with("ctx.") {
                return Err(TemplateError::ContextInMatch(name.to_owned()));
            }
            check_name(name)?;
            if choices.iter().any(|choice| choice.is_empty()) {
                return Err(TemplateError::Choice(inside.to_owned()));
            }
            if names.contains(&name) {
                return Err(TemplateError::Twice(name.to_owned()));
            }
            if matches!(parts.last(), Some(Part::Capture(_))) {
                return Err(TemplateError::SideBySide(name.to_owned()));
            }
            if names.len() == CAPTURES_MAX {
                return Err(TemplateError::TooMany);
            }
            names.push(name);
            parts.push(Part::Capture(Capture { name: name.into(), choices }));
        }
        // The last text ends the whole, so it may be in a choice too.
        let ended = parts.windows(2).take(parts.len().saturating_sub(2));
        for pair in ended {
            if let [Part::Capture(capture), Part::Text(text)] = pair
                && let Some(choice) = capture.choices.iter().find(|choice| choice.contains(&**text))
            {
                return Err(TemplateError::CutChoice(choice.to_string()));
            }
        }
        Ok(Self { parts: parts.into() })
    }

    /// In their order, by which they have numbers.
    pub(crate) fn captures(&self) -> impl Iterator<Item = &Capture> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(capture) => Some(capture),
            Part::Text(_) => None,
        })
    }

    /// The whole of what a client says, if it never changes.
    pub(crate) fn literal(&self) -> Option<&str> {
        match &*self.parts {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// What the captures take of what a client said; `None`: it is about something else.
    pub(crate) fn find<'a>(&self, said: &'a str) -> Option<Captures<'a>> {
        let mut captures = Captures::default();
        let mut count = 0;
        let mut rest = said;
        for (index, part) in self.parts.iter().enumerate() {
            let capture = match part {
                Part::Text(text) => {
                    rest = rest.strip_prefix(&**text)?;
                    continue;
                }
                Part::Capture(capture) => capture,
            };
            let end = match self.parts.get(index + 1) {
                Some(Part::Text(text)) if index + 2 == self.parts.len() => rest.strip_suffix(&**text)?.len(),
                Some(Part::Text(text)) => rest.find(&**text)?,
                Some(Part::Capture(_)) => unreachable!("captures are never side by side"),
                None => rest.len(),
            };
            let taken = &rest[..end];
            if !capture.may_be(taken) {
                return None;
            }
            captures[count] = taken;
            count += 1;
            rest = &rest[end..];
        }
        rest.is_empty().then_some(captures)
    }
}

/// Whether a capture without choices takes it.
pub(crate) fn is_free(character: char) -> bool {
    !(matches!(character, '@' | '#') || character.is_whitespace() || character.is_control())
}

impl Capture {
    fn may_be(&self, taken: &str) -> bool {
        if self.choices.is_empty() {
            !taken.is_empty() && taken.chars().all(is_free)
        } else {
            self.choices.iter().any(|choice| **choice == *taken)
        }
    }
}

impl Name {
    /// Each capture of the pattern must be in the name, or clients could not tell apart what they hear.
    pub(crate) fn parse(text: &str, pattern: &Pattern) -> Result<Self, TemplateError> {
        let captures: Vec<&Capture> = pattern.captures().collect();
        let piece = |written| match written {
            Written::Text(text) => Ok(Piece::Text(text.into())),
            Written::Braced(inside) => match inside.strip_prefix("ctx.") {
                Some(key) => check_name(key).map(|()| Piece::Context(key.into())),
                None => match captures.iter().position(|capture| *capture.name == *inside) {
                    Some(index) => Ok(Piece::Capture(index)),
                    None => Err(TemplateError::NoCapture(inside.to_owned())),
                },
            },
        };
        let pieces = pieces(text)?.into_iter().map(piece).collect::<Result<Box<[Piece]>, _>>()?;
        let unused = captures.iter().enumerate().find(|(index, _)| !pieces.contains(&Piece::Capture(*index)));
        if let Some((_, capture)) = unused {
            return Err(TemplateError::Unused(capture.name.to_string()));
        }
        let name = Self { pieces };
        name.check_ends(&captures)?;
        name.check()?;
        Ok(name)
    }

    /// Whatever is filled in, it can be seen where it ends.
    fn check_ends(&self, captures: &[&Capture]) -> Result<(), TemplateError> {
        for pair in self.pieces.windows(2) {
            match &pair[1] {
                _ if matches!(pair[0], Piece::Text(_)) => {}
                Piece::Text(_) => {}
                Piece::Capture(index) => {
                    return Err(TemplateError::SideBySide(captures[*index].name.to_string()));
                }
                Piece::Context(key) => return Err(TemplateError::SideBySide(format!("ctx.{key}"))),
            }
        }
        for (piece, end) in self.with_ends() {
            if let (Piece::Capture(index), Some(end)) = (piece, end)
                && let Some(choice) = captures[*index].choices.iter().find(|choice| choice.contains(end))
            {
                return Err(TemplateError::CutChoice(choice.to_string()));
            }
        }
        Ok(())
    }

    /// With a letter in each place it must be the name of a topic, and not the router's own whatever is filled in.
    fn check(&self) -> Result<(), TemplateError> {
        let example = self.fill(&["x"; CAPTURES_MAX], |_| Some("x")).unwrap_or_default();
        uri::check_topic(&example, UriRule::Loose).map_err(TemplateError::Topic)?;
        if uri::is_reserved(&example) { Err(TemplateError::Reserved) } else { Ok(()) }
    }

    /// What it is made of.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Each piece, and the character that ends what is filled in there, unless it is the last one.
    pub(crate) fn with_ends(&self) -> impl Iterator<Item = (&Piece, Option<char>)> {
        self.pieces.iter().enumerate().map(|(at, piece)| match self.pieces.get(at + 1) {
            Some(Piece::Text(text)) => (piece, text.chars().next()),
            _ => (piece, None),
        })
    }

    /// What must be known of a connection.
    pub(crate) fn context(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Context(key) => Some(&**key),
            _ => None,
        })
    }

    /// The topic's name.
    ///
    /// # Errors
    ///
    /// Whose fault it is that there is none.
    pub(crate) fn fill<'a>(
        &self,
        captures: &Captures<'_>,
        context: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<String, Unfit> {
        let mut topic = String::new();
        for (piece, end) in self.with_ends() {
            topic.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Capture(index) => {
                    let taken = captures[*index];
                    if end.is_some_and(|end| taken.contains(end)) {
                        return Err(Unfit::Capture);
                    }
                    taken
                }
                Piece::Context(key) => context(key).ok_or(Unfit::Context)?,
            });
        }
        Ok(topic)
    }
}

/// Why a topic's name cannot be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// What a capture took has what ends it.
    Capture,
    /// Something is not known of the connection.
    Context,
}

/// Text as it stands, or what is between braces.
enum Written<'a> {
    Text(&'a str),
    Braced(&'a str),
}

fn pieces(text: &str) -> Result<Vec<Written<'_>>, TemplateError> {
    if text.is_empty() {
        return Err(TemplateError::Empty);
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, behind) = rest.split_at(at);
        if !before.is_empty() {
            pieces.push(Written::Text(before));
        }
        let inside = behind.strip_prefix('{').ok_or(TemplateError::Brace)?;
        let (inside, behind) = inside.split_once('}').ok_or(TemplateError::Brace)?;
        if inside.contains('{') {
            return Err(TemplateError::Brace);
        }
        pieces.push(Written::Braced(inside));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Written::Text(rest));
    }
    Ok(pieces)
}

fn check_name(name: &str) -> Result<(), TemplateError> {
    let is_sound = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    if is_sound { Ok(()) } else { Err(TemplateError::CaptureName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(pattern: &str, said: &str) -> Option<Vec<String>> {
        let pattern = Pattern::parse(pattern).expect("a pattern");
        let count = pattern.captures().count();
        pattern.find(said).map(|captures| captures[..count].iter().map(|&taken| taken.to_owned()).collect())
    }

    fn taken(values: &[&str]) -> Option<Vec<String>> {
        Some(values.iter().map(|&value| value.to_owned()).collect())
    }

    #[test]
    fn a_pattern_takes_what_it_says_and_all_of_it() {
        assert_eq!(found("@user", "@user"), taken(&[]));
        for said in ["user", "@users", "1002@user", "user:1002", "@user ", ""] {
            assert_eq!(found("@user", said), None, "{said}");
        }
        assert_eq!(found("{video}@video", "100001@video"), taken(&["100001"]));
        for said in ["@video", "1@2@video", "1 2@video", "1@videos", "a#b@video", "a\u{7}@video"] {
            assert_eq!(found("{video}@video", said), None, "{said}");
        }
        let exchange = "{symbol}@{kind:depth|trades}";
        assert_eq!(found(exchange, "BTC/USDT@depth"), taken(&["BTC/USDT", "depth"]));
        for said in ["BTCUSDT@balance", "BTCUSDT@depth@depth", "@depth", "BTCUSDT@"] {
            assert_eq!(found(exchange, said), None, "{said}");
        }
        assert_eq!(found("a-{x}-b-{y}-b", "a-1-b-2-b-3-b"), taken(&["1", "2-b-3"]));
        assert_eq!(found("{x}aa", "aaa"), taken(&["a"]));
        assert_eq!(found("{x}", "日本"), taken(&["日本"]));
    }

    #[test]
    fn a_name_is_filled_in_with_captures_and_context() {
        let pattern = Pattern::parse("@{kind:balance|order}").expect("a pattern");
        let name = Name::parse("ex:{ctx.uid}@{kind}", &pattern).expect("a name");
        let captures = pattern.find("@order").expect("it is meant");
        let context = |key: &str| (key == "uid").then_some("9007199254740993");
        assert_eq!(name.fill(&captures, context).as_deref(), Ok("ex:9007199254740993@order"));
        assert_eq!(name.fill(&captures, |_| None), Err(Unfit::Context));
        assert_eq!(name.context().collect::<Vec<_>>(), ["uid"]);
    }

    #[test]
    fn mistakes_are_refused_in_words() {
        for (pattern, wrong) in [
            ("", "it is empty"),
            ("{video", "a brace"),
            ("video}", "a brace"),
            ("{a{b}}", "a brace"),
            ("{}@video", "{}: a name"),
            ("{Video}", "{Video}: a name"),
            ("{ctx.uid}@user", "{ctx.uid}: the context"),
            ("{a:x||y}", "{a:x||y}: there is an empty choice"),
            ("{a}@{a}", "there are two captures {a}"),
            ("{a}{b}", "{b} stands side by side"),
            ("{a:b-c|d}-{x}", "the choice \"b-c\" has in it"),
            ("{a}.{b}.{c}.{d}.{e}.{f}.{g}.{h}.{i}", "it has more than 8 captures"),
        ] {
            let error = Pattern::parse(pattern).expect_err(pattern).to_string();
            assert!(error.starts_with(wrong), "{pattern}: {error}");
        }
        let pattern = Pattern::parse("{a}@{b}").expect("a pattern");
        for (name, wrong) in [
            ("x", "{a} of match is not in channel"),
            ("{a}:{b}:{c}", "{c} is not in match"),
            ("{a}:{b}:{ctx.}", "{}: a name"),
            ("{a}:{b}..", "no topic can be named so"),
            ("{a}:{b} x", "no topic can be named so"),
            ("fanwire.{a}.{b}", "topics that begin"),
            ("x:{a}{b}", "{b} stands side by side"),
            ("x:{b}{ctx.uid}:{a}", "{ctx.uid} stands side by side"),
        ] {
            let error = Name::parse(name, &pattern).expect_err(name).to_string();
            assert!(error.starts_with(wrong), "{name}: {error}");
        }
        // In the name it would end sooner.
        let pattern = Pattern::parse("@{a:b-c|d}").expect("a pattern");
        let error = Name::parse("x:{a}-y", &pattern).expect_err("b-c").to_string();
        assert!(error.starts_with("the choice \"b-c\" has in it"), "{error}");
        assert!(Name::parse("x-{a}", &pattern).is_ok() && Pattern::parse("{a:b-c|d}-").is_ok());
    }

    proptest! {
        /// What was put in comes out, wherever the captures stand.
        #[test]
        fn captures_are_what_was_filled_in(
            texts in prop::collection::vec("[@:.]{1,3}", 3), values in prop::collection::vec("[a-z0-9]{1,6}", 2)
        ) {
            let pattern = Pattern::parse(&format!("{}{{a}}{}{{b}}{}", texts[0], texts[1], texts[2]));
            let said = format!("{}{}{}{}{}", texts[0], values[0], texts[1], values[1], texts[2]);
            let captures = pattern.expect("a pattern").find(&said);
            prop_assert_eq!(captures.map(|captures| captures[..2].to_vec()), Some(vec![&*values[0], &*values[1]]));
        }

        /// Whatever is said, no two things that are said by one rule are one topic.
        #[test]
        fn a_topic_is_named_in_one_way(
            parts in prop::collection::vec(("[-@:.]{1,2}", prop::option::of(Just("{x:a|a:b|-}"))), 1..4),
            said in prop::collection::vec("[-ab@:.]{0,8}", 1..40),
            ends in prop::collection::vec("[-:.]{1,2}", 4)
        ) {
            let captures: Vec<String> = (0..parts.len())
                .map(|at| match parts[at].1 {
                    Some(choices) => choices.replace('x', &format!("c{at}")),
                    None => format!("{{c{at}}}"),
                })
                .collect();
            let pattern: String = captures.iter().zip(&parts).map(|(capture, (text, _))| format!("{capture}{text}")).collect();
            let bare = |at: usize| format!("{}{{c{at}}}", ends[at]);
            let name: String = (0..parts.len()).rev().map(bare).collect();
            let Ok(pattern) = Pattern::parse(&pattern) else { return Ok(()) };
            let Ok(name) = Name::parse(&name, &pattern) else { return Ok(()) };
            let mut topics = std::collections::HashMap::new();
            for said in &said {
                let Some(captured) = pattern.find(said) else { continue };
                prop_assert!(captured[..parts.len()].iter().all(|taken| !taken.is_empty() && said.contains(taken)));
                if let Ok(topic) = name.fill(&captured, |_| None) {
                    let other = topics.insert(topic, said.clone());
                    prop_assert!(other.is_none_or(|other| other == *said));
                }
            }
        }

        #[test]
        fn anything_a_client_says_is_taken_or_not(
            texts in prop::collection::vec("[-ab@:.]{0,2}", 3), said in "[-ab@:. é]{0,12}"
        ) {
            let [first, second, third] = [0, 1, 2].map(|at| &texts[at]);
            let Ok(pattern) = Pattern::parse(&format!("{first}{{x}}{second}{{y:a|b:}}{third}")) else { return Ok(()) };
            if let Some([x, y, ..]) = pattern.find(&said) {
                prop_assert_eq!(format!("{first}{x}{second}{y}{third}"), &*said);
                prop_assert!(["a", "b:"].contains(&y) && !x.is_empty() && !x.contains(['@', ' ']));
            }
        }
    }
}
