//! Hashes of tickets: Argon2id, as PHC strings (`$argon2id$v=19$m=19456,t=2,p=1$salt$hash`).

use std::fmt;
use std::str::FromStr;

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Params, Version};

/// What is kept of a ticket: enough to recognise it, too little to find it out.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketHash {
    params: Params,
    salt: Salt,
    output: Output,
}

/// Most memory that one derivation may take, in KiB. Every login takes it, so a mistake in a file must not be a way to
/// run out of memory.
pub const MEMORY_KIB_MAX: u32 = 256 << 10;
/// Most passes over the memory.
pub const PASSES_MAX: u32 = 32;
/// Shorter outputs can be met by chance.
const OUTPUT_BYTES_MIN: usize = 16;

/// The derivation could not be done, for want of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DerivationFailed;

impl TicketHash {
    /// The hash of a new ticket, with the costs that OWASP advises: 19 MiB, two passes. Slow on purpose.
    ///
    /// # Errors
    ///
    /// If there is not enough memory.
    pub fn of(ticket: &str, salt: [u8; 16]) -> Result<Self, DerivationFailed> {
        let salt = Salt::new(&salt).expect("16 bytes are a salt");
        let output = derive(&Params::DEFAULT, &salt, Params::DEFAULT_OUTPUT_LEN, ticket)?;
        Ok(Self { params: Params::DEFAULT, salt, output })
    }

    /// A hash that no ticket has and that costs as much as this one.
    pub fn decoy_like(like: Option<&Self>, random: [u8; 32]) -> Self {
        Self {
            params: like.map_or(Params::DEFAULT, |like| like.params.clone()),
            salt: Salt::new(&random[..16]).expect("16 bytes are a salt"),
            output: Output::new(&random).expect("32 bytes are an output"),
        }
    }

    /// Whether this is the hash of `ticket`. Takes tens of milliseconds and [`memory_kib`](Self::memory_kib); the
    /// comparison takes the same time wherever the first difference is.
    ///
    /// # Errors
    ///
    /// If there is not enough memory.
    pub fn matches(&self, ticket: &str) -> Result<bool, DerivationFailed> {
        Ok(derive(&self.params, &self.salt, self.output.len(), ticket)? == self.output)
    }

    /// Memory written by one derivation, in KiB: what its time goes by.
    pub(super) fn cost(&self) -> u64 {
        u64::from(self.params.m_cost()) * u64::from(self.params.t_cost())
    }

    /// Memory that one derivation takes, in KiB.
    pub fn memory_kib(&self) -> u32 {
        self.params.m_cost()
    }
}

fn derive(params: &Params, salt: &Salt, length: usize, ticket: &str) -> Result<Output, DerivationFailed> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let mut bytes = [0; Output::MAX_LENGTH];
    let bytes = &mut bytes[..length];
    argon2.hash_password_into(ticket.as_bytes(), salt, bytes).map_err(|_| DerivationFailed)?;
    Output::new(bytes).map_err(|_| DerivationFailed)
}

impl FromStr for TicketHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let phc =
            PasswordHash::new(text).map_err(|_| "it is not a hash made by `fanwire passwd`".to_owned())?;
        if phc.algorithm.as_str() != "argon2id" || phc.version.is_some_and(|version| version != 19) {
            return Err("it is not an argon2id hash of version 19".into());
        }
        let params = Params::try_from(&phc).map_err(|error| format!("its parameters are wrong: {error}"))?;
        let (Some(salt), Some(output)) = (phc.salt, phc.hash) else {
            return Err("its salt or its output is missing".into());
        };
        if output.len() < OUTPUT_BYTES_MIN {
            return Err(format!("its output has {} bytes; {OUTPUT_BYTES_MIN} are the least", output.len()));
        }
        if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > PASSES_MAX {
            return Err(format!("it costs too much: at most m={MEMORY_KIB_MAX} and t={PASSES_MAX}"));
        }
        // A key or associated data would need what is not in the text.
        if !params.keyid().is_empty() || !params.data().is_empty() {
            return Err("it was made with a key that is not known here".into());
        }
        // The output's length is given by the output.
        let params = Params::new(params.m_cost(), params.t_cost(), params.p_cost(), None)
            .map_err(|error| format!("its parameters are wrong: {error}"))?;
        Ok(Self { params, salt, output })
    }
}

impl fmt::Display for TicketHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (m, t, p) = (self.params.m_cost(), self.params.t_cost(), self.params.p_cost());
        write!(f, "$argon2id$v=19$m={m},t={t},p={p}${}${}", self.salt, self.output)
    }
}

impl fmt::Debug for TicketHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_recognised_by_its_hash_as_written() {
        let hash = TicketHash::of("secret!!!", [7; 16]).expect("19 MiB are there");
        let written = hash.to_string();
        assert!(written.starts_with("$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$"), "{written}");
        let read: TicketHash = written.parse().expect("as written");
        assert_eq!(read, hash);
        assert_eq!((read.matches("secret!!!"), read.matches("secret!!")), (Ok(true), Ok(false)));
        assert_eq!(read.matches(""), Ok(false));
        assert!(!format!("{read:?}").contains("argon2id"), "not shown by accident");
    }

    #[test]
    fn a_decoy_matches_nothing_and_costs_the_same() {
        let hash: TicketHash = CHEAP.parse().expect("a hash");
        let decoy = TicketHash::decoy_like(Some(&hash), [9; 32]);
        assert_eq!((decoy.memory_kib(), decoy.params.t_cost()), (64, 1));
        assert_eq!(decoy.matches("x"), Ok(false));
        assert_eq!(TicketHash::decoy_like(None, [9; 32]).memory_kib(), 19_456);
    }

    /// Made by another implementation (the reference's `argon2` tool takes the same: `-id -t 1 -k 64 -p 1`).
    const CHEAP: &str =
        "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn what_is_no_such_hash_is_refused_in_words() {
        for (text, words) in [
            ("secret", "not a hash made by"),
            ("", "not a hash made by"),
            ("$2b$12$abcdefghijklmnopqrstuv", "not a"),
            (
                "$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "not an argon2id",
            ),
            (
                "$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "version 19",
            ),
            ("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ", "is missing"),
            ("$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAA", "has 12 bytes"),
            (
                "$argon2id$v=19$m=999999,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "too much",
            ),
            (
                "$argon2id$v=19$m=64,t=99,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "too much",
            ),
            (
                "$argon2id$v=19$m=1,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "parameters",
            ),
        ] {
            let error = text.parse::<TicketHash>().expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
