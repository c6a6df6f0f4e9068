//! Realms, and who may do what in them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::NO_FILE;
use crate::config::describe::described;
use crate::config::topics::{Policy, Topic};
use crate::config::units::{Auto, Count, Limit, Time};

described! {
    /// A world of topics and procedures.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Realm {
        /// The name that clients ask for.
        #[acts(restart)]
        pub name: String,
        /// Role of a client that does not say who it is; `"none"` refuses such clients.
        ///
        /// How users log in: see `realm.user` and `realm.users_file`.
        #[acts(new_connections)]
        #[serde(default = "Realm::default_anonymous_role")]
        pub anonymous_role: String,
        /// Permits an anonymous role that may do everything on an address that other machines can reach.
        ///
        /// Without it Fanwire does not start in such a configuration.
        #[acts(now)]
        #[serde(default)]
        pub allow_anonymous_everywhere: bool,
        /// File with users and how they log in, made by `fanwire passwd`; `"none"`: no file.
        ///
        /// It is read again with each [reload](operators.md#reload). A relative path begins at the folder of the file that names it. See [logins](logins.md).
        #[acts(new_connections)]
        #[serde(default = "Realm::default_users_file")]
        pub users_file: String,
        /// Users besides those of `users_file`: `[[realm.user]]` with `name`, `role`, `ticket_hash`, `credentials`.
        ///
        /// `fanwire passwd - NAME --role ROLE` prints such a table, with `--method` for other methods than tickets. A ticket itself
        /// cannot stand in a configuration.
        #[acts(new_connections)]
        #[serde(default)]
        pub user: Vec<User>,
        /// Whose JSON Web Tokens are good as tickets: `[[realm.jwt]]` with `keys`, `algorithms`, `role` and more.
        ///
        /// See [tokens](logins.md#tokens).
        #[acts(new_connections)]
        #[serde(default)]
        pub jwt: Vec<Jwt>,
        /// How long a browser that has logged in is let in by its cookie, `"168h"` or so; `"0s"`: not at all.
        ///
        /// Only at listeners with a `cookie`. See [logins](logins.md#cookies).
        #[acts(new_connections)]
        #[serde(default = "Realm::default_cookie_time")]
        pub cookie_time: Time,
        /// What happens to events that a subscriber does not read in time; `auto`: what `limits.slow_consumer` says.
        #[acts(new_connections)]
        #[serde(default = "Realm::default_slow_consumer")]
        pub slow_consumer: Auto<Policy>,
        /// The same by topic: `[[realm.topic]]` with `uri`, `match`, `slow_consumer`, `outbox`, `outbox_messages`, and `history`.
        ///
        /// Only `uri` must be there. The most specific rule decides that covers all of a subscription. `outbox` and
        /// `outbox_messages` bound what waits of one subscription for one connection. See
        /// [slow consumers](operators.md#slow-consumers).
        ///
        /// `history = 100` keeps the last 100 publications to each topic that the rule covers, `history_bytes` of them at most
        /// (`"1MiB"`), none older than `history_age` (`"none"`), for those who [ask](wamp.md#event-history). The most specific rule
        /// that has `history` decides, and a change acts at once; 0 keeps none.
        #[acts(new_connections)]
        #[serde(default)]
        pub topic: Vec<Topic>,
        /// Who may do what. What no permission mentions is refused.
        #[acts(now)]
        #[serde(default)]
        pub role: Vec<Role>,
    }
}

impl Realm {
    /// The realm that exists when none is configured: whoever can connect may do everything.
    pub fn open() -> Self {
        Self {
            name: "realm1".to_owned(),
            anonymous_role: Self::default_anonymous_role(),
            allow_anonymous_everywhere: false,
            users_file: Self::default_users_file(),
            user: Vec::new(),
            jwt: Vec::new(),
            cookie_time: Self::default_cookie_time(),
            slow_consumer: Auto::Auto,
            topic: Vec::new(),
            role: vec![Role {
                name: Self::default_anonymous_role(),
                trust_level: Role::default_trust_level(),
                permission: vec![Permission::everything(), Permission::meta()],
            }],
        }
    }

    fn default_anonymous_role() -> String {
        "anonymous".to_owned()
    }

    fn default_cookie_time() -> Time {
        Time::seconds(0)
    }

    fn default_slow_consumer() -> Auto<Policy> {
        Auto::Auto
    }

    fn default_users_file() -> String {
        NO_FILE.to_owned()
    }

    /// The file with users, if there is one.
    pub fn users_file(&self) -> Option<&str> {
        (self.users_file != NO_FILE).then_some(self.users_file.as_str())
    }

    /// The declared role of a client that does not say who it is.
    pub fn anonymous(&self) -> Option<&Role> {
        self.role.iter().find(|role| role.name == self.anonymous_role)
    }
}

/// Whose tokens are good as tickets. Explained in `docs/logins.md`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// A JWK set: a file, or an `http://` or `https://` URL.
    pub keys: String,
    /// What keys may be used with, such as `RS256`, `ES256`, `EdDSA`.
    pub algorithms: Vec<String>,
    /// What the claim `iss` must be, if it is to be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// One of these must be in the claim `aud`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<String>,
    /// The claim that is the user's name.
    #[serde(default = "Jwt::default_authid_claim")]
    pub authid_claim: String,
    /// The claim that names the role, or a list of roles of which the first known one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_claim: Option<String>,
    /// The role of tokens that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How far clocks may differ.
    #[serde(default = "Jwt::default_leeway")]
    pub leeway: Time,
    /// Whether a session ends with its token.
    #[serde(default)]
    pub end_session: bool,
    /// When keys of a URL are asked for again.
    #[serde(default = "Jwt::default_refresh")]
    pub refresh: Time,
}

impl Jwt {
    fn default_authid_claim() -> String {
        "sub".to_owned()
    }

    fn default_leeway() -> Time {
        Time(Duration::from_secs(30))
    }

    fn default_refresh() -> Time {
        Time(Duration::from_secs(600))
    }
}

/// A user, and how it logs in. Explained at `realm.user`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// What the client says as `authid`.
    pub name: String,
    /// The role of its sessions.
    pub role: String,
    /// What `fanwire passwd` made of its ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_hash: Option<String>,
    /// What `fanwire passwd --method` made of its secrets for other methods, or its keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<String>,
}

described! {
    /// A named set of permissions. What no permission allows is refused.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Role {
        /// The role's name.
        #[acts(now)]
        pub name: String,
        /// How far others may trust who publishes or calls, where the permission does not say.
        ///
        /// `none`: subscribers and callees are told nothing of it.
        #[acts(now)]
        #[serde(default = "Role::default_trust_level")]
        pub trust_level: Limit<Count>,
        /// Actions that are allowed at URIs. The most specific permission decides.
        #[acts(now)]
        #[serde(default)]
        pub permission: Vec<Permission>,
    }
}

impl Role {
    fn default_trust_level() -> Limit<Count> {
        Limit(None)
    }

    /// Whether members may do all actions at all URIs.
    pub fn may_do_everything(&self) -> bool {
        Action::ALL.iter().all(|action| {
            self.permission.iter().any(|permission| {
                permission.uri.is_empty()
                    && permission.match_policy == Match::Prefix
                    && permission.allow.contains(action)
            })
        })
    }
}

described! {
    /// Actions allowed at the URIs that a pattern matches.
    #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct Permission {
        /// URI or pattern.
        #[acts(now)]
        pub uri: String,
        /// How `uri` is compared: `exact` (if left out in a file), `prefix` or `wildcard`.
        ///
        /// In a wildcard an empty component stands for any, such as in `a..c`.
        #[acts(now)]
        #[serde(rename = "match", default)]
        pub match_policy: Match,
        /// What is allowed there: `publish`, `subscribe`, `call`, `register`; an empty list forbids.
        #[acts(now)]
        pub allow: Vec<Action>,
        /// Whether subscribers and callees are told who publishes or calls there: `on_request`, `always` or `never`.
        ///
        /// They are told session, authid and authrole. `on_request`: if the client sets `disclose_me`, or the callee registered
        /// with `disclose_caller`. `never`: who sets `disclose_me` is refused with
        /// `wamp.error.option_disallowed.disclose_me`.
        #[acts(now)]
        #[serde(default)]
        pub disclose: Disclose,
        /// How far subscribers and callees may trust who publishes or calls there, 0 the least; `auto`: as the role says.
        ///
        /// They are told it as `trustlevel`. What the numbers mean is the application's.
        #[acts(now)]
        #[serde(default = "Permission::default_trust_level")]
        pub trust_level: Auto<Count>,
    }
}

impl Permission {
    fn everything() -> Self {
        Self {
            uri: String::new(),
            match_policy: Match::Prefix,
            allow: Action::ALL.to_vec(),
            disclose: Disclose::OnRequest,
            trust_level: Self::default_trust_level(),
        }
    }

    fn default_trust_level() -> Auto<Count> {
        Auto::Auto
    }

    /// Also what ends others' sessions, which no rule about everything permits.
    fn meta() -> Self {
        Self { uri: "wamp.".to_owned(), ..Self::everything() }
    }
}

/// Whether others are told who publishes or calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Disclose {
    /// If it asks for it.
    #[default]
    OnRequest,
    /// Whatever it asks for.
    Always,
    /// Never.
    Never,
}

/// How the URI of a permission is compared with the URI of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// Equal.
    #[default]
    Exact,
    /// The request's begins with it.
    Prefix,
    /// Component by component; an empty component stands for any.
    Wildcard,
}

/// What a session may do with a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Publish to a topic.
    Publish,
    /// Subscribe to a topic.
    Subscribe,
    /// Call a procedure.
    Call,
    /// Register a procedure.
    Register,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Publish, Self::Subscribe, Self::Call, Self::Register];
}
