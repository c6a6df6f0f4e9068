//! `fanwire passwd`: adds, changes and removes users.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use fanwire_control::login::hash::TicketHash;

use super::{UsersFile, check_name, plain};
use crate::cli::PasswdArgs;
use crate::config::schema::NO_ROLE;
use crate::prompt;

/// Longer ones would not fit into what a client may send before it is logged in.
const TICKET_BYTES_MAX: usize = 4 << 10;
/// Stands for standard output in place of a file.
const STANDARD_OUTPUT: &str = "-";

/// What the command did, for people; or why it did nothing.
pub fn passwd(args: &PasswdArgs) -> Result<String, String> {
    check_name(&args.user)?;
    if let Some(role) = &args.role
        && (role.is_empty() || role == NO_ROLE || role.chars().any(|c| c == ':' || c.is_control()))
    {
        return Err(format!("{role:?} cannot be the name of a role"));
    }
    if args.file.as_os_str() == STANDARD_OUTPUT {
        return block(args);
    }
    let path = &args.file;
    let present = read(path)?;
    if args.delete {
        find(&present, args).ok_or_else(|| no_such_user(args))?;
        return replace(path, |file| Ok(edit(file, args, None)))
            .map(|()| format!("{} is removed from {}", args.user, path.display()));
    }
    // Before anybody has to type.
    role(&present, args)?;
    let ticket = hash(&ask(args)?)?;
    let mut done = String::new();
    replace(path, |file| {
        let role = role(file, args)?;
        let what = if find(file, args).is_some() { "has a new ticket" } else { "is added" };
        done = format!("{} {what} in {} (role {role})", args.user, path.display());
        Ok(edit(file, args, Some(format!("{}:{role}:{ticket}", args.user))))
    })?;
    Ok(done)
}

/// Not there is the same as empty.
fn read(path: &Path) -> Result<UsersFile, String> {
    if matches!(fs::metadata(path), Err(error) if error.kind() == ErrorKind::NotFound) {
        return Ok(UsersFile::default());
    }
    let file = UsersFile::read(path)?;
    match file.bad.first() {
        None => Ok(file),
        // Whatever this file is, it is not overwritten.
        Some(bad) => Err(format!("{}:{}: {}", path.display(), bad.line, bad.wrong)),
    }
}

fn find<'a>(file: &'a UsersFile, args: &PasswdArgs) -> Option<&'a super::UserLine> {
    file.users.iter().find(|user| user.name == args.user)
}

fn no_such_user(args: &PasswdArgs) -> String {
    format!("{} is no user in {}", args.user, args.file.display())
}

/// The role that the user will have: the one named, or the one that it has.
fn role(file: &UsersFile, args: &PasswdArgs) -> Result<String, String> {
    args.role
        .clone()
        .or_else(|| find(file, args).map(|user| user.role.clone()))
        .ok_or_else(|| format!("{}; name its role: --role ROLE", no_such_user(args)))
}

/// For `[[realm.user]]` of a configuration.
fn block(args: &PasswdArgs) -> Result<String, String> {
    let Some(role) = args.role.as_ref().filter(|_| !args.delete) else {
        return Err("to print a user, name its role: --role ROLE".into());
    };
    let ticket = hash(&ask(args)?)?;
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    Ok(format!(
        "[[realm.user]]\nname = {}\nrole = {}\nticket_hash = {}",
        quoted(&args.user),
        quoted(role),
        quoted(&ticket.to_string())
    ))
}

fn hash(ticket: &str) -> Result<TicketHash, String> {
    let mut random = fanwire_io::random_source();
    let mut salt = [0; 16];
    salt.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random().to_ne_bytes()));
    TicketHash::of(ticket, salt).map_err(|_| "there is not enough memory to hash the ticket (19 MiB)".into())
}

fn ask(args: &PasswdArgs) -> Result<String, String> {
    let ticket = if args.stdin || !io::stdin().is_terminal() {
        let mut text = String::new();
        io::stdin()
            .take(2 * TICKET_BYTES_MAX as u64)
            .read_to_string(&mut text)
            .map_err(|error| format!("cannot read the ticket from standard input: {}", plain(&error)))?;
        prompt::first_line(&text, "standard input")?
    } else {
        let first = prompt::secret(&format!("New ticket for {}: ", args.user))?;
        if prompt::secret("Once more: ")? != first {
            return Err("the two are not the same; nothing was changed".into());
        }
        first
    };
    if ticket.is_empty() {
        return Err("an empty ticket would be none; nothing was changed".into());
    }
    if ticket.len() > TICKET_BYTES_MAX {
        return Err(format!("a ticket has at most {TICKET_BYTES_MAX} bytes"));
    }
    Ok(ticket)
}

/// The text with the user's line replaced, added, or removed. All other lines stay as they are.
fn edit(file: &UsersFile, args: &PasswdArgs, line: Option<String>) -> String {
    let at = find(file, args).map(|user| user.line);
    let mut lines: Vec<&str> = file.text.lines().collect();
    match (at, &line) {
        (Some(at), Some(line)) => lines[at - 1] = line,
        (Some(at), None) => drop(lines.remove(at - 1)),
        (None, Some(line)) => lines.push(line),
        (None, None) => {}
    }
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// Reads the file once more, and puts another one in its place in one step: who reads it sees the one or the other. Its
/// owner and permissions stay; a new one is its owner's alone.
fn replace(path: &Path, change: impl FnOnce(&UsersFile) -> Result<String, String>) -> Result<(), String> {
    // A link is followed: the file that it points to is meant.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let beside = Beside::create(&path)?;
    let text = change(&read(&path)?)?;
    beside
        .become_file(&path, &text)
        .map_err(|error| format!("cannot write {}: {}", path.display(), plain(&error)))
}

/// The new file while it is made. Its fixed name keeps two commands from losing each other's change.
struct Beside {
    path: PathBuf,
    file: File,
    is_renamed: bool,
}

impl Beside {
    fn create(path: &Path) -> Result<Self, String> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = path.with_file_name(name);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
        match made {
            Ok(file) => Ok(Self { path: beside, file, is_renamed: false }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(format!(
                "{} is there: another `fanwire passwd` is writing, or was killed; then remove it",
                beside.display()
            )),
            Err(error) => Err(format!("cannot write {}: {}", beside.display(), plain(&error))),
        }
    }

    fn become_file(mut self, path: &Path, text: &str) -> io::Result<()> {
        if let Ok(old) = fs::metadata(path) {
            // Only root may give a file away; the group can mostly be kept.
            _ = fchown(&self.file, Some(old.uid()), Some(old.gid()))
                .or_else(|_| fchown(&self.file, None, Some(old.gid())));
            self.file.set_permissions(fs::Permissions::from_mode(old.permissions().mode() & 0o777))?;
        }
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // After the rename the name may be another command's.
        if !self.is_renamed {
            _ = fs::remove_file(&self.path);
        }
    }
}
