//! `fanwire passwd`: adds, changes and removes users.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use fanwire_control::login::cra::{self, CraSecret};
use fanwire_control::login::credentials::{Credential, Credentials};
use fanwire_control::login::cryptosign::PublicKey;
use fanwire_control::login::hash::TicketHash;
use fanwire_control::login::scram::{self, Kdf, ScramKeys};
use fanwire_core::login::LoginMethod;

use super::{UserLine, UsersFile, check_name, plain};
use crate::cli::{PasswdArgs, PasswdMethod};
use crate::config::schema::NO_ROLE;
use crate::prompt;

/// Longer ones would not fit into what a client may send before it is logged in.
const TICKET_BYTES_MAX: usize = 4 << 10;
/// Stands for standard output in place of a file.
const STANDARD_OUTPUT: &str = "-";

/// What the command did, for people; or why it did nothing.
pub fn passwd(args: &PasswdArgs) -> Result<String, String> {
    if args.list {
        return list(&read(&args.file)?);
    }
    check_name(args.name())?;
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
        return delete(args, &present);
    }
    // Before anybody has to type.
    role(&present, args)?;
    let credential = credential(args)?;
    let kind = credential.kind();
    let logs_in = matches!(credential, Credential::Cra(_)) && present.is_world_readable();
    let mut done = String::new();
    replace(path, |file| {
        let role = role(file, args)?;
        let what =
            if find(file, args).is_some() { format!("has a new {kind}") } else { "is added".to_owned() };
        let mut credentials = find(file, args).map(|user| user.credentials.clone()).unwrap_or_default();
        credentials.set(credential)?;
        done = format!("{} {what} in {} (role {role})", args.name(), path.display());
        Ok(edit(file, args, Some(line(args.name(), &role, &credentials))))
    })?;
    if logs_in {
        let shown = path.display();
        done += &format!(
            "; everybody on this machine may read {shown}, and log in by what it keeps for wampcra: chmod o-r {shown}"
        );
    }
    Ok(done)
}

/// The user, or what it logs in with by one method.
fn delete(args: &PasswdArgs, present: &UsersFile) -> Result<String, String> {
    let (path, name) = (&args.file, args.name());
    find(present, args).ok_or_else(|| no_such_user(args))?;
    let Some(method) = args.method else {
        replace(path, |file| Ok(edit(file, args, None)))?;
        return Ok(format!("{name} is removed from {}", path.display()));
    };
    replace(path, |file| {
        let user = find(file, args).ok_or_else(|| no_such_user(args))?;
        let mut credentials = user.credentials.clone();
        credentials.remove(method.login_method()).map_err(|wrong| format!("{name}: {wrong}"))?;
        if credentials.is_empty() {
            return Err(format!(
                "{name} has nothing else to log in with; remove the user: leave --method out"
            ));
        }
        Ok(edit(file, args, Some(line(name, &user.role, &credentials))))
    })?;
    Ok(format!("{name} does not log in by {} any more", method.login_method().name()))
}

/// Names, roles and methods, without any secret.
fn list(file: &UsersFile) -> Result<String, String> {
    let told = |user: &UserLine| {
        let offered = |method: &LoginMethod| user.credentials.offers(*method);
        let methods = LoginMethod::ALL.into_iter().filter(offered).map(LoginMethod::name);
        let keys = user.credentials.all().filter_map(|credential| match credential {
            Credential::Key(key) => Some(format!("key {}", key.to_hex())),
            _ => None,
        });
        let words: Vec<String> = methods.map(str::to_owned).chain(keys).collect();
        format!("{}  role {}  {}", user.name, user.role, words.join(", "))
    };
    Ok(file.users.iter().map(told).collect::<Vec<_>>().join("\n"))
}

fn line(name: &str, role: &str, credentials: &Credentials) -> String {
    let fields = credentials.all().map(|credential| format!(":{credential}"));
    format!("{name}:{role}{}", fields.collect::<String>())
}

impl PasswdArgs {
    fn name(&self) -> &str {
        self.user.as_deref().unwrap_or_default()
    }
}

impl PasswdMethod {
    fn login_method(self) -> LoginMethod {
        match self {
            Self::Ticket => LoginMethod::Ticket,
            Self::Wampcra | Self::WampcraPlain => LoginMethod::WampCra,
            Self::Scram | Self::ScramPbkdf2 => LoginMethod::WampScram,
            Self::Cryptosign => LoginMethod::Cryptosign,
        }
    }
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

fn find<'a>(file: &'a UsersFile, args: &PasswdArgs) -> Option<&'a UserLine> {
    file.users.iter().find(|user| user.name == args.name())
}

fn no_such_user(args: &PasswdArgs) -> String {
    format!("{} is no user in {}", args.name(), args.file.display())
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
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let credential = credential(args)?;
    let text = quoted(&credential.to_string());
    let shown = match credential {
        Credential::Ticket(_) => format!("ticket_hash = {text}"),
        _ => format!("credentials = [{text}]"),
    };
    Ok(format!("[[realm.user]]\nname = {}\nrole = {}\n{shown}", quoted(args.name()), quoted(role)))
}

/// What the user is to log in with.
fn credential(args: &PasswdArgs) -> Result<Credential, String> {
    let method = args.method.unwrap_or(PasswdMethod::Ticket);
    if args.key.is_some() && method != PasswdMethod::Cryptosign {
        return Err("--key is for --method cryptosign".into());
    }
    if args.rounds.is_some() && !matches!(method, PasswdMethod::Wampcra | PasswdMethod::ScramPbkdf2) {
        return Err("--rounds is for --method wampcra and scram-pbkdf2".into());
    }
    Ok(match method {
        PasswdMethod::Ticket => {
            let no_memory = |_| "there is not enough memory to hash the ticket (19 MiB)".to_owned();
            Credential::Ticket(TicketHash::of(&ask(args, "ticket")?, random()).map_err(no_memory)?)
        }
        PasswdMethod::Wampcra => {
            let rounds = rounds(args, cra::ROUNDS_MIN)?;
            Credential::Cra(CraSecret::salted(&ask(args, "password")?, rounds, random()))
        }
        PasswdMethod::WampcraPlain => Credential::Cra(CraSecret::plain(&ask(args, "password")?)),
        PasswdMethod::Scram => {
            Credential::Scram(ScramKeys::of(&ask(args, "password")?, Kdf::ARGON2ID, random())?)
        }
        PasswdMethod::ScramPbkdf2 => {
            let kdf = Kdf::Pbkdf2 { rounds: rounds(args, scram::PBKDF2_ROUNDS_MIN)? };
            Credential::Scram(ScramKeys::of(&ask(args, "password")?, kdf, random())?)
        }
        PasswdMethod::Cryptosign => Credential::Key(match &args.key {
            Some(key) => PublicKey::from_hex(key).map_err(|wrong| format!("--key: {wrong}"))?,
            None => {
                let (public, private) = PublicKey::new_pair(random());
                eprintln!("private key of {}, shown this once: {private}", args.name());
                public
            }
        }),
    })
}

fn rounds(args: &PasswdArgs, least: u32) -> Result<u32, String> {
    let rounds = args.rounds.unwrap_or(cra::ROUNDS);
    if (least..=cra::ROUNDS_MAX).contains(&rounds) {
        return Ok(rounds);
    }
    Err(format!("--rounds is {least} to {}", cra::ROUNDS_MAX))
}

fn random<const N: usize>() -> [u8; N] {
    let mut random = fanwire_io::random_source();
    let mut bytes = [0; N];
    bytes.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random().to_ne_bytes()));
    bytes
}

fn ask(args: &PasswdArgs, what: &str) -> Result<String, String> {
    let secret = if args.stdin || !io::stdin().is_terminal() {
        let mut text = String::new();
        io::stdin()
            .take(2 * TICKET_BYTES_MAX as u64)
            .read_to_string(&mut text)
            .map_err(|error| format!("cannot read the {what} from standard input: {}", plain(&error)))?;
        prompt::first_line(&text, "standard input")?
    } else {
        let first = prompt::secret(&format!("New {what} for {}: ", args.name()))?;
        if prompt::secret("Once more: ")? != first {
            return Err("the two are not the same; nothing was changed".into());
        }
        first
    };
    if secret.is_empty() {
        return Err(format!("an empty {what} would be none; nothing was changed"));
    }
    if secret.len() > TICKET_BYTES_MAX {
        return Err(format!("a {what} has at most {TICKET_BYTES_MAX} bytes"));
    }
    Ok(secret)
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
