//! Programs that are asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::realm::Match;
use super::{Config, NO_ROLE};
use crate::config::describe::described;
use crate::config::units::{Count, Time};

described! {
    /// A program that is asked, or told, by HTTP; or asked by a call.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Hook {
        /// Its name, in metrics and in the log; unlike any other's.
        #[acts(restart)]
        pub name: String,
        /// Where it is asked, by POST: `http://` or `https://`. It is not followed elsewhere, and no proxy is used.
        #[acts(restart)]
        #[serde(default)]
        pub url: String,
        /// In place of `url`: a WAMP procedure that is called, such as `com.shop.authenticate`. See [logins](logins.md#authenticators).
        ///
        /// The role of the program that answers must be allowed to register it, by a permission whose `uri` is the procedure and whose
        /// `match` is `exact`. A role that has it by a wider one alone is refused, and so is that of anonymous clients.
        #[acts(restart)]
        #[serde(default)]
        pub procedure: String,
        /// The realm where `procedure` is registered; left out: that of `realms`, or of the configuration, if there is one alone.
        #[acts(restart)]
        #[serde(default)]
        pub procedure_realm: String,
        /// How clients may log in that `authenticate` decides on, where it is a procedure: some of `ticket` (if left out),
        /// `wampcra`, `wamp-scram`, `scram`, `cryptosign`, `anonymous`.
        #[acts(restart)]
        #[serde(default)]
        pub methods: Vec<String>,
        /// What it is asked about: some of `connect`, `authenticate`, `subscribe`, `publish`, `call`, `register`, `message`, `rpc`,
        /// `disconnect`; a procedure some of `authenticate`, `subscribe`, `publish`, `call`, `register`.
        ///
        /// `authenticate` decides on tickets, in place of the realm's users; `connect` on every session before its welcome;
        /// `subscribe`, `publish`, `call` and `register` after the role's permissions have allowed it. `message` is what message-center clients say beside the protocol, and `rpc`
        /// calls of procedures that `uri` covers; both are answered by the reply. `disconnect` is told, not asked.
        #[acts(restart)]
        pub events: Vec<HookEvent>,
        /// Realms that it is for; an empty list: all.
        #[acts(restart)]
        #[serde(default)]
        pub realms: Vec<String>,
        /// Roles whose requests it is asked about; an empty list: all.
        ///
        /// A role that may register `procedure` is never asked about: it could answer itself.
        #[acts(restart)]
        #[serde(default)]
        pub roles: Vec<String>,
        /// Topics and procedures that it is asked about: URI or pattern.
        ///
        /// All others cost nothing. A pattern is asked about if any URI could match both.
        #[acts(restart)]
        #[serde(default)]
        pub uri: String,
        /// How `uri` is compared: `prefix` (if left out in a file), `exact` or `wildcard`.
        #[acts(restart)]
        #[serde(rename = "match", default = "Hook::default_match")]
        pub match_policy: Match,
        /// How it is asked: `json`, `form` (as a web form) or `header` (`X-Fanwire-…` and no body).
        #[acts(restart)]
        #[serde(default)]
        pub body: HookBody,
        /// The fields that it is told, such as `["token"]`, for programs that expect these and no others; an empty list: all.
        ///
        /// What a publication holds is decided by `payload`.
        #[acts(restart)]
        #[serde(default)]
        pub fields: Vec<String>,
        /// Whether `publish` tells what is published.
        ///
        /// With `false`, and with `body = "header"`, it tells who publishes where, and equal questions can be asked once.
        #[acts(restart)]
        #[serde(default = "Hook::default_payload")]
        pub payload: bool,
        /// How long a question may wait for its turn, and then for its reply, each.
        #[acts(restart)]
        #[serde(default = "Hook::default_timeout")]
        pub timeout: Time,
        /// Requests at once.
        #[acts(restart)]
        #[serde(default = "Hook::default_max_in_flight")]
        pub max_in_flight: Count,
        /// Questions that may wait for their turn, or for the answer to an equal one; further ones fail at once.
        ///
        /// The end of a session finds room in half of it only.
        #[acts(restart)]
        #[serde(default = "Hook::default_queue")]
        pub queue: Count,
        /// How long a reply holds for equal questions; `"0s"`: only for those that come while it is asked.
        ///
        /// Questions of one user in one role are equal, whichever its session, but for procedures, which are told the session;
        /// logins with one ticket are with a cache only.
        /// Denials hold for 1 s at most, failures do not hold.
        #[acts(restart)]
        #[serde(default = "Hook::default_cache")]
        pub cache: Time,
        /// What it counts as if the hook cannot be asked: `deny` or `allow`. Logins are always denied.
        #[acts(restart)]
        #[serde(default)]
        pub on_failure: OnFailure,
        /// Role of who is let in by `authenticate` where the reply names none; `"none"`: the reply must name it.
        #[acts(restart)]
        #[serde(default = "Hook::default_role")]
        pub role: String,
        /// Sent with each request, such as `{ authorization = "Bearer …" }`. `fanwire config show` prints them.
        #[acts(restart)]
        #[serde(default)]
        pub headers: BTreeMap<String, String>,
    }
}

impl Hook {
    /// One that is told of ends, with everything else at its default.
    pub fn at(name: &str, url: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            procedure: String::new(),
            procedure_realm: String::new(),
            methods: Vec::new(),
            events: vec![HookEvent::Disconnect],
            realms: Vec::new(),
            roles: Vec::new(),
            uri: String::new(),
            match_policy: Self::default_match(),
            body: HookBody::default(),
            fields: Vec::new(),
            payload: Self::default_payload(),
            timeout: Self::default_timeout(),
            max_in_flight: Self::default_max_in_flight(),
            queue: Self::default_queue(),
            cache: Self::default_cache(),
            on_failure: OnFailure::default(),
            role: Self::default_role(),
            headers: BTreeMap::new(),
        }
    }

    /// The name of the realm where its procedure is, if that can be told.
    pub fn procedure_realm<'a>(&'a self, config: &'a Config) -> Option<&'a str> {
        match (&*self.procedure_realm, &self.realms[..], &config.realm[..]) {
            ("", [only], _) => Some(only),
            ("", _, [only]) => Some(&only.name),
            ("", ..) => None,
            (named, ..) => Some(named),
        }
    }

    fn default_match() -> Match {
        Match::Prefix
    }

    fn default_payload() -> bool {
        true
    }

    fn default_timeout() -> Time {
        Time::seconds(2)
    }

    fn default_max_in_flight() -> Count {
        Count(256)
    }

    fn default_queue() -> Count {
        Count(1_024)
    }

    fn default_cache() -> Time {
        Time::seconds(0)
    }

    fn default_role() -> String {
        NO_ROLE.to_owned()
    }
}

/// What a hook is asked about, or told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum HookEvent {
    // Not documented for clap, as `ApiRight`.
    Connect,
    Authenticate,
    Subscribe,
    Publish,
    Call,
    Register,
    Message,
    Rpc,
    Disconnect,
}

/// How a hook is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum HookBody {
    // Not documented for clap, as `ApiRight`.
    #[default]
    Json,
    Form,
    Header,
}

/// What a question counts as if the hook cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// No.
    #[default]
    Deny,
    /// Yes.
    Allow,
}
