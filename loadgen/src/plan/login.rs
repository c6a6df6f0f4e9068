//! Who the sessions say they are.

use std::env::VarError;

use crate::args::CommonArgs;
use crate::failure::Failure;

/// A user who logs in by ticket.
#[derive(Clone)]
pub struct Login {
    /// The `authid`.
    pub user: String,
    /// The secret.
    pub ticket: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Login {
    /// `None` if no user is named. The command line never holds the ticket: reports show it.
    pub fn from_args(common: &CommonArgs) -> Result<Option<Self>, Failure> {
        let Some(user) = common.user.clone() else { return Ok(None) };
        let ticket = match &common.ticket_file {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| Failure::usage(format!("--ticket-file {}: {error}", file.display())))?,
            None => std::env::var("FANWIRE_TICKET").map_err(|error| {
                let why = if error == VarError::NotPresent { "is not set" } else { "is not UTF-8" };
                Failure::usage(format!(
                    "FANWIRE_TICKET {why}: it, or --ticket-file, holds the ticket of --user"
                ))
            })?,
        };
        Ok(Some(Self { user, ticket: ticket.trim_end_matches(['\r', '\n']).to_owned() }))
    }
}
