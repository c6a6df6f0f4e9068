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
/// The same for the password.
const PASSWORD_VARIABLE: &str = "FANWIRE_PASSWORD";

/// Where nobody can be asked.
const BY_FLAGS: &str = "give the ticket by --ticket-file or FANWIRE_TICKET, or a password by --password-file or FANWIRE_PASSWORD";

/// A user and what it knows.
#[derive(Clone)]
pub struct Login {
    /// The `authid`.
    pub user: String,
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    /// The ticket, which the router is sent.
    Ticket(String),
    /// The password, which it is not.
    Password(String),
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
        let variable = |name: &str| std::env::var(name).ok().filter(|secret| !secret.is_empty());
        let secret = match (&connect.ticket_file, &connect.password_file) {
            (Some(file), _) => Secret::Ticket(read(file, "--ticket-file").map_err(Failure::Usage)?),
            (None, Some(file)) if file.as_os_str() == "-" => {
                Secret::Password(prompt::secret(&format!("Password of {user}: ")).map_err(Failure::Usage)?)
            }
            (None, Some(file)) => Secret::Password(read(file, "--password-file").map_err(Failure::Usage)?),
            (None, None) => match (variable(TICKET_VARIABLE), variable(PASSWORD_VARIABLE)) {
                (Some(ticket), _) => Secret::Ticket(ticket),
                (None, Some(password)) => Secret::Password(password),
                (None, None) => {
                    let typed = prompt::secret(&format!("Ticket of {user}: "));
                    Secret::Ticket(typed.map_err(|wrong| Failure::Usage(format!("{wrong}; {BY_FLAGS}")))?)
                }
            },
        };
        Ok(Some(Self { user, secret }))
    }

    /// For one login.
    pub fn prover(&self, random: [u8; 16]) -> Result<Prover, Failure> {
        match &self.secret {
            Secret::Ticket(ticket) => Ok(Prover::with_ticket(&self.user, ticket, random)),
            Secret::Password(password) => Ok(Prover::with_password(&self.user, password, random)),
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
