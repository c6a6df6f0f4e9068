//! `[echo]`: rooms in which all hear what one says.

use fanwire_core::echo::{EchoRooms, MessageTemplate, RoomRule, Side};
use fanwire_core::ids::RealmId;
use serde::{Deserialize, Serialize};

use super::describe::{Described, described};
use super::load::Origins;
use super::problem::{Problem, nearest};
use super::schema::{Config, Protocol};

described! {
    /// Rooms in which all hear what one says.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Echo {
        /// The realm in which its clients are, as the realm's role for anonymous clients.
        #[acts(restart)]
        pub realm: String,
        /// What a message becomes: `{payload}` is the message, `{name}` what its sender is called.
        ///
        /// Binary messages stay binary, with the same text around them.
        #[acts(now)]
        pub template: String,
        /// Whether who says something hears it too.
        #[acts(now)]
        pub include_sender: bool,
        /// What a client is called that does not say so in its query: `/?name=Ann`.
        #[acts(new_connections)]
        pub name: String,
        /// Which paths lead to which room: `[[echo.room]]` with `match` and `channel`.
        ///
        /// The first one that fits decides; a path that fits none is answered 404. `match` is a path, or with `?` a path and a query,
        /// with captures such as `/room/{room}`; `*` is all of them. `channel` is the topic. Without any rule all are in one room,
        /// the topic `echo`.
        #[acts(new_connections)]
        pub room: Vec<Room>,
    }
}

impl Default for Echo {
    fn default() -> Self {
        Self {
            realm: "realm1".to_owned(),
            template: "RECEIVED: {payload}".to_owned(),
            include_sender: true,
            name: "匿名".to_owned(),
            room: Vec::new(),
        }
    }
}

/// A rule for rooms. Explained at `echo.room`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Room {
    /// Paths.
    #[serde(rename = "match")]
    pub pattern: String,
    /// The topic.
    pub channel: String,
}

impl Described for Room {}

impl Echo {
    /// As the router wants it, once it was checked.
    pub fn read(&self, realm: RealmId) -> EchoRooms {
        let rule = |room: &Room| RoomRule::new(&room.pattern, &room.channel).expect("the rooms were checked");
        let everywhere = EchoRooms::default().rooms;
        EchoRooms {
            realm,
            include_sender: self.include_sender,
            default_name: self.name.as_str().into(),
            template: MessageTemplate::parse(&self.template).expect("it was checked"),
            rooms: if self.room.is_empty() { everywhere } else { self.room.iter().map(rule).collect() },
        }
    }
}

/// All that is wrong with it.
pub fn check(config: &Config, origins: &Origins) -> Vec<Problem> {
    let mut checker = Checker { origins, problems: Vec::new() };
    let echo = &config.echo;
    if MessageTemplate::parse(&echo.template).is_none() {
        let help =
            "allowed: a text with {payload} once, such as \"RECEIVED: {payload}\" or \"{name}: {payload}\"";
        checker.refuse(
            "echo.template",
            format!("{:?} does not say where the message is", echo.template),
            [help.into()],
        );
    }
    for (index, room) in echo.room.iter().enumerate() {
        checker.room(index, room);
    }
    let mut endpoints = config.listener.iter().flat_map(|listener| listener.endpoints.values());
    if endpoints.any(|endpoint| endpoint.protocol == Protocol::Echo) {
        checker.realm(config);
    }
    checker.problems
}

struct Checker<'a> {
    origins: &'a Origins,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn room(&mut self, index: usize, room: &Room) {
        let key = |part: &str| format!("echo.room.{index}.{part}");
        match RoomRule::new(&room.pattern, &room.channel) {
            Err((Side::Match, why)) => {
                let help = "allowed: such as \"/room/{room}\", \"/chat?room={room}\", or \"*\" for all paths";
                self.refuse(&key("match"), format!("{:?}: {why}", room.pattern), [help.into()]);
            }
            Err((Side::Channel, why)) => {
                let help = "allowed: such as \"lobby\" or \"room:{room}\"";
                self.refuse(&key("channel"), format!("{:?}: {why}", room.channel), [help.into()]);
            }
            Ok(_) if room.pattern != "*" && !room.pattern.starts_with('/') => {
                let wrong = format!("{:?} fits no path: they begin with /", room.pattern);
                self.refuse(&key("match"), wrong, ["allowed: such as \"/room/{room}\", or \"*\"".into()]);
            }
            Ok(_) => {}
        }
    }

    fn realm(&mut self, config: &Config) {
        let name = &config.echo.realm;
        let names: Vec<&str> = config.realm.iter().map(|realm| realm.name.as_str()).collect();
        let Some(realm) = config.realm.iter().find(|realm| realm.name == *name) else {
            let near = nearest(name, &names).map(|near| format!("did you mean {near}?"));
            let help = near.into_iter().chain([format!("realms: {}", names.join(", "))]);
            return self.refuse("echo.realm", format!("there is no realm {name:?}"), help);
        };
        if realm.anonymous().is_none() {
            let wrong = format!("realm {name:?} takes nobody without a login, and echo clients have none");
            self.refuse(
                "echo.realm",
                wrong,
                ["give the realm an anonymous_role, or name another realm".into()],
            );
        }
    }

    fn refuse(&mut self, key: &str, wrong: impl Into<String>, help: impl IntoIterator<Item = String>) {
        self.problems.push(Problem {
            place: self.origins.place(key),
            key: Some(key.to_owned()),
            wrong: wrong.into(),
            help: help.into_iter().collect(),
        });
    }
}
