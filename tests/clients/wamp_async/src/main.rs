//! Drives a router with the unmodified crate `wamp_async`, case by case.
//!
//! ```text
//! wamp-async-suite --client wamp_async --url URL --serializer json|msgpack [--patience SECONDS] [--only NAME,…] [--feature NAME,…]
//! wamp-async-suite --list
//! ```
//!
//! URL is `ws://` or `rs://`. Prints a line of JSON for each case, then `N passed, M failed`. The client has the basic
//! profile, and no options.

mod cases;
mod logins;
mod meta;
mod session;

use std::time::Duration;

use serde_json::json;

use session::Place;

/// Why a case failed.
pub type Failure = String;

/// What the command line says.
struct Options {
    url: String,
    serializer: String,
    patience: Duration,
    only: Option<String>,
    feature: Option<String>,
    list: bool,
}

fn options() -> Options {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1).cloned()
    };
    Options {
        url: after("--url").unwrap_or_else(|| "ws://127.0.0.1:8080/ws".to_owned()),
        serializer: after("--serializer").unwrap_or_else(|| "json".to_owned()),
        patience: Duration::from_secs(
            after("--patience").and_then(|seconds| seconds.parse().ok()).unwrap_or(20),
        ),
        only: after("--only"),
        feature: after("--feature"),
        list: words.iter().any(|word| word == "--list"),
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let options = options();
    if options.list {
        for (feature, name, _) in cases::CASES {
            println!("{feature:32} {name}");
        }
        return;
    }
    let (mut passed, mut failed) = (0, 0);
    for (feature, name, check) in cases::CASES {
        let other = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_some_and(|wanted| !wanted.split(',').any(|wanted| wanted == found))
        };
        if other(&options.only, name) || other(&options.feature, feature) {
            continue;
        }
        let place = Place::new(&options.url, &options.serializer);
        let result = tokio::time::timeout(options.patience, check(place)).await;
        let why = match result {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some(format!("no answer within {} s", options.patience.as_secs())),
        };
        let mut line = json!({"feature": feature, "case": name, "result": "passed"});
        match why {
            None => passed += 1,
            Some(why) => {
                failed += 1;
                line["result"] = json!("failed");
                line["why"] = json!(why);
            }
        }
        println!("{line}");
    }
    let silent = cases::SILENT.iter().filter(|(feature, _)| {
        let is_asked =
            options.feature.as_ref().is_none_or(|asked| asked.split(',').any(|asked| asked == *feature));
        options.only.is_none() && is_asked
    });
    for (feature, why) in silent {
        println!("{}", json!({"feature": feature, "case": "", "result": "skipped", "why": why}));
    }
    println!("0 skipped\n{passed} passed, {failed} failed");
    std::process::exit(i32::from(failed > 0));
}
