//! Dynamic authenticators: a procedure decides who logs in, by each method; and what clients are told when it fails.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use fanwire_control::login::cra::CraSecret;
use fanwire_control::login::prover::Prover;
use fanwire_control::login::scram::{Kdf, ScramKeys};
use serde_json::{Map, Value, json};

use crate::clients::{script, tool};
use crate::logins::aborted;
use crate::support::{CHEAP_HASH, CHEAP_TICKET, Client, Folder, Launch, Router, eventually};

const DENIED: &str = "wamp.error.authentication_denied";
const UNAVAILABLE: &str = "wamp.error.authentication_failed";
/// Cheap for clients.
const ROUNDS: u32 = 4096;

/// Two realms: the answering program logs in to `admin` by ticket, and whom it lets in comes to `realm1`.
fn configuration(more: &str) -> String {
    format!(
        r#"
[[realm]]
name = "realm1"
anonymous_role = "none"
[[realm.role]]
name = "member"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe"]

[[realm]]
name = "admin"
anonymous_role = "none"
users_file = "users.txt"
[[realm.role]]
name = "backend"
[[realm.role.permission]]
uri = "com.shop.authenticate"
match = "exact"
allow = ["register"]

[[hook]]
name = "users"
procedure = "com.shop.authenticate"
procedure_realm = "admin"
realms = ["realm1"]
events = ["authenticate"]
methods = ["ticket", "wampcra", "wamp-scram", "cryptosign"]
{more}
"#
    )
}

fn launch(driver: &str, test: &str, text: &str) -> (Folder, Router) {
    let folder = Folder::new(&format!("authenticators-{test}-{driver}"));
    folder.write("users.txt", &format!("joe:backend:{CHEAP_HASH}\n"));
    let file = folder.write("fanwire.toml", text);
    let router = Launch::on(driver).argument("--config").argument(&file).start();
    (folder, router)
}

/// A session of Joe's, who is in the file of users.
pub fn backend(router: &Router, realm: &str) -> Client {
    let mut client = Client::connect(router.wamp);
    let roles = json!({"callee": {}, "caller": {}});
    let hello = json!([1, realm, {"roles": roles, "authmethods": ["ticket"], "authid": "joe"}]);
    assert_eq!(client.ask(hello), json!([4, "ticket", {}]));
    let welcome = client.ask(json!([5, CHEAP_TICKET, {}]));
    assert_eq!((&welcome[0], &welcome[2]["authprovider"]), (&json!(2), &json!("static")), "{welcome}");
    client
}

/// A program that answers; what it is asked can be looked at.
pub struct Answering {
    asked: Arc<Mutex<Vec<Value>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    /// Answers calls of `procedure` by `answer`; `None`: never. An answer with `error` is one.
    pub fn start(
        mut client: Client,
        procedure: &str,
        answer: impl Fn(&[Value]) -> Option<Value> + Send + 'static,
    ) -> Self {
        client.register(procedure);
        let (asked, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (noted, ends) = (Arc::clone(&asked), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let Some(heard) = client.hear_within(std::time::Duration::from_millis(20)) else { continue };
                let crate::support::Heard::Message(invocation) = heard else { return };
                if invocation[0] != 68 {
                    continue;
                }
                let args = invocation[4].as_array().cloned().unwrap_or_default();
                noted.lock().expect("nobody panics").push(json!(args));
                match answer(&args) {
                    Some(said) if said["raise"].is_string() => {
                        client.send(json!([8, 68, invocation[1], {}, said["raise"]]));
                    }
                    Some(said) => client.send(json!([70, invocation[1], {}, [said]])),
                    None => {}
                }
            }
        });
        Self { asked, over, thread: Some(thread) }
    }

    /// The arguments of each call.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().expect("nobody panics").clone()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Ann, as a program keeps her.
struct Ann {
    cra: (String, String),
    scram: (String, String, String),
    key: (String, String),
}

impl Ann {
    fn new() -> Self {
        let cra = CraSecret::salted("her secret", ROUNDS, [3; 16]).to_string();
        let parts: Vec<&str> = cra.split('$').collect();
        let cra = (parts[3].to_owned(), parts[4].to_owned());
        let scram = ScramKeys::of("her secret", Kdf::Pbkdf2 { rounds: ROUNDS }, [4; 16]).expect("a password");
        let scram = scram.to_string();
        let parts: Vec<&str> = scram.split('$').collect();
        let scram = (parts[3].to_owned(), parts[4].to_owned(), parts[5].to_owned());
        let (public, private) = fanwire_control::login::cryptosign::PublicKey::new_pair([5; 32]);
        Self { cra, scram, key: (public.to_hex(), private) }
    }

    /// What the program says of who wants to come in.
    fn answer(&self, args: &[Value]) -> Option<Value> {
        let who = json!({"role": "member", "extra": {"name": "Ann"}});
        let with = |more: Value| {
            let mut all = who.clone();
            all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            Some(all)
        };
        let details = &args[2];
        let is_ann = args[1] == "ann" || args[1].is_null() && details["authextra"]["pubkey"] == self.key.0;
        match details["authmethod"].as_str() {
            _ if !is_ann => Some(json!({"raise": "com.shop.nobody"})),
            Some("ticket") if details["ticket"] == "her secret" => with(json!({})),
            Some("ticket") => Some(Value::Null),
            Some("wampcra") => {
                with(json!({"secret": self.cra.1, "salt": self.cra.0, "iterations": ROUNDS, "keylen": 32}))
            }
            Some("wamp-scram") => with(json!({
                "kdf": "pbkdf2", "iterations": ROUNDS, "salt": self.scram.0,
                "stored-key": self.scram.1, "server-key": self.scram.2
            })),
            Some("cryptosign") => with(json!({"authid": "ann", "pubkey": self.key.0})),
            _ => None,
        }
    }
}

fn greeting(router: &Router, method: &str, authid: Option<&str>, extra: &Value) -> Client {
    let mut details = json!({"roles": {"caller": {}}, "authmethods": [method], "authextra": extra});
    if let Some(authid) = authid {
        details["authid"] = authid.into();
    }
    let mut client = Client::connect(router.wamp);
    client.send(json!([1, "realm1", details]));
    client
}

/// Answers the challenge by a secret, or a private key.
fn log_in(router: &Router, method: &str, authid: Option<&str>, secret: &str) -> Client {
    let name = authid.unwrap_or("ann");
    let mut prover = match method {
        "cryptosign" => Prover::with_key(name, secret, [7; 16]).expect("a key"),
        "ticket" => Prover::with_ticket(name, secret, [7; 16]),
        _ => Prover::with_password(name, secret, [7; 16]),
    };
    let mut said = prover.hello();
    said["program"] = "suite".into();
    let mut client = greeting(router, method, authid, &said);
    let challenge = client.expect();
    assert_eq!((&challenge[0], &challenge[1]), (&json!(4), &json!(method)), "{challenge}");
    let extra = challenge[2].as_object().expect("a dictionary");
    let (signature, extra) = prover.answer(method, extra).expect("it can");
    client.send(json!([5, signature, extra]));
    client
}

/// What somebody is shown before it has shown anything, without what differs each time.
fn shown(router: &Router, method: &str, authid: &str) -> Map<String, Value> {
    let extra = Prover::with_password(authid, "x", [7; 16]).hello();
    let challenge = greeting(router, method, Some(authid), &extra).expect();
    let mut shown = challenge[2].as_object().unwrap_or_else(|| panic!("{challenge}")).clone();
    for differs in ["nonce", "challenge"] {
        shown.remove(differs);
    }
    shown
}

on_both_drivers! {
    fn a_procedure_decides_who_logs_in_by_each_method(driver: &str) {
        let (_folder, router) = launch(driver, "methods", &configuration(""));
        let ann = Ann::new();
        let private = ann.key.1.clone();
        let program = Answering::start(backend(&router, "admin"), "com.shop.authenticate", move |args| ann.answer(args));
        for (method, authid, secret) in [
            ("ticket", Some("ann"), "her secret"),
            ("wampcra", Some("ann"), "her secret"),
            ("wamp-scram", Some("ann"), "her secret"),
            ("cryptosign", Some("ann"), &*private),
            ("cryptosign", None, &*private),
        ] {
            let welcome = log_in(&router, method, authid, secret).expect();
            assert_eq!(welcome[0], 2, "{method}: {welcome}");
            let expected = json!({"authid": "ann", "authrole": "member", "authmethod": method, "authprovider": "dynamic"});
            for (key, value) in expected.as_object().expect("an object") {
                assert_eq!(&welcome[2][key], value, "{welcome}");
            }
            assert_eq!(welcome[2]["authextra"]["name"], "Ann", "{welcome}");
            assert_eq!(welcome[2]["authextra"]["verifier"].is_string(), method == "wamp-scram", "{welcome}");
        }
        let asked = program.asked();
        assert_eq!(asked.len(), 5);
        assert_eq!((&asked[0][0], &asked[0][1], &asked[0][2]["ticket"]), (&json!("realm1"), &json!("ann"), &json!("her secret")));
        assert!(asked[0][2]["authextra"]["program"] == "suite", "what HELLO says is told with tickets, too: {}", asked[0]);
        assert!(asked[1][2]["session"].is_u64() && asked[1][2].get("ticket").is_none(), "{}", asked[1]);
        assert_eq!(asked[4][1], Value::Null);
        // Another secret and a name that nobody has are told the same, and are challenged alike.
        let stranger = "42".repeat(32);
        for method in ["ticket", "wampcra", "wamp-scram", "cryptosign"] {
            let secret = if method == "cryptosign" { &*stranger } else { "another" };
            let [wrong, nobody] = ["ann", "nobody"].map(|name| aborted(&mut log_in(&router, method, Some(name), secret), 1008));
            assert_eq!((&wrong, wrong.0.as_str()), (&nobody, DENIED), "{method}");
        }
        assert_eq!(aborted(&mut log_in(&router, "cryptosign", None, &stranger), 1008).0, DENIED);
        for method in ["wampcra", "wamp-scram"] {
            let [ann, one, again, other] = ["ann", "one", "one", "other"].map(|name| shown(&router, method, name));
            assert_eq!(one, again, "{method}");
            let salts = [&ann, &one, &other].map(|shown| shown["salt"].as_str().expect("a text").to_owned());
            assert!(salts[0] != salts[1] && salts[1] != salts[2] && salts[0].len() == salts[1].len(), "{salts:?}");
            let costs = |shown: &Map<String, Value>| {
                let mut costs = shown.clone();
                costs.remove("salt");
                costs
            };
            assert_eq!(costs(&ann), costs(&one), "{method}");
        }
        assert!(router.metric("fanwire_logins_total", "method=\"wampcra\",outcome=\"welcomed\"") == 1.0);
        assert!(!router.said().contains("her secret"), "a ticket was logged");
        // A method that nothing decides on, and one that nobody was asked about.
        assert_eq!(aborted(&mut greeting(&router, "scram", Some("ann"), &json!({"nonce": "AAAA"})), 1008).0, "wamp.error.no_matching_auth_method");
        assert_eq!(aborted(&mut greeting(&router, "anonymous", None, &json!({})), 1008).0, "wamp.error.no_matching_auth_method");
    }

    fn no_answer_lets_nobody_in(driver: &str) {
        let (_folder, router) = launch(driver, "failures", &configuration("timeout = \"300ms\""));
        // Nobody is there yet: that is no one's fault, and can be told.
        assert_eq!(aborted(&mut log_in(&router, "ticket", Some("ann"), "x"), 1013).0, UNAVAILABLE);
        assert_eq!(aborted(&mut greeting(&router, "wampcra", Some("ann"), &json!({})), 1013).0, UNAVAILABLE);
        let answer = |args: &[Value]| match args[1].as_str() {
            Some("silent") => None,
            Some("broken") => Some(json!({"raise": "wamp.error.runtime_error"})),
            Some("king") => Some(json!("king")),
            Some("number") => Some(json!(5)),
            Some("true") => Some(json!(true)),
            Some("roleless") => Some(json!({"authid": "joe"})),
            Some("elsewhere") => Some(json!({"role": "member", "realm": "admin"})),
            Some("robot") => Some(json!({"role": "member", "authid": "anonymous-1"})),
            Some("locked") => Some(json!({"allow": false, "error": "com.shop.locked", "message": "ask Joe"})),
            _ => Some(json!(false)),
        };
        let program = Answering::start(backend(&router, "admin"), "com.shop.authenticate", answer);
        let refused = aborted(&mut log_in(&router, "ticket", Some("nobody"), "x"), 1008);
        assert_eq!(refused.0, DENIED);
        for name in ["silent", "broken", "king", "number", "true", "roleless", "elsewhere", "robot"] {
            assert_eq!(aborted(&mut log_in(&router, "ticket", Some(name), "x"), 1008), refused, "{name}");
            assert_eq!(aborted(&mut log_in(&router, "wampcra", Some(name), "x"), 1008), refused, "{name}");
        }
        // What it says of itself is told.
        assert_eq!(aborted(&mut log_in(&router, "ticket", Some("locked"), "x"), 1008), ("com.shop.locked".to_owned(), "ask Joe".to_owned()));
        drop(program);
        eventually("nobody answering", || aborted(&mut log_in(&router, "ticket", Some("ann"), "x"), 1013).0 == UNAVAILABLE);
        assert!(router.metric("fanwire_hook_requests_total", "event=\"authenticate\",result=\"timeout\"") >= 2.0);
    }

    fn who_does_not_say_who_it_is_gets_what_the_procedure_says(driver: &str) {
        let text = configuration("").replace("\"cryptosign\"]", "\"anonymous\"]");
        let (_folder, router) = launch(driver, "anonymous", &text);
        let lets_in = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&lets_in);
        let program = Answering::start(backend(&router, "admin"), "com.shop.authenticate", move |_| {
            asked.load(Ordering::Relaxed).then(|| json!("member")).or(Some(Value::Null))
        });
        let welcome = greeting(&router, "anonymous", None, &json!({})).expect();
        assert_eq!((&welcome[0], &welcome[2]["authrole"], &welcome[2]["authmethod"]), (&json!(2), &json!("member"), &json!("anonymous")), "{welcome}");
        assert!(welcome[2]["authid"].as_str().is_some_and(|authid| authid.starts_with("anonymous-")), "{welcome}");
        lets_in.store(false, Ordering::Relaxed);
        assert_eq!(aborted(&mut greeting(&router, "anonymous", None, &json!({})), 1008).0, DENIED);
        assert_eq!(program.asked()[0][2]["authmethod"], "anonymous");
    }

    /// The program that answers may be in the same realm: it is one of the configuration's users, and nobody is asked about it.
    fn users_of_the_configuration_are_not_asked_about(driver: &str) {
        let text = r#"
[[realm]]
name = "realm1"
anonymous_role = "none"
users_file = "users.txt"
[[realm.role]]
name = "member"
[[realm.role]]
name = "backend"
[[realm.role.permission]]
uri = "com.shop.authenticate"
match = "exact"
allow = ["register"]

[[hook]]
name = "users"
procedure = "com.shop.authenticate"
events = ["authenticate"]
role = "member"
"#;
        let (_folder, router) = launch(driver, "same", text);
        let program = Answering::start(backend(&router, "realm1"), "com.shop.authenticate", |args| {
            Some(json!({"allow": args[2]["ticket"] == "x"}))
        });
        assert_eq!(log_in(&router, "ticket", Some("ann"), "x").expect()[2]["authrole"], "member");
        backend(&router, "realm1");
        let mut wrong = log_in(&router, "ticket", Some("joe"), "x");
        let told = aborted(&mut wrong, 1008);
        assert_eq!(told, aborted(&mut log_in(&router, "ticket", Some("ann"), "y"), 1008));
        assert_eq!(program.asked().iter().map(|asked| asked[1].clone()).collect::<Vec<_>>(), ["ann", "ann"]);
        // Whom it lets in may not take its place.
        let mut ann = log_in(&router, "ticket", Some("ann"), "x");
        ann.expect();
        let refused = ann.ask(json!([64, 1, {}, "com.shop.authenticate"]));
        assert_eq!(refused[4], "wamp.error.not_authorized", "{refused}");
    }

    /// Beside a program that decides on another method than they have: who they are is not to be found out, and nobody takes their names.
    fn names_of_the_configurations_users_are_told_by_nothing(driver: &str) {
        let text = configuration("").replace(r#"methods = ["ticket", "wampcra", "wamp-scram", "cryptosign"]"#, r#"methods = ["wampcra"]"#);
        let text = text.replacen("anonymous_role = \"none\"", "anonymous_role = \"none\"\nusers_file = \"members.txt\"", 1);
        let folder = Folder::new(&format!("authenticators-names-{driver}"));
        folder.write("users.txt", &format!("joe:backend:{CHEAP_HASH}\n"));
        folder.write("members.txt", &format!("bob:member:{CHEAP_HASH}\n"));
        let file = folder.write("fanwire.toml", &text);
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let program = Answering::start(backend(&router, "admin"), "com.shop.authenticate", |_| {
            Some(json!({"role": "member", "secret": "known to all"}))
        });
        let welcome = log_in(&router, "wampcra", Some("ann"), "known to all").expect();
        assert_eq!(welcome[0], 2, "{welcome}");
        let [bob, eve] = ["bob", "eve"].map(|name| shown(&router, "wampcra", name));
        assert_eq!(bob, eve);
        // The program's Bob is another one.
        assert_eq!(aborted(&mut log_in(&router, "wampcra", Some("bob"), "known to all"), 1008).0, DENIED);
        let asked = program.asked().len();
        let [bob, eve] = ["bob", "eve"].map(|name| aborted(&mut log_in(&router, "ticket", Some(name), "x"), 1008));
        assert_eq!((&bob, program.asked().len()), (&eve, asked), "it does not decide on tickets");
        assert_eq!(log_in(&router, "ticket", Some("bob"), CHEAP_TICKET).expect()[0], 2);
    }

    fn an_authenticator_in_autobahn_decides(driver: &str) {
        let Some(python) = tool("FANWIRE_PYTHON") else { return };
        let text = configuration("").replace("\"wamp-scram\"", "\"wamp-scram\", \"scram\"");
        let (_folder, router) = launch(driver, "autobahn", &text);
        for serializer in ["json", "msgpack", "cbor"] {
            let mut command = Command::new(&python);
            command.arg(script("authenticators.py")).args(["--url", &router.url(), "--ticket", CHEAP_TICKET]);
            let output = command.args(["--serializer", serializer]).output().expect("the interpreter starts");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            println!("{said}");
            assert!(output.status.success(), "{serializer}:\n{said}\n{}", router.said());
        }
    }
}
