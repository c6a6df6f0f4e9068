//! `docs/articles.md` works as it is written, on the ports of the articles; and its Chinese version has the same blocks.
//!
//! It runs in a network namespace of its own, so that nothing else has these ports. What the page does not say in words, comments
//! before its blocks say: `stays: PORT`, a program that goes on, and has started when it listens there; `stop: NAME`; `file: NAME`, to be
//! saved; `play: URL` or `play: the same`, a conversation; `browser: open`, `then` and `says`, the console of a browser.
//! Other shell blocks end, and a block behind one is what it prints.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use crate::support::{Console, Folder, PATIENCE, binary, eventually, namespace};

const ENGLISH: &str = include_str!("../../docs/articles.md");
const CHINESE: &str = include_str!("../../docs/articles.zh.md");

/// A block of the page, with what the comments before it say.
#[derive(Debug, PartialEq)]
struct Block<'a> {
    notes: Vec<&'a str>,
    language: &'a str,
    text: String,
}

impl<'a> Block<'a> {
    fn all(page: &'a str) -> Vec<Self> {
        let (mut blocks, mut notes) = (Vec::new(), Vec::new());
        let mut lines = page.lines();
        while let Some(line) = lines.next() {
            if let Some(note) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) {
                notes.push(note);
            } else if let Some(language) = line.strip_prefix("```") {
                let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
                blocks.push(Block { notes: std::mem::take(&mut notes), language, text: text.join("\n") });
            }
        }
        blocks
    }

    fn note(&self, name: &str) -> Option<&'a str> {
        self.notes.iter().find_map(|note| note.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Whoever reads the page, with as many terminals as it takes.
struct Reader {
    folder: Folder,
    stays: Vec<(String, Child)>,
    console: Option<Console>,
    client: Option<WebSocket<MaybeTlsStream<TcpStream>>>,
    printed: Option<String>,
}

impl Reader {
    fn new() -> Self {
        let folder = Folder::new("articles");
        std::fs::create_dir(folder.path("bin")).expect("a writable temporary folder");
        let program = std::path::absolute(binary()).expect("a path");
        std::os::unix::fs::symlink(program, folder.path("bin/fanwire")).expect("a writable temporary folder");
        Self { folder, stays: Vec::new(), console: None, client: None, printed: None }
    }

    fn read(&mut self, block: &Block<'_>) {
        for name in block.notes.iter().filter_map(|note| note.strip_prefix("stop: ")) {
            self.stop(name);
        }
        if let Some(name) = block.note("file") {
            self.folder.write(name, &block.text);
        } else if let Some(port) = block.note("stays") {
            self.start(&block.text, port.parse().expect("a port"));
        } else if let Some(what) = block.note("browser") {
            self.browse(what, block);
        } else if let Some(url) = block.note("play") {
            self.play(url, &block.text);
        } else if block.language == "sh" {
            let output = self.shell(&block.text).output().expect("bash is here");
            assert!(output.status.success(), "{}: {output:?}", block.text);
            self.printed = Some(String::from_utf8_lossy(&output.stdout).into_owned());
        } else {
            assert_eq!(self.printed.take().expect("a command before it").trim_end(), block.text);
        }
    }

    fn shell(&self, text: &str) -> Command {
        let path = format!("{}:{}", self.folder.path("bin"), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("bash");
        shell.args(["-c", &text.replace("curl ", "curl -sS --max-time 60 ")]);
        shell.current_dir(self.folder.path("")).env("PATH", path).stdin(Stdio::null());
        shell
    }

    fn start(&mut self, text: &str, port: u16) {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        assert!(TcpStream::connect(address).is_err(), "something listens at {port} already");
        let child = self.shell(text).process_group(0).spawn().expect("bash is here");
        self.stays.push((text.to_owned(), child));
        eventually(text, || TcpStream::connect(address).is_ok());
    }

    fn stop(&mut self, name: &str) {
        let index = self.stays.iter().position(|(text, _)| text.starts_with(name));
        let (_, child) = self.stays.remove(index.expect("it was started"));
        end(child);
    }

    fn browse(&mut self, what: &str, block: &Block<'_>) {
        if what == "open" {
            self.console = Some(Console::open("articles"));
        }
        let console = self.console.as_mut().expect("it was opened");
        match what {
            "says" => assert_eq!(console.heard(), block.text),
            _ => console.evaluate(&block.text),
        }
    }

    /// Says the lines with `>`, and hears those with `<`.
    fn play(&mut self, url: &str, text: &str) {
        if url != "the same" {
            let (client, _) = tungstenite::connect(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            if let MaybeTlsStream::Plain(stream) = client.get_ref() {
                stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
            }
            self.client = Some(client);
        }
        let client = self.client.as_mut().expect("there was one before");
        for line in text.lines() {
            match line.split_at(2) {
                ("> ", said) => client.send(Message::text(said)).expect("sent"),
                ("< ", heard) => assert_eq!(client.read().expect("an answer"), Message::text(heard)),
                _ => panic!("{line:?} is said by nobody"),
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stays.drain(..).for_each(|(_, child)| end(child));
    }
}

/// Ends a shell and what it has started.
fn end(mut child: Child) {
    _ = kill_process_group(Pid::from_child(&child), Signal::TERM);
    _ = child.wait();
}

#[test]
fn the_articles_work_as_they_are_written() {
    let programs = ["php", "redis-server", "curl", "unshare", "python3"];
    if !namespace::has_programs(&programs) || !Console::is_here() {
        return;
    }
    if !namespace::is_inside("articles::the_articles_work_as_they_are_written") {
        return;
    }
    let mut reader = Reader::new();
    Block::all(ENGLISH).iter().for_each(|block| reader.read(block));
}

#[test]
fn both_languages_have_the_same_blocks() {
    assert_eq!(Block::all(ENGLISH), Block::all(CHINESE));
}
