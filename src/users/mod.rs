//! The users file: who may log in and how, as `fanwire passwd` writes it.
//!
//! ```text
//! # comment
//! joe:member:$argon2id$v=19$m=19456,t=2,p=1$…salt…$…hash…
//! ann:operator:$wampcra$i=100000$…salt…$…key…:$ed25519$…key…:$ed25519$…another key…
//! ```
//!
//! One user a line: name, role, and what it can show who it is by, of each kind one but for keys. Each says by its beginning what it
//! is; none of it has a colon, and so has no name.

pub mod passwd;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fanwire_control::login::credentials::Credentials;
use fanwire_core::ANONYMOUS_AUTHID_PREFIX;

/// As for a configuration; that is some 80,000 users.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// In a name.
const NAME_BYTES_MAX: usize = 255;

/// One line with a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLine {
    /// From 1.
    pub line: usize,
    /// What the client says as `authid`.
    pub name: String,
    /// The role of its sessions.
    pub role: String,
    /// What it can show who it is by.
    pub credentials: Credentials,
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// From 1.
    pub line: usize,
    /// The line without its hash, which belongs in no message.
    pub shown: String,
    /// What is wrong, and what would be right.
    pub wrong: String,
}

/// A file that was read.
#[derive(Debug, Default)]
pub struct UsersFile {
    /// Its text, as it stands.
    pub text: String,
    /// Every user, in order.
    pub users: Vec<UserLine>,
    /// What is wrong with it.
    pub bad: Vec<BadLine>,
    /// Its permission bits.
    pub mode: u32,
}

impl UsersFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// In words, if it cannot be read at all.
    pub fn read(path: &Path) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("cannot read {}: {}", path.display(), plain(&error));
        let file = File::open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() {
            return Err(format!("{} is no file", path.display()));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("{} has more than 8 MiB; it holds no users", path.display()));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            format!("{} is not UTF-8 (byte {})", path.display(), error.utf8_error().valid_up_to())
        })?;
        Ok(Self { mode: metadata.permissions().mode() & 0o777, ..Self::parse(text) })
    }

    fn parse(text: String) -> Self {
        let (mut users, mut bad) = (Vec::<UserLine>::new(), Vec::new());
        let mut seen = std::collections::HashMap::new();
        for (index, source) in text.lines().enumerate() {
            let line = index + 1;
            if source.trim().is_empty() || source.starts_with('#') {
                continue;
            }
            let parsed =
                parse_line(line, source).and_then(|user| match seen.insert(user.name.clone(), line) {
                    Some(first) => Err(format!("{:?} has a line already, line {first}", user.name)),
                    None => Ok(user),
                });
            match parsed {
                Ok(user) => users.push(user),
                Err(wrong) => bad.push(BadLine { line, shown: without_hash(source), wrong }),
            }
        }
        Self { text, users, bad, mode: 0 }
    }

    /// Whether everybody on the machine can read the hashes.
    pub fn is_world_readable(&self) -> bool {
        self.mode & 0o004 != 0
    }

    /// Whether everybody on the machine can add users.
    pub fn is_world_writable(&self) -> bool {
        self.mode & 0o002 != 0
    }
}

fn parse_line(line: usize, source: &str) -> Result<UserLine, String> {
    let mut fields = source.split(':');
    let (Some(name), Some(role), Some(first)) = (fields.next(), fields.next(), fields.next()) else {
        return Err("a line has three fields or more, name:role:hash, as `fanwire passwd` writes them".into());
    };
    check_name(name)?;
    if role.is_empty() {
        return Err("the role is missing between the colons".into());
    }
    let mut credentials = Credentials::default();
    for (number, field) in (3..).zip([first].into_iter().chain(fields)) {
        let credential =
            field.trim_end().parse().map_err(|wrong| format!("field {number} is no hash: {wrong}"))?;
        credentials.add(credential).map_err(|wrong| format!("field {number}: {wrong}"))?;
    }
    Ok(UserLine { line, name: name.to_owned(), role: role.to_owned(), credentials })
}

/// Whether a user can have this name.
///
/// # Errors
///
/// In words, why not.
pub fn check_name(name: &str) -> Result<(), String> {
    let wrong = if name.is_empty() || name.len() > NAME_BYTES_MAX {
        "a user's name has 1 to 255 bytes"
    } else if name.contains(':') || name.starts_with('#') || name.chars().any(char::is_control) {
        "a user's name has no colon and no control characters, and does not begin with #"
    } else if name.trim() != name {
        "a user's name neither begins nor ends with a space"
    } else if name.starts_with(ANONYMOUS_AUTHID_PREFIX) {
        "names that begin with \"anonymous-\" are those of sessions without a user"
    } else {
        return Ok(());
    };
    Err(format!("{name:?} cannot be a user: {wrong}"))
}

/// The line as far as it may be shown: what follows the name, or looks like a hash, is left out.
fn without_hash(source: &str) -> String {
    let end = source.find([':', '$']).unwrap_or(source.len());
    let mut shown: String = source[..end].chars().take(80).collect();
    if shown.len() < source.len() {
        shown.push('…');
    }
    shown
}

/// The system's words without its number.
pub fn plain(error: &std::io::Error) -> String {
    let words = error.to_string();
    words.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "$ed25519$545efb0a2192db8d43f118e9bf9aee081466e1ef36c708b96ee6f62dddad9122";
    const HASH: &str =
        "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn lines_are_users() {
        let text = format!("# who\n\njoe:member:{HASH}:{KEY}\nmary ann@example.org:operator:{HASH}\r\n");
        let file = UsersFile::parse(text);
        assert_eq!(file.bad, []);
        let users: Vec<_> = file.users.iter().map(|u| (u.line, u.name.as_str(), u.role.as_str())).collect();
        assert_eq!(users, [(3, "joe", "member"), (4, "mary ann@example.org", "operator")]);
        let has: Vec<String> = file.users[0].credentials.all().map(|has| has.to_string()).collect();
        assert_eq!(has, [HASH, KEY]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_without_its_hash() {
        let hash = HASH;
        for (line, words) in [
            ("joe".to_owned(), "three fields"),
            (format!("joe:{hash}"), "three fields"),
            (format!("joe:member:{hash}:more"), "field 4 is no hash"),
            (format!("joe:member:{hash}:{hash}"), "field 4: there is a second ticket"),
            (format!("joe::{hash}"), "role is missing"),
            (format!(":member:{hash}"), "1 to 255 bytes"),
            (format!("joe :member:{hash}"), "space"),
            (format!("anonymous-1:member:{hash}"), "without a user"),
            ("joe:member:secret".to_owned(), "no hash"),
            (format!("ann:member:{hash}"), "has a line already, line 1"),
        ] {
            let file = UsersFile::parse(format!("ann:member:{hash}\n{line}\n"));
            assert_eq!(file.bad.len(), 1, "{line}");
            assert_eq!(file.bad[0].line, 2);
            assert!(file.bad[0].wrong.contains(words), "{line}: {}", file.bad[0].wrong);
            let told = format!("{} {}", file.bad[0].shown, file.bad[0].wrong);
            assert!(!told.contains("c29tZX") && !told.contains("secret"), "{told}");
        }
    }
}
