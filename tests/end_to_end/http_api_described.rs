//! What is written about the HTTP API is true: its OpenAPI document, and the examples of `docs/http-api.md`.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Answer, Client, Folder, Http, Launch, Program, Router, binary, flaws};

const PAGE: &str = include_str!("../../docs/http-api.md");

/// The document, as the running router gives it.
struct Document(Value);

impl Document {
    fn of(api: &mut Http) -> Self {
        let answer = api.ask("GET", "/v1/openapi.json");
        assert_eq!(answer.status, 200);
        Self(answer.json())
    }

    /// Each method of each path, with its description.
    fn operations(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let paths = self.0["paths"].as_object().expect("paths").iter();
        paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").iter();
            methods.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
        })
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).expect("it leads somewhere"),
            None => value,
        }
    }

    /// Whether a value is what this schema of the document says.
    fn check(&self, schema: &Value, value: &Value) {
        let errors = flaws(&self.0, schema, value);
        assert!(errors.is_empty(), "{value} is not what is described: {errors:?}");
    }

    /// Whether a response is one that the operation describes.
    fn check_answer(&self, operation: &Value, answer: &Answer) {
        let responses = &operation["responses"];
        let described = responses.get(answer.status.to_string()).unwrap_or(&responses["default"]);
        let media_type = answer.field("content-type").expect("each has one");
        let content = &self.resolve(described)["content"][media_type];
        assert!(content.is_object(), "{media_type} is not described: {answer:?}");
        match media_type {
            "application/x-ndjson" => {
                answer.lines().iter().for_each(|line| self.check(&content["schema"], line))
            }
            _ => self.check(&content["schema"], &answer.json()),
        }
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        &self.0["paths"][path][method]
    }
}

on_both_drivers! {
    /// Every answer of every operation, good and bad, is described.
    fn the_document_says_what_the_router_does(driver: &str) {
        let router = Launch::on(driver).set("http_api.body", "2KiB").start();
        let mut callee = Client::join(router.wamp);
        callee.subscribe("com.fanwire.described");
        callee.register("com.fanwire.described");
        let answering = std::thread::spawn(move || {
            let invocation = callee.expect();
            callee.send(json!([70, invocation[1], {}, [1], {"a": 2}]));
            let invocation = callee.expect();
            callee.send(json!([8, 68, invocation[1], {}, "com.example.error", [1], {"a": 2}]));
            callee
        });
        let mut api = Http::connect(router.wamp);
        let document = Document::of(&mut api);
        let publication = json!({"topic": "com.fanwire.described", "args": [1], "options": {"acknowledge": true}});
        let long = json!({"topic": "x".repeat(3_000)});
        let bodies = |path: &str| match path {
            "/v1/publish" => vec![(200, publication.clone()), (200, json!({"topic": "a.b", "data": null})), (400, json!({"topic": 1})), (413, long.clone())],
            "/v1/publish/batch" => vec![(200, json!([publication.clone(), {"topic": ".."}, {}])), (400, json!({})), (413, long.clone())],
            "/v1/call" => {
                let call = json!({"procedure": "com.fanwire.described", "args": [], "timeout": 20});
                vec![(200, call.clone()), (422, call), (404, json!({"procedure": "com.fanwire.nobody"})), (400, json!([]))]
            }
            "/v1/mesh/publish" => vec![(200, json!({"c": "a.b", "d": {"x": 1}})), (200, json!({"c": "a.b", "d": "eA==", "t": "binary"})), (400, json!({"c": "a.b"})), (413, long.clone())],
            "/v1/mesh/send" => vec![(404, json!({"c": "536870913", "d": "x"})), (404, json!({"c": 536_870_913, "d": "x"})), (400, json!({"c": "x", "d": "x"}))],
            "/v1/conn/disconnect" => vec![(200, json!({"uid": 1001})), (404, json!({"c": "536870913"})), (400, json!({}))],
            other => panic!("{other} takes a body, and no test knows one"),
        };
        let targets = |path: &str| match path {
            "/v1/sessions" => vec![(200, "/v1/sessions?limit=1"), (400, "/v1/sessions?limit=x"), (403, "/v1/sessions?realm=x")],
            "/v1/topics" => vec![(200, "/v1/topics?prefix=com."), (400, "/v1/topics?x=1")],
            "/v1/sessions/{id}" => vec![(404, "/v1/sessions/1"), (400, "/v1/sessions/0")],
            "/v1/reload" => vec![(200, "/v1/reload?check=true"), (400, "/v1/reload?check=perhaps")],
            "/v1/openapi.json" => vec![(200, "/v1/openapi.json")],
            "/v1/nodes" => vec![(200, "/v1/nodes")],
            "/version" => vec![(200, "/version")],
            // An upgrade has no body; tests of its own show it.
            "/ws/v1" => vec![(426, "/ws/v1")],
            other => panic!("{other} is described, and no test knows it"),
        };
        let mut checked = 0;
        for (method, path, operation) in document.operations() {
            let mut check = |wanted: u16, answer: Answer| {
                assert_eq!(answer.status, wanted, "{method} {path}: {answer:?}");
                document.check_answer(operation, &answer);
                checked += 1;
            };
            if operation.get("requestBody").is_some() {
                for (status, body) in bodies(path) {
                    let mut api = Http::connect(router.wamp);
                    if status == 200 {
                        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
                        if path != "/v1/publish/batch" {
                            document.check(schema, &body);
                        }
                    }
                    check(status, api.post(path, &body));
                }
                check(415, Http::connect(router.wamp).post_as(path, "text/plain", "{}"));
            } else {
                for (status, target) in targets(path) {
                    check(status, Http::connect(router.wamp).ask(&method.to_uppercase(), target));
                }
            }
            let other = Http::connect(router.wamp).ask("PATCH", &path.replace("{id}", "1"));
            check(405, other);
        }
        assert!(checked >= 25, "{checked} answers");
        let callee = answering.join().expect("it was called twice");
        let lines = "{\"topic\":\"a.b\",\"options\":{\"acknowledge\":true}}\n{}\n{\"topic\":\"a.b\"}";
        let streamed = api.post_as("/v1/publish", "application/x-ndjson", lines);
        assert_eq!(streamed.lines().len(), 3);
        document.check_answer(document.operation("post", "/v1/publish"), &streamed);
        let sessions = api.ask("GET", "/v1/sessions").json();
        let gone = api.ask("DELETE", &format!("/v1/sessions/{}", sessions["sessions"][0]["session"]));
        assert_eq!(gone.status, 200);
        document.check_answer(document.operation("delete", "/v1/sessions/{id}"), &gone);
        drop(callee);
    }

    /// The examples of the page run, and answer what the page says.
    fn the_examples_of_the_page_run(driver: &str) {
        let folder = Folder::new(&format!("api-page-{driver}"));
        let router = Router::on(driver);
        let mut echo = Program::start(&["register", "demo.echo", "--echo", "--url", &router.url()]);
        assert!(echo.told().is_some(), "it says that it is registered");
        let (open, keyed) = PAGE.split_once("## Keys").expect("a chapter about keys");
        for (command, expected) in examples(open) {
            run(&folder, &command, &router, None).check(&command, expected.as_ref());
        }
        // What the chapter about keys makes is what the router is started with.
        let mut keyed = examples(keyed).into_iter();
        let realm = "[[realm]]\nname = \"realm1\"\n[[realm.role]]\nname = \"anonymous\"\n[[realm.role]]\nname = \"backend\"\n\
                     [[realm.role.permission]]\nuri = \"demo.\"\nmatch = \"prefix\"\nallow = [\"publish\"]\n";
        let file = folder.write("fanwire.toml", realm);
        let (command, _) = keyed.next().expect("fanwire apikey");
        let made = run(&folder, &command, &router, None);
        assert!(made.succeeded, "{}", made.told);
        let key = made.told.trim().rsplit(' ').next().expect("a key").to_owned();
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let mut count = 0;
        for (command, expected) in keyed {
            run(&folder, &command, &router, Some(&key)).check(&command, expected.as_ref());
            count += 1;
        }
        assert_eq!(count, 1);
    }
}

/// Each command of the page, and the answer that stands below it.
pub fn examples(page: &str) -> Vec<(String, Option<Value>)> {
    let block = |text: &str| text.split_once("\n```").expect("each block ends").0.to_owned();
    let mut examples = Vec::new();
    for rest in page.split("```sh\n").skip(1) {
        let command = block(rest);
        let expected = rest.split_once("```json\n").map(|(_, json)| block(json));
        let expected = expected
            .map(|json| serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}")));
        examples.push((command, expected));
    }
    assert!(!examples.is_empty());
    examples
}

pub struct Ran {
    succeeded: bool,
    output: String,
    told: String,
}

/// Runs a command of the page as it stands, against this router.
pub fn run(folder: &Folder, command: &str, router: &Router, key: Option<&str>) -> Ran {
    let bin = folder.path("bin");
    if !std::path::Path::new(&bin).exists() {
        std::fs::create_dir(&bin).expect("a writable temporary folder");
        let program = std::path::absolute(binary()).expect("a path");
        std::os::unix::fs::symlink(program, format!("{bin}/fanwire")).expect("a writable temporary folder");
    }
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let script = command
        .replace("127.0.0.1:8080", &router.wamp.to_string())
        .replace("curl ", "curl -sS --max-time 60 ");
    let mut shell = Command::new("bash");
    shell
        .args(["-o", "pipefail", "-c", &script])
        .env("PATH", path)
        .stdin(Stdio::null())
        .current_dir(folder.path("."));
    shell.envs(key.map(|key| ("KEY", key)));
    let output = shell.output().expect("bash is installed");
    Ran {
        succeeded: output.status.success(),
        output: String::from_utf8(output.stdout).expect("UTF-8"),
        told: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

impl Ran {
    /// What it printed.
    pub fn output(&self) -> &str {
        &self.output
    }

    pub fn check(&self, command: &str, expected: Option<&Value>) {
        assert!(self.succeeded, "{command}\n{}", self.told);
        let expected = expected.expect("an answer stands below each");
        let found: Value = serde_json::from_str(self.output.trim())
            .unwrap_or_else(|error| panic!("{command}\n{error}: {}", self.output));
        assert!(is_like(expected, &found), "{command}\nanswered {found}, and the page says {expected}");
    }
}

/// Whether the same fields have values of the same kind. Where the page has a list of one, there may be any number.
fn is_like(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            expected.len() == found.len()
                && expected
                    .iter()
                    .all(|(name, value)| found.get(name).is_some_and(|found| is_like(value, found)))
        }
        (Value::Array(expected), Value::Array(found)) => match &expected[..] {
            [] => found.is_empty(),
            [only] => found.iter().all(|found| is_like(only, found)),
            _ => {
                expected.len() == found.len()
                    && expected.iter().zip(found).all(|(expected, found)| is_like(expected, found))
            }
        },
        (Value::Number(expected), Value::Number(found)) => expected.is_f64() || !found.is_f64(),
        _ => std::mem::discriminant(expected) == std::mem::discriminant(found),
    }
}

#[test]
fn the_page_has_each_code_with_its_status() {
    for code in fanwire_control::api::error::Code::ALL {
        let row = PAGE.lines().find(|line| line.starts_with(&format!("| {} |", code.status())));
        let row = row.unwrap_or_else(|| panic!("the page has no row for {}", code.status()));
        assert!(row.contains(&format!("`{}`", code.name())), "{}: {row}", code.name());
    }
}
