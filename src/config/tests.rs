//! What an operator sees: good layers merge, bad ones are refused in words.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use super::schema::{Endpoint, Protocol};
use super::units::{Auto, Count, Size};
use super::*;

mod hooks;

/// Sources with this text as a file called `fanwire.toml`. Gives the problems with the directory's name removed.
pub(super) fn with_file(
    text: &str,
    environment: &[(&str, &str)],
    flags: Vec<Flag>,
) -> Result<Loaded, String> {
    with_files(text, environment, flags, None)
}

fn with_files(
    text: &str,
    environment: &[(&str, &str)],
    flags: Vec<Flag>,
    users: Option<(&str, u32)>,
) -> Result<Loaded, String> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("fanwire-config-test-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("temporary directory");
    let path = directory.join("fanwire.toml");
    std::fs::File::create(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("temporary file");
    if let Some((users, mode)) = users {
        let path = directory.join("users.txt");
        std::fs::write(&path, users).expect("temporary file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("our own file");
    }
    if text.contains("[listener.tls]") {
        // Those that the examples name.
        for name in ["example.org", "other.example"] {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
            std::fs::write(directory.join(format!("{name}.pem")), made.cert.pem()).expect("temporary file");
            let key = made.signing_key.serialize_pem();
            std::fs::write(directory.join(format!("{name}.key")), key).expect("temporary file");
        }
    }
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let result = Sources { preset: None, file: Some(path), environment, flags }.load();
    std::fs::remove_dir_all(&directory).expect("temporary directory");
    result.map_err(|problems| problems.to_string().replace(&format!("{}/", directory.display()), ""))
}

/// As [`with_file`], beside a file `users.txt` with this text and these permissions.
fn with_users(text: &str, users: &str, mode: u32) -> Result<Loaded, String> {
    with_files(text, &[], Vec::new(), Some((users, mode)))
}

fn refused(text: &str) -> String {
    with_file(text, &[], Vec::new()).expect_err("it is wrong")
}

#[test]
fn an_empty_file_is_the_default() {
    let loaded = with_file("", &[], Vec::new()).expect("empty is valid");
    assert_eq!(loaded.config, Config::default());
    assert_eq!(Sources::default().load().expect("no source is valid").config, Config::default());
}

#[test]
fn later_layers_win_and_origins_are_known() {
    let loaded = with_file(
        "[limits]\nmessage = \"2MiB\"\noutbox = \"2MiB\"\nrequest_head = \"1KiB\"\n",
        &[
            ("FANWIRE__LIMITS__OUTBOX", "3MiB"),
            ("FANWIRE__LIMITS__REQUEST_HEAD", "2KiB"),
            ("FANWIRE__SHARDS__COUNT", "2"),
        ],
        vec![Flag::Set("limits.request_head=3KiB".into()), Flag::Port(9000)],
    )
    .expect("all is right");
    assert_eq!(loaded.config.limits.message, Size(2 << 20));
    assert_eq!(loaded.config.limits.outbox, Size(3 << 20));
    assert_eq!(loaded.config.limits.request_head, Size(3 << 10));
    assert_eq!(loaded.config.shards.count, Auto::Given(Count(2)));
    assert_eq!(loaded.config.listener[0].bind.to_string(), "127.0.0.1:9000");
    let origin = |key: &str| loaded.origins.place(key).to_string();
    assert!(origin("limits.message").ends_with("fanwire.toml:2"));
    assert_eq!(origin("limits.outbox"), "environment FANWIRE__LIMITS__OUTBOX");
    assert_eq!(origin("limits.request_head"), "--set limits.request_head=3KiB");
    assert_eq!(origin("listener.0.bind"), "--port 9000");
    assert_eq!(origin("limits.ping_interval"), origin("limits"));
    assert_eq!(origin("log.level"), "default");
}

#[test]
fn bind_takes_an_address_with_or_without_port() {
    for (bind, port, expected) in [
        ("127.0.0.2", None, "127.0.0.2:8080"),
        ("127.0.0.2:1", None, "127.0.0.2:1"),
        ("127.0.0.2:1", Some(7), "127.0.0.2:7"),
        ("::1", None, "[::1]:8080"),
        ("[::1]", None, "[::1]:8080"),
        ("[::1]:5", None, "[::1]:5"),
        ("localhost", None, "127.0.0.1:8080"),
    ] {
        let mut flags = vec![Flag::Bind(bind.into())];
        flags.extend(port.map(Flag::Port));
        let loaded = Sources { flags, ..Sources::default() }.load().expect(bind);
        assert_eq!(loaded.config.listener[0].bind.to_string(), expected);
    }
}

#[test]
fn an_unknown_key_names_line_and_neighbour() {
    assert_eq!(
        refused("[shards]\ncount = 2\n\n[limits]\nmesage = \"1MiB\"\n").lines().take(4).collect::<Vec<_>>(),
        [
            "error: fanwire.toml:5:1: unknown key \"mesage\"",
            "    | mesage = \"1MiB\"",
            "    | ^^^^^^",
            "    did you mean message?",
        ]
    );
    assert!(refused("[limit]\n").starts_with("error: fanwire.toml:1:2: unknown key \"limit\"\n"));
}

#[test]
fn a_bad_value_names_line_key_value_and_what_is_allowed() {
    assert_eq!(
        refused("[limits]\nmessage = \"1MB\"\n"),
        "error: fanwire.toml:2:11: limits.message: \"1MB\" is not a size: \"MB\" is read as 1000 by some and as 1024 by others
    | message = \"1MB\"
    |           ^^^^^
    allowed: a size: a whole number and B, KiB, MiB or GiB, such as \"64KiB\" or \"1MiB\""
    );
    assert_eq!(
        refused("[shards]\ndriver = \"iouring\"\n"),
        "error: fanwire.toml:2:10: shards.driver: unknown value \"iouring\"
    | driver = \"iouring\"
    |          ^^^^^^^^^
    did you mean io_uring?
    allowed: auto, io_uring, epoll"
    );
    assert_eq!(
        refused("[shards]\ncount = true\n"),
        "error: fanwire.toml:2:9: shards.count: boolean true cannot stand here
    | count = true
    |         ^^^^
    allowed: \"auto\" or a whole number, such as 1024"
    );
}

#[test]
fn all_unknown_keys_and_bad_values_are_told_at_once() {
    let told = refused(
        "[limits]\nmessage = 5\nouter = \"\"\"\na\nb\"\"\"\n[[listener]]\nbind = \"here\"\nallowed_origins = [\"a\", 1]\n\
         [log]\nlevel = \"info\"\nformat = \"xml\"\n",
    );
    let first_lines: Vec<&str> = told.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(
        first_lines,
        [
            "error: fanwire.toml:2:11: limits.message: 5 has no unit",
            "error: fanwire.toml:3:1: unknown key \"outer\"",
            "error: fanwire.toml:7:8: listener.0.bind: \"here\" is not an address to listen at",
            "error: fanwire.toml:8:25: listener.0.allowed_origins.1: integer 1 cannot stand here",
        ]
    );
}

#[test]
fn a_syntax_error_names_the_line() {
    assert!(refused("[limits]\nmessage 1\n").starts_with("error: fanwire.toml:2:"));
}

#[test]
fn values_out_of_range_are_all_told_at_once() {
    let told =
        refused("[shards]\ncount = 64\n[limits]\nmessage = \"1B\"\nping_interval = \"0s\"\nring_items = 5\n");
    let first_lines: Vec<&str> = told.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(
        first_lines,
        [
            "error: fanwire.toml:2:9: shards.count: 64 is out of range",
            "error: fanwire.toml:4:11: limits.message: 1B is out of range",
            "error: fanwire.toml:5:17: limits.ping_interval: 0s is out of range",
            "error: fanwire.toml:6:14: limits.ring_items: 5 is out of range",
        ]
    );
    assert!(told.contains("allowed: 1 to 63"));
}

#[test]
fn environment_and_flags_are_refused_with_their_own_name() {
    let told = with_file(
        "",
        &[("FANWIRE__LIMITS__MESAGE", "1MiB"), ("FANWIRE__LOG__FORMAT", "xml")],
        vec![
            Flag::Set("limits.message=big".into()),
            Flag::Set("nonsense".into()),
            Flag::Set("listener.bind=x".into()),
            Flag::Bind("example.org".into()),
            Flag::Key("--shards", "shards.count", "many".into()),
        ],
    )
    .expect_err("all wrong");
    let first_lines: Vec<&str> = told.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(
        first_lines,
        [
            "error: environment FANWIRE__LIMITS__MESAGE=1MiB: limits.mesage: unknown key \"mesage\"",
            "error: environment FANWIRE__LOG__FORMAT=xml: log.format: unknown value \"xml\"",
            "error: --set limits.message=big: limits.message: \"big\" is not a size",
            "error: --set nonsense: there is no value",
            "error: --set listener.bind=x: listener.bind: listener is a list: write listener.0.… for its first element",
            "error: --bind example.org: listener.0.bind: \"example.org\" is not an address to listen at",
            "error: --shards many: shards.count: \"many\" is not a whole number between 0 and 4294967295",
        ]
    );
}

#[test]
fn an_open_realm_beyond_loopback_does_not_start() {
    let told = Sources { flags: vec![Flag::Bind("0.0.0.0".into())], ..Sources::default() }
        .load()
        .expect_err("everybody could do everything")
        .to_string();
    assert_eq!(
        told,
        "error: --bind 0.0.0.0: listener.0.bind: other machines can reach 0.0.0.0:8080, and there everybody may do everything \
         in realm \"realm1\" without saying who they are
    to keep others out: bind to 127.0.0.1, or give the role fewer permissions (docs/configuration.md)
    if that is meant, say so:  --set realm.0.allow_anonymous_everywhere=true"
    );
    let flags =
        vec![Flag::Bind("0.0.0.0".into()), Flag::Set("realm.0.allow_anonymous_everywhere=true".into())];
    assert!(Sources { flags, ..Sources::default() }.load().is_ok());
}

const OPEN_REALM: &str = "[[listener]]
bind = \"[::]:8080\"
[[realm]]
name = \"shop\"
[[realm.role]]
name = \"anonymous\"
[[realm.role.permission]]
uri = \"\"
match = \"prefix\"
allow = [\"publish\", \"subscribe\", \"call\", \"register\"]
";

#[test]
fn an_open_realm_in_a_file_is_told_the_line_to_add() {
    let told = refused(OPEN_REALM);
    assert!(
        told.starts_with("error: fanwire.toml:2:8: listener.0.bind: other machines can reach [::]:8080"),
        "{told}"
    );
    assert!(
        told.ends_with("add this line to [[realm]] \"shop\":  allow_anonymous_everywhere = true"),
        "{told}"
    );
    let meant = OPEN_REALM.replace("name = \"shop\"", "name = \"shop\"\nallow_anonymous_everywhere = true");
    assert!(with_file(&meant, &[], Vec::new()).is_ok());
    let less = OPEN_REALM.replace(", \"register\"", "");
    assert!(with_file(&less, &[], Vec::new()).is_ok());
}

#[test]
fn roles_must_exist() {
    let told =
        refused("[[realm]]\nname = \"a\"\nanonymous_role = \"gest\"\n[[realm.role]]\nname = \"guest\"\n");
    assert!(
        told.starts_with("error: fanwire.toml:3:18: realm.0.anonymous_role: the realm has no role \"gest\""),
        "{told}"
    );
    assert!(told.contains("did you mean guest?"));
    assert!(refused("[[realm]]\nname = \"a\"\n").contains("roles of realm \"a\": it has none"));
    assert!(with_file("[[realm]]\nname = \"a\"\nanonymous_role = \"none\"\n", &[], Vec::new()).is_ok());
}

#[test]
fn addresses_paths_and_origins_are_checked() {
    let told = refused(
        "[[listener]]\nbind = \"127.0.0.1:8081\"\nallowed_origins = [\"same-host\", \"https://x/\"]\n[listener.endpoints]\nws = \"wamp\"\n",
    );
    let first_lines: Vec<&str> = told.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(
        first_lines,
        [
            "error: admin.bind: 127.0.0.1:8081 is the address of listener.0.bind too",
            "error: fanwire.toml:5:6: listener.0.endpoints.ws: \"ws\" is not a path",
            "error: fanwire.toml:3:20: listener.0.allowed_origins.0: \"same-host\" is not an origin",
            "error: fanwire.toml:3:33: listener.0.allowed_origins.1: \"https://x/\" is not an origin",
        ]
    );
}

#[test]
fn endpoints_of_one_realm_and_rawsocket_are_checked() {
    let told = refused(
        "[[listener]]\nbind = \"127.0.0.1:8080\"\nrawsocket = \"/nowhere\"\n[listener.endpoints]\n\
         \"/a\" = { protocol = \"wamp\", realm = \"realm2\" }\n\"/b\" = { protocol = \"echo\", realm = \"realm1\" }\n\
         \"/c\" = { protocol = \"wamp\", serializers = [] }\n",
    );
    for words in [
        "listener.0.endpoints./a: there is no realm \"realm2\"",
        "did you mean \"realm1\"?",
        "listener.0.endpoints./b: only WAMP endpoints have a realm or serializers of their own",
        "listener.0.endpoints./c: no serializer is left, so nobody can connect",
        "listener.0.rawsocket: \"/nowhere\" is no path of a WAMP endpoint of this listener",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let endpoint = |text: &str| {
        refused(&format!("[[listener]]\nbind = \"127.0.0.1:1\"\n[listener.endpoints]\n\"/\" = {text}\n"))
    };
    assert!(endpoint("{ protocol = \"wamp\", realms = [] }").contains("realms"));
    assert!(endpoint("\"wamp1\"").contains("wamp"));
    assert!(endpoint("7").contains("a protocol, such as"));
}

#[test]
fn rawsocket_is_on_where_it_is_clear_whose_rules_hold() {
    let rules = |text: &str| {
        let text = format!("[[listener]]\nbind = \"127.0.0.1:8080\"\n{text}");
        let loaded = with_file(&text, &[], Vec::new()).expect(&text);
        loaded.config.listener[0].rawsocket().cloned()
    };
    let wamp = Endpoint::from(Protocol::Wamp);
    let one = Endpoint { realm: Some("realm1".to_owned()), ..wamp.clone() };
    let (plain, table) = ("\"wamp\"", "{ protocol = \"wamp\", realm = \"realm1\" }");
    assert_eq!(rules(""), Some(wamp.clone()));
    assert_eq!(rules("rawsocket = \"off\"\n"), None);
    assert_eq!(rules(&format!("endpoints = {{ \"/a\" = {plain}, \"/b\" = {plain} }}\n")), Some(wamp));
    assert_eq!(rules(&format!("endpoints = {{ \"/a\" = {table} }}\n")), Some(one.clone()));
    let both = format!("endpoints = {{ \"/a\" = {plain}, \"/b\" = {table} }}\n");
    assert_eq!(rules(&both), None, "nobody said which");
    assert_eq!(rules(&format!("{both}rawsocket = \"/b\"\n")), Some(one));
}

const HASH: &str =
    "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

const REALM_WITH_USERS: &str = "\
[[realm]]
name = \"shop\"
anonymous_role = \"none\"
users_file = \"users.txt\"
[[realm.role]]
name = \"member\"
[[realm.role]]
name = \"operator\"
";

#[test]
fn users_come_from_the_file_and_from_the_configuration() {
    let text = format!(
        "{REALM_WITH_USERS}[[realm.user]]\nname = \"ann\"\nrole = \"operator\"\nticket_hash = \"{HASH}\"\n"
    );
    let loaded = with_users(&text, &format!("# who\njoe:member:{HASH}\n"), 0o640).expect("all is right");
    let users: Vec<_> = loaded.users[0].iter().map(|user| (&*user.name, &*user.role)).collect();
    assert_eq!(users, [("ann", "operator"), ("joe", "member")]);
    assert_eq!(loaded.warnings, [""; 0]);
    let loaded = with_users(&text, "", 0o644).expect("it can be started");
    assert!(loaded.warnings[0].contains("everybody on this machine can read"), "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].ends_with("users.txt"));
}

#[test]
fn users_that_are_wrong_are_told_with_their_line() {
    let told = |users: &str| with_users(REALM_WITH_USERS, users, 0o600).expect_err("it is wrong");
    assert_eq!(
        told(&format!("joe:membre:{HASH}\n")),
        "error: users.txt:1:1: there is no role \"membre\" for user \"joe\"\n    | joe:membre:…\n    | ^^^^^^^^^^^^\n    \
         did you mean member?\n    roles of realm \"shop\": member, operator"
    );
    assert!(told("\njoe\n").starts_with("error: users.txt:2:1: a line has three fields or more"));
    assert!(told("joe:member:secret\n").contains("field 3 is no hash"), "{}", told("joe:member:secret"));
    let inline = |user: &str| {
        let text = format!("{REALM_WITH_USERS}[[realm.user]]\n{user}\n");
        with_users(&text, &format!("joe:member:{HASH}\n"), 0o600).expect_err("it is wrong")
    };
    let twice = inline(&format!("name = \"joe\"\nrole = \"member\"\nticket_hash = \"{HASH}\""));
    assert!(
        twice.contains("users.txt:1:1: realm \"shop\" has a user \"joe\" already, at fanwire.toml:10"),
        "{twice}"
    );
    let plain = inline("name = \"ann\"\nrole = \"member\"\nticket_hash = \"secret\"");
    assert!(
        plain.contains("fanwire.toml:12:15: realm.0.user.0.ticket_hash: it is not a hash made by"),
        "{plain}"
    );
    let named = inline(&format!("name = \"a:b\"\nrole = \"member\"\nticket_hash = \"{HASH}\""));
    assert!(named.contains("realm.0.user.0.name: \"a:b\" cannot be a user"), "{named}");
    let misspelt = inline("name = \"ann\"\nrol = \"member\"\nticket_hash = \"x\"");
    assert!(
        misspelt.contains("unknown key \"rol\"") && misspelt.contains("did you mean role?"),
        "{misspelt}"
    );
    let ticket = inline("name = \"ann\"\nrole = \"member\"\nticket = \"secret\"");
    assert!(ticket.contains("unknown key \"ticket\""), "{ticket}");
}

#[test]
fn a_users_file_that_anybody_may_change_or_that_is_missing_is_refused() {
    let told = with_users(REALM_WITH_USERS, "", 0o602).expect_err("it must not start");
    assert!(
        told.contains("fanwire.toml:4:14: realm.0.users_file: everybody on this machine may write"),
        "{told}"
    );
    assert!(told.contains("chmod o-w"), "{told}");
    let told = refused(REALM_WITH_USERS);
    assert!(told.contains("realm.0.users_file: cannot read users.txt: no such file"), "{told}");
    assert!(told.contains("fanwire passwd users.txt USER --role ROLE"), "{told}");
}

#[test]
fn unix_sockets_are_checked() {
    let told = refused(
        "[[listener]]\nbind = \"unix:fanwire.sock\"\n[[listener]]\nbind = \"127.0.0.1:1\"\nmode = 660\n",
    );
    assert!(told.contains("\"unix:fanwire.sock\" names no absolute path of a file"), "{told}");
    let told = refused("[[listener]]\nbind = \"unix:/a\"\nmode = 660\n");
    assert!(told.contains("660 is not in quotes"), "{told}");
    let told = refused("[[listener]]\nbind = \"127.0.0.1:1\"\nmode = \"0660\"\nbacklog = 0\n");
    assert!(told.contains("listener.0.mode: 127.0.0.1:1 is no Unix socket and has no permissions"), "{told}");
    assert!(told.contains("listener.0.backlog: 0 is out of range"), "{told}");

    let file = "[[listener]]\nbind = \"unix:/a.sock\"\nmode = \"600\"\nbacklog = 65535\n";
    let loaded = with_file(file, &[], Vec::new()).expect("it is right, and local like a loopback address");
    let listener = &loaded.config.listener[0];
    assert_eq!(listener.mode, Auto::Given(bind::FileMode(0o600)));
    assert_eq!(listener.backlog, Auto::Given(Count(65_535)));
    let told = with_file(file, &[], vec![Flag::Port(1)]).expect_err("it has no port");
    assert!(told.contains("unix:/a.sock has no port"), "{told}");
}

#[test]
fn what_is_shown_reads_back_to_the_same() {
    let loaded = with_file(OPEN_REALM, &[], vec![Flag::Bind("127.0.0.1".into())]).expect("loopback");
    let shown = show::show(&loaded);
    assert!(shown.contains("# --bind 127.0.0.1"), "{shown}");
    assert!(shown.contains("\n\n[listener.endpoints]\n\"/ws\" = \"wamp\"\n"), "{shown}");
    let again = with_file(&shown, &[], Vec::new()).expect(&shown);
    assert_eq!(again.config, loaded.config);
}

#[test]
fn a_missing_file_is_told() {
    let sources = Sources { file: Some("/nonexistent/fanwire.toml".into()), ..Sources::default() };
    let told = sources.load().expect_err("there is none").to_string();
    assert_eq!(told, "error: cannot read /nonexistent/fanwire.toml: No such file or directory (os error 2)");
}

#[test]
fn examples_of_the_documentation_are_valid() {
    let page = concat!(include_str!("../../docs/configuration.md"), include_str!("../../docs/logins.md"));
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        with_users(example, "", 0o600).unwrap_or_else(|problems| panic!("{example}\n{problems}"));
    }
}

/// The page's reference is the program's own, so that neither keys, nor defaults, nor meanings differ.
#[test]
fn the_documentation_has_the_reference_of_this_program() {
    let page = include_str!("../../docs/configuration.md");
    let written = page
        .split_once("<!-- keys -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- /keys -->"))
        .map(|(between, _)| between)
        .expect("docs/configuration.md has the two markers");
    assert!(
        written == reference::markdown(),
        "docs/configuration.md is behind: write what `fanwire config doc` prints between its two markers"
    );
}

#[test]
fn the_default_file_is_accepted_and_changes_nothing() {
    let loaded = with_file(&reference::default_file(), &[], Vec::new()).expect("it is right");
    assert_eq!(loaded.config, Config::default());
}

/// A key of the HTTP API with one line changed.
fn api_key(line: &str) -> String {
    let name = line.split(' ').next().expect("a key");
    let hash = format!("key_hash = \"sha256:{}\"", "0".repeat(64));
    let lines =
        ["name = \"shop\"", &hash, "realms = [\"realm1\"]", "role = \"anonymous\"", "allow = [\"publish\"]"];
    let kept: Vec<&str> = lines.into_iter().filter(|kept| !kept.starts_with(&format!("{name} "))).collect();
    format!("[[http_api.key]]\n{line}\n{}\n", kept.join("\n"))
}

#[test]
fn keys_of_the_api_are_checked() {
    let loaded = with_file(&api_key("addresses = [\"10.0.0.0/8\"]"), &[], Vec::new()).expect("right");
    assert_eq!(loaded.api_keys[0].addresses[0].to_string(), "10.0.0.0/8");
    for (line, wanted) in [
        ("name = \"\"", "http_api.key.0.name"),
        ("key_hash = \"sha256:0\"", "fanwire apikey NAME"),
        ("key_hash = \"fwk_00\"", "this is a key itself"),
        ("realms = []", "for no realm"),
        ("realms = [\"realm2\"]", "did you mean realm1?"),
        ("realms = [\"realm1\", \"realm1\"]", "named twice"),
        ("role = \"anonymus\"", "did you mean anonymous?"),
        ("allow = []", "may do nothing"),
        ("allow = [\"write\"]", "allowed: publish, call, read, disconnect, clients, reload"),
        ("addresses = [\"10.0.0.1/8\"]", "first address of the range"),
    ] {
        let words = refused(&api_key(line));
        assert!(words.contains(wanted) && words.contains("fanwire.toml:"), "{line}: {words}");
    }
    let twice = refused(&format!("{0}{0}", api_key("name = \"a\"")));
    assert!(twice.contains("already") && twice.contains("the same key"), "{twice}");
}

#[test]
fn the_api_is_where_only_this_machine_can_connect_unless_it_is_said() {
    let offers = |text: &str| {
        let text = format!("[[listener]]\n{text}\n[[realm]]\nname = \"a\"\nanonymous_role = \"none\"\n");
        with_file(&text, &[], Vec::new()).map(|loaded| loaded.config.listener[0].offers_api())
    };
    assert_eq!(offers("bind = \"127.0.0.1:8080\""), Ok(true));
    assert_eq!(offers("bind = \"unix:/run/fanwire.sock\""), Ok(true));
    assert_eq!(offers("bind = \"0.0.0.0:8080\""), Ok(false));
    assert_eq!(offers("bind = \"127.0.0.1:8080\"\napi = false"), Ok(false));
    let open = offers("bind = \"0.0.0.0:8080\"\napi = true").expect_err("no key");
    assert!(open.contains("fanwire.toml:3") && open.contains("fanwire apikey NAME --realm a"), "{open}");
    let path =
        offers("bind = \"127.0.0.1:8080\"\nendpoints = { \"/v1/ws\" = \"wamp\" }").expect_err("its path");
    assert!(path.contains("HTTP API"), "{path}");
    assert!(
        offers("bind = \"127.0.0.1:8080\"\napi = 5")
            .expect_err("no number")
            .contains("\"auto\" or true or false")
    );
}

#[test]
fn topic_rules_are_read_and_checked_with_their_lines() {
    let realm = "[[realm]]\nname = \"r\"\nanonymous_role = \"none\"\nslow_consumer = \"drop_newest\"\n";
    let good = format!(
        "{realm}[[realm.topic]]\nuri = \"ticks.\"\nmatch = \"prefix\"\nslow_consumer = \"conflate\"\noutbox = \"64KiB\"\n\
         [[realm.topic]]\nuri = \"log\"\noutbox_messages = 10\n"
    );
    let loaded = with_file(&good, &[], Vec::new()).unwrap_or_else(|told| panic!("{told}"));
    assert_eq!(loaded.config.realm[0].topic.len(), 2);
    let told = |topic: &str| refused(&format!("{realm}[[realm.topic]]\n{topic}\n"));
    let unknown = told("uri = \"a\"\nslow_consumer = \"drop-oldest\"");
    assert!(
        unknown.contains("fanwire.toml:7:17: realm.0.topic.0.slow_consumer: unknown policy"),
        "{unknown}"
    );
    assert!(unknown.contains("disconnect, drop_oldest, drop_newest, conflate, pause_publisher"), "{unknown}");
    let no_uri = told("uri = \"a b\"");
    assert!(no_uri.contains("fanwire.toml:6:7: realm.0.topic.0.uri: \"a b\" cannot match"), "{no_uri}");
    let twice = told("uri = \"a\"\n[[realm.topic]]\nuri = \"a\"");
    assert!(twice.contains("realm.0.topic.1.uri: there is a rule for \"a\" already"), "{twice}");
    let small = told("uri = \"a\"\noutbox = \"5B\"");
    assert!(small.contains("fanwire.toml:7:10: realm.0.topic.0.outbox: 5B is out of range"), "{small}");
    let misspelt = told("uri = \"a\"\noutbx = \"5KiB\"");
    assert!(misspelt.contains("did you mean outbox?"), "{misspelt}");
}

#[test]
fn the_realm_of_the_api_is_that_of_the_queues() {
    let realm = |name: &str| format!("[[realm]]\nname = {name:?}\n[[realm.role]]\nname = \"anonymous\"\n");
    let text = format!("[http_api]\nrealm = \"other\"\n{}{}", realm("realm1"), realm("other"));
    with_file(&text, &[], Vec::new()).expect("right");
    let queue = "[[message_center.queue]]\nname = \"q\"\nops = [\"say\"]\n";
    let problems = with_file(&(text + queue), &[], Vec::new()).expect_err("it is refused").to_string();
    assert!(problems.contains("http_api.realm") && problems.contains("realm1"), "{problems}");
}

/// A bridge with one line changed or added.
fn bridge(line: &str) -> String {
    let lines = ["name = \"redis\"", "url = \"redis://127.0.0.1\"", "map = [{ channel = \"a\" }]"];
    let key = |line: &str| line.split(" =").next().unwrap_or_default().to_owned();
    let kept: Vec<&str> = lines.into_iter().filter(|kept| key(kept) != key(line)).collect();
    format!("[[bridge]]\n{line}\n{}\n", kept.join("\n"))
}

/// A message center at `/center` beside `more`, with a hook for logins and these rules.
fn center(rules: &[(&str, &str, bool)], more: &str) -> String {
    let rule = |(pattern, channel, auth): &(&str, &str, bool)| {
        format!(
            "[[message_center.rule]]\nmatch = {pattern:?}\nchannel = {channel:?}\nrequire_auth = {auth}\n"
        )
    };
    let rules: String = rules.iter().map(rule).collect();
    format!(
        "[[listener]]\nbind = \"127.0.0.1:8080\"\nendpoints = {{ \"/center\" = \"message-center\" }}\n{rules}[[hook]]\n\
         name = \"users\"\nurl = \"http://127.0.0.1:8000/\"\nevents = [\"authenticate\"]\nrole = \"anonymous\"\n{more}"
    )
}

const USER: (&str, &str, bool) = ("@user", "user:{ctx.uid}", true);

#[test]
fn channels_that_another_rule_gives_away_are_refused() {
    let exchange = [
        ("@{kind:balance|order}", "ex:{ctx.uid}@{kind}", true),
        ("{symbol}@{kind:depth|trades}", "ex:{symbol}@{kind}", false),
    ];
    with_file(&center(&[&[USER][..], &exchange].concat(), ""), &[], Vec::new()).expect("each has its own");
    let balance = ("@balance", "ex:{ctx.uid}:balance", true);
    let words = refused(&center(&[("{symbol}@depth", "ex:{symbol}", false), balance], ""));
    assert!(
        words.contains("message_center.rule.0.channel: \"ex:{symbol}\" can be")
            && words.contains("another beginning"),
        "{words}"
    );
    let words = refused(&center(&[USER, ("{x}@all", "{x}", false)], ""));
    assert!(words.contains("message_center.rule.1.channel") && words.contains("\"user:x\""), "{words}");
    for (rule, wrong) in [
        (("{a:b-c|d}-{x}", "{a}:{x}", false), "message_center.rule.0.match"),
        (("{a}@{b}", "x:{a}{b}", false), "message_center.rule.0.channel"),
    ] {
        let words = refused(&center(&[rule], ""));
        assert!(words.contains(wrong), "{words}");
    }
}

#[test]
fn a_message_center_that_nobody_can_use_is_refused() {
    let public = [("{video}@video", "video:{video}", false)];
    let nobody =
        "[[realm]]\nname = \"realm1\"\nanonymous_role = \"none\"\n[[realm.role]]\nname = \"anonymous\"\n";
    let without = |text: String| text.replace("\"authenticate\"", "\"publish\"");
    with_file(&center(&public, nobody), &[], Vec::new()).expect("one can log in");
    with_file(&without(center(&public, "")), &[], Vec::new()).expect("one need not log in");
    let words = refused(&without(center(&public, nobody)));
    assert!(words.contains("message_center.realm: nobody is in realm \"realm1\" without a login"), "{words}");
    let words = refused(&center(&public, "").replace("\"authenticate\"", "\"connect\""));
    assert!(words.contains("message_center.realm"), "{words}");
}

#[test]
fn wamp_beside_the_message_center_is_warned_of() {
    let warnings = |text: &str| with_file(text, &[], Vec::new()).expect("right").warnings.join("\n");
    let alone = center(&[USER], "");
    let both = alone.replace("{ \"/center\"", "{ \"/ws\" = \"wamp\", \"/center\"");
    assert_eq!(warnings(&alone), "");
    let words = warnings(&both);
    assert!(words.contains("127.0.0.1:8080 offers WAMP") && words.contains("\"user:x\""), "{words}");
    let decided = "[[hook]]\nname = \"subscriptions\"\nurl = \"http://127.0.0.1:8000/\"\nevents = [\"subscribe\"]\nuri = \"user:\"\n";
    assert_eq!(warnings(&(both.clone() + decided)), "");
    let public = "[[realm]]\nname = \"realm1\"\n[[realm.role]]\nname = \"anonymous\"\n\
                  [[realm.role.permission]]\nuri = \"video:\"\nmatch = \"prefix\"\nallow = [\"subscribe\"]\n";
    assert_eq!(warnings(&(both + public)), "");
}

#[test]
fn bridges_are_checked() {
    let map = "map = [{ channel = \"a b\", topic = \"t\" }, { pattern = \"n.*\", direction = \"both\", payload = \"json\" }]";
    let loaded = with_file(&bridge(map), &[], Vec::new()).expect("right");
    assert_eq!(loaded.bridges[0].routes.0.len(), 2);
    for (line, key) in [
        ("name = \"\"", "bridge.0.name"),
        ("url = \"127.0.0.1\"", "bridge.0.url"),
        ("url = \"redis://user:secret@host\"", "bridge.0.url"),
        ("ca_file = \"ca.pem\"", "bridge.0.ca_file"),
        ("realm = \"other\"", "bridge.0.realm"),
        ("role = \"other\"", "bridge.0.role"),
        ("queue = \"2GiB\"", "bridge.0.queue"),
        ("queue_messages = 0", "bridge.0.queue_messages"),
        ("notices = \"a..b\"", "bridge.0.notices"),
        ("map = []", "bridge.0.map"),
        ("map = [{}]", "bridge.0.map.0"),
        ("map = [{ channel = \"a\", pattern = \"b\" }]", "bridge.0.map.0"),
        ("map = [{ channel = \"a b\" }]", "bridge.0.map.0.topic"),
        ("map = [{ pattern = \"a*\", topic = \"b\" }]", "bridge.0.map.0.topic"),
        ("map = [{ pattern = \"a b*\" }]", "bridge.0.map.0.pattern"),
        ("map = [{ channel = \"a\" }, { channel = \"a\", topic = \"b\" }]", "bridge.0.map.1"),
    ] {
        let words = refused(&bridge(line));
        assert!(words.contains(key), "{line}: {words}");
    }
    let twice = [bridge("realm = \"realm1\""), bridge("realm = \"realm1\"")].concat();
    assert!(refused(&twice).contains("there is a bridge \"redis\" already"));
    let other = |map: &str| {
        let other = format!("[[bridge]]\nname = \"other\"\nurl = \"redis://127.0.0.1\"\nmap = [{map}]\n");
        bridge("map = [{ channel = \"a\", direction = \"both\" }, { pattern = \"p.*\" }]") + &other
    };
    for map in [
        "{ channel = \"a\", direction = \"out\" }",
        "{ channel = \"a\" }",
        "{ pattern = \"?\", direction = \"out\" }",
        "{ channel = \"p.x\", direction = \"out\" }",
        "{ pattern = \"p.x.*\", direction = \"both\" }",
    ] {
        assert!(refused(&other(map)).contains("goes back there"), "{map}");
    }
    for map in [
        "{ channel = \"b\", direction = \"both\" }",
        "{ channel = \"a\", topic = \"b\" }",
        "{ pattern = \"q*\", direction = \"out\" }",
    ] {
        with_file(&other(map), &[], Vec::new()).expect(map);
    }
    let url = refused(&bridge("url = \"redis://user:secret@host\""));
    assert!(url.contains("password_file"), "{url}");
}

#[test]
fn the_redis_port_is_checked() {
    let loaded = with_file("[resp]\nbind = \"127.0.0.1:6379\"\n", &[], Vec::new()).expect("right");
    assert!(loaded.resp_password.is_none());
    for (lines, key) in [
        ("bind = \"0.0.0.0:6379\"", "resp.bind"),
        ("bind = \"127.0.0.1:8080\"", "resp.bind"),
        ("bind = \"127.0.0.1:6379\"\npassword_file = \"absent\"", "resp.password_file"),
        ("bind = \"127.0.0.1:6379\"\nrealm = \"other\"", "resp.realm"),
        ("bind = \"127.0.0.1:6379\"\nrole = \"other\"", "resp.role"),
        ("bind = \"127.0.0.1:6379\"\nconnections = 0", "resp.connections"),
        ("bind = \"127.0.0.1:6379\"\ncommand = \"1B\"", "resp.command"),
    ] {
        let words = refused(&format!("[resp]\n{lines}\n"));
        assert!(words.contains(key), "{lines}: {words}");
    }
}

#[test]
fn cookies_are_checked() {
    let listener = |lines: &str, cookie: &str| {
        format!(
            "[[listener]]\nbind = \"127.0.0.1:8099\"\n{lines}\n[listener.cookie]\nname = \"fanwire\"\n{cookie}\n"
        )
    };
    with_file(&listener("", ""), &[], Vec::new()).expect("right");
    let elsewhere = listener("allowed_origins = [\"https://a\"]", "same_site = \"none\"\nsecure = true");
    with_file(&elsewhere, &[], Vec::new()).expect("right");
    for (text, wanted) in [
        (listener("", "").replace("\"fanwire\"", "\"a b\""), "is not the name of a cookie"),
        (listener("", "").replace("\"fanwire\"", "\"\""), "is not the name of a cookie"),
        (listener("", "").replace("\"fanwire\"", "\"__Host-a\""), "is not the name of a cookie"),
        (listener("allowed_origins = [\"*\"]", ""), "every page on the web may connect"),
        (listener("", "same_site = \"none\""), "over TLS alone"),
        (listener("", "same_site = \"never\""), "allowed: strict, lax, none"),
        ("[[realm]]\nname = \"r\"\ncookie_time = \"9601h\"\n".to_owned(), "allowed: 1s to 9600h"),
    ] {
        let words = refused(&text);
        assert!(words.contains(wanted), "{wanted}: {words}");
    }
}
