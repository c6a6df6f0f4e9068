//! Who the small clients say they are. A ticket comes from a file, the environment or the keyboard: never from the command
//! line, which everybody on the machine can read.

use std::path::Path;

use super::failure::Failure;
use crate::cli;
use crate::prompt;
use crate::users::plain;

/// Holds the ticket where no file is named.
const TICKET_VARIABLE: &str = "FANWIRE_TICKET";

/// A user and its ticket.
pub struct Login {
    /// The `authid`.
    pub user: String,
    /// The secret.
    pub ticket: String,
}

impl Login {
    /// `None` if nobody is named.
    pub fn from_flags(connect: &cli::Connect) -> Result<Option<Self>, Failure> {
        let Some(user) = connect.user.clone() else { return Ok(None) };
        let ticket = match &connect.ticket_file {
            Some(file) => read(file).map_err(Failure::Usage)?,
            None => match std::env::var(TICKET_VARIABLE) {
                Ok(ticket) if !ticket.is_empty() => ticket,
                _ => prompt::secret(&format!("Ticket of {user}: ")).map_err(|wrong| {
                    Failure::Usage(format!("{wrong}; give the ticket by --ticket-file or {TICKET_VARIABLE}"))
                })?,
            },
        };
        Ok(Some(Self { user, ticket }))
    }
}

fn read(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("--ticket-file {}: {}", file.display(), plain(&error)))?;
    prompt::first_line(&text, &file.display().to_string())
}
