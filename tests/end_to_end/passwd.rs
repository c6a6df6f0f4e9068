//! `fanwire passwd`, and logging in with what it made.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::support::{Folder, Launch, Router, binary};

/// Runs `fanwire passwd` with this on its standard input.
fn passwd(arguments: &[&str], ticket: &str) -> Output {
    let mut command = Command::new(binary());
    command.arg("passwd").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    // A command that is wrong ends without reading.
    let _ = child.stdin.take().expect("piped").write_all(ticket.as_bytes());
    child.wait_with_output().expect("our own child")
}

pub fn done(arguments: &[&str], ticket: &str) -> String {
    let output = passwd(arguments, ticket);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Makes a key pair; the private half.
pub fn private_key(arguments: &[&str]) -> String {
    let output = passwd(arguments, "");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{arguments:?}: {said}");
    let (_, key) = said.trim_end().rsplit_once(": ").expect("the key is said");
    key.to_owned()
}

fn refused(arguments: &[&str], ticket: &str) -> String {
    let output = passwd(arguments, ticket);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).expect("it is there")
}

fn mode(path: &str) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn users_are_added_changed_and_removed() {
    let folder = Folder::new("passwd");
    let file = folder.path("users.txt");
    let file = file.as_str();
    assert!(refused(&[file, "joe"], "one").contains("joe is no user in"), "a new user needs a role");
    assert!(!std::path::Path::new(file).exists());
    assert_eq!(
        done(&[file, "joe", "--role", "member"], "one\n"),
        format!("joe is added in {file} (role member)\n")
    );
    assert_eq!(mode(file), 0o600);
    let first = read(file);
    assert!(first.starts_with("joe:member:$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
    assert!(!first.contains("one"));
    // What people wrote beside stays, and so do permissions that somebody gave.
    std::fs::write(file, format!("# staff\n\n{first}")).expect("our own file");
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o640)).expect("our own file");
    done(&[file, "ann lee@example.org", "--role", "operator"], "two");
    assert!(done(&[file, "joe"], "three").contains("joe has a new ticket in"));
    let text = read(file);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[1]), (4, "# staff", ""));
    assert!(lines[2].starts_with("joe:member:") && lines[2] != first.trim_end(), "{text}");
    assert!(lines[3].starts_with("ann lee@example.org:operator:"), "{text}");
    assert_eq!(mode(file), 0o640);
    assert!(done(&[file, "joe", "--role", "operator"], "three").contains("(role operator)"));
    // Whoever reads a key of WAMP-CRA can log in by it.
    let cra = &[file, "joe", "--method", "wampcra", "--rounds", "1000"];
    assert!(!done(cra, "four").contains("chmod"));
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o644)).expect("our own file");
    assert!(done(cra, "four").contains("chmod o-r"));
    assert!(!done(&[file, "joe"], "three").contains("chmod"));
    assert!(done(&[file, "joe", "--delete"], "").contains("joe is removed from"));
    assert!(!read(file).contains("joe"));
    assert!(refused(&[file, "joe", "--delete"], "").contains("joe is no user in"));
    let left: Vec<_> = std::fs::read_dir(folder.path("")).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let folder = Folder::new("passwd-wrong");
    let file = folder.path("users.txt");
    let file = file.as_str();
    done(&[file, "joe", "--role", "member"], "one");
    let before = read(file);
    for (arguments, ticket, words) in [
        (vec![file, "joe"], "", "empty ticket"),
        (vec![file, "joe"], "one\ntwo\n", "more than one line"),
        (vec![file, "a:b", "--role", "member"], "one", "no colon"),
        (vec![file, "anonymous-1", "--role", "member"], "one", "sessions without a user"),
        (vec![file, "joe", "--role", "a:b"], "one", "cannot be the name of a role"),
        (vec!["/nonexistent/users.txt", "joe", "--role", "member"], "one", "cannot write"),
        (vec!["/dev/null", "joe", "--role", "member"], "one", "is no file"),
    ] {
        let said = refused(&arguments, ticket);
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    let other = folder.write("notes.txt", "not users\n");
    assert!(
        refused(&[&other, "joe", "--role", "member"], "one").contains("notes.txt:1: a line has three fields")
    );
    assert_eq!(read(&other), "not users\n");
    let beside = folder.write("users.txt.new", "");
    assert!(refused(&[file, "joe"], "one").contains("another `fanwire passwd` is writing"));
    assert!(std::path::Path::new(&beside).exists(), "it is not ours to remove");
    assert_eq!(read(file), before);
}

#[test]
fn a_link_is_followed() {
    let folder = Folder::new("passwd-link");
    let (file, link) = (folder.write("users.txt", ""), folder.path("link"));
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    done(&[&link, "joe", "--role", "member"], "one");
    assert!(read(&file).starts_with("joe:member:"));
    assert!(std::fs::symlink_metadata(&link).expect("it is there").is_symlink());
}

/// At a terminal the ticket is asked for twice and not shown.
#[test]
fn a_terminal_is_asked_twice_without_echo() {
    let folder = Folder::new("passwd-terminal");
    let file = folder.path("users.txt");
    let script = r#"
import os, pty, signal, sys
signal.alarm(300)
def run(answers):
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp(sys.argv[1], sys.argv[1:])
    said = b""
    while True:
        if answers and said.endswith(answers[0][0]):
            os.write(fd, answers.pop(0)[1])
        try:
            got = os.read(fd, 1000)
        except OSError:
            break
        if not got:
            break
        said += got
    print(said.decode(), "status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
run([(b"New ticket for joe: ", b"s3cret\n"), (b"Once more: ", b"s3cret\n")])
run([(b"New ticket for joe: ", b"s3cret\n"), (b"Once more: ", b"other\n")])
"#;
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(binary()).args(["passwd", &file, "joe", "--role", "member"]);
    let output = command.stdin(Stdio::null()).output().expect("python3 starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("joe is added in") && said.contains("status 0"), "{said}");
    assert!(
        said.contains("the two are not the same; nothing was changed") && said.contains("status 1"),
        "{said}"
    );
    assert!(!said.contains("s3cret"), "it was shown: {said}");
}

fn client(router: &Router, arguments: &[&str], environment: Option<&str>) -> Output {
    let mut command = Command::new(binary());
    command.args(["pub", "com.topic", "hi", "--url", &router.url()]).args(arguments);
    command.env_remove("FANWIRE_TICKET").env_remove("FANWIRE_PASSWORD").stdin(Stdio::null());
    if let Some(ticket) = environment {
        command.env("FANWIRE_TICKET", ticket);
    }
    command.output().expect("the binary starts")
}

#[test]
fn the_small_clients_log_in() {
    let folder = Folder::new("passwd-login");
    let file = folder.path("users.txt");
    done(&[&file, "joe", "--role", "anonymous"], "the ticket\n");
    let printed = done(&["-", "ann", "--role", "anonymous"], "hers");
    let user: Vec<&str> =
        printed.lines().filter_map(|line| line.split_once(" = ").map(|(_, value)| value)).collect();
    let inline = format!("[{{name={},role={},ticket_hash={}}}]", user[0], user[1], user[2]);
    let router = Launch::on("epoll")
        .set("realm.0.anonymous_role", "none")
        .set("realm.0.users_file", &file)
        .set("realm.0.user", &inline)
        .start();
    assert!(router.said().contains("--user ann"), "the lines to paste log in: {}", router.said());
    let ticket = folder.write("joe.ticket", "the ticket\n");
    for (arguments, environment) in [
        (vec!["--user", "joe", "--ticket-file", &ticket], None),
        (vec!["--user", "joe", "--serializer", "cbor"], Some("the ticket")),
        (vec!["--user", "joe", "--ticket-file", &ticket], Some("another")),
        (vec!["--user", "ann", "--serializer", "msgpack"], Some("hers")),
    ] {
        let output = client(&router, &arguments, environment);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
    for (arguments, environment, status, words) in [
        (vec![], None, 1, "wamp.error.authentication_required"),
        (vec![], None, 1, "; log in with --user NAME"),
        (vec!["--user", "joe"], Some("another"), 1, "wamp.error.authentication_denied"),
        (vec!["--user", "joe"], Some("another"), 1, "; check --user and its ticket"),
        (vec!["--user", "joe"], None, 2, "give the ticket by --ticket-file or FANWIRE_TICKET"),
        (vec!["--user", "joe", "--ticket-file", "/nonexistent"], None, 2, "no such file"),
        (vec!["--ticket-file", &ticket], None, 2, "--user"),
    ] {
        let output = client(&router, &arguments, environment);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
