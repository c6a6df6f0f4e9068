//! Patterns as Redis compares them: `*`, `?`, `[a-c]`, `[^a]`, and `\` before what is meant as it stands. Byte by byte.

use std::fmt;

/// A pattern, ready to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Any bytes, or none. Never two in a row.
    Any,
    /// One byte, any.
    One,
    /// This byte.
    Byte(u8),
    /// One byte that is (or, negated, is not) in one of these ranges.
    Set { negated: bool, ranges: Box<[(u8, u8)]> },
}

impl Part {
    /// Whether it matches one byte. Never asked of [`Part::Any`].
    fn has(&self, byte: u8) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Byte(own) => *own == byte,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&byte)) != *negated
            }
        }
    }
}

/// The pattern is longer than [`GLOB_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobTooLong;

impl fmt::Display for GlobTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a pattern has at most {GLOB_BYTES_MAX} bytes")
    }
}

impl std::error::Error for GlobTooLong {}

/// Longest pattern. A comparison takes at most this many steps for each byte of the name.
pub const GLOB_BYTES_MAX: usize = 255;

impl Glob {
    /// Reads a pattern. Every pattern means something: a `[` without its end goes to the end, a `\` at the end is itself.
    ///
    ///     use fanwire_codec::resp::Glob;
    ///     let glob = Glob::new(b"news.[a-c]*").unwrap();
    ///     assert!(glob.matches(b"news.art") && !glob.matches(b"news.drama"));
    ///     assert_eq!(glob.literal_prefix(), b"news.");
    ///
    /// # Errors
    ///
    /// If it is too long.
    pub fn new(pattern: &[u8]) -> Result<Self, GlobTooLong> {
        if pattern.len() > GLOB_BYTES_MAX {
            return Err(GlobTooLong);
        }
        let mut parts: Vec<Part> = Vec::with_capacity(pattern.len());
        let mut rest = pattern;
        while let Some((&first, behind)) = rest.split_first() {
            rest = behind;
            match first {
                b'*' if parts.last() == Some(&Part::Any) => {}
                b'*' => parts.push(Part::Any),
                b'?' => parts.push(Part::One),
                b'[' => parts.push(read_set(&mut rest)),
                b'\\' => parts.push(Part::Byte(read_byte(&mut rest).unwrap_or(b'\\'))),
                byte => parts.push(Part::Byte(byte)),
            }
        }
        Ok(Self(parts.into()))
    }

    /// What every name begins with that it matches.
    pub fn literal_prefix(&self) -> Vec<u8> {
        let byte = |part: &Part| if let Part::Byte(byte) = part { Some(*byte) } else { None };
        self.0.iter().map_while(byte).collect()
    }

    /// Whether the whole name matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        let parts = &self.0;
        let (mut at, mut next) = (0, 0);
        // The last `*`: where its successor stands, and from where in the name that is tried. What an earlier one took need
        // never be changed, so this is all that is gone back to.
        let mut back: Option<(usize, usize)> = None;
        while next < name.len() {
            match parts.get(at) {
                Some(Part::Any) => {
                    at += 1;
                    back = Some((at, next));
                }
                Some(part) if part.has(name[next]) => {
                    at += 1;
                    next += 1;
                }
                _ => {
                    let Some((after, from)) = back else { return false };
                    back = Some((after, from + 1));
                    (at, next) = (after, from + 1);
                }
            }
        }
        parts[at..].iter().all(|part| *part == Part::Any)
    }
}

fn read_byte(rest: &mut &[u8]) -> Option<u8> {
    let (&first, behind) = rest.split_first()?;
    *rest = behind;
    Some(first)
}

/// What follows `[`, its `]` included.
fn read_set(rest: &mut &[u8]) -> Part {
    let negated = rest.first() == Some(&b'^');
    if negated {
        read_byte(rest);
    }
    let mut ranges = Vec::new();
    while let Some(first) = read_byte(rest) {
        match first {
            b']' => break,
            b'\\' => ranges.extend(read_byte(rest).or(Some(b'\\')).map(|byte| (byte, byte))),
            // A range may be written either way round.
            first => match **rest {
                [b'-', last, ..] => {
                    *rest = &rest[2..];
                    ranges.push((first.min(last), first.max(last)));
                }
                _ => ranges.push((first, first)),
            },
        }
    }
    Part::Set { negated, ranges: ranges.into() }
}
