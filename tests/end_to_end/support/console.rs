//! The console of a page in headless Chromium, driven by `tests/clients/console.mjs`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::{Folder, PATIENCE};

/// One page of a browser of its own. Dropping it ends the browser.
pub struct Console {
    process: Child,
    /// Taken at the end, which is what ends the browser.
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    _folder: Folder,
}

impl Console {
    /// Whether there are Chromium and Node; says aloud if not.
    pub fn is_here() -> bool {
        let is_here =
            |tool: &str| Command::new(tool).arg("--version").output().is_ok_and(|it| it.status.success());
        let missing = ["chromium", "node"].into_iter().find(|tool| !is_here(tool));
        if let Some(tool) = missing {
            assert!(std::env::var_os("CI").is_none(), "{tool} is needed here");
            eprintln!("SKIPPED: no {tool} here");
        }
        missing.is_none()
    }

    /// Opens an empty page. `name` is unlike that of any other page that is open.
    pub fn open(name: &str) -> Self {
        let folder = Folder::new(&format!("console-{name}"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/console.mjs");
        let mut command = Command::new("node");
        command.arg(script).args(["chromium", &folder.path("profile")]);
        // What the browser itself has to say is of no interest.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("node is here");
        let (sender, lines) = channel();
        let output = BufReader::new(process.stdout.take().expect("piped"));
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                _ = sender.send(serde_json::from_str(&line).expect("each line is a JSON string"));
            }
        });
        Self { input: process.stdin.take(), process, lines, _folder: folder }
    }

    /// Evaluates JavaScript in the page, as if it was pasted into the console. Does not wait for it.
    pub fn evaluate(&mut self, script: &str) {
        let line = serde_json::to_string(script).expect("a string has a form in JSON") + "\n";
        self.input.as_mut().expect("it is open").write_all(line.as_bytes()).expect("the browser runs");
    }

    /// What the page's console says next.
    pub fn heard(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the console says something")
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.input = None;
        _ = self.process.wait();
    }
}
