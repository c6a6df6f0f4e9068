//! The configuration read again under load, right and wrong.

use std::collections::BTreeSet;

use crate::scenario::{Scenario, Stage};
use crate::testbed::{Client, Folder, Router, eventually, http, status};

/// Good ones, each after a bad one.
const RELOADS: u32 = 50;
/// Sessions with a subscription that the good ones forbid and allow in turn.
const SUBSCRIBERS: usize = 50;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new(
        "reload",
        "reloads, good ones and such with an error, disturb nobody; an error changes nothing, and what is good acts at once",
        reload,
    )]
}

fn configuration(secrets: bool, more: &str) -> String {
    let everything = r#"["publish", "subscribe", "call", "register"]"#;
    let allow = if secrets { everything } else { "[]" };
    format!(
        "{more}\n[[realm]]\nname = \"realm1\"\n[[realm.role]]\nname = \"anonymous\"\n\
         [[realm.role.permission]]\nuri = \"\"\nmatch = \"prefix\"\nallow = {everything}\n\
         [[realm.role.permission]]\nuri = \"com.secret.\"\nmatch = \"prefix\"\nallow = {allow}\n"
    )
}

fn ask(router: &Router) -> u16 {
    let request = format!("POST /reload HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", router.admin);
    status(&http(router.admin, request.as_bytes()))
}

fn reload(stage: &mut Stage) -> String {
    let folder = Folder::new(&format!("reload-{}-{}", stage.driver, stage.random.bits()));
    let path = folder.write("fanwire.toml", &configuration(true, ""));
    let router = stage.launch().argument("--config").argument(&path).start();
    let control = stage.control(&router);
    let mut sessions: Vec<Client> = (0..SUBSCRIBERS).map(|_| Client::join(router.wamp)).collect();
    let mut withdrawn = 0;
    for number in 0..RELOADS {
        let secrets = number % 2 == 1;
        // The wrong file would allow what the right one before it has forbidden.
        let wrong = [
            "[limits]\nmessage = \"much\"",
            "[limits]\nmesage = \"1MiB\"",
            "[compression]\nlevel = 77",
            "[[",
        ];
        folder.write(
            "fanwire.toml",
            &configuration(true, wrong[stage.random.below(wrong.len() as u64) as usize]),
        );
        assert_eq!(ask(&router), 422, "an error was taken");
        let is_allowed = number == 0 || !secrets;
        let answers: BTreeSet<bool> = sessions.iter_mut().map(may_subscribe).collect();
        assert_eq!(answers, BTreeSet::from([is_allowed]), "reload {number}: an error changed something");
        withdrawn += u32::from(is_allowed && !secrets) * SUBSCRIBERS as u32;
        folder.write("fanwire.toml", &configuration(secrets, ""));
        assert_eq!(ask(&router), 200, "{}", router.said());
    }
    assert_eq!(router.metric("fanwire_config_reloads_total", "done"), f64::from(RELOADS));
    assert_eq!(router.metric("fanwire_config_reloads_total", "refused"), f64::from(RELOADS));
    eventually("the withdrawals being counted", || {
        router.metric("fanwire_subscriptions_withdrawn_total", "") == f64::from(withdrawn)
    });
    stage.close(
        control,
        format_args!("{RELOADS} reloads and as many errors, {withdrawn} subscriptions withdrawn"),
    )
}

/// Whether the session may subscribe to what is secret now and then. It stays subscribed.
fn may_subscribe(client: &mut Client) -> bool {
    let answer = client.ask(serde_json::json!([32, 1, {}, "com.secret.a"]));
    answer[0] == 33
}
