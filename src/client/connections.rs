//! `fanwire conn list`: the admin port's list of connections, page by page.

use std::io::ErrorKind;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Failure, print};
use crate::ask_admin::ask;
use crate::cli::ConnListArgs;

/// A page takes the admin port some seconds at most.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections of one page.
const PAGE: usize = 1_000;

#[derive(Deserialize)]
struct Page {
    connections: Vec<Value>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    session: u64,
    name: Option<String>,
    protocol: String,
    realm: String,
    authid: String,
    peer: Option<String>,
    open_seconds: f64,
}

/// Prints the list.
pub fn list(args: &ConnListArgs) -> Result<(), Failure> {
    let mut left = args.limit.map_or(usize::MAX, |limit| limit as usize);
    let mut cursor = String::new();
    if !args.json {
        let (session, name, protocol, realm, authid, open) =
            ("SESSION", "NAME", "PROTOCOL", "REALM", "AUTHID", "OPEN");
        print(format_args!(
            "{session:>16} {name:<16} {protocol:<14} {realm:<16} {authid:<24} {open:>10} PEER"
        ))?;
    }
    while left > 0 {
        let page = fetch(args, left.min(PAGE), &cursor)?;
        for row in page.connections {
            left -= 1;
            if args.json {
                print(format_args!("{row}"))?;
            } else {
                print_row(&Row::deserialize(row).map_err(|error| unreadable(args, &error))?)?;
            }
        }
        let Some(next) = page.next else { break };
        cursor = format!("&cursor={next}");
    }
    Ok(())
}

fn print_row(row: &Row) -> Result<(), Failure> {
    let Row { session, protocol, realm, authid, open_seconds, .. } = row;
    // What a client calls itself must not move the terminal's cursor: the router takes no control characters as names.
    let name = row.name.as_deref().unwrap_or("-");
    let peer = row.peer.as_deref().unwrap_or("-");
    print(format_args!(
        "{session:>16} {name:<16} {protocol:<14} {realm:<16} {authid:<24} {open_seconds:>9.1}s {peer}"
    ))
}

fn fetch(args: &ConnListArgs, limit: usize, cursor: &str) -> Result<Page, Failure> {
    let words = |wrong: &dyn std::fmt::Display| {
        let address = args.address;
        format!("http://{address}/connections: {wrong}; is the router running, and is that its admin port?")
    };
    match ask(args.address, "GET", &format!("/connections?limit={limit}{cursor}"), PATIENCE) {
        Ok((200, body)) => serde_json::from_str(&body).map_err(|error| unreadable(args, &error)),
        Ok((status, body)) => Err(Failure::Refused(words(&format_args!("{status}: {}", body.trim_end())))),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(Failure::Timeout(words(&error)))
        }
        Err(error) => Err(Failure::Connect(words(&error))),
    }
}

fn unreadable(args: &ConnListArgs, error: &serde_json::Error) -> Failure {
    Failure::Refused(format!("http://{}/connections: the answer cannot be read: {error}", args.address))
}
