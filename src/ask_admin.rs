//! `fanwire health` and `fanwire reload`: what is asked of the admin port of a router on this machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::{HealthArgs, ReloadArgs};
use crate::config::Sources;
use crate::config::units::{Scalar, Time};
use crate::run::reachable;

/// It answered, and not with 200.
const EXIT_UNWELL: u8 = 1;
/// There is no admin port to ask.
const EXIT_USAGE: u8 = 2;
/// Nobody is there, or does not answer like an admin port.
const EXIT_UNREACHABLE: u8 = 3;
/// No answer in time.
const EXIT_LATE: u8 = 4;
/// A line, or a thousand slow clients.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Asks, prints the answer, and says by the exit status what it was.
pub fn health(args: &HealthArgs, sources: &Sources) -> ExitCode {
    let (address, time) = match whom(args.address, &args.timeout, sources) {
        Ok(asked) => asked,
        Err(Unasked::Nowhere(words) | Unasked::Wrong(words)) => {
            eprintln!("{words}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let path = if args.live { "/livez" } else { "/readyz" };
    match ask(address, "GET", path, time) {
        Ok((status, body)) => {
            // Who does not want to read it has the exit status.
            _ = std::io::stdout().write_all(body.as_bytes());
            if status == 200 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNWELL) }
        }
        Err(error) => unanswered(address, path, &error),
    }
}

/// Has the router read its configuration again, prints what it says, and tells by the exit status whether it was done.
pub fn reload(args: &ReloadArgs, sources: &Sources) -> ExitCode {
    let (address, time) = match whom(args.address, &args.timeout, sources) {
        Ok(asked) => asked,
        Err(unasked) => {
            let (code, words) = match unasked {
                Unasked::Nowhere(words) => (EXIT_USAGE, words),
                // What the router would have said too.
                Unasked::Wrong(words) => (EXIT_UNWELL, words),
            };
            eprintln!("{words}\nthe router was not asked, and goes on with what it has");
            return ExitCode::from(code);
        }
    };
    let format = if args.json { "json" } else { "text" };
    let path = format!("/reload?check={}&format={format}", args.check);
    match ask(address, "POST", &path, time) {
        Ok((200, body)) => {
            _ = std::io::stdout().write_all(body.as_bytes());
            ExitCode::SUCCESS
        }
        Ok((status, body)) => {
            if args.json {
                _ = std::io::stdout().write_all(body.as_bytes());
            } else {
                eprint!("{body}");
            }
            match status {
                422 => eprintln!("nothing was changed"),
                404 | 405 => eprintln!("that is not the admin port of a router that can reload"),
                _ => {}
            }
            ExitCode::from(EXIT_UNWELL)
        }
        Err(error) => unanswered(address, &path, &error),
    }
}

fn unanswered(address: SocketAddr, path: &str, error: &std::io::Error) -> ExitCode {
    eprintln!("error: http://{address}{path}: {error}; is the router running, and is that its admin port?");
    let late = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
    ExitCode::from(if late { EXIT_LATE } else { EXIT_UNREACHABLE })
}

/// Why nobody was asked.
enum Unasked {
    /// There is no admin port that could be, or no time to wait.
    Nowhere(String),
    /// The configuration is too wrong to tell where it is.
    Wrong(String),
}

/// Whom to ask, and how long to wait for the answer.
fn whom(
    given: Option<SocketAddr>,
    timeout: &str,
    sources: &Sources,
) -> Result<(SocketAddr, Duration), Unasked> {
    Ok((address(given, sources)?, time(timeout)?))
}

/// Where the router that is configured like this has its admin port. What else is wrong with the configuration, and whether its
/// files may be read, is for the router to say.
fn address(given: Option<SocketAddr>, sources: &Sources) -> Result<SocketAddr, Unasked> {
    if let Some(address) = given {
        return Ok(address);
    }
    let admin = match sources.admin() {
        Some(admin) => admin,
        None => sources.load().map_err(|problems| Unasked::Wrong(problems.to_string()))?.config.admin,
    };
    let Some(bind) = admin.bind.0 else {
        let words = "error: admin.bind is \"none\", so nobody can be asked; give the router an admin port";
        return Err(Unasked::Nowhere(words.to_owned()));
    };
    if bind.0.port() == 0 {
        return Err(Unasked::Nowhere(format!(
            "error: admin.bind = \"{}\" takes any free port; name the one that it took, with --address",
            bind.0
        )));
    }
    Ok(reachable(bind.0))
}

fn time(text: &str) -> Result<Duration, Unasked> {
    let wrong = match Time::from_text(text) {
        Ok(Time(time)) if !time.is_zero() => return Ok(time),
        Ok(_) => "no time at all is none to answer in".to_owned(),
        Err(wrong) => format!("{wrong}; allowed: {}", Time::allowed()),
    };
    Err(Unasked::Nowhere(format!("error: --timeout: {wrong}")))
}

/// Asks an admin port without a body: the status and the body of the answer.
pub fn ask(address: SocketAddr, method: &str, path: &str, time: Duration) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, time)?;
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    if stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)? as u64 == ANSWER_BYTES_MAX {
        let words = format!("the answer has {ANSWER_BYTES_MAX} bytes or more, and its end was not read");
        return Err(std::io::Error::other(words));
    }
    parse(&answer).ok_or_else(|| std::io::Error::other("the answer is no HTTP"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn answers_are_read() {
        assert_eq!(parse("HTTP/1.1 200 OK\r\na: b\r\n\r\nok\n"), Some((200, "ok\n".to_owned())));
        assert_eq!(parse("HTTP/1.1 503 x\r\n\r\nnot ready"), Some((503, "not ready".to_owned())));
        assert!(
            ["", "HTTP/1.1 200", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 2\r\n\r\n"]
                .iter()
                .all(|a| parse(a).is_none())
        );
    }
}
