//! `--exec`: a program of the shell that turns a call's arguments into its result.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// More than this is cut: a router takes no larger message anyway.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;

/// Runs `command` with `input` on its standard input and gives its standard output, or says why there is none,
/// in words that follow the command's name.
pub fn run(command: &str, input: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    let mut stdout = child.stdout.take().expect("it was asked for").take(OUTPUT_BYTES_MAX);
    let mut output = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program need not read its input.
            _ = stdin.write_all(input);
        });
        stdout.read_to_end(&mut output)
    })
    .map_err(|error| format!("cannot be read: {error}"))?;
    drop(stdout);
    let status = child.wait().map_err(|error| format!("cannot be waited for: {error}"))?;
    if status.success() { Ok(output) } else { Err(format!("failed ({status})")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_sees_the_input_and_gives_the_output() {
        assert_eq!(run("cat; echo b", b"a\n"), Ok(b"a\nb\n".to_vec()));
    }

    #[test]
    fn a_program_need_not_read() {
        assert_eq!(run("echo x", &vec![b'a'; 1 << 20]), Ok(b"x\n".to_vec()));
    }

    #[test]
    fn a_failing_program_is_told() {
        assert_eq!(run("exit 3", b""), Err("failed (exit status: 3)".into()));
    }
}
