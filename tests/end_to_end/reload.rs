//! Reloads: what acts and when, what is told, and that nobody notices what is not about it.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::logins::{aborted, logged_in, logging_in};
use crate::support::{
    Authority, CHEAP_HASH, CHEAP_TICKET, Client, Folder, Http, Launch, Router, Tunnel, binary, dial,
    eventually, get, http, status,
};

/// Realm `realm1` with these permissions of anonymous clients (TOML), a member who may do everything, and `more` before it.
fn text(permissions: &str, more: &str) -> String {
    format!(
        r#"{more}
[[realm]]
name = "realm1"
users_file = "users.txt"
[[realm.role]]
name = "anonymous"
{permissions}
[[realm.role]]
name = "member"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
"#
    )
}

const EVERYTHING: &str = r#"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
"#;

/// Below `com.secret.` nothing.
const NO_SECRETS: &str = r#"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
[[realm.role.permission]]
uri = "com.secret."
match = "prefix"
allow = []
"#;

struct Set {
    folder: Folder,
    path: String,
    router: Router,
}

impl Set {
    fn start(driver: &str, name: &str) -> Self {
        let folder = Folder::new(&format!("reload-{driver}-{name}"));
        folder.write("users.txt", &format!("joe:member:{CHEAP_HASH}\n"));
        let path = folder.write("fanwire.toml", &text(EVERYTHING, ""));
        let router = Launch::on(driver).argument("--config").argument(&path).start();
        Self { folder, path, router }
    }

    fn write(&self, permissions: &str, more: &str) {
        self.folder.write("fanwire.toml", &text(permissions, more));
    }

    /// By HTTP: the status and the answer.
    fn post(&self, query: &str) -> (u16, Value) {
        let answer = Http::connect(self.router.wamp).ask("POST", &format!("/v1/reload{query}"));
        (answer.status, answer.json())
    }

    /// A good one: its changes as `acts key`.
    fn changes(&self) -> Vec<String> {
        let (status, report) = self.post("");
        assert_eq!(status, 200, "{report}");
        told(&report)
    }

    /// By the command: its exit status, and what it said.
    fn command(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(binary())
            .args(["reload", "--config", &self.path, "--address", &self.router.admin.to_string()])
            .args(arguments)
            .output()
            .expect("the binary starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().expect("it ends by itself"), String::from_utf8(said).expect("UTF-8"))
    }
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The status of the answer to an upgrade that a page asks for.
fn upgrade(address: SocketAddr, origin: &str) -> u16 {
    let mut stream = dial(address);
    let request = String::from_utf8(Client::upgrade_request(address)).expect("ASCII");
    let request = request.replacen("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n"), 1);
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    status(&String::from_utf8_lossy(&answer))
}

fn told(report: &Value) -> Vec<String> {
    let word = |change: &Value, field: &str| change[field].as_str().expect("a word").to_owned();
    let changes = report["changes"].as_array().expect("a list").iter();
    changes.map(|change| format!("{} {}", word(change, "acts"), word(change, "key"))).collect()
}

fn is_refused(client: &mut Client, message: Value) -> bool {
    let answer = client.ask(message);
    answer[0] == 8 && answer[4] == "wamp.error.not_authorized"
}

on_both_drivers! {
    fn an_error_changes_nothing_and_names_its_place(driver: &str) {
        let set = Set::start(driver, "error");
        let mut client = Client::join(set.router.wamp);
        client.subscribe("com.secret.a");
        // One thing that would act at once, and two that are wrong.
        set.write(NO_SECRETS, "[limits]\nmessage = \"1 elephant\"\nping_intervall = \"3s\"");
        let (code, said) = set.command(&[]);
        assert_eq!(code, 1, "{said}");
        for words in ["fanwire.toml:2:", "limits.message", "1 elephant", "fanwire.toml:3:", "did you mean ping_interval?", "nothing was changed"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let (status, answer) = set.post("");
        assert_eq!((status, &answer["error"]["code"]), (422, &json!("invalid_configuration")), "{answer}");
        let problem = &answer["error"]["problems"][0];
        assert_eq!((&problem["line"], &problem["key"]), (&json!(2), &json!("limits.message")), "{answer}");
        assert_eq!(problem["place"], json!(set.path), "{answer}");
        set.router.signal(Signal::HUP);
        eventually("the log", || set.router.said().contains("SIGHUP: nothing was changed"));
        // A users file is as good a place for an error.
        set.write(NO_SECRETS, "");
        set.folder.write("users.txt", "joe:nobody:x\n");
        let (code, said) = set.command(&[]);
        assert!(code == 1 && said.contains("users.txt:1:"), "{code} {said}");
        client.publish("com.secret.b", json!([1]));
        assert_eq!(set.router.metric("fanwire_config_reloads_total", "outcome=\"refused\""), 4.0);
        assert_eq!(set.router.metric("fanwire_config_reloads_total", "outcome=\"done\""), 0.0);
        let before = set.router.metric("fanwire_config_last_reload_timestamp_seconds", "");
        set.folder.write("users.txt", &format!("joe:member:{CHEAP_HASH}\n"));
        assert_eq!(set.changes(), ["now realm[realm1].role[anonymous].permission[com.secret. prefix]"]);
        assert!(set.router.metric("fanwire_config_last_reload_timestamp_seconds", "") >= before);
        assert!(is_refused(&mut client, json!([16, 9, {"acknowledge": true}, "com.secret.b", [1]])));
    }

    fn a_permission_that_is_taken_away_is_gone_and_one_given_is_there(driver: &str) {
        let set = Set::start(driver, "permissions");
        let mut clients: Vec<Client> = (0..6).map(|_| Client::join(set.router.wamp)).collect();
        let (mut joe, _) = logged_in(&set.router, "realm1", "joe");
        let secret: Vec<u64> = clients.iter_mut().map(|client| client.subscribe("com.secret.a")).collect();
        for client in &mut clients {
            client.subscribe("com.open");
            let pattern = client.ask(json!([32, 7, {"match": "prefix"}, "com."]));
            assert_eq!(pattern[0], 33, "{pattern}");
        }
        clients[0].register("com.secret.call");
        // Asked once before, so that what is remembered of it has to be forgotten.
        joe.publish("com.secret.a", json!([1]));
        for client in &mut clients {
            assert_eq!([client.expect_event(), client.expect_event()], [json!([1]), json!([1])]);
        }
        set.write(NO_SECRETS, "");
        assert_eq!(set.changes(), ["now realm[realm1].role[anonymous].permission[com.secret. prefix]"]);
        joe.publish("com.secret.a", json!([2]));
        joe.publish("com.open", json!([3]));
        for (client, id) in clients.iter_mut().zip(&secret) {
            assert_eq!([client.expect_event(), client.expect_event()], [json!([3]), json!([3])], "nothing secret");
            assert!(is_refused(client, json!([32, 8, {}, "com.secret.a"])));
            assert!(is_refused(client, json!([16, 9, {"acknowledge": true}, "com.secret.a"])));
            assert!(is_refused(client, json!([48, 10, {}, "com.secret.call"])));
            assert_eq!(client.ask(json!([34, 11, id]))[4], "wamp.error.no_such_subscription");
        }
        assert_eq!(joe.call("com.secret.call", json!([]))[4], "wamp.error.no_such_procedure");
        eventually("the withdrawals being counted", || {
            set.router.metric("fanwire_subscriptions_withdrawn_total", "") == 7.0
        });
        set.write(EVERYTHING, "");
        assert_eq!(set.changes(), ["now realm[realm1].role[anonymous].permission[com.secret. prefix]"]);
        clients[0].subscribe("com.secret.a");
        clients[1].publish("com.secret.a", json!([4]));
        assert_eq!([clients[0].expect_event(), clients[0].expect_event()], [json!([4]), json!([4])]);
        assert_eq!(clients[2].expect_event(), json!([4]), "by the pattern that stayed");
    }

    fn users_and_keys_come_and_go(driver: &str) {
        let set = Set::start(driver, "users");
        let (mut joe, _) = logged_in(&set.router, "realm1", "joe");
        aborted(&mut logging_in(&set.router, "realm1", "ann", CHEAP_TICKET), 1008);
        // In a role that did not exist, in a file, and by a signal.
        set.folder.write("users.txt", &format!("ann:operator:{CHEAP_HASH}\n"));
        let role = "[[realm.role]]\nname = \"operator\"\n[[realm.role.permission]]\nuri = \"com.\"\nmatch = \"prefix\"\nallow = [\"publish\"]\n";
        set.folder.write("fanwire.toml", &(text(EVERYTHING, "") + role));
        set.router.signal(Signal::HUP);
        eventually("the reload", || set.router.said().contains("SIGHUP: the configuration was reloaded; changes: 2"));
        eventually("what was changed", || set.router.said().contains("realm[realm1].users_file"));
        let (mut ann, welcome) = logged_in(&set.router, "realm1", "ann");
        assert_eq!(welcome["authrole"], "operator");
        ann.publish("com.a", json!([]));
        assert!(is_refused(&mut ann, json!([16, 9, {"acknowledge": true}, "org.a"])));
        aborted(&mut logging_in(&set.router, "realm1", "joe", CHEAP_TICKET), 1008);
        joe.publish("com.a", json!([]));

        // With a key, programs without one may nothing any more, on connections that are there too.
        let mut page = Http::connect(set.router.wamp).with("Origin: http://localhost");
        assert_eq!(page.ask("GET", "/v1/sessions").status, 200);
        assert_eq!(page.ask("POST", "/v1/reload").status, 403, "any page of this machine could have it done");
        let mut api = Http::connect(set.router.wamp);
        assert_eq!(api.ask("GET", "/v1/sessions").status, 200);
        let key = |name: &str, allow: &str| {
            let arguments = ["apikey", name, "--role", "member", "--allow", allow];
            let output = Command::new(binary()).args(arguments).output().expect("the binary starts");
            let key = String::from_utf8(output.stderr).expect("UTF-8");
            let key = key.trim().rsplit(' ').next().expect("a key").to_owned();
            (String::from_utf8(output.stdout).expect("UTF-8"), format!("Authorization: Bearer {key}"))
        };
        set.folder.write("users.txt", &format!("ann:member:{CHEAP_HASH}\n"));
        let ((ops_table, ops), (shop_table, shop)) = (key("ops", "reload"), key("shop", "publish"));
        set.write(EVERYTHING, &(ops_table.clone() + &shop_table));
        assert_eq!(set.command(&[]).0, 0);
        assert_eq!(api.ask("GET", "/v1/sessions").status, 401);
        // One whose body is slow, and one that never ends.
        let mut subscriber = Client::join(set.router.wamp);
        subscriber.subscribe("com.a");
        let publication = json!({"topic": "com.a", "data": 1});
        let mut slow = Http::connect(set.router.wamp).with(&shop);
        let length = publication.to_string().len();
        slow.begin("/v1/publish", &format!("Content-Type: application/json\r\nContent-Length: {length}"));
        let mut stream = Http::connect(set.router.wamp).with(&shop);
        stream.begin("/v1/publish", "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked");
        let line = format!("{publication}\n");
        let line = format!("{:x}\r\n{line}\r\n", line.len());
        stream.send(line.as_bytes());
        assert_eq!(subscriber.expect_event(), json!([1]));
        let mut shop = Http::connect(set.router.wamp).with(&shop);
        let mut ops = Http::connect(set.router.wamp).with(&ops);
        assert_eq!(shop.post("/v1/publish", &publication).status, 200);
        assert_eq!(subscriber.expect_event(), json!([1]));
        assert_eq!(shop.ask("POST", "/v1/reload").status, 403, "a right of its own");
        set.write(EVERYTHING, &ops_table);
        let answer = ops.ask("POST", "/v1/reload");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(told(&answer.json()), ["now http_api.key[shop]"]);
        assert!(!String::from_utf8_lossy(&answer.body).contains("sha256:"), "{answer:?}");
        assert_eq!(shop.post("/v1/publish", &publication).status, 401);
        slow.send(publication.to_string().as_bytes());
        assert_eq!(slow.answer("POST").status, 401, "the key was right when the request began");
        stream.send(line.as_bytes());
        let told = stream.answer("POST").lines();
        let summary = &told.last().expect("a summary")["summary"];
        assert_eq!((&summary["published"], &summary["error"]["code"]), (&json!(1), &json!("unauthorized")), "{summary}");
        joe.publish("com.a", json!(["the next one"]));
        assert_eq!(subscriber.expect_event(), json!(["the next one"]));
    }

    fn who_has_a_role_that_is_gone_may_do_nothing(driver: &str) {
        let set = Set::start(driver, "roles");
        let role = "[[realm.role]]\nname = \"operator\"\n[[realm.role.permission]]\nuri = \"com.\"\nmatch = \"prefix\"\nallow = [\"publish\", \"subscribe\"]\n";
        set.folder.write("fanwire.toml", &(text(EVERYTHING, "") + role));
        set.folder.write("users.txt", &format!("ann:operator:{CHEAP_HASH}\n"));
        assert_eq!(set.changes().len(), 2);
        let (mut ann, _) = logged_in(&set.router, "realm1", "ann");
        let id = ann.subscribe("com.a");
        // As long as there are users of it, it cannot go.
        set.write(EVERYTHING, "");
        assert_eq!(set.post("").0, 422);
        ann.publish("com.a", json!([]));
        set.folder.write("users.txt", &format!("joe:member:{CHEAP_HASH}\n"));
        assert_eq!(set.changes().len(), 2);
        assert!(is_refused(&mut ann, json!([16, 9, {"acknowledge": true}, "com.a"])));
        assert!(is_refused(&mut ann, json!([32, 10, {}, "com.a"])));
        assert_eq!(ann.ask(json!([34, 11, id]))[4], "wamp.error.no_such_subscription");
        aborted(&mut logging_in(&set.router, "realm1", "ann", CHEAP_TICKET), 1008);
    }

    fn reloads_are_done_one_after_the_other_and_none_while_it_ends(driver: &str) {
        let folder = Folder::new(&format!("reload-{driver}-turns"));
        let path = folder.write("fanwire.toml", &text(EVERYTHING, "").replace("users_file", "# "));
        let router = Launch::on(driver).argument("--config").argument(&path).set("shutdown.drain_time", "300s").start();
        let set = Set { folder, path, router };
        let done = || set.router.metric("fanwire_config_reloads_total", "outcome=\"done\"");
        let before = done();
        set.folder.write("fanwire.toml", &text(NO_SECRETS, "").replace("users_file", "# "));
        let counts = thread::scope(|scope| {
            let asked: Vec<_> = (0..4).map(|_| scope.spawn(|| set.changes().len())).collect();
            asked.into_iter().map(|asked| asked.join().expect("it was answered")).sum::<usize>()
        });
        assert_eq!(counts, 1, "the first finds the change, the others find it done");
        assert_eq!(done() - before, 4.0);
        let stays = Client::join(set.router.wamp);
        set.router.signal(Signal::TERM);
        eventually("the drain", || status(&get(set.router.admin, "/readyz")) == 503);
        let (code, said) = set.command(&[]);
        assert!(code == 1 && said.contains("the router is ending"), "{code} {said}");
        assert_eq!(set.router.metric("fanwire_config_reloads_total", "outcome=\"refused\""), 1.0);
        drop(stays);
    }

    fn the_command_finds_the_router_by_a_configuration_that_is_wrong(driver: &str) {
        let set = Set::start(driver, "finds");
        // Flags win over the file: the router stays where it is.
        let admin = format!("[admin]\nbind = \"{}\"\n", set.router.admin);
        let run = |more: &str| {
            set.write(EVERYTHING, &(admin.clone() + more));
            let command = ["reload", "--config", &set.path];
            let output = Command::new(binary()).args(command).output().expect("the binary starts");
            let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
            (output.status.code(), said)
        };
        let (code, said) = run("[limits]\nmessage = \"1 elephant\"\n");
        assert!(code == Some(1) && said.contains("elephant") && said.contains("nothing was changed"), "{said}");
        assert_eq!(set.router.metric("fanwire_config_reloads_total", "outcome=\"refused\""), 1.0, "it was asked");
        let (code, said) = run("[limits\n");
        assert!(code == Some(1) && said.contains("was not asked"), "{said}");
        let (code, said) = run("[limits]\nsubscriptions_per_session = 2\n");
        assert!(code == Some(0) && said.contains("limits.subscriptions_per_session"), "{said}");
    }

    fn each_change_acts_when_the_answer_says_so(driver: &str) {
        let set = Set::start(driver, "classes");
        let mut client = Client::join(set.router.wamp);
        let stranger = "https://app.example";
        assert_eq!(upgrade(set.router.wamp, stranger), 403);
        let more = "[limits]\nsubscriptions_per_session = 2\nlogins_waiting = 7\n[shards]\nbalance = false\n[log]\nlevel = \"debug\"\n\
                    [[listener]]\nbind = \"127.0.0.1:8080\"\nallowed_origins = [\"https://app.example\"]\n";
        set.write(EVERYTHING, more);
        let expected = [
            "new_connections listener[127.0.0.1:0].allowed_origins",
            "restart shards.balance",
            "now limits.subscriptions_per_session",
            "restart limits.logins_waiting",
            "now log.level",
        ];
        // Asked only: nothing acts.
        let (code, said) = set.command(&["--check"]);
        assert_eq!(code, 0, "{said}");
        assert!(said.starts_with("a reload would be done; 5 changes:"), "{said}");
        assert!(said.contains("now                  limits.subscriptions_per_session: 1024 -> 2\n"), "{said}");
        let (_, report) = set.post("?check=true");
        assert_eq!((&report["check_only"], told(&report)), (&json!(true), expected.map(str::to_owned).to_vec()));
        assert_eq!(upgrade(set.router.wamp, stranger), 403);
        for number in 0..3 {
            client.subscribe(&format!("com.{number}"));
        }

        assert_eq!(set.changes(), expected);
        assert_eq!(upgrade(set.router.wamp, stranger), 101);
        assert_eq!(client.ask(json!([32, 9, {}, "com.9"]))[4], "wamp.error.unavailable");
        client.publish("com.1", json!(["the session goes on"]));
        // What waits for a restart is told until there is one.
        assert_eq!(set.changes(), ["restart shards.balance", "restart limits.logins_waiting"]);
        set.write(EVERYTHING, "");
        assert_eq!(set.changes().len(), 3);
        assert_eq!(set.changes(), [""; 0]);
        client.subscribe("com.9");
    }

    fn tls_comes_and_goes_with_what_depends_on_it(driver: &str) {
        let authority = Authority::new();
        let folder = Folder::new(&format!("reload-{driver}-tls"));
        authority.write(&folder, "a", &["localhost"]);
        let plain = "[[listener]]\nbind = \"127.0.0.1:0\"\napi = false\n[[listener]]\nbind = \"127.0.0.1:0\"\n";
        let both = format!("{plain}[listener.tls]\ncert = \"a.pem\"\nkey = \"a.key\"\n");
        let path = folder.write("fanwire.toml", &both);
        let router = Launch::on(driver).argument("--config").argument(&path).start();
        let address = crate::tls::address(&router);
        let mut through = Client::join(Tunnel::to(address, &authority.client()).address);
        through.subscribe("com.a");
        let reload = || {
            let request = format!("POST /reload HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            let answer = http(router.admin, request.as_bytes());
            assert_eq!(status(&answer), 200, "{}", router.said());
            answer
        };
        folder.write("fanwire.toml", plain);
        let told = reload();
        assert!(told.contains("\"listener[127.0.0.1:0].api\"") && told.contains("auto: offered here"), "{told}");
        // Nobody else offered the API, and it is there now.
        assert_eq!(Http::connect(address).ask("GET", "/v1/openapi.json").status, 200);
        let mut publisher = Client::join(address);
        publisher.publish("com.a", json!([1]));
        assert_eq!(through.expect_event(), json!([1]), "the connection with TLS goes on");
        folder.write("fanwire.toml", &both);
        reload();
        publisher.publish("com.a", json!([2]));
        assert_eq!(through.expect_event(), json!([2]), "and so does the one without");
        let mut again = Client::join(Tunnel::to(address, &authority.client()).address);
        again.publish("com.a", json!([3]));
        assert_eq!(through.expect_event(), json!([3]));
        assert_eq!(status(&get(address, "/v1/openapi.json")), 400, "this port speaks TLS");
    }

    fn rates_reach_connections_that_are_there(driver: &str) {
        let set = Set::start(driver, "rates");
        let mut client = Client::join(set.router.wamp);
        client.publish("com.a", json!([]));
        let throttled = || set.router.metric("fanwire_connections_throttled_total", "");
        // What is used up takes a quarter of an hour by this rate, and a second by the next one.
        set.write(EVERYTHING, "[limits]\nmessages_per_second = 1\nmessages_burst = 1000\nmessage = \"2KiB\"");
        assert_eq!(set.changes().len(), 3);
        for number in 0..1_500 {
            client.send(json!([16, 100 + number, {}, "com.a"]));
        }
        client.send(json!([16, 7, {"acknowledge": true}, "com.a"]));
        eventually("the rate being met", || throttled() > 0.0);
        set.write(EVERYTHING, "[limits]\nmessages_per_second = 1000\nmessage = \"2KiB\"");
        assert_eq!(set.changes().len(), 2);
        assert_eq!(client.expect()[0], 17);
        for _ in 0..100 {
            client.publish("com.a", json!([]));
        }
        // Who waits for its answer says nothing that would have it looked at.
        set.write(EVERYTHING, "[limits]\nbytes_per_second = \"1KiB\"");
        set.changes();
        let before = throttled();
        client.send(json!([16, 8, {}, "com.a", ["x".repeat(1_000_000)]]));
        eventually("the rate being met", || throttled() > before);
        client.send(json!([16, 9, {"acknowledge": true}, "com.a"]));
        set.write(EVERYTHING, "");
        assert_eq!(set.changes(), ["now limits.bytes_per_second"]);
        assert_eq!(client.expect()[0], 17);
    }

    fn what_only_fits_after_a_restart_is_refused_as_a_whole(driver: &str) {
        let set = Set::start(driver, "fits");
        let other = "[[realm]]\nname = \"other\"\nanonymous_role = \"none\"\n[[realm.role]]\nname = \"member\"\n";
        set.folder.write("fanwire.toml", &(text(NO_SECRETS, "") + other));
        let changes = set.changes();
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert_eq!(changes[1], "restart realm[other]");
        // The key would be for a realm that is not there.
        let hash = format!("sha256:{}", "0".repeat(64));
        let key = format!(
            "[[http_api.key]]\nname = \"k\"\nkey_hash = {hash:?}\nrealms = [\"other\"]\nrole = \"member\"\nallow = [\"read\"]\n"
        );
        set.folder.write("fanwire.toml", &(text(EVERYTHING, &key) + other));
        let (status, answer) = set.post("");
        assert_eq!(status, 422, "{answer}");
        let problem = &answer["error"]["problems"][0];
        assert!(problem["message"].as_str().expect("words").contains("after a restart"), "{answer}");
        assert!(problem["key"].as_str().expect("a key").starts_with("http_api.key.0"), "{answer}");
        let mut client = Client::join(set.router.wamp);
        assert!(is_refused(&mut client, json!([16, 9, {"acknowledge": true}, "com.secret.b"])), "as before");
    }

    /// Good ones and bad ones; every event comes once and in order, and calls are answered.
    fn nobody_notices_reloads_under_load(driver: &str) {
        let set = Set::start(driver, "load");
        let stop = AtomicBool::new(false);
        let mut subscribers: Vec<Client> = (0..4).map(|_| Client::join(set.router.wamp)).collect();
        subscribers.iter_mut().for_each(|subscriber| _ = subscriber.subscribe("com.load"));
        let mut callee = Client::join(set.router.wamp);
        callee.register("com.add");
        let sent = thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                let mut publisher = Client::join(set.router.wamp);
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    publisher.publish("com.load", json!([sent]));
                    publisher.send(json!([48, 1_000_000 + sent, {}, "com.add", [sent]]));
                    let invocation = callee.expect();
                    callee.send(json!([70, invocation[1], {}, invocation[4]]));
                    assert_eq!(publisher.expect(), json!([50, 1_000_000 + sent, {}, [sent]]));
                    sent += 1;
                }
                sent
            });
            // The publisher ends with this, also where something here fails.
            let ends = SetAtEnd(&stop);
            for number in 0..20 {
                set.write(if number % 2 == 0 { NO_SECRETS } else { EVERYTHING }, "");
                assert_eq!(set.changes().len(), 1);
                set.write(EVERYTHING, "[limits]\nmessage = 0");
                assert_eq!(set.command(&[]).0, 1);
            }
            drop(ends);
            publisher.join().expect("the publisher and its calls went on")
        });
        for subscriber in &mut subscribers {
            for expected in 0..sent {
                assert_eq!(subscriber.expect_event(), json!([expected]));
            }
        }
        for outcome in ["done", "refused"] {
            let label = format!("outcome={outcome:?}");
            assert_eq!(set.router.metric("fanwire_config_reloads_total", &label), 20.0, "{outcome}");
        }
        assert_eq!(set.router.metric("fanwire_subscriptions_withdrawn_total", ""), 0.0);
    }
}

#[test]
fn the_command_says_when_there_is_nobody_to_ask() {
    let run = |arguments: &[&str]| {
        let output =
            Command::new(binary()).arg("reload").args(arguments).output().expect("the binary starts");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let (code, said) = run(&["--admin", "none"]);
    assert!(
        code == Some(2) && said.contains("admin.bind") && said.contains("was not asked"),
        "{code:?} {said}"
    );
    let (code, said) = run(&["--address", "127.0.0.1:1"]);
    assert!(code == Some(3) && said.contains("is the router running"), "{code:?} {said}");
}
