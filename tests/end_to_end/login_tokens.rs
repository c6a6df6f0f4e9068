//! JSON Web Tokens as tickets: keys of a file and of a URL, what tokens say, and sessions that end with them.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::logins::aborted;
use crate::support::{CHEAP_HASH, CHEAP_TICKET, Client, Folder, Launch, Router, eventually};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// The same, in base64.
const KEYS: &str =
    r#"{"keys":[{"kty":"oct","kid":"one","alg":"HS256","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#;

fn launch(driver: &str, folder: &Folder, keys: &str) -> Router {
    folder.write("users.txt", &format!("joe:member:{CHEAP_HASH}\n"));
    let text = format!(
        r#"
[[realm]]
name = "realm1"
anonymous_role = "none"
users_file = "users.txt"
[[realm.role]]
name = "member"
[[realm.role]]
name = "operator"
[[realm.jwt]]
keys = "{keys}"
algorithms = ["HS256"]
issuer = "https://id"
role_claim = "role"
role = "member"
leeway = "0s"
end_session = true
"#
    );
    Launch::on(driver).argument("--config").argument(&folder.write("fanwire.toml", &text)).start()
}

fn token(kid: &str, secret: &str, seconds: i64, more: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs() as i64;
    let mut claims = json!({"iss": "https://id", "sub": "ann", "exp": now + seconds});
    more.as_object().expect("an object").iter().for_each(|(name, value)| claims[name] = value.clone());
    let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::HS256) };
    encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

fn logging_in(router: &Router, authid: Option<&str>, ticket: &str) -> Client {
    let mut client = Client::connect(router.wamp);
    let mut details = json!({"roles": {"caller": {}}, "authmethods": ["ticket"]});
    if let Some(authid) = authid {
        details["authid"] = authid.into();
    }
    assert_eq!(client.ask(json!([1, "realm1", details])), json!([4, "ticket", {}]));
    client.send(json!([5, ticket, {}]));
    client
}

/// Serves the keys to whoever asks, and counts that.
fn serve(keys: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor is left"));
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                line.clear();
            }
            counted.fetch_add(1, Ordering::Relaxed);
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", keys.len());
            let _ = stream.write_all(format!("{head}{keys}").as_bytes());
        }
    });
    (address, count)
}

on_both_drivers! {
    fn a_token_is_a_ticket_that_says_whose_it_is(driver: &str) {
        let folder = Folder::new(&format!("tokens-file-{driver}"));
        folder.write("keys.json", KEYS);
        let router = launch(driver, &folder, "keys.json");
        for (authid, more, role) in [
            (None, json!({}), "member"),
            (Some("ann"), json!({}), "member"),
            (None, json!({"role": "operator"}), "operator"),
            (None, json!({"role": ["unknown", "operator"]}), "operator"),
        ] {
            let welcome = logging_in(&router, authid, &token("one", SECRET, 600, &more)).expect();
            let details = &welcome[2];
            assert_eq!(welcome[0], 2, "{welcome}");
            assert_eq!((&details["authid"], &details["authrole"]), (&json!("ann"), &json!(role)));
            assert_eq!((&details["authmethod"], &details["authprovider"]), (&json!("ticket"), &json!("jwt")));
        }
        let forged = "another-secret-of-some-32-bytes-";
        for (authid, ticket, words) in [
            (None, token("one", forged, 600, &json!({})), "no such user"),
            (None, token("two", SECRET, 600, &json!({})), "no such user"),
            (None, "eyJ.a.b".to_owned(), "no such user"),
            (None, "no token".to_owned(), "no such user"),
            (None, token("one", SECRET, -60, &json!({})), "has expired"),
            (None, token("one", SECRET, 600, &json!({"iss": "https://other"})), "another issuer"),
            (Some("bob"), token("one", SECRET, 600, &json!({})), "another user's"),
        ] {
            let told = aborted(&mut logging_in(&router, authid, &ticket), 1008);
            assert!(told.0 == "wamp.error.authentication_denied" && told.1.contains(words), "{ticket}: {told:?}");
        }
        // Users with tickets of their own are there as before.
        assert_eq!(logging_in(&router, Some("joe"), CHEAP_TICKET).expect()[0], 2);
    }

    fn a_session_ends_with_its_token(driver: &str) {
        let folder = Folder::new(&format!("tokens-end-{driver}"));
        folder.write("keys.json", KEYS);
        let router = launch(driver, &folder, "keys.json");
        let mut lasting = logging_in(&router, None, &token("one", SECRET, 600, &json!({})));
        assert_eq!(lasting.expect()[0], 2);
        let mut ending = logging_in(&router, None, &token("one", SECRET, 3, &json!({})));
        assert_eq!(ending.expect()[0], 2);
        let goodbye = ending.expect();
        assert_eq!((&goodbye[0], &goodbye[2]), (&json!(6), &json!("wamp.close.killed")), "{goodbye}");
        assert!(goodbye[1]["message"].as_str().is_some_and(|words| words.contains("has expired")), "{goodbye}");
        eventually("one being left", || router.metric("fanwire_sessions", "") == 1.0);
    }

    fn keys_of_a_url_are_fetched_when_needed_and_not_more_often(driver: &str) {
        let folder = Folder::new(&format!("tokens-url-{driver}"));
        let (address, count) = serve(KEYS);
        let router = launch(driver, &folder, &format!("http://{address}/keys"));
        assert_eq!(count.load(Ordering::Relaxed), 0, "nobody needed them yet");
        for _ in 0..3 {
            assert_eq!(logging_in(&router, None, &token("one", SECRET, 600, &json!({}))).expect()[0], 2);
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        // Keys that do not exist are no way to have it ask again and again.
        for number in 0..10 {
            let told = aborted(&mut logging_in(&router, None, &token(&format!("k{number}"), SECRET, 600, &json!({}))), 1008);
            assert_eq!(told.0, "wamp.error.authentication_denied");
        }
        assert_eq!(count.load(Ordering::Relaxed), 1, "it was asked half a minute ago at most");
    }
}
