//! `fanwire slow`: the admin port's list of slow clients.

use std::io::ErrorKind;
use std::time::Duration;

use super::{Failure, print};
use crate::ask_admin::ask;
use crate::cli::SlowArgs;

/// The admin port answers within two seconds, if at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Prints the list.
pub fn slow(args: &SlowArgs) -> Result<(), Failure> {
    let format = if args.json { "json" } else { "text" };
    let address = args.address;
    let words = |wrong: &dyn std::fmt::Display| {
        format!("http://{address}/slow: {wrong}; is the router running, and is that its admin port?")
    };
    match ask(address, "GET", &format!("/slow?limit={}&format={format}", args.limit), PATIENCE) {
        Ok((200, body)) => print(format_args!("{}", body.trim_end())),
        Ok((status, body)) => Err(Failure::Refused(words(&format_args!("{status}: {}", body.trim_end())))),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(Failure::Timeout(words(&error)))
        }
        Err(error) => Err(Failure::Connect(words(&error))),
    }
}
