//! How values must agree with each other, and what must not be started.
//!
//! The types in [`schema`](super::schema) have already refused what a single value cannot be. All problems are gathered, so
//! that an operator mends a file once.

use std::fmt::Display;

use super::bind::Bind;
use super::load::Origins;
use super::problem::{Problem, nearest};
use fanwire_codec::ws::deflate::{WINDOW_BITS_MAX, WINDOW_BITS_MIN};

use fanwire_io::WAMP_RULES_MAX;

use super::schema::{
    Compression, Config, Limits, Listener, Match, NO_ROLE, ORIGIN_ANY, Protocol, RAWSOCKET_AUTO,
    RAWSOCKET_OFF, Realm, SameSite,
};
use super::topics::Topic;
use super::units::{Auto, Count, CpuList, Size, Time};

/// The directory keeps a shard's interest as one bit of a 64-bit word, and one bit is spent otherwise.
pub const SHARDS_MAX: u32 = 63;

/// Beyond this a message that comes so seldom would not notice the wake-up.
const SPIN_MAX: std::time::Duration = std::time::Duration::from_millis(1);
/// Browsers keep no cookie for longer.
const COOKIE_TIME_MAX: Time = Time::seconds(400 * 24 * 3_600);

/// All that is wrong.
pub fn check(config: &Config, origins: &Origins) -> Vec<Problem> {
    let mut checker = Checker { origins, problems: Vec::new() };
    checker.listeners(config);
    checker.shards(config);
    checker.realms(config);
    checker.limits(&config.limits);
    checker.compression(&config.compression);
    checker.rest(config);
    checker.problems.extend(super::center::check(config, origins));
    checker.problems.extend(super::echo::check(config, origins));
    checker.problems.extend(super::tick::check(config, origins));
    checker.problems.extend(super::wamp1::check(config, origins));
    checker.problems
}

struct Checker<'a> {
    origins: &'a Origins,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn refuse<H: Into<String>>(
        &mut self,
        key: impl Into<String>,
        wrong: impl Into<String>,
        help: impl IntoIterator<Item = H>,
    ) {
        let key = key.into();
        self.problems.push(Problem {
            place: self.origins.place(&key),
            key: Some(key),
            wrong: wrong.into(),
            help: help.into_iter().map(Into::into).collect(),
        });
    }

    fn within<T: PartialOrd + Display>(&mut self, key: &str, value: &T, least: T, most: T) {
        if *value < least || *value > most {
            self.refuse(key, format!("{value} is out of range"), [format!("allowed: {least} to {most}")]);
        }
    }

    fn listeners(&mut self, config: &Config) {
        if config.listener.is_empty() {
            self.refuse(
                "listener",
                "there is no listener, so nobody can connect",
                ["add: [[listener]] with bind = \"127.0.0.1:8080\", or leave the key out"],
            );
        }
        let mut taken: Vec<(String, Bind)> = Vec::new();
        let admin = config.admin.bind.0.iter().map(|bind| ("admin.bind".to_owned(), Bind::Ip(*bind)));
        let listeners = config.listener.iter().enumerate();
        for (key, bind) in listeners.map(|(i, l)| (format!("listener.{i}.bind"), l.bind.clone())).chain(admin)
        {
            if let Some((other, before)) = taken.iter().find(|(_, before)| before.overlaps(&bind)) {
                let (wrong, help) = match bind {
                    _ if *before == bind => {
                        (format!("{bind} is the address of {other} too"), "give each its own")
                    }
                    _ => (
                        format!("{bind} and {before} of {other} want the same port"),
                        "give each its own port, or name one of the two; 0.0.0.0 takes all of IPv4, [::] also all of IPv6",
                    ),
                };
                self.refuse(&key, wrong, [help]);
            }
            taken.push((key, bind));
        }
        for (index, listener) in config.listener.iter().enumerate() {
            self.listener(&format!("listener.{index}"), listener, config);
        }
        let rules = config.listener.iter().flat_map(|listener| listener.endpoints.values());
        let rules = rules.filter(|endpoint| !endpoint.is_plain()).count();
        if rules > WAMP_RULES_MAX {
            let wrong = format!("{rules} endpoints have a realm or serializers of their own");
            self.refuse("listener", wrong, [format!("allowed: {WAMP_RULES_MAX}, of all listeners together")]);
        }
    }

    fn listener(&mut self, key: &str, listener: &Listener, config: &Config) {
        if listener.mode.given().is_some() && listener.bind.ip().is_some() {
            self.refuse(
                format!("{key}.mode"),
                format!("{} is no Unix socket and has no permissions", listener.bind),
                ["leave it out, or bind to a path, such as \"unix:/run/fanwire.sock\""],
            );
        }
        if let Auto::Given(backlog) = &listener.backlog {
            self.within(&format!("{key}.backlog"), backlog, Count(1), Count(1 << 20));
        }
        if listener.endpoints.is_empty() {
            self.refuse(
                format!("{key}.endpoints"),
                "there is no endpoint, so every request is answered 404",
                ["add: \"/ws\" = \"wamp\""],
            );
        }
        for path in listener.endpoints.keys() {
            let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"%\\".contains(&byte));
            if path != "*" && !(path.starts_with('/') && plain) {
                let wrong = format!("{path:?} is not a path");
                self.refuse(
                    format!("{key}.endpoints.{path}"),
                    wrong,
                    ["allowed: a path that begins with / and has no query, such as \"/ws\", or \"*\" for all other paths"],
                );
            }
        }
        self.endpoints(key, listener, config);
        self.cookie(key, listener);
        for (index, origin) in listener.allowed_origins.iter().enumerate() {
            if !is_origin(origin) {
                let wrong = format!("{origin:?} is not an origin");
                self.refuse(format!("{key}.allowed_origins.{index}"), wrong, [
                    "allowed: \"*\", or scheme and host as a browser sends them, such as \"https://app.example.org\"",
                ]);
            }
        }
    }

    /// What WAMP endpoints and RawSocket are for.
    fn endpoints(&mut self, key: &str, listener: &Listener, config: &Config) {
        for (path, endpoint) in &listener.endpoints {
            let at = format!("{key}.endpoints.{path}");
            if !endpoint.protocol.is_wamp() && !endpoint.is_plain() {
                let help = ["leave `realm` and `serializers` out, or speak \"wamp\" there"];
                self.refuse(&at, "only WAMP endpoints have a realm or serializers of their own", help);
            }
            if endpoint.protocol == Protocol::WampLongpoll && path == "*" {
                let help = ["name a path, such as \"/poll\"; what is asked for is below it"];
                self.refuse(&at, "long-polling cannot be at all other paths", help);
            }
            if let Some(name) = &endpoint.realm
                && !config.realm.iter().any(|realm| realm.name == *name)
            {
                let known: Vec<&str> = config.realm.iter().map(|realm| realm.name.as_str()).collect();
                let help = nearest(name, &known).map(|known| format!("did you mean {known:?}?"));
                self.refuse(&at, format!("there is no realm {name:?}"), help);
            }
            if endpoint.serializers.as_ref().is_some_and(Vec::is_empty) {
                let help = ["allowed: some of \"json\", \"msgpack\" and \"cbor\", or leave it out for all"];
                self.refuse(&at, "no serializer is left, so nobody can connect", help);
            }
        }
        let is_path = ![RAWSOCKET_AUTO, RAWSOCKET_OFF].contains(&listener.rawsocket.as_str());
        if is_path && listener.rawsocket().is_none() {
            let wrong = format!("{:?} is no path of a WAMP endpoint of this listener", listener.rawsocket);
            let help = ["allowed: \"auto\", \"off\", or such a path, whose rules hold for RawSocket then"];
            self.refuse(format!("{key}.rawsocket"), wrong, help);
        }
    }

    fn shards(&mut self, config: &Config) {
        if let Some(sends) = &config.shards.slice_sends.0 {
            self.within("shards.slice_sends", sends, Count(1), Count(1 << 16));
        }
        self.within("shards.spin", &config.shards.spin, Time::seconds(0), Time(SPIN_MAX));
        let Some(count) = config.shards.count.given() else {
            if let Auto::Given(CpuList(cpus)) = &config.shards.cpus
                && cpus.len() > SHARDS_MAX as usize
            {
                let wrong =
                    format!("{} CPUs are named, and there can be at most {SHARDS_MAX} shards", cpus.len());
                self.refuse("shards.cpus", wrong, ["name fewer CPUs"]);
            }
            return;
        };
        self.within("shards.count", count, Count(1), Count(SHARDS_MAX));
        if let Auto::Given(CpuList(cpus)) = &config.shards.cpus
            && cpus.len() < count.0 as usize
        {
            let wrong = format!("{} CPUs are named for {count} shards", cpus.len());
            self.refuse("shards.cpus", wrong, ["name a CPU for each shard, or leave shards.count out"]);
        }
    }

    fn cookie(&mut self, key: &str, listener: &Listener) {
        let Some(name) = listener.cookie.name() else { return };
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(is_word) || name.starts_with("__") {
            self.refuse(
                format!("{key}.cookie.name"),
                format!("{name:?} is not the name of a cookie"),
                ["allowed: 1 to 64 letters, digits, -, _ and ., but not __ at the beginning; or \"none\""],
            );
        }
        if listener.allowed_origins.iter().any(|origin| origin == ORIGIN_ANY) {
            self.refuse(
                format!("{key}.allowed_origins"),
                "every page on the web may connect, and browsers bring the cookie along whichever page it is",
                ["name the origins of your pages, or set cookie.name = \"none\""],
            );
        }
        let is_secure = listener.cookie.secure || listener.tls.pair().is_some() && !listener.tls.plain;
        if listener.cookie.same_site == SameSite::None && !is_secure {
            self.refuse(
                format!("{key}.cookie.same_site"),
                "browsers take a cookie for all sites over TLS alone",
                ["give the listener tls, or set cookie.secure = true where a proxy before it has TLS"],
            );
        }
    }

    fn realms(&mut self, config: &Config) {
        if config.realm.is_empty() {
            self.refuse(
                "realm",
                "there is no realm, so nobody can log in",
                ["add: [[realm]] with name = \"realm1\" and its roles, or leave the key out"],
            );
        }
        for (index, realm) in config.realm.iter().enumerate() {
            let key = format!("realm.{index}");
            if config.realm[..index].iter().any(|other| other.name == realm.name) {
                self.refuse(
                    format!("{key}.name"),
                    format!("there is a realm {:?} already", realm.name),
                    ["give each realm its own name"],
                );
            }
            self.realm(&key, realm);
            if !realm.cookie_time.0.is_zero() {
                self.within(
                    &format!("{key}.cookie_time"),
                    &realm.cookie_time,
                    Time::seconds(1),
                    COOKIE_TIME_MAX,
                );
            }
            self.must_not_start(config, &key, realm);
        }
    }

    fn realm(&mut self, key: &str, realm: &Realm) {
        if realm.name.is_empty()
            || realm.name.len() > 255
            || realm.name.chars().any(|c| c.is_whitespace() || c == '#')
        {
            self.refuse(
                format!("{key}.name"),
                format!("{:?} is not the name of a realm", realm.name),
                ["allowed: 1 to 255 bytes without spaces and #, such as \"realm1\" or \"com.example.shop\""],
            );
        }
        for (index, role) in realm.role.iter().enumerate() {
            let role_key = format!("{key}.role.{index}");
            if role.name.is_empty() || role.name == NO_ROLE {
                self.refuse(
                    format!("{role_key}.name"),
                    format!("{:?} cannot be the name of a role", role.name),
                    ["allowed: any other word, such as \"anonymous\""],
                );
            }
            if realm.role[..index].iter().any(|other| other.name == role.name) {
                self.refuse(
                    format!("{role_key}.name"),
                    format!("there is a role {:?} already", role.name),
                    ["put all permissions of a role into one [[realm.role]]"],
                );
            }
            for (index, permission) in role.permission.iter().enumerate() {
                self.pattern(
                    &format!("{role_key}.permission.{index}.uri"),
                    &permission.uri,
                    permission.match_policy,
                );
            }
        }
        for (index, topic) in realm.topic.iter().enumerate() {
            self.topic(&format!("{key}.topic.{index}"), topic, &realm.topic[..index]);
        }
        if realm.anonymous().is_none() && realm.anonymous_role != NO_ROLE {
            let names: Vec<&str> = realm.role.iter().map(|role| role.name.as_str()).collect();
            let known = if names.is_empty() { "it has none".to_owned() } else { names.join(", ") };
            let mut help = vec![format!("roles of realm {:?}: {known}", realm.name)];
            help.extend(nearest(&realm.anonymous_role, &names).map(|near| format!("did you mean {near}?")));
            help.push(format!(
                "add a [[realm.role]] with name = {:?}, or anonymous_role = \"{NO_ROLE}\" to let nobody in unnamed",
                realm.anonymous_role
            ));
            let wrong = format!(
                "the realm has no role {:?} for clients that do not say who they are",
                realm.anonymous_role
            );
            self.refuse(format!("{key}.anonymous_role"), wrong, help);
        }
    }

    fn topic(&mut self, key: &str, topic: &Topic, before: &[Topic]) {
        self.pattern(&format!("{key}.uri"), &topic.uri, topic.match_policy);
        if before.iter().any(|other| (&other.uri, other.match_policy) == (&topic.uri, topic.match_policy)) {
            self.refuse(
                format!("{key}.uri"),
                format!("there is a rule for {:?} already", topic.uri),
                ["put all that is said of a topic into one [[realm.topic]]"],
            );
        }
        if let Auto::Given(outbox) = &topic.outbox {
            self.within(&format!("{key}.outbox"), outbox, Size(1 << 10), Size(1 << 30));
        }
        if let Auto::Given(messages) = &topic.outbox_messages {
            self.within(&format!("{key}.outbox_messages"), messages, Count(1), Count(1 << 20));
        }
        if let Auto::Given(history) = &topic.history {
            self.within(&format!("{key}.history"), history, Count(0), Count(1 << 20));
        }
        self.within(&format!("{key}.history_bytes"), &topic.history_bytes, Size(1 << 10), Size(64 << 30));
        if let Some(age) = &topic.history_age.0 {
            self.within(&format!("{key}.history_age"), age, Time::seconds(1), Time::seconds(366 * 86_400));
        }
    }

    fn pattern(&mut self, key: &str, uri: &str, policy: Match) {
        let wrong = if uri.len() > 255 {
            format!("it has {} bytes; a URI has at most 255", uri.len())
        } else if uri.chars().any(char::is_whitespace) {
            format!("{uri:?} cannot match: URIs have no spaces")
        } else if uri.is_empty() && policy != Match::Prefix {
            "the empty URI stands for all only with match = \"prefix\"".to_owned()
        } else if policy == Match::Exact && (uri.split('.').any(str::is_empty) || uri.ends_with('*')) {
            format!(
                "{uri:?} is no URI of a topic or procedure; patterns need match = \"prefix\" or \"wildcard\""
            )
        } else {
            return;
        };
        self.refuse(key, wrong, [
            "allowed: \"a.b.c\" (exact), \"a.b.\" or \"\" (prefix), \"a..c\" (wildcard: an empty component stands for any)",
        ]);
    }

    /// Whoever can reach the address could do everything. That must have been meant.
    fn must_not_start(&mut self, config: &Config, key: &str, realm: &Realm) {
        let open = realm.anonymous().is_some_and(|role| role.may_do_everything());
        if !open || realm.allow_anonymous_everywhere {
            return;
        }
        let Some(index) = config.listener.iter().position(|listener| !listener.bind.is_local()) else {
            return;
        };
        let bind = &config.listener[index].bind;
        let configured = self.origins.exact(key).is_some() || self.origins.exact("realm").is_some();
        let line = "allow_anonymous_everywhere = true";
        let mut help = vec![
            "to keep others out: bind to 127.0.0.1, or give the role fewer permissions (docs/configuration.md)".to_owned(),
        ];
        help.push(if configured {
            format!("if that is meant, add this line to [[realm]] {:?}:  {line}", realm.name)
        } else {
            // Without a realm in a file, the line alone would not say which realm.
            format!("if that is meant, say so:  --set {key}.{line}", line = line.replace(' ', ""))
        });
        let wrong = format!(
            "other machines can reach {bind}, and there everybody may do everything in realm {:?} without saying who they are",
            realm.name
        );
        self.refuse(format!("listener.{index}.bind"), wrong, help);
    }

    fn limits(&mut self, limits: &Limits) {
        let kib = |n: u64| Size(n << 10);
        let gib = Size(1 << 30);
        // The timers of a shard tick 60 times a second.
        let least = Time(std::time::Duration::from_millis(100));
        let day = Time::seconds(24 * 3_600);
        if let Auto::Given(memory) = &limits.memory {
            self.within("limits.memory", memory, Size(32 << 20), Size(1 << 50));
        }
        self.within("limits.message", &limits.message, kib(1), gib);
        self.within("limits.request_head", &limits.request_head, Size(512), kib(64));
        self.within("limits.request_head_fields", &limits.request_head_fields, Count(8), Count(256));
        self.within("limits.before_login", &limits.before_login, kib(1), Size(1 << 20));
        for (key, time) in [
            ("limits.handshake_time", limits.handshake_time),
            ("limits.login_time", limits.login_time),
            ("limits.message_time", limits.message_time),
            ("limits.close_time", limits.close_time),
            ("limits.poll_wait", limits.poll_wait),
            ("limits.poll_idle", limits.poll_idle),
            ("limits.ping_interval", limits.ping_interval),
            ("limits.pong_wait", limits.pong_wait),
            ("limits.outbox_age", limits.outbox_age),
            ("limits.pause", limits.pause),
        ] {
            self.within(key, &time, least, day);
        }
        self.within("limits.outbox", &limits.outbox, kib(16), gib);
        self.within("limits.outbox_messages", &limits.outbox_messages, Count(16), Count(1 << 20));
        self.within("limits.reply_reserve", &limits.reply_reserve, kib(4), Size(16 << 20));
        for (key, count) in [
            ("limits.subscriptions_per_session", limits.subscriptions_per_session),
            ("limits.registrations_per_session", limits.registrations_per_session),
            ("limits.patterns_per_session", limits.patterns_per_session),
            ("limits.patterns_per_realm", limits.patterns_per_realm),
            ("limits.pending_calls_per_session", limits.pending_calls_per_session),
            ("limits.pending_invocations_per_session", limits.pending_invocations_per_session),
        ] {
            self.within(key, &count, Count(1), Count(1 << 24));
        }
        for (key, count) in [
            ("limits.retained_per_realm", limits.retained_per_realm),
            ("limits.testaments_per_session", limits.testaments_per_session),
        ] {
            self.within(key, &count, Count(0), Count(1 << 24));
        }
        let kept = [
            ("limits.retained_bytes_per_realm", limits.retained_bytes_per_realm),
            ("limits.retained_bytes", limits.retained_bytes),
            ("limits.history_bytes_per_realm", limits.history_bytes_per_realm),
            ("limits.history_bytes", limits.history_bytes),
            ("limits.cookie_bytes", limits.cookie_bytes),
            ("limits.testament_bytes_per_session", limits.testament_bytes_per_session),
            ("limits.testament_bytes_per_shard", limits.testament_bytes_per_shard),
        ];
        for (key, size) in kept {
            self.within(key, &size, kib(4), Size(64 << 30));
        }
        self.within("limits.logins_waiting", &limits.logins_waiting, Count(1), Count(1 << 20));
        if let Auto::Given(logins) = &limits.logins_at_once {
            self.within("limits.logins_at_once", logins, Count(1), Count(256));
        }
        if let Some(connections) = &limits.connections_per_shard.0 {
            self.within("limits.connections_per_shard", connections, Count(1), Count(1 << 24));
        }
        self.rates(limits);
        let handshakes = limits.tls_handshakes_per_shard;
        self.within("limits.tls_handshakes_per_shard", &handshakes, Count(1), Count(1 << 16));
        self.within("limits.ring", &limits.ring, kib(64), gib);
        if let Auto::Given(items) = &limits.ring_items {
            self.within("limits.ring_items", items, Count(128), Count(1 << 20));
        }
    }

    fn rates(&mut self, limits: &Limits) {
        for (key, limit) in [
            ("limits.accept_rate", &limits.accept_rate),
            ("limits.connections_per_address", &limits.connections_per_address),
            ("limits.connects_per_address", &limits.connects_per_address),
            ("limits.messages_per_second", &limits.messages_per_second),
        ] {
            if let Some(count) = &limit.0 {
                self.within(key, count, Count(1), Count(1 << 24));
            }
        }
        if let Some(bytes) = &limits.bytes_per_second.0 {
            self.within("limits.bytes_per_second", bytes, Size(1 << 10), Size(1 << 40));
        }
        let bursts = [
            ("messages", limits.messages_burst.given().is_some(), limits.messages_per_second.0.is_none()),
            ("bytes", limits.bytes_burst.given().is_some(), limits.bytes_per_second.0.is_none()),
        ];
        for (what, is_given, is_unlimited) in bursts {
            if is_given && is_unlimited {
                let wrong =
                    format!("there is no rate that it could be the burst of: {what}_per_second is \"none\"");
                self.refuse(
                    format!("limits.{what}_burst"),
                    wrong,
                    [format!("set limits.{what}_per_second too")],
                );
            }
        }
        // Connections that wait are looked at some thirty times a second, and cannot take more than a burst then.
        if let (Auto::Given(burst), Some(rate)) = (&limits.messages_burst, limits.messages_per_second.0) {
            let least = Count(rate.0.div_ceil(30).min(1 << 24));
            self.within("limits.messages_burst", burst, least, Count(1 << 24));
        }
        if let (Auto::Given(burst), Some(rate)) = (&limits.bytes_burst, limits.bytes_per_second.0) {
            let least = Size(rate.0.div_ceil(30).clamp(1 << 10, 1 << 40));
            self.within("limits.bytes_burst", burst, least, Size(1 << 40));
        }
    }

    fn compression(&mut self, compression: &Compression) {
        self.within("compression.threshold", &compression.threshold, Size(0), Size(1 << 30));
        self.within("compression.level", &compression.level, Count(1), Count(9));
        let (least, most) = (Count(WINDOW_BITS_MIN.into()), Count(WINDOW_BITS_MAX.into()));
        self.within("compression.window_bits", &compression.window_bits, least, most);
    }

    fn rest(&mut self, config: &Config) {
        self.within(
            "shutdown.drain_time",
            &config.shutdown.drain_time,
            Time::seconds(0),
            Time::seconds(3_600),
        );
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.log.level) {
            let wrong = format!("{:?} is not a log level: {error}", config.log.level);
            self.refuse("log.level", wrong, [
                "allowed: off, error, warn, info, debug, trace, or per part such as \"info,fanwire_io=debug\"",
            ]);
        }
    }
}

fn is_origin(text: &str) -> bool {
    if text == ORIGIN_ANY {
        return true;
    }
    // As browsers serialize it (RFC 6454, 6.2): scheme, host, port if it is not the scheme's own; no path, no trailing slash.
    let Some((scheme, host)) = text.split_once("://") else { return false };
    !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
}
