//! Secrets from people: asked for without echo, or read from a file.

use std::io::{self, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Asks on the terminal, without showing what is typed. The question goes to standard error.
///
/// # Errors
///
/// In words, if there is no terminal or nothing is typed.
pub fn secret(question: &str) -> Result<String, String> {
    if !io::stdin().is_terminal() {
        return Err("there is no terminal to ask at".into());
    }
    let typed = {
        // Before the question: what is typed in answer to it is neither shown nor thrown away.
        let _silence = Silence::begin();
        eprint!("{question}");
        _ = io::stderr().flush();
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|count| (count, line))
    };
    // The line break was not shown either.
    eprintln!();
    match typed {
        Ok((0, _)) => Err("nothing was typed".into()),
        Ok((_, line)) => Ok(without_line_break(&line).to_owned()),
        Err(error) => Err(format!("cannot read what is typed: {error}")),
    }
}

/// The only line of a text that holds a secret; a line break at its end does not belong to it.
///
/// # Errors
///
/// In words, if there are more.
pub fn first_line(text: &str, from: &str) -> Result<String, String> {
    let line = without_line_break(text);
    if line.contains('\n') {
        return Err(format!("{from} has more than one line; a ticket is one"));
    }
    Ok(line.to_owned())
}

fn without_line_break(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

/// The terminal shows nothing while this lives.
struct Silence(Option<Termios>);

impl Silence {
    fn begin() -> Self {
        let stdin = io::stdin();
        let Ok(before) = tcgetattr(&stdin) else { return Self(None) };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        _ = tcsetattr(&stdin, OptionalActions::Flush, &silent);
        Self(Some(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_at_the_end_is_not_part_of_a_secret() {
        for (text, secret) in [("a b\n", "a b"), ("a\r\n", "a"), ("a", "a"), (" a ", " a "), ("", "")] {
            assert_eq!(first_line(text, "it"), Ok(secret.to_owned()));
        }
        assert!(first_line("a\nb\n", "it").is_err());
    }
}
