//! Who the small clients say they are. A ticket, a password or a key comes from a file, the environment or the keyboard: never from the command
//! line, which everybody on the machine can read.

use std::path::Path;

use fanwire_control::login::prover::Prover;

use super::failure::Failure;
use crate::cli;
use crate::prompt;
use crate::users::plain;

/// Holds the ticket where no file is named.
const TICKET_VARIABLE: &str = "FANWIRE_TICKET";

/// A user and what it knows.
#[derive(Clone)]
pub struct Login {
    /// The `authid`.
    pub user: String,
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    /// The ticket, or the password.
    Ticket(String),
    /// The private key, in hexadecimal digits.
    Key(String),
}

impl Login {
    /// `None` if nobody is named.
    pub fn from_flags(connect: &cli::Connect) -> Result<Option<Self>, Failure> {
        let Some(user) = connect.user.clone() else { return Ok(None) };
        if let Some(file) = &connect.key_file {
            let key = read(file, "--key-file").map_err(Failure::Usage)?;
            return Ok(Some(Self { user, secret: Secret::Key(key) }));
        }
        let ticket = match &connect.ticket_file {
            Some(file) => read(file, "--ticket-file").map_err(Failure::Usage)?,
            None => match std::env::var(TICKET_VARIABLE) {
                Ok(ticket) if !ticket.is_empty() => ticket,
                _ => prompt::secret(&format!("Ticket of {user}: ")).map_err(|wrong| {
                    Failure::Usage(format!("{wrong}; give the ticket by --ticket-file or {TICKET_VARIABLE}"))
                })?,
            },
        };
        Ok(Some(Self { user, secret: Secret::Ticket(ticket) }))
    }

    /// For one login.
    pub fn prover(&self, random: [u8; 16]) -> Result<Prover, Failure> {
        match &self.secret {
            Secret::Ticket(ticket) => Ok(Prover::with_secret(&self.user, ticket, random)),
            Secret::Key(key) => Prover::with_key(&self.user, key, random)
                .map_err(|wrong| Failure::Usage(format!("--key-file: {wrong}"))),
        }
    }
}

fn read(file: &Path, flag: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{flag} {}: {}", file.display(), plain(&error)))?;
    prompt::first_line(&text, &file.display().to_string())
}
