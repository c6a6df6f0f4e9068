//! Header fields of a head that has been checked.

use super::HttpError;

/// The fields of one head, in their order; a view that is cheap to copy.
///
/// Exists only over lines that `httparse` has accepted and that hold UTF-8, no folding, and no CR, LF or NUL inside.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    /// `name:value CR LF`, repeated; without the empty line.
    lines: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(lines: &'a str) -> Self {
        Self { lines }
    }

    /// All fields as name and value, the name as it was written, the value without the blanks around it.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name, without_blanks(value)))
        })
    }

    fn lines(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut rest = self.lines;
        std::iter::from_fn(move || {
            let end = memchr::memchr(b'\n', rest.as_bytes())?;
            let line = &rest[..end];
            rest = &rest[end + 1..];
            Some(line.strip_suffix('\r').unwrap_or(line))
        })
    }

    /// The values of `name`, in order. Names are compared without case (RFC 9110, 5.1).
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        // A handshake looks up a dozen names: most lines are passed over by the byte behind the name.
        self.lines().filter_map(move |line| {
            let (given, rest) = line.split_at_checked(name.len())?;
            let value = rest.strip_prefix(':')?;
            given.eq_ignore_ascii_case(name).then(|| without_blanks(value))
        })
    }

    /// The first value of `name`. Where a second one would change the meaning use [`unique`](Self::unique).
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// The value of `name`, which may be given once.
    ///
    /// # Errors
    ///
    /// 400 when it is given more often.
    pub fn unique(&self, name: &str) -> Result<Option<&'a str>, HttpError> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(HttpError::bad_request(format!("the field {name} is given twice; send it once"))),
        }
    }

    /// Whether one of the comma-separated tokens of `name` is `token`, without case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(tokens).any(|given| given.eq_ignore_ascii_case(token))
    }
}

fn without_blanks(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

/// The elements of a comma-separated list; empty ones are skipped (RFC 9110, 5.6.1).
pub fn tokens(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|element| element.trim_matches([' ', '\t'])).filter(|element| !element.is_empty())
}

/// Whether `text` is a token (RFC 9110, 5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
