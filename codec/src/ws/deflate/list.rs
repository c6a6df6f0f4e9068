//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455, 9.1).
//!
//! ```text
//! list      = extension *( "," extension )        empty elements are skipped (RFC 9110, 5.6.1)
//! extension = token *( ";" token [ "=" ( token | quoted token ) ] )
//! ```

use std::borrow::Cow;

use crate::http::is_token;

/// One element of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extension<'a> {
    pub(super) name: &'a str,
    pub(super) parameters: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// The list does not follow the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The extensions that one field names, in its order.
pub(super) fn parse(list: &str) -> Result<Vec<Extension<'_>>, Malformed> {
    let mut rest = Rest(list);
    let mut extensions = Vec::new();
    loop {
        while rest.eat(b',') {}
        if rest.0.is_empty() {
            return Ok(extensions);
        }
        extensions.push(rest.extension()?);
        if !rest.0.is_empty() && !rest.eat(b',') {
            return Err(Malformed);
        }
    }
}

/// What is not read yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Blanks, then `byte` if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        self.0 = self.0.trim_start_matches([' ', '\t']);
        let found = self.0.as_bytes().first() == Some(&byte);
        if found {
            self.0 = &self.0[1..];
        }
        // Blanks behind it too, so that a token or the end is next.
        self.0 = self.0.trim_start_matches([' ', '\t']);
        found
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        let end = self.0.find([' ', '\t', ',', ';', '=', '"']).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        if is_token(token) { Ok(token) } else { Err(Malformed) }
    }

    fn extension(&mut self) -> Result<Extension<'a>, Malformed> {
        let name = self.token()?;
        let mut parameters = Vec::new();
        while self.eat(b';') {
            let parameter = self.token()?;
            let value = if !self.eat(b'=') {
                None
            } else if self.eat(b'"') {
                Some(self.quoted()?)
            } else {
                Some(Cow::Borrowed(self.token()?))
            };
            parameters.push((parameter, value));
        }
        Ok(Extension { name, parameters })
    }

    /// The rest of a quoted string; what it says must be a token too (RFC 6455, 9.1).
    fn quoted(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let mut value = String::new();
        let mut characters = self.0.char_indices();
        loop {
            match characters.next().ok_or(Malformed)? {
                (at, '"') => {
                    self.0 = &self.0[at + 1..];
                    return if is_token(&value) { Ok(Cow::Owned(value)) } else { Err(Malformed) };
                }
                (_, '\\') => value.push(characters.next().ok_or(Malformed)?.1),
                (_, other) => value.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(list: &str) -> Result<String, Malformed> {
        let show = |extension: &Extension<'_>| {
            let parameters = extension.parameters.iter().map(|(name, value)| match value {
                Some(value) => format!(";{name}={value}"),
                None => format!(";{name}"),
            });
            format!("{}{}", extension.name, parameters.collect::<String>())
        };
        Ok(parse(list)?.iter().map(show).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn lists_are_read() {
        for (list, expected) in [
            ("", ""),
            (" , ,", ""),
            ("a", "a"),
            ("a , b;c ; d = 1\t,, e;f=\"g\" ,", "a,b;c;d=1,e;f=g"),
            ("a;b=\"\\1\\0\"", "a;b=10"),
            ("a;b=\"x\";c", "a;b=x;c"),
        ] {
            assert_eq!(text(list).as_deref(), Ok(expected), "{list}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for list in [
            "a b",
            ";",
            "a;",
            "a;;b",
            "a;=1",
            "a;b=",
            "a;b=,c",
            "a;b=\"",
            "a;b=\"x",
            "a;b=\"x\\",
            "a;b=\"\"",
            "a;b=\"x y\"",
            "a;b=\"x\"y",
            "a;b=\"x,y\"",
            "a=b",
            "\"a\"",
            "a;b=c=d",
            "ä",
            "a;b=ä",
            "a/b",
        ] {
            assert_eq!(text(list), Err(Malformed), "{list}");
        }
    }
}
