//! Lua handlers: scripts that decide on what happens to connections.

use std::process::Command;
use std::time::Duration;

use fanwire_codec::ws;
use serde_json::json;

use crate::message_center::frame;
use crate::server_api::backend;
use crate::support::{Client, Folder, HookServer, Http, Launch, Reply, Router, binary, eventually};

/// The article's handler, as `docs/lua.md` has it, with the mistakes mended.
pub const MESSAGE_CENTER: &str = include_str!("../../examples/message-center.lua");

/// A router with this script at `/lua`, and `keys` in its table.
fn launch(driver: &str, name: &str, script: &str, keys: &str) -> (Folder, Router) {
    launch_behind(driver, name, script, keys, "")
}

fn launch_behind(driver: &str, name: &str, script: &str, keys: &str, behind: &str) -> (Folder, Router) {
    let folder = Folder::new(&format!("lua-{name}-{driver}"));
    folder.write("handler.lua", script);
    let file = folder.write("fanwire.toml", &configuration(keys, behind));
    let router = Launch::on(driver).argument("--config").argument(&file).start();
    (folder, router)
}

fn configuration(keys: &str, behind: &str) -> String {
    format!(
        r#"
[[listener]]
endpoints = {{ "/lua" = "lua", "/ws" = "wamp" }}
bind = "127.0.0.1:8080"
[[lua]]
path = "/lua"
file = "handler.lua"
{keys}
{behind}
"#
    )
}

fn connect(router: &Router) -> Client {
    Client::connect_to_center(router.wamp, "/lua")
}

fn events(router: &Router, outcome: &str) -> f64 {
    router.metric("fanwire_lua_events_total", &format!("outcome=\"{outcome}\""))
}

/// Says the same, and what it was told by one of them.
const ECHO: &str = "
    function on_message(msg)
        local conn = mix.websocket()
        if msg.data == '\"loop\"' then while true do end end
        if msg.data == '\"caught\"' then while true do pcall(function() while true do end end) end end
        if msg.data == '\"throw\"' then error('a mistake') end
        if msg.data == '\"nil\"' then local t = nil; t.x = 1 end
        if msg.data == '\"memory\"' then kept = {} while true do kept[#kept + 1] = string.rep('x', 100000) end end
        if msg.data == '\"search\"' then ('x' .. (' '):rep(1 << 20) .. 'x'):match('^%s*(.-)%s*$') end
        if msg.data == '\"copy\"' then local s = ('x'):rep(1 << 20) while #s > 0 do s = s:sub(2) end end
        if msg.data == '\"wait\"' then conn:wait_context_value('never') end
        if msg.data == '\"long\"' then conn:wait_context_value('never', 1e19) end
        conn:send(msg.data, msg.type)
    end";

on_both_drivers! {
    fn the_articles_handler_logs_in_subscribes_and_hears(driver: &str) {
        let hook = HookServer::start(|asked| match asked.field("token").as_str() {
            Some("good \"token\"") => Reply::json(&json!({"uid": 9_007_199_254_740_993_u64})),
            Some("garbage") => Reply::json(&json!([])),
            _ => Reply::deny(),
        });
        let url = hook.url().replace("/hook", "/websocket_auth");
        let keys = format!("options = {{ auth_url = \"{url}\" }}");
        let (_folder, router) = launch(driver, "article", MESSAGE_CENTER, &keys);
        let mut client = connect(&router);
        let not_auth = json!({"code": 1, "msg": "Not Auth"});
        assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), not_auth);
        assert_eq!(client.ask(json!({"op": "unsubscribe", "channel": "@user"})), not_auth);
        assert_eq!(client.ask(json!({"op": "auth", "token": "good \"token\""})), json!({"result": true}));
        assert!(hook.asked()[0].head.starts_with("POST /websocket_auth "), "{}", hook.asked()[0].head);
        assert_eq!(hook.asked()[0].body, r#"{"token":"good \"token\""}"#);
        assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@user"})), json!({"result": true}));
        assert_eq!(client.ask(json!({"op": "subscribe", "channel": "@other"}))["code"], 4);
        assert_eq!(client.ask(json!({"op": "shout"}))["code"], 3);
        let event = json!({"event": "@user", "data": {"uid": 1001, "msg": "Hello,World!"}});
        let body = json!({"c": "user:9007199254740993", "d": event.to_string()}).to_string();
        let mut api = Http::connect(router.wamp);
        let answer = api.post_as("/v1/mesh/publish", "application/json", &body);
        assert_eq!(String::from_utf8_lossy(&answer.body), r#"{"E":null,"r":{"s":1,"f":0}}"#);
        assert_eq!(client.expect(), event);
        assert_eq!(client.ask(json!({"op": "unsubscribe", "channel": "@user"})), json!({"result": true}));
        let answer = api.post_as("/v1/mesh/publish", "application/json", &body);
        assert_eq!(String::from_utf8_lossy(&answer.body), r#"{"E":null,"r":{"s":0,"f":0}}"#);
        for token in ["bad", "garbage"] {
            let mut client = connect(&router);
            client.send(json!({"op": "auth", "token": token}));
            client.expect_close(1000);
        }
        let mut client = connect(&router);
        client.send_bytes(&frame(ws::Kind::Binary, b"bytes"));
        client.expect_close(1000);
    }

    fn whatever_a_script_does_ends_one_connection_alone(driver: &str) {
        let (_folder, router) = launch(driver, "mistakes", ECHO, "memory = \"8MiB\"\ntime = \"500ms\"");
        let mut other = connect(&router);
        for (said, outcome, words) in [
            ("loop", "instructions", "handler.lua:4: more than 1000000 instructions"),
            ("caught", "instructions", "more than 1000000 instructions"),
            ("throw", "error", "handler.lua:6: a mistake"),
            ("nil", "error", "handler.lua:7: attempt to index a nil value"),
            ("memory", "memory", "not enough memory"),
            ("wait", "time", "on_message: it took longer than 500ms"),
            ("long", "time", "on_message: it took longer than 500ms"),
            ("copy", "time", "it ran longer than 2s in one go"),
        ] {
            let before = events(&router, outcome);
            let mut client = connect(&router);
            assert_eq!(client.ask(json!("hello")), json!("hello"));
            client.send(json!(said));
            client.expect_close(1011);
            eventually("it is counted", || events(&router, outcome) == before + 1.0);
            assert_eq!(other.ask(json!(said.len())), json!(said.len()), "after {said}");
            eventually("it is logged", || router.said().contains(words));
        }
    }

    fn a_connection_may_go_on_after_a_mistake(driver: &str) {
        let (_folder, router) = launch(driver, "keep", ECHO, "on_error = \"keep\"");
        let mut client = connect(&router);
        client.send(json!("throw"));
        client.send(json!("nil"));
        assert_eq!(client.ask(json!("still here")), json!("still here"));
        assert_eq!(events(&router, "error"), 2.0);
    }

    fn handshakes_are_told_and_may_be_refused(driver: &str) {
        let script = "
            function on_handshake(client_id, headers, server)
                local conn = mix.websocket()
                if server.target == '/lua?no' then return false end
                conn:send(mix.json_encode({
                    same = client_id == conn:client_id(), host = headers.HOST, upgrade = headers['Upgrade'],
                    who = server.option('who'), addr = mix.str_split(conn:remote_addr(), ':')[1], target = server.target,
                }))
            end
            function on_message(msg, conn) conn:send(msg.data) end
            function on_close(client_id) mix.log(mix.INFO, 'gone is ' .. client_id) end";
        let (_folder, router) = launch(driver, "handshakes", script, "options = { who = \"me\" }");
        let mut client = Client::connect_to_center(router.wamp, "/lua?x=1");
        let expected = json!({
            "same": true, "host": router.wamp.to_string(), "upgrade": "websocket", "who": "me", "addr": "127.0.0.1",
            "target": "/lua?x=1"
        });
        assert_eq!(client.expect(), expected);
        Client::connect_to_center(router.wamp, "/lua?no").expect_close(1008);
        assert_eq!(client.ask(json!(5)), json!(5));
        client.close(1000);
        client.expect_end();
        eventually("its end is told", || router.said().matches("gone is ").count() == 2);
        eventually("it is counted", || router.metric("fanwire_sessions", "protocol=\"handled\"") == 0.0);
        assert_eq!(router.metric("fanwire_lua_waiting", ""), 0.0);
    }

    fn what_scripts_say_comes_in_order_and_reaches_other_protocols(driver: &str) {
        let script = "
            local said = 0
            function on_message(msg, conn)
                local data = mix.json_decode(msg.data)
                if data.join then return conn:send(mix.json_encode({ err = conn:subscribe(data.join, 'b.c') })) end
                said = said + 1
                conn:send(mix.json_encode({ 1, data.n, said }))
                local success, fail = mix.mesh.publish('room', mix.json_encode({ 2, data.n }))
                conn:send(mix.json_encode({ 3, data.n, success, fail }))
                mix.mesh.send(conn:client_id(), mix.json_encode({ 4, data.n }))
            end";
        let (_folder, router) = launch(driver, "order", script, "threads = 1");
        let mut client = connect(&router);
        assert_eq!(client.ask(json!({"join": "room"})), json!([]));
        assert!(client.ask(json!({"join": "a b"}))["err"].is_string());
        let mut listener = Client::join(router.wamp);
        listener.subscribe("room");
        for n in 0..200 {
            client.send(json!({"n": n}));
        }
        for n in 0..200 {
            assert_eq!(client.expect(), json!([1, n, n + 1]));
            assert_eq!(client.expect(), json!([2, n]));
            assert_eq!(client.expect(), json!([3, n, 2, 0]));
            assert_eq!(client.expect(), json!([4, n]));
            assert_eq!(listener.expect_event(), json!([format!("[2,{n}]")]));
        }
    }

    fn backends_set_what_scripts_wait_for_and_consume_what_they_push(driver: &str) {
        let script = "
            function on_message(msg, conn)
                local data = mix.json_decode(msg.data)
                local n, err = mix.queue.push('chat', { op = data.op, uid = conn:context_value('uid') })
                if err then return conn:send(mix.json_encode({ err = err })) end
                if data.op == 'auth' then
                    local uid = conn:wait_context_value('uid')
                    conn:send(mix.json_encode({ uid = uid, name = conn:context().name }))
                elseif data.op == 'late' then
                    conn:send(mix.json_encode({ nothing = conn:wait_context_value('never', 0.05) == nil }))
                end
            end";
        let queue = "[[message_center.queue]]\nname = \"chat\"\nops = [\"x\"]\nsize = 3";
        let (_folder, router) = launch_behind(driver, "backends", script, "", queue);
        let mut backend = backend(&router);
        assert_eq!(backend.ask(json!({"m": "queue.pop", "p": ["chat"], "i": 1}))["r"]["s"], true);
        let mut client = connect(&router);
        client.send(json!({"op": "auth"}));
        client.send(json!({"op": "next"}));
        let pushed = backend.expect();
        assert_eq!(pushed["p"]["d"]["frame"]["data"], "{\"op\":\"auth\"}");
        let id = &pushed["p"]["c"];
        let known = json!({"c": id, "f": "set_context", "a": [{"name": "Ann", "uid": 1001}]});
        assert_eq!(backend.ask(json!({"m": "conn.call", "p": known, "i": 2}))["r"]["s"], true);
        assert_eq!(client.expect(), json!({"uid": 1001, "name": "Ann"}));
        let pushed = backend.expect();
        assert_eq!(pushed["p"]["d"]["frame"]["data"], "{\"op\":\"next\",\"uid\":1001}");
        assert_eq!(pushed["p"]["d"]["uid"], "1001");
        assert_eq!(client.ask(json!({"op": "late"})), json!({"nothing": true}));
        backend.expect();
        let topics = json!({"c": id, "f": "subscribe", "a": ["news"]});
        assert_eq!(backend.ask(json!({"m": "conn.call", "p": topics, "i": 3}))["r"]["s"], true);
        let published = backend.ask(json!({"m": "mesh.publish", "p": {"c": "news", "d": "{\"a\":1}"}, "i": 4}));
        assert_eq!(published["r"]["s"], 1);
        assert_eq!(client.expect(), json!({"a": 1}));
    }

    fn requests_wait_or_call_back_and_are_bounded(driver: &str) {
        let hook = HookServer::start(|asked| match &asked.body[..] {
            "slow" => Reply::Never,
            "long" => Reply::Status(200, "x".repeat(5 << 20)),
            body => Reply::Status(201, format!("{} {body}", asked.head.split(' ').next().unwrap_or_default())),
        });
        let script = "
            local function told(resp, err)
                if err then return mix.json_encode({ err = err }) end
                return mix.json_encode({ resp.status_code, resp.body, resp.body_size })
            end
            function on_message(msg, conn)
                local data = mix.json_decode(msg.data)
                if data.called then return conn:send(mix.json_encode(called)) end
                if data.flood then
                    local refused = 0
                    for n = 1, 100 do
                        local _, err = mix.http.request('POST', data.url, { body = 'x' }, function() called = (called or 0) + 1 end)
                        if err then refused = refused + 1 end
                    end
                    return conn:send(mix.json_encode(refused))
                end
                if data.many then
                    for n = 1, 3 do
                        mix.http.request('POST', data.url, { body = 'slow' }, function(resp, err)
                            mix.websocket():send(told(resp, err))
                        end)
                    end
                    return conn:send('\"first\"')
                end
                if data.back then
                    mix.http.request(data.method, data.url, { body = data.back }, function(resp, err)
                        mix.websocket():send(told(resp, err))
                    end)
                    return conn:send('\"first\"')
                end
                conn:send(told(mix.http.request(data.method, data.url, { body = data.body })))
            end";
        let keys = "http_in_flight = 2\nhttp_timeout = \"300ms\"";
        let (_folder, router) = launch(driver, "requests", script, keys);
        let mut client = connect(&router);
        let url = hook.url();
        assert_eq!(client.ask(json!({"method": "PUT", "url": url, "body": "b"})), json!([201, "PUT b", 5]));
        assert_eq!(client.ask(json!({"method": "POST", "url": url, "back": "c"})), json!("first"));
        assert_eq!(client.expect(), json!([201, "POST c", 6]));
        let words = |answer: serde_json::Value| answer["err"].as_str().expect("an error").to_owned();
        assert_eq!(words(client.ask(json!({"method": "POST", "url": url, "body": "slow"}))), "no answer within 300ms");
        let long = words(client.ask(json!({"method": "POST", "url": url, "body": "long"})));
        assert!(long.contains("more than 4194304 bytes"), "{long}");
        let nowhere = words(client.ask(json!({"method": "POST", "url": "http://127.0.0.1:1/", "body": ""})));
        assert!(nowhere.contains("cannot be reached"), "{nowhere}");
        assert!(words(client.ask(json!({"method": "POST", "url": "ftp://127.0.0.1/"}))).contains("does not begin with"));
        assert_eq!(client.ask(json!({"many": true, "url": url})), json!("first"));
        let mut answers: Vec<String> = (0..3).map(|_| words(client.expect())).collect();
        answers.sort();
        assert_eq!(answers, ["2 requests are under way, the most allowed", "no answer within 300ms", "no answer within 300ms"]);
        let count = |outcome: &str| router.metric("fanwire_lua_http_requests_total", &format!("outcome=\"{outcome}\""));
        assert_eq!([count("answered"), count("timeout"), count("failed"), count("busy")], [2.0, 3.0, 2.0, 1.0]);
        assert_eq!(client.ask(json!({"flood": true, "url": url})), json!(36));
        eventually("they call back", || client.ask(json!({"called": true})) == json!(64));
        assert_eq!(client.ask(json!({"flood": true, "url": url})), json!(36));
    }

    fn a_changed_script_is_used_and_a_broken_one_is_not(driver: &str) {
        let script = |word: &str| format!("
            local words = require('words')
            function on_message(msg, conn)
                conn:set_context_value('count', (conn:context_value('count') or 0) + 1)
                conn:send(mix.json_encode({{ words, '{word}', conn:context_value('count') }}))
            end");
        let folder = Folder::new(&format!("lua-changes-{driver}"));
        folder.write("words.lua", "return 'one'");
        folder.write("handler.lua", &script("a"));
        let file = folder.write("fanwire.toml", &configuration("", ""));
        let router = Launch::on(driver).argument("--config").argument(&file).start();
        let mut client = connect(&router);
        assert_eq!(client.ask(json!(1)), json!(["one", "a", 1]));
        folder.write("handler.lua", &script("bc"));
        let mut heard = json!(null);
        eventually("the newer script", || {
            heard = client.ask(json!(1));
            heard[1] == "bc"
        });
        folder.write("words.lua", "return 'another'");
        eventually("the newer module", || {
            heard = client.ask(json!(1));
            heard[0] == "another"
        });
        let count = heard[2].as_u64().expect("a count");
        folder.write("handler.lua", "\n\nfunction on_message(");
        eventually("the mistake is told", || router.said().contains("handler.lua: handler.lua:3: <name>"));
        assert_eq!(client.ask(json!(1)), json!(["another", "bc", count + 1]));
        assert!(router.metric("fanwire_lua_loads_total", "outcome=\"failed\"") >= 1.0);
        // The same by a reload, which says where.
        let reload = || Http::connect(router.wamp).ask("POST", "/v1/reload");
        let refused = reload();
        assert!(refused.status >= 400, "{}", refused.status);
        assert!(String::from_utf8_lossy(&refused.body).contains("handler.lua:3: "), "{:?}", refused.body);
        folder.write("handler.lua", &script("d"));
        assert_eq!(reload().status, 200);
        assert_eq!(client.ask(json!(1)), json!(["another", "d", count + 2]));
    }

    fn who_finds_no_room_is_told_to_come_again(driver: &str) {
        let (_folder, router) = launch(driver, "room", ECHO, "events = 2\nthreads = 1\ntime = \"5s\"");
        let mut waiting = [connect(&router), connect(&router)];
        for client in &mut waiting {
            assert_eq!(client.ask(json!(1)), json!(1));
            client.send(json!("wait"));
        }
        eventually("both wait", || router.metric("fanwire_lua_waiting", "") == 2.0);
        connect(&router).expect_close(1013);
        assert_eq!(events(&router, "busy"), 1.0);
        waiting.iter_mut().for_each(|client| client.expect_close(1011));
        assert_eq!(connect(&router).ask(json!(1)), json!(1));
    }

    fn a_search_that_would_take_hours_ends_with_its_event(driver: &str) {
        let (_folder, router) = launch(driver, "search", ECHO, "threads = 1");
        let mut other = connect(&router);
        connect(&router).send(json!("search"));
        // By its steps, or on a slow machine by its time.
        eventually("its end", || events(&router, "instructions") + events(&router, "time") == 1.0);
        assert_eq!(other.ask(json!(1)), json!(1));
        assert_eq!(router.metric("fanwire_lua_hung_threads_total", ""), 0.0);
    }

    fn a_call_that_does_not_end_costs_its_thread_and_no_other(driver: &str) {
        // What says that it is so long is moved one by one.
        let script = "
            function on_message(msg, conn)
                if msg.data == '\"hang\"' then table.insert(setmetatable({}, { __len = function() return 1 << 60 end }), 1, 1) end
                if msg.data == '\"wait\"' then mix.http.request('GET', mix.server.option('url')) end
                conn:send(msg.data)
            end";
        let hook = HookServer::start(|_| Reply::Never);
        // As many as wait when the thread hangs, and the one that hangs it.
        let keys = format!(
            "threads = 1\nevents = 3\nhttp_in_flight = 2\nhttp_timeout = \"20s\"\ntime = \"20s\"\noptions = {{ url = \"{}\" }}",
            hook.url()
        );
        let (_folder, router) = launch(driver, "hang", script, &keys);
        let mut wamp = Client::join(router.wamp);
        let mut other = connect(&router);
        assert_eq!(other.ask(json!(1)), json!(1));
        let mut waiting = [connect(&router), connect(&router)];
        for client in &mut waiting {
            assert_eq!(client.ask(json!(1)), json!(1));
            client.send(json!("wait"));
        }
        eventually("both wait", || hook.asked().len() == 2);
        connect(&router).send(json!("hang"));
        let patience = std::time::Instant::now();
        while router.metric("fanwire_lua_hung_threads_total", "") == 0.0 {
            // Shards notice nothing.
            wamp.subscribe("a.b");
            assert!(patience.elapsed() < Duration::from_secs(60), "the thread is not replaced");
        }
        other.send(json!(2));
        other.expect_close(1011);
        // What those had is free again: places in the line, and requests.
        let mut clients = [connect(&router), connect(&router)];
        for client in &mut clients {
            assert_eq!(client.ask(json!(3)), json!(3));
            client.send(json!("wait"));
        }
        eventually("both may ask", || hook.asked().len() == 4);
        assert_eq!(router.metric("fanwire_lua_given_up_threads", ""), 1.0);
        assert_eq!(router.metric("fanwire_lua_waiting", ""), 2.0);
        assert!(router.said().contains("a call into Lua's library does not end"), "{}", router.said());
    }
}

#[test]
fn a_script_that_cannot_be_used_is_told_before_the_start() {
    let folder = Folder::new("lua-check");
    folder.write("handler.lua", "local a = 1\nlocal b = = 2\n");
    let file = folder.write("fanwire.toml", &configuration("", ""));
    let output = Command::new(binary()).args(["config", "check", &file]).output().expect("it starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains("handler.lua:2: unexpected symbol near '='"), "{said}");
    assert!(said.contains("fanwire.toml:7"), "{said}");
}
