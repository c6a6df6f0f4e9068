//! A command that runs beside the test, and whose output is waited for, but not for ever.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, binary};

/// The binary with some arguments, its standard streams as pipes. Dropping it kills it.
pub struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
    error: Receiver<String>,
}

impl Program {
    /// Starts the binary under test.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let output = lines(child.stdout.take().expect("piped"));
        let error = lines(child.stderr.take().expect("piped"));
        Self { input: child.stdin.take(), child, output, error }
    }

    /// Writes to its standard input.
    pub fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().expect("not ended yet").write_all(bytes).expect("it reads");
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// The next line of its standard output; none at the end.
    pub fn heard(&mut self) -> Option<String> {
        next(&self.output)
    }

    /// The next line of its standard error; none at the end.
    pub fn told(&mut self) -> Option<String> {
        next(&self.error)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it still runs");
    }

    /// Waits for its end, and gives what it has said since it was last asked: standard output and standard error.
    pub fn finish(&mut self) -> (ExitStatus, String, String) {
        self.end_input();
        let all = |from: &Receiver<String>| std::iter::from_fn(|| next(from)).collect::<Vec<_>>().join("\n");
        let (output, error) = (all(&self.output), all(&self.error));
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return (status, output, error);
            }
            assert!(Instant::now() < deadline, "it does not end; it said:\n{output}\n{error}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn next(lines: &Receiver<String>) -> Option<String> {
    match lines.recv_timeout(PATIENCE) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("it said nothing for {PATIENCE:?}"),
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        BufReader::new(pipe).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
    });
    receiver
}
