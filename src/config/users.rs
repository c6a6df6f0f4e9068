//! Who may log in: the users of `[[realm.user]]` and of the users files, each with a role that exists.

use std::path::{Path, PathBuf};

use fanwire_control::login::credentials::Credentials;

use super::load::Origins;
use super::problem::{Place, Problem, nearest};
use super::schema::{Config, Realm, User};
use crate::users::{self, UserLine, UsersFile};

/// One user of one realm, ready to log in.
#[derive(Clone, Debug)]
pub struct RealmUser {
    /// What the client says as `authid`.
    pub name: String,
    /// A role of the realm.
    pub role: String,
    /// What it can show who it is by.
    pub credentials: Credentials,
    /// Where it was written.
    place: Place,
}

/// What came of a configuration.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The users of each realm, in the order of the realms.
    pub realms: Vec<Vec<RealmUser>>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What should not stay as it is, though it can be started.
    pub warnings: Vec<String>,
}

/// Reads and checks all users.
pub fn gather(config: &Config, origins: &Origins) -> Gathered {
    let mut gathered = Gathered::default();
    for (index, realm) in config.realm.iter().enumerate() {
        let mut users = Vec::new();
        let key = format!("realm.{index}");
        gathered.tables(origins, &key, realm, &mut users);
        if let Some(file) = realm.users_file() {
            gathered.file(origins, &format!("{key}.users_file"), realm, file, &mut users);
        }
        gathered.realms.push(users);
    }
    gathered
}

impl Gathered {
    /// The users of `[[realm.user]]`.
    fn tables(&mut self, origins: &Origins, key: &str, realm: &Realm, users: &mut Vec<RealmUser>) {
        for (index, user) in realm.user.iter().enumerate() {
            let at = |part: &str| {
                let key = format!("{key}.user.{index}.{part}");
                (origins.place(&key), Some(key))
            };
            if let Err(wrong) = users::check_name(&user.name) {
                self.refuse(at("name"), wrong, Vec::new());
            }
            match credentials(user) {
                Err((part, wrong)) => {
                    let help = "`fanwire passwd - NAME --role ROLE` asks for the ticket and prints what belongs here";
                    self.refuse(at(part), wrong, vec![help.to_owned()]);
                }
                Ok(credentials) => {
                    let (place, _) = at("name");
                    let (name, role) = (user.name.clone(), user.role.clone());
                    let user = RealmUser { name, role, credentials, place };
                    self.add(realm, users, user, at("role"), at("name"));
                }
            }
        }
    }

    /// The users of the users file.
    fn file(&mut self, origins: &Origins, key: &str, realm: &Realm, named: &str, users: &mut Vec<RealmUser>) {
        let place = origins.place(key);
        let path = resolve(&place, named);
        let shown = path.display().to_string();
        let file = match UsersFile::read(&path) {
            Ok(file) => file,
            Err(wrong) => {
                let help = format!("a file is made by: fanwire passwd {shown} USER --role ROLE");
                return self.refuse((place, Some(key.to_owned())), wrong, vec![help]);
            }
        };
        if file.is_world_writable() {
            let wrong = format!("everybody on this machine may write {shown}, and so let anybody in");
            return self.refuse((place, Some(key.to_owned())), wrong, vec![format!("chmod o-w {shown}")]);
        }
        if file.is_world_readable() {
            self.warn(format!(
                "everybody on this machine can read {shown}, try passwords on its hashes, and log in by what it keeps for wampcra: chmod o-r {shown}"
            ));
        }
        let line_of = |line: usize, source: String| Place::File {
            path: shown.clone(),
            line,
            column: 1,
            width: source.chars().count(),
            source,
        };
        for bad in file.bad {
            self.refuse((line_of(bad.line, bad.shown), None), bad.wrong, Vec::new());
        }
        for UserLine { line, name, role, credentials } in file.users {
            let place = line_of(line, format!("{name}:{role}:…"));
            let user = RealmUser { name, role, credentials, place: place.clone() };
            self.add(realm, users, user, (place.clone(), None), (place, None));
        }
    }

    fn add(
        &mut self,
        realm: &Realm,
        users: &mut Vec<RealmUser>,
        user: RealmUser,
        at_role: (Place, Option<String>),
        at_name: (Place, Option<String>),
    ) {
        if let Some(before) = users.iter().find(|before| before.name == user.name) {
            let wrong =
                format!("realm {:?} has a user {:?} already, at {}", realm.name, user.name, before.place);
            self.refuse(at_name, wrong, vec!["keep one of them".to_owned()]);
        } else if !realm.role.iter().any(|role| role.name == user.role) {
            let names: Vec<&str> = realm.role.iter().map(|role| role.name.as_str()).collect();
            let mut help = Vec::new();
            help.extend(nearest(&user.role, &names).map(|near| format!("did you mean {near}?")));
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            help.push(format!("roles of realm {:?}: {known}", realm.name));
            let wrong = format!("there is no role {:?} for user {:?}", user.role, user.name);
            self.refuse(at_role, wrong, help);
        } else {
            users.push(user);
        }
    }

    fn refuse(&mut self, (place, key): (Place, Option<String>), wrong: String, help: Vec<String>) {
        self.problems.push(Problem { place, key, wrong, help });
    }

    /// Several realms may name one file.
    fn warn(&mut self, words: String) {
        if !self.warnings.contains(&words) {
            self.warnings.push(words);
        }
    }
}

/// What a user of the configuration can show who it is by; or which key is wrong, and how.
fn credentials(user: &User) -> Result<Credentials, (&'static str, String)> {
    let mut credentials = Credentials::default();
    let texts = user.credentials.iter().map(|text| ("credentials", text));
    for (part, text) in user.ticket_hash.iter().map(|text| ("ticket_hash", text)).chain(texts) {
        let credential = text.parse().map_err(|wrong| (part, wrong))?;
        credentials.add(credential).map_err(|wrong| (part, wrong))?;
    }
    if credentials.is_empty() {
        let wrong = "it has neither a ticket_hash nor credentials, so nobody could log in as it".to_owned();
        return Err(("name", wrong));
    }
    Ok(credentials)
}

/// A relative path begins where it was written: at the configuration file's folder, or where the process was started.
pub(super) fn resolve(place: &Place, named: &str) -> PathBuf {
    match place {
        Place::File { path, .. } => Path::new(path).parent().unwrap_or(Path::new("")).join(named),
        Place::Environment(..) | Place::Flag(_) | Place::Default => PathBuf::from(named),
    }
}
