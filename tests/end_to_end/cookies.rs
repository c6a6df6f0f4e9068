//! Logins by cookie, over sockets and several shards: a browser that has logged in comes back without its secret.

use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;

use crate::logins::aborted;
use crate::support::{CHEAP_HASH, CHEAP_TICKET, Client, Folder, Launch, Router, connect, eventually};
use crate::tls::Set;

const CONFIG: &str = r#"
[[listener]]
bind = "127.0.0.1:0"
allowed_origins = ["https://app.example"]
[listener.cookie]
name = "fanwire"

[[realm]]
name = "realm1"
anonymous_role = "none"
users_file = "users.txt"
cookie_time = "1h"
[[realm.role]]
name = "member"
"#;

fn launch(driver: &str, folder: &Folder, config: &str) -> Router {
    folder.write("users.txt", &format!("joe:member:{CHEAP_HASH}\nann:member:{CHEAP_HASH}\n"));
    let config = folder.write("fanwire.toml", config);
    Launch::on(driver).argument("--config").argument(&config).set("shards.count", "2").start()
}

/// What a browser keeps, and how it connects.
#[derive(Default)]
struct Browser {
    cookie: Option<String>,
    page: Option<&'static str>,
}

impl Browser {
    /// Sends its cookie and keeps the one that it is given. Gives the attributes of that.
    fn connect(&mut self, router: &Router) -> (Client, Option<String>) {
        let cookie = self.cookie.clone();
        let fields = [("Cookie", cookie.as_deref()), ("Origin", self.page)];
        let fields: Vec<(&str, &str)> =
            fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let (client, head) = Client::connect_with(router.wamp, &fields);
        let set = head.lines().find_map(|line| line.strip_prefix("Set-Cookie: ")).map(str::to_owned);
        let (pair, attributes) = set.as_deref().and_then(|set| set.split_once("; ")).unzip();
        if let Some(pair) = pair {
            self.cookie = Some(pair.to_owned());
        }
        (client, attributes.map(str::to_owned))
    }

    fn log_in(&mut self, router: &Router, authid: &str) -> Client {
        let (mut client, _) = self.connect(router);
        assert_eq!(client.ask(hello(&["cookie", "ticket"], Some(authid))), json!([4, "ticket", {}]));
        let welcome = client.ask(json!([5, CHEAP_TICKET, {}]));
        assert_eq!((&welcome[0], &welcome[2]["authmethod"]), (&json!(2), &json!("ticket")), "{welcome}");
        client
    }

    /// WELCOME by cookie.
    fn come_back(&mut self, router: &Router) -> (Client, Value) {
        let before = self.cookie.clone();
        let (mut client, set) = self.connect(router);
        assert!(
            set.is_some() && self.cookie == before,
            "the one that it has is good, and is set for its time anew"
        );
        let welcome = client.ask(hello(&["cookie"], None));
        assert_eq!(welcome[0], 2, "{welcome}");
        (client, welcome)
    }

    /// It is nobody.
    fn is_refused(&mut self, router: &Router) {
        let (mut client, _) = self.connect(router);
        client.send(hello(&["cookie"], None));
        let (uri, words) = aborted(&mut client, 1008);
        assert!(uri == "wamp.error.authentication_required" && words.contains("no login is remembered"));
    }
}

fn hello(methods: &[&str], authid: Option<&str>) -> Value {
    let mut details = json!({"roles": {"caller": {}}, "authmethods": methods});
    if let Some(authid) = authid {
        details["authid"] = authid.into();
    }
    json!([1, "realm1", details])
}

on_both_drivers! {
    fn a_browser_that_has_logged_in_comes_back_without_its_secret(driver: &str) {
        let folder = Folder::new(&format!("cookies-{driver}"));
        let router = launch(driver, &folder, CONFIG);
        let mut browser = Browser::default();
        browser.is_refused(&router);
        let before = browser.cookie.clone();
        let (_, set) = browser.connect(&router);
        assert_eq!(set.as_deref(), Some("Path=/; Max-Age=3600; HttpOnly; SameSite=Strict"));
        assert_ne!(browser.cookie, before, "one that is nobody's is replaced");
        let _first = browser.log_in(&router, "joe");
        let (_, welcome) = browser.come_back(&router);
        for (key, value) in
            [("authid", "joe"), ("authrole", "member"), ("authmethod", "cookie"), ("authprovider", "static")]
        {
            assert_eq!(welcome[2][key], value, "{welcome}");
        }
        Browser::default().is_refused(&router);
        let metrics = "method=\"cookie\",outcome=\"welcomed\"";
        eventually(metrics, || router.metric("fanwire_logins_total", metrics) == 1.0);
        eventually("one is remembered", || router.metric("fanwire_cookie_logins", "") == 1.0);
    }

    fn logging_out_ends_the_sessions_of_that_browser_on_all_shards(driver: &str) {
        let folder = Folder::new(&format!("cookies-logout-{driver}"));
        let router = launch(driver, &folder, CONFIG);
        let (mut browser, mut other) = (Browser::default(), Browser::default());
        let first = browser.log_in(&router, "joe");
        let mut elsewhere = other.log_in(&router, "joe");
        let mut tabs: Vec<Client> = (0..6).map(|_| browser.come_back(&router).0).collect();
        tabs.push(first);
        let mut leaver = browser.come_back(&router).0;
        assert_eq!(leaver.ask(json!([6, {}, "wamp.close.logout"]))[2], "wamp.close.goodbye_and_out");
        for tab in &mut tabs {
            let goodbye = tab.expect();
            assert_eq!((&goodbye[0], &goodbye[2]), (&json!(6), &json!("wamp.close.logout")), "{goodbye}");
        }
        browser.is_refused(&router);
        assert_eq!(elsewhere.ask(json!([48, 1, {}, "com.none"]))[0], 8, "the other browser's session goes on");
        other.come_back(&router);
    }

    /// A page elsewhere that makes a browser connect is not let in by its cookie, even where it may connect.
    fn only_the_routers_own_pages_can_use_the_cookie(driver: &str) {
        let folder = Folder::new(&format!("cookies-origin-{driver}"));
        let router = launch(driver, &folder, CONFIG);
        let mut browser = Browser { page: Some("https://app.example"), ..Browser::default() };
        browser.log_in(&router, "joe");
        browser.come_back(&router);
        // Pages of this machine may connect, but not all that runs here is the router's.
        browser.page = Some("http://localhost:1");
        let (mut client, set) = browser.connect(&router);
        assert_eq!(set, None);
        client.send(hello(&["cookie"], None));
        assert_eq!(aborted(&mut client, 1008).0, "wamp.error.authentication_required");
        browser.page = None;
        browser.come_back(&router);
    }

    /// Nobody can plant it from a part of the host, or from pages without TLS.
    fn over_tls_it_is_a_cookie_of_this_host_alone(driver: &str) {
        let set = Set::new(driver, "cookies", "");
        let users = set.folder.write("users.txt", &format!("joe:anonymous:{CHEAP_HASH}\n"));
        let set = set.set("realm.0.users_file", &users).set("realm.0.cookie_time", "1h");
        let (authority, _folder, router) = set.set("listener.1.cookie.name", "fanwire").start();
        // The answers to these messages, and what the handshake sets.
        let talk = |cookie: Option<&str>, messages: &[Value]| {
            let stream = connect(crate::tls::address(&router), &authority.client(), "localhost");
            let mut request = "wss://localhost/ws".into_client_request().expect("a request");
            let fields = request.headers_mut();
            fields.insert("Sec-WebSocket-Protocol", "wamp.2.json".parse().expect("a field"));
            cookie.map(|cookie| fields.insert("Cookie", cookie.parse().expect("a field")));
            let (mut socket, answer) = tungstenite::client(request, stream).expect("a WebSocket");
            let answers: Vec<Value> = messages
                .iter()
                .map(|message| {
                    socket.send(Message::text(message.to_string())).expect("it is open");
                    let heard = socket.read().expect("an answer");
                    serde_json::from_str(heard.to_text().expect("text")).expect("JSON")
                })
                .collect();
            let set = answer.headers().get("set-cookie");
            (answers, set.map(|set| set.to_str().expect("ASCII").to_owned()))
        };
        let login = [hello(&["cookie", "ticket"], Some("joe")), json!([5, CHEAP_TICKET, {}])];
        let (answers, set) = talk(None, &login);
        let set = set.expect("a cookie");
        let (pair, attributes) = set.split_once("; ").expect("attributes");
        assert!(pair.starts_with("__Host-fanwire=") && attributes.ends_with("; Secure"), "{set}");
        assert_eq!(answers[1][0], 2, "{answers:?}");
        let back = [hello(&["cookie"], None)];
        let (answers, again) = talk(Some(pair), &back);
        assert_eq!((&answers[0][2]["authid"], again.as_ref()), (&json!("joe"), Some(&set)), "{answers:?}");
        let (answers, _) = talk(pair.strip_prefix("__Host-"), &back);
        assert_eq!(answers[0][0], 3, "{answers:?}");
    }

    fn who_is_changed_or_removed_is_forgotten(driver: &str) {
        let folder = Folder::new(&format!("cookies-reload-{driver}"));
        let router = launch(driver, &folder, CONFIG);
        let (mut joe, mut ann) = (Browser::default(), Browser::default());
        joe.log_in(&router, "joe");
        ann.log_in(&router, "ann");
        folder.write("users.txt", &format!("ann:member:{CHEAP_HASH}\n"));
        router.signal(Signal::HUP);
        eventually("the reload", || router.said().contains("SIGHUP: the configuration was reloaded"));
        joe.is_refused(&router);
        ann.come_back(&router);
    }

    fn without_a_name_there_is_no_cookie(driver: &str) {
        let folder = Folder::new(&format!("cookies-off-{driver}"));
        for config in [CONFIG.replace("name = \"fanwire\"", ""), CONFIG.replace("cookie_time = \"1h\"\n", "")] {
            let router = launch(driver, &folder, &config);
            let (_, set) = Browser::default().connect(&router);
            assert_eq!(set, None, "{config}");
        }
    }
}
