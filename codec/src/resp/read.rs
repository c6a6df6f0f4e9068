//! Commands of clients: arrays of bulk strings, or words of a line.

use std::ops::Range;

/// Bounds of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandLimits {
    /// Words, the command's name included. An incomplete command of small words is walked again with each receive.
    pub words_max: usize,
    /// Bytes of one word.
    pub word_bytes_max: usize,
    /// Bytes of all words together, with what frames them.
    pub command_bytes_max: usize,
}

/// Why bytes are no command. The connection cannot go on: where the next one begins is not known.
///
/// `Display` gives the words after `ERR `, as Redis says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RespError {
    /// The number of words is no number, or too large.
    #[error("Protocol error: invalid multibulk length")]
    WordCount,
    /// A word does not begin with `$`.
    #[error("Protocol error: expected '$', got {:?}", char::from(*.0))]
    NoBulk(u8),
    /// The length of a word is no number, or too large.
    #[error("Protocol error: invalid bulk length")]
    WordLength,
    /// No line end behind a word or a length.
    #[error("Protocol error: expected a line end")]
    NoLineEnd,
    /// A line without an end.
    #[error("Protocol error: too big inline request")]
    LineTooLong,
    /// All words together are too long.
    #[error("Protocol error: too big request")]
    TooLong,
}

/// Reads the command at the beginning of `input` into `words`, which are ranges of it. Returns how many bytes it has;
/// `None` if it is not complete. A command without words (an empty line) is to be ignored.
///
///     use fanwire_codec::resp::{CommandLimits, read_command};
///     let limits = CommandLimits { words_max: 8, word_bytes_max: 100, command_bytes_max: 200 };
///     let (input, mut words) = (b"*2\r\n$4\r\nPING\r\n$2\r\nhi\r\nPING\r\n", Vec::new());
///     assert_eq!(read_command(input, &limits, &mut words), Ok(Some(22)));
///     assert_eq!(&input[words[1].clone()], b"hi");
///     assert_eq!(read_command(&input[22..], &limits, &mut words), Ok(Some(6)));
///     assert_eq!(read_command(&input[22..27], &limits, &mut words), Ok(None));
///
/// # Errors
///
/// See [`RespError`]: as soon as the bytes cannot become a command, or one that is too large.
pub fn read_command(
    input: &[u8],
    limits: &CommandLimits,
    words: &mut Vec<Range<usize>>,
) -> Result<Option<usize>, RespError> {
    words.clear();
    match input.first() {
        None => Ok(None),
        Some(b'*') => read_array(input, limits, words),
        Some(_) => read_line(input, limits, words),
    }
}

fn read_array(
    input: &[u8],
    limits: &CommandLimits,
    words: &mut Vec<Range<usize>>,
) -> Result<Option<usize>, RespError> {
    let Some((count, mut at)) = number(input, 1).map_err(|flaw| flaw.of(RespError::WordCount))? else {
        return Ok(None);
    };
    // As Redis does: an array of nothing, or the null array, is no command and no error.
    let count = usize::try_from(count).unwrap_or(0);
    if count > limits.words_max {
        return Err(RespError::WordCount);
    }
    for _ in 0..count {
        match input.get(at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => return Err(RespError::NoBulk(*other)),
        }
        let Some((length, begin)) = number(input, at + 1).map_err(|flaw| flaw.of(RespError::WordLength))?
        else {
            return Ok(None);
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= limits.word_bytes_max);
        let end = begin + length.ok_or(RespError::WordLength)?;
        if end + 2 > limits.command_bytes_max {
            return Err(RespError::TooLong);
        }
        let behind = input.get(end..).unwrap_or_default();
        if !b"\r\n".starts_with(&behind[..behind.len().min(2)]) {
            return Err(RespError::NoLineEnd);
        }
        if behind.len() < 2 {
            return Ok(None);
        }
        words.push(begin..end);
        at = end + 2;
    }
    Ok(Some(at))
}

/// What is wrong with a number's line.
enum Flaw {
    Digits,
    LineEnd,
}

impl Flaw {
    fn of(self, digits: RespError) -> RespError {
        match self {
            Self::Digits => digits,
            Self::LineEnd => RespError::NoLineEnd,
        }
    }
}

/// A number and the line end behind it: the number, and where the next line begins.
fn number(input: &[u8], at: usize) -> Result<Option<(i64, usize)>, Flaw> {
    let rest = &input[at.min(input.len())..];
    let negative = rest.first() == Some(&b'-');
    let digits = &rest[usize::from(negative)..];
    let count = digits.iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if count > DIGITS_MAX || count == 0 && !digits.is_empty() {
        return Err(Flaw::Digits);
    }
    let behind = &digits[count..];
    if !b"\r\n".starts_with(&behind[..behind.len().min(2)]) {
        return Err(if behind[0] == b'\r' { Flaw::LineEnd } else { Flaw::Digits });
    }
    if behind.len() < 2 {
        return Ok(None);
    }
    let value = digits[..count].iter().fold(0, |value: i64, digit| value * 10 + i64::from(digit - b'0'));
    let next = at + usize::from(negative) + count + 2;
    Ok(Some((if negative { -value } else { value }, next)))
}

/// A line of words between blanks, for people with a terminal. There are no quotes.
fn read_line(
    input: &[u8],
    limits: &CommandLimits,
    words: &mut Vec<Range<usize>>,
) -> Result<Option<usize>, RespError> {
    let most = LINE_BYTES_MAX.min(limits.command_bytes_max);
    let Some(end) = memchr::memchr(b'\n', &input[..input.len().min(most)]) else {
        return if input.len() >= most { Err(RespError::LineTooLong) } else { Ok(None) };
    };
    let mut begin = None;
    for (at, byte) in input[..=end].iter().enumerate() {
        match (begin, byte.is_ascii_whitespace()) {
            (None, false) => begin = Some(at),
            (Some(from), true) => {
                words.push(from..at);
                begin = None;
            }
            _ => {}
        }
    }
    if words.len() > limits.words_max {
        return Err(RespError::WordCount);
    }
    if words.iter().any(|word| word.len() > limits.word_bytes_max) {
        return Err(RespError::WordLength);
    }
    Ok(Some(end + 1))
}

/// More than any length that is allowed has.
const DIGITS_MAX: usize = 10;
/// As Redis has it.
const LINE_BYTES_MAX: usize = 64 << 10;
