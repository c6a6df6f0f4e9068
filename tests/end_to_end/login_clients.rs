//! Every method of logging in, by unmodified clients and by our own; users are made by `fanwire passwd`.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use crate::clients::{script, tool};
use crate::passwd::{done, private_key};
use crate::support::{Folder, Launch, Router, binary};

/// Costs clients little.
const ROUNDS: &str = "4096";

/// Ann logs in by all methods, with two keys; plain by `wampcra` without a salt; lacking only by a key that nobody has.
struct Users {
    folder: Folder,
    keys: [String; 2],
}

fn users(driver: &str, test: &str) -> Users {
    let folder = Folder::new(&format!("login-clients-{test}-{driver}"));
    let file = folder.path("users.txt");
    let file = file.as_str();
    done(&[file, "ann", "--role", "member"], "her ticket");
    done(&[file, "ann", "--method", "wampcra", "--rounds", ROUNDS], "her secret");
    done(&[file, "ann", "--method", "scram"], "her password");
    let keys = [(); 2].map(|()| private_key(&[file, "ann", "--method", "cryptosign"]));
    done(&[file, "plain", "--role", "member", "--method", "wampcra-plain"], "a secret");
    private_key(&[file, "lacking", "--role", "member", "--method", "cryptosign"]);
    let listed = done(&[file, "--list"], "");
    assert!(
        listed.contains("ann  role member  ticket, wampcra, wamp-scram, scram, cryptosign, key "),
        "{listed}"
    );
    Users { folder, keys }
}

fn launch(driver: &str, users: &Users) -> Router {
    let text = r#"
[[realm]]
name = "realm1"
anonymous_role = "none"
users_file = "users.txt"
[[realm.role]]
name = "member"
[[realm.role.permission]]
uri = ""
match = "prefix"
allow = ["publish", "subscribe", "call", "register"]
"#;
    Launch::on(driver).argument("--config").argument(&users.folder.write("fanwire.toml", text)).start()
}

fn passes(router: &Router, program: &OsString, name: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    let output = command.arg(script(name)).args(["--url", &router.url()]).args(arguments).output();
    let output = output.expect("the interpreter starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{said}");
    assert!(output.status.success(), "{name} {arguments:?}:\n{said}\n{}", router.said());
}

on_both_drivers! {
    fn clients_for_python_log_in_by_every_method(driver: &str) {
        let Some(python) = tool("FANWIRE_PYTHON") else { return };
        let users = users(driver, "python");
        let router = launch(driver, &users);
        let [key, other] = &users.keys;
        for serializer in ["json", "msgpack", "cbor"] {
            let arguments = ["--serializer", serializer, "--key", key, "--other", other];
            passes(&router, &python, "logins.py", &arguments);
        }
        for method in ["ticket", "wampcra", "scram", "cryptosign"] {
            for outcome in ["welcomed", "denied"] {
                let labels = format!("method=\"{method}\",outcome=\"{outcome}\"");
                assert!(router.metric("fanwire_logins_total", &labels) > 0.0, "{labels}");
            }
        }
    }

    fn clients_for_javascript_log_in_by_their_methods(driver: &str) {
        if tool("FANWIRE_NODE_MODULES").is_some() {
            let users = users(driver, "javascript");
            let router = launch(driver, &users);
            passes(&router, &OsString::from("node"), "logins.mjs", &["--key", &users.keys[0]]);
        }
    }

    /// The small clients say what they know, and the router picks the method.
    fn the_small_clients_log_in_by_what_the_user_has(driver: &str) {
        let users = users(driver, "small");
        let file = users.folder.path("users.txt");
        done(&[&file, "cra", "--role", "member", "--method", "wampcra", "--rounds", ROUNDS], "secret");
        done(&[&file, "scram", "--role", "member", "--method", "scram"], "secret");
        done(&[&file, "pbkdf2", "--role", "member", "--method", "scram-pbkdf2", "--rounds", ROUNDS], "secret");
        done(&[&file, "ticket", "--role", "member"], "secret");
        let router = launch(driver, &users);
        let publish = |arguments: &[&str], secret: &str| {
            let mut command = Command::new(binary());
            command.args(["pub", "com.topic", "hi", "--url", &router.url()]).args(arguments);
            let is_ticket = arguments.contains(&"ticket");
            command.env(if is_ticket { "FANWIRE_TICKET" } else { "FANWIRE_PASSWORD" }, secret);
            command.stdin(Stdio::null()).output().expect("the binary starts")
        };
        for user in ["cra", "scram", "pbkdf2", "ticket"] {
            for serializer in ["json", "msgpack", "cbor"] {
                let output = publish(&["--user", user, "--serializer", serializer], "secret");
                assert!(output.status.success(), "{user}: {}", String::from_utf8_lossy(&output.stderr));
            }
            let output = publish(&["--user", user], "another");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("wamp.error.authentication_denied"), "{user}: {said}");
        }
        // A password goes to nobody who asks for it.
        let password = users.folder.write("password", "secret\n");
        let output = publish(&["--user", "scram", "--password-file", &password], "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let output = publish(&["--user", "ticket", "--password-file", &password], "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("wamp.error.authentication_denied"), "{said}");
        let key = users.folder.write("ann.key", &format!("{}\n", users.keys[1]));
        let output = publish(&["--user", "ann", "--key-file", &key], "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let welcomed = |method: &str| {
            router.metric("fanwire_logins_total", &format!("method=\"{method}\",outcome=\"welcomed\""))
        };
        for (method, count) in [("wampcra", 3.0), ("wamp-scram", 7.0), ("ticket", 3.0), ("cryptosign", 1.0)] {
            crate::support::eventually(method, || welcomed(method) == count);
        }
    }
}
