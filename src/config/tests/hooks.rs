//! What is said of hooks, and of procedures that decide.

use super::*;

/// Two realms, and a hook that is a procedure of one of them.
const PROCEDURE: &str = r#"
[[realm]]
name = "shop"
anonymous_role = "none"
[[realm.role]]
name = "member"

[[realm]]
name = "admin"
anonymous_role = "none"
users_file = "users.txt"
[[realm.role]]
name = "backend"
[[realm.role.permission]]
uri = "com.shop.login"
match = "exact"
allow = ["register"]

[[hook]]
name = "users"
procedure = "com.shop.login"
procedure_realm = "admin"
realms = ["shop"]
events = ["authenticate"]
"#;

#[test]
fn procedures_that_are_asked_are_checked() {
    let loaded = with_users(PROCEDURE, "", 0o600).expect("right");
    assert!(loaded.hooks[0].url.is_none() && loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let with = |line: &str| PROCEDURE.replace("events = [", &format!("{line}\nevents = ["));
    let methods = |name: &str| with(&format!("methods = [\"ticket\", {name:?}]"));
    with_users(&methods("wampcra"), "", 0o600).expect("right");
    with_users(&methods("anonymous"), "", 0o600).expect("right");
    let open = "anonymous_role = \"backend\"";
    let of = |realm: &str| PROCEDURE.replace("procedure_realm = \"admin\"\n", realm);
    for (text, wanted) in [
        (with("url = \"http://a/\""), "keep one of the two"),
        (with("headers = { a = \"b\" }"), "a procedure is asked without HTTP"),
        (with("body = \"form\""), "a procedure is asked without HTTP"),
        (with("on_failure = \"allow\""), "what a procedure does not answer is denied"),
        (methods("password"), "\"password\" is no method"),
        (PROCEDURE.replace("[\"authenticate\"]", "[\"rpc\"]"), "no procedure is asked about rpc"),
        (of(""), "no role of realm \"shop\" may register com.shop.login"),
        (of("").replace("realms = [\"shop\"]\n", ""), "there are several realms"),
        (of("procedure_realm = \"nowhere\"\n"), "there is no realm \"nowhere\""),
        (
            PROCEDURE.replace("procedure = \"com.shop.login", "procedure = \"com shop"),
            "\"com shop\" is no URI",
        ),
        (
            PROCEDURE.replace("procedure = \"com.shop.login", "procedure = \"wamp.login"),
            "no role of realm \"admin\" may register wamp.login",
        ),
        (PROCEDURE.replace("[\"register\"]", "[\"call\"]"), "no role of realm \"admin\" may register"),
        (
            PROCEDURE.replacen("anonymous_role = \"none\"\nusers", &format!("{open}\nusers"), 1),
            "anonymous clients of realm",
        ),
        (
            PROCEDURE
                .replace("realms = [\"shop\"]", "realms = [\"admin\"]")
                .replace("users_file = \"users.txt\"\n", ""),
            "nobody can log in to realm \"admin\" before somebody answers",
        ),
        (
            methods("anonymous").replacen("anonymous_role = \"none\"", "anonymous_role = \"member\"", 1),
            "realm \"shop\" has an anonymous_role",
        ),
    ] {
        let words = with_users(&text, "", 0o600).expect_err(wanted);
        assert!(words.contains(wanted), "{wanted}: {words}");
    }
    let page = hook("methods = [\"wampcra\"]");
    assert!(refused(&page).contains("are for procedures"), "{}", refused(&page));
}

/// A realm where members are asked about by `com.shop.authorize`, and `backend` answers.
const AUTHORIZER: &str = r#"
[[realm]]
name = "shop"
anonymous_role = "none"
users_file = "users.txt"
[[realm.role]]
name = "member"
[[realm.role.permission]]
uri = "MEMBER"
match = "prefix"
allow = ["publish", "register"]
[[realm.role]]
name = "backend"
[[realm.role.permission]]
uri = "com.shop.authorize"
match = "exact"
allow = ["register"]

[[hook]]
name = "rules"
procedure = "com.shop.authorize"
events = ["publish", "register"]
roles = ["member"]
"#;

#[test]
fn the_right_to_answer_is_given_by_name() {
    let member = |uri: &str| AUTHORIZER.replace("MEMBER", uri);
    let denied = "\nallow = [\"publish\", \"register\"]\n[[realm.role.permission]]\n\
                  uri = \"com.shop.authorize\"\nmatch = \"exact\"\nallow = []\n";
    let wide_but_for_it = member("com.shop.").replace("\nallow = [\"publish\", \"register\"]\n", denied);
    for text in [member("com.shop.user."), wide_but_for_it] {
        with_users(&text, "", 0o600).expect("right");
    }
    let by_more =
        |role: &str| format!("role {role:?} of realm \"shop\" may register com.shop.authorize by a rule");
    let of_backend = "uri = \"com.shop.authorize\"\nmatch = \"exact\"";
    let backend = |rule: &str| member("com.shop.user.").replace(of_backend, rule);
    for (text, wanted) in [
        (member("com.shop."), by_more("member")),
        (member(""), by_more("member")),
        (member("com.shop.authorize"), by_more("member")),
        (member("com.shop.").replace("roles = [\"member\"]\n", ""), by_more("member")),
        (backend("uri = \"com.shop.authorize\"\nmatch = \"prefix\""), by_more("backend")),
        (backend("uri = \"com..authorize\"\nmatch = \"wildcard\""), by_more("backend")),
        (
            member("com.shop.user.").replace("roles = [\"member\"]", "roles = [\"member\", \"backend\"]"),
            "role \"backend\" may register com.shop.authorize, so it is never asked about".to_owned(),
        ),
    ] {
        let words = with_users(&text, "", 0o600).expect_err(&wanted);
        assert!(words.contains(&wanted), "{wanted}: {words}");
    }
}

/// A hook with one line changed or added.
fn hook(line: &str) -> String {
    let name = line.split(' ').next().expect("a key");
    let lines = ["name = \"backend\"", "url = \"http://127.0.0.1:8000/x\"", "events = [\"publish\"]"];
    let kept: Vec<&str> = lines.into_iter().filter(|kept| !kept.starts_with(&format!("{name} "))).collect();
    format!("[[hook]]\n{line}\n{}\n", kept.join("\n"))
}

#[test]
fn hooks_are_checked() {
    let loaded = with_file(&hook("headers = { x-key = \"s\" }"), &[], Vec::new()).expect("right");
    assert_eq!(loaded.hooks[0].headers[0].0.as_str(), "x-key");
    let mut expected = schema::Hook::at("backend", "http://127.0.0.1:8000/x");
    expected.events = vec![schema::HookEvent::Publish];
    expected.headers.insert("x-key".into(), "s".into());
    assert_eq!(loaded.config.hook, [expected], "what is left out has its default");
    assert_eq!(loaded.warnings, [""; 0]);
    for (line, wanted) in [
        ("name = \"\"", "hook.0.name"),
        ("fields = [\"token\", \"tokn\"]", "hook.0.fields.1"),
        ("url = \"127.0.0.1:8000\"", "http://"),
        ("url = \"ftp://a/\"", "does not begin with http:// or https://"),
        ("url = \"http://joe:secret@a/\"", "users in URLs"),
        ("events = []", "asked nothing"),
        (
            "events = [\"calls\"]",
            "allowed: connect, authenticate, subscribe, publish, call, register, message, rpc, disconnect",
        ),
        ("realms = [\"realm2\"]", "did you mean realm1?"),
        ("roles = [\"anonymos\"]", "did you mean anonymous?"),
        ("uri = \"a b\"", "hook.0.uri"),
        ("match = \"exact\"", "hook.0.uri"),
        ("body = \"xml\"", "allowed: json, form, header"),
        ("timeout = \"1m\"", "allowed: 10ms to 10s"),
        ("max_in_flight = 0", "hook.0.max_in_flight"),
        ("queue = 0", "hook.0.queue"),
        ("cache = \"48h\"", "hook.0.cache"),
        ("on_failure = \"maybe\"", "allowed: deny, allow"),
        ("headers = { \"a b\" = \"c\" }", "no name of a header"),
        ("headers = { a = \"b\\nc\" }", "cannot stand in a header"),
        ("headers = { host = \"b\" }", "leave it out"),
        ("retry = 1", "unknown key"),
    ] {
        let words = refused(&hook(line));
        assert!(words.contains(wanted) && words.contains("fanwire.toml:"), "{line}: {words}");
    }
    assert!(refused(&format!("{0}{0}", hook("name = \"a\""))).contains("there is a hook \"a\" already"));
    let login = |line: &str| hook(&format!("events = [\"authenticate\"]\n{line}"));
    assert!(refused(&login("role = \"anonymus\"")).contains("did you mean anonymous?"));
    let realm = "[[realm]]\nname = \"a\"\nanonymous_role = \"none\"\nusers_file = \"users.txt\"\n";
    let both = with_users(&format!("{realm}{}", login("")), "", 0o600).expect_err("users and a hook");
    assert!(both.contains("has users of its own"), "{both}");
    let warnings = |text: &str| with_file(text, &[], Vec::new()).expect("right").warnings.join("\n");
    assert!(
        warnings(&hook("on_failure = \"allow\"")).contains("everything that it would decide on is allowed")
    );
    let far = login("").replace("127.0.0.1:8000", "10.0.0.1");
    assert!(warnings(&login("timeout = \"6s\"")).contains("limits.login_time"));
    assert!(warnings(&login("timeout = \"5s\"")).is_empty());
    let header = "events = [\"publish\"]\nbody = \"header\"\npayload = ";
    let tells = |payload| warnings(&hook(&format!("{header}{payload}"))).contains("tell no payloads");
    assert!(tells("true") && !tells("false"));
    assert!(warnings(&far).contains("use https") && warnings(&far.replace("http:", "https:")).is_empty());
    let cookie = hook("methods = [\"cookie\"]").replace("url = ", "procedure = ");
    assert!(refused(&cookie).contains("\"cookie\" is no method"));
}
