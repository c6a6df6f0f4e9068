//! The program as a whole against a stub router: what is right passes, what is wrong is found and named.

mod stub;

use std::process::{Command, Output};

use serde_json::Value;
use stub::Fault;

/// Runs the program against a fresh stub; `line` has everything but the address.
fn run(fault: Fault, line: &str) -> (i32, Value, String) {
    let address = stub::start(fault);
    let output = generator(&format!("{line} --url ws://{address}/ws --json - --quiet"));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().expect("the program ends by itself"), report, stderr)
}

fn generator(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fanwire-loadgen")).args(line.split_whitespace()).output().unwrap()
}

const SHORT: &str = "--duration 400ms --warmup 50ms --drain-timeout 5s --threads 2";

fn count(report: &Value, name: &str) -> u64 {
    report["deliveries"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

#[test]
fn a_good_router_passes_in_both_serializers_and_loops() {
    for (line, name) in [
        ("--serializer json --window 4", "closed"),
        ("--serializer msgpack --window 4 --window-by slowest --acknowledge", "closed"),
        ("--serializer json --rate 200 --publishers 3", "open"),
        ("--serializer msgpack --rate 200 --payload 1KiB", "open"),
        ("--match prefix --rate 200", "open"),
        ("--match wildcard --window 2 --serializer cbor", "closed"),
    ] {
        let (code, report, stderr) = run(Fault::None, &format!("fanout --subscribers 5 {line} {SHORT}"));
        assert_eq!(code, 0, "{line}: {stderr} {report:#}");
        assert_eq!(report["parameters"]["loop_kind"], name);
        assert!(count(&report, "total") > 30, "{line}: {report:#}");
        assert_eq!(count(&report, "total"), count(&report, "expected"), "{line}");
        assert!(report["latency"]["p50_ns"].as_f64().unwrap() > 0.0);
        if line.contains("--acknowledge") {
            assert_eq!(count(&report, "acknowledged"), count(&report, "sent"));
        }
    }
}

#[test]
fn what_the_router_does_wrong_is_counted_and_fails() {
    for (fault, name) in [
        (Fault::LoseOne, "lost"),
        (Fault::DoubleOne, "duplicates"),
        (Fault::SwapTwo, "out_of_order"),
        (Fault::DamageOne, "corrupt"),
        (Fault::CutOne, "closed"),
    ] {
        for serializer in ["json", "msgpack", "cbor"] {
            let line = format!("fanout --subscribers 3 --rate 100 --serializer {serializer} {SHORT}");
            let (code, report, stderr) = run(fault, &line);
            assert_eq!(code, 1, "{fault:?} {serializer}: {stderr} {report:#}");
            assert_eq!(count(&report, name), 1, "{fault:?} {serializer}: {report:#}");
            for other in ["lost", "duplicates", "out_of_order", "corrupt", "closed"] {
                // A damaged event is missing too; what a cut subscriber did not get is lost.
                let follows = other == "lost" && matches!(fault, Fault::DamageOne | Fault::CutOne);
                assert!(
                    other == name || follows || count(&report, other) == 0,
                    "{fault:?} {other}: {report:#}"
                );
            }
        }
    }
}

#[test]
fn a_loss_does_not_stop_the_closed_loop() {
    for rule in ["average", "slowest"] {
        let line = format!("fanout --subscribers 3 --window 2 --window-by {rule} {SHORT}");
        let (code, report, stderr) = run(Fault::LoseOne, &line);
        assert_eq!((code, count(&report, "lost")), (1, 1), "{rule}: {stderr} {report:#}");
        assert!(count(&report, "sent") > 20, "{rule}: {report:#}");
        assert_eq!(report["ended_early"], Value::Null);
        assert_eq!(report["parameters"]["window_by"], rule);
    }
}

#[test]
fn a_closed_loop_ends_when_a_subscriber_is_cut() {
    let (code, report, _) = run(Fault::CutOne, &format!("fanout --subscribers 3 --window 2 {SHORT}"));
    assert_eq!((code, count(&report, "closed")), (1, 1), "{report:#}");
    assert!(report["ended_early"].as_str().unwrap().contains("closed 1 connections"), "{report:#}");
}

#[test]
fn unusual_but_proper_frames_and_details_are_understood() {
    for fault in [Fault::Fragment, Fault::TalkativeDetails] {
        for serializer in ["json", "msgpack", "cbor"] {
            let (code, report, stderr) =
                run(fault, &format!("fanout --subscribers 3 --window 2 --serializer {serializer} {SHORT}"));
            assert_eq!(code, 0, "{fault:?} {serializer}: {stderr} {report:#}");
            assert!(count(&report, "total") > 30);
        }
    }
}

#[test]
fn stuck_and_slow_subscribers_are_reported_apart() {
    let line =
        "fanout --subscribers 3 --stuck 2 --slow 1 --window 16 --payload 16KiB --duration 3s --threads 2";
    let (code, report, stderr) = run(Fault::None, line);
    assert_eq!(code, 0, "{stderr} {report:#}");
    assert_eq!(count(&report, "lost") + count(&report, "closed"), 0, "{report:#}");
    assert!(count(&report, "unverified_closed") >= 2, "the stub cuts who does not read: {report:#}");
}

#[test]
fn calls_are_answered_once_and_in_order() {
    for line in
        ["--window 2 --serializer json", "--window 2 --serializer msgpack", "--rate 300", "--payload 1KiB"]
    {
        let (code, report, stderr) = run(Fault::None, &format!("rpc --callers 6 --callees 2 {line} {SHORT}"));
        assert_eq!(code, 0, "{line}: {stderr} {report:#}");
        assert!(count(&report, "total") > 30, "{line}: {report:#}");
        assert_eq!(count(&report, "total"), count(&report, "sent"), "{line}");
    }
}

#[test]
fn refused_and_doubled_answers_are_found() {
    let (code, report, _) = run(Fault::FailCalls, &format!("rpc --callers 2 --callees 1 {SHORT}"));
    assert_eq!((code, count(&report, "lost")), (1, 0), "{report:#}");
    assert!(count(&report, "errors") > 1, "{report:#}");
    assert!(report["deliveries"]["errors_by_words"][0][0].as_str().unwrap().contains("com.stub.refused"));
    let (code, report, _) = run(Fault::DoubleResult, &format!("rpc --callers 2 --callees 1 {SHORT}"));
    assert_eq!((code, count(&report, "duplicates")), (1, 1), "{report:#}");
}

#[test]
fn idle_connections_are_held() {
    for hold in ["connection", "session", "subscription", "own-topic"] {
        let line = format!("idle --connections 20 --hold {hold} {SHORT} --server-pid {}", std::process::id());
        let (code, report, stderr) = run(Fault::None, &line);
        assert_eq!(code, 0, "{hold}: {stderr} {report:#}");
        assert_eq!(report["parameters"]["hold"], hold, "compare must see it");
        assert!(report["server"]["rss_ready_bytes"].as_u64().unwrap() > 0);
        assert!(report["server"]["cost"]["cpu_ns_per_second"].as_f64().is_some(), "{report:#}");
    }
}

#[test]
fn logins_are_made_at_their_rate_and_leave_again() {
    for line in ["--rate 200 --serializer json", "--rate 200 --serializer msgpack --in-flight 20"] {
        let (code, report, stderr) = run(Fault::None, &format!("connect {line} {SHORT}"));
        assert_eq!(code, 0, "{line}: {stderr} {report:#}");
        let logins = &report["logins"];
        assert_eq!(logins["failed"], 0, "{report:#}");
        // 450 ms of 200 per second, and each of them was answered.
        assert_eq!((count(&report, "sent"), count(&report, "total")), (90, 90), "{report:#}");
        assert_eq!(logins["completed"], 90);
        assert!(logins["latency"]["p50_ns"].as_f64().unwrap() > 0.0);
        assert_eq!(report["latency"]["count"], 80, "what was planned in the measured part: {report:#}");
    }
}

#[test]
fn sessions_log_in_by_a_ticket_from_a_file() {
    let folder = scratch("tickets");
    let file = |name: &str, ticket: &str| {
        let path = folder.join(name);
        std::fs::write(&path, ticket).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right", &format!("{}\n", stub::TICKET)), file("wrong", "another"));
    let line =
        |file: &str| format!("fanout --subscribers 3 --rate 100 --user joe --ticket-file {file} {SHORT}");
    let (code, report, stderr) = run(Fault::None, &line(&right));
    assert_eq!(code, 0, "{stderr}");
    assert!(!report.to_string().contains(stub::TICKET), "a report shows no ticket");
    let (code, _, stderr) = run(Fault::None, &line(&wrong));
    assert_eq!(code, 3);
    assert!(stderr.contains("wamp.error.authentication_denied"), "{stderr}");
    let (code, _, stderr) = run(Fault::None, &line("/nonexistent"));
    assert_eq!(code, 2);
    assert!(stderr.contains("--ticket-file /nonexistent"), "{stderr}");
}

#[test]
fn failed_logins_are_counted_with_their_words() {
    let (code, report, stderr) = run(Fault::RefuseSome, &format!("connect --rate 100 {SHORT}"));
    assert_eq!(code, 1, "{stderr} {report:#}");
    assert_eq!((&report["logins"]["failed"], &report["logins"]["completed"]), (&4.into(), &41.into()));
    let words = report["deliveries"]["errors_by_words"][0][0].as_str().unwrap();
    assert!(words.contains("nobody comes in today"), "{words}");
    let (code, _, stderr) = run(Fault::RefuseSession, &format!("connect --rate 100 {SHORT}"));
    assert_eq!(code, 3, "nobody could log in: {stderr}");
    assert!(stderr.contains("nobody comes in today"), "{stderr}");
    let line = format!("connect --rate 20 --login-timeout 200ms --in-flight 2 {SHORT}");
    let (code, _, stderr) = run(Fault::SayNothing, &line);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("--login-timeout"), "{stderr}");
}

#[test]
fn many_publishers_reach_one_subscriber_and_pairs_each_other() {
    for line in [
        "fanin --publishers 7 --rate 300",
        "fanin --publishers 7 --window 2 --serializer msgpack --acknowledge",
        "pairs --pairs 5 --rate 300 --acknowledge",
        "pairs --pairs 5 --window 2 --serializer msgpack --threads 3",
        "pairs --pairs 1 --threads 1",
    ] {
        let short = SHORT.replace("--threads 2", if line.contains("--threads") { "" } else { "--threads 2" });
        let (code, report, stderr) = run(Fault::None, &format!("{line} {short}"));
        assert_eq!(code, 0, "{line}: {stderr} {report:#}");
        assert!(count(&report, "total") > 30, "{line}: {report:#}");
        assert_eq!(count(&report, "total"), count(&report, "sent"), "{line}");
        assert_eq!(report["parameters"]["scenario"], line.split(' ').next().unwrap());
    }
    for line in ["fanin --publishers 3 --rate 100", "pairs --pairs 1 --rate 100"] {
        let (code, report, _) = run(Fault::LoseOne, &format!("{line} {SHORT}"));
        assert_eq!((code, count(&report, "lost")), (1, 1), "{line}: {report:#}");
    }
}

#[test]
fn the_event_of_another_pair_is_no_delivery() {
    let (code, report, _) = run(Fault::MixTopics, &format!("pairs --pairs 3 --rate 100 {SHORT}"));
    assert_eq!(code, 1, "{report:#}");
    assert_eq!((count(&report, "corrupt"), count(&report, "lost")), (1, 1), "{report:#}");
}

#[test]
fn publications_choose_among_unequal_topics() {
    for line in
        ["--topics 5 --skew zipf:1.0 --publishers 3 --serializer json", "--topics 9 --serializer msgpack"]
    {
        let line = format!("fanout --subscribers 7 --rate 300 {line} {SHORT}");
        let (code, report, stderr) = run(Fault::None, &line);
        assert_eq!(code, 0, "{line}: {stderr} {report:#}");
        // Not every topic has a subscriber in the second.
        assert!(count(&report, "total") > 20, "{line}: {report:#}");
        assert_eq!(count(&report, "total"), count(&report, "expected"), "{line}: {report:#}");
        let (code, report, _) = run(Fault::MixTopics, &line);
        assert_eq!(code, 1, "{line}: {report:#}");
        assert!(count(&report, "corrupt") > 0, "{line}: {report:#}");
    }
}

#[test]
fn rooms_are_apart_in_both_loops() {
    for line in ["--rate 300", "--window 2 --publishers 2", "--window 1 --skew zipf:1.0"] {
        let line = format!("rooms --rooms 4 --members 3 {line} {SHORT}");
        let (code, report, stderr) = run(Fault::None, &line);
        assert_eq!(code, 0, "{line}: {stderr} {report:#}");
        assert!(count(&report, "total") > 50, "{line}: {report:#}");
        assert_eq!(count(&report, "total"), count(&report, "expected"), "{line}: {report:#}");
    }
}

#[test]
fn calls_are_measured_alone_and_beside_a_broadcast() {
    let line = "broadcast+rpc --subscribers 3 --rate 50 --calls 100 --alone 500ms --duration 500ms --warmup 100ms --threads 2";
    let (code, report, stderr) = run(Fault::None, line);
    assert_eq!(code, 0, "{stderr} {report:#}");
    let operations = report["operations"].as_array().unwrap();
    let figure = |index: usize, path: &str| operations[index].pointer(path).unwrap().as_f64().unwrap();
    for (index, name) in ["call alone", "call beside"].into_iter().enumerate() {
        assert_eq!(operations[index]["name"], name);
        // 50 each by the timetable; what is answered late is in its part all the same. A machine that stalls at the end
        // sends the last ones no more.
        assert!((10.0..=51.0).contains(&figure(index, "/latency/count")), "{name}: {report:#}");
        assert!(figure(index, "/latency/p99_ns") > 0.0, "{name}: {report:#}");
    }
    assert_eq!(count(&report, "total"), count(&report, "expected"), "{report:#}");
    assert!((5..=31).contains(&count(&report, "sent")), "the broadcast begins later: {report:#}");
    let (code, report, _) = run(Fault::FailCalls, line);
    assert_eq!(code, 1, "{report:#}");
    assert!(report["operations"][0]["failed"].as_u64().unwrap() > 0, "{report:#}");
}

#[test]
fn publications_from_one_to_one_are_measured_beside_a_broadcast() {
    let line = "broadcast+rpc --probe pubsub --subscribers 3 --rate 50 --calls 100 --flood 5 --alone 300ms --duration 500ms \
                --warmup 100ms --threads 2";
    for serializer in ["json", "msgpack"] {
        let (code, report, stderr) = run(Fault::None, &format!("{line} --serializer {serializer}"));
        assert_eq!(code, 0, "{stderr} {report:#}");
        for operation in report["operations"].as_array().unwrap() {
            assert!(operation["latency"]["count"].as_u64().unwrap() > 3, "{report:#}");
            assert_eq!(operation["begun"], operation["done"], "{report:#}");
        }
        assert_eq!(count(&report, "total"), count(&report, "expected"), "{report:#}");
    }
}

#[test]
fn a_mix_of_everything_is_verified() {
    let line = format!(
        "mixed --rate 400 --mix publish:50,call:20,subscribe:20,join:10 --topics 3 --stay 50ms {SHORT}"
    );
    for serializer in ["json", "msgpack"] {
        let (code, report, stderr) = run(Fault::None, &format!("{line} --serializer {serializer}"));
        assert_eq!(code, 0, "{stderr} {report:#}");
        assert_eq!(count(&report, "total"), count(&report, "expected"), "{report:#}");
        for (index, name) in ["call", "subscribe", "unsubscribe"].into_iter().enumerate() {
            let operation = &report["operations"][index];
            assert_eq!(operation["name"], name);
            assert!(operation["done"].as_u64().unwrap() > 3, "{name}: {report:#}");
            assert_eq!(operation["done"], operation["begun"], "{name}: {report:#}");
        }
        assert!(report["logins"]["completed"].as_u64().unwrap() > 2, "{report:#}");
    }
    let (code, report, _) = run(Fault::KeepSending, &line);
    assert_eq!(code, 1, "{report:#}");
    assert!(count(&report, "corrupt") > 0, "an event after UNSUBSCRIBED: {report:#}");
    let only = format!("mixed --rate 400 --mix publish:1 {SHORT}");
    let (code, report, stderr) = run(Fault::None, &only);
    assert_eq!((code, report["operations"][0]["begun"].as_u64()), (0, Some(0)), "{stderr} {report:#}");
}

#[test]
fn subscribers_come_and_go_and_nobody_misses_anything() {
    for line in [
        "--rate 300 --serializer json",
        "--rate 300 --serializer msgpack --publishers 3 --leave cut",
        "--window 2 --window-by slowest",
        "--window 2",
    ] {
        let line = format!("churn --subscribers 4 --joins 100 --stay 50ms {line} {SHORT}");
        let (code, report, stderr) = run(Fault::None, &line);
        assert_eq!(code, 0, "{line}: {stderr} {report:#}");
        assert_eq!(count(&report, "total"), count(&report, "sent") * 4, "{line}: {report:#}");
        let logins = &report["logins"];
        assert!(logins["completed"].as_u64().unwrap() > 30, "{line}: {report:#}");
        assert!(logins["delivered"].as_u64().unwrap() > 30, "{line}: {report:#}");
    }
}

#[test]
fn what_a_visitor_misses_after_its_subscription_is_lost() {
    let line = format!("churn --subscribers 2 --joins 20 --stay 200ms --rate 300 {SHORT}");
    let (code, report, stderr) = run(Fault::SubscribeLate, &line);
    assert_eq!(code, 1, "{stderr} {report:#}");
    assert!(count(&report, "lost") > 3, "{report:#}");
    let (code, report, _) = run(Fault::LoseOne, &line);
    assert_eq!((code, count(&report, "lost")), (1, 1), "who stays: {report:#}");
}

#[test]
fn messages_are_compressed_if_the_server_agrees() {
    for serializer in ["json", "msgpack"] {
        for compression in ["on", "takeover"] {
            let line = format!(
                "fanout --subscribers 3 --window 2 --payload 1KiB --serializer {serializer} --compression {compression} {SHORT}"
            );
            let (code, report, stderr) = run(Fault::Compress, &line);
            assert_eq!(code, 0, "{line}: {stderr} {report:#}");
            assert_eq!(report["compressed_connections"], 4, "{line}: {report:#}");
            assert!(count(&report, "total") > 30, "{line}: {report:#}");
            let bytes = report["deliveries"]["received_bytes_per_second"].as_f64().unwrap();
            assert!(bytes < 1_000.0 * report["deliveries"]["per_second"].as_f64().unwrap(), "{report:#}");
        }
    }
    let line = format!("fanout --subscribers 3 --rate 100 --compression on {SHORT}");
    let (code, report, stderr) = run(Fault::None, &line);
    assert_eq!((code, report["compressed_connections"].as_u64()), (0, Some(0)), "{stderr}");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("declined to compress on 4 of 4 connections"), "{warnings}");
    let (code, ..) =
        run(Fault::Compress, &format!("churn --subscribers 2 --rate 100 --compression takeover {SHORT}"));
    assert_eq!(code, 0, "visitors negotiate anew each time");
}

#[test]
fn connections_come_from_the_addresses_given() {
    for sources in ["127.0.0.2,127.0.0.3", "127.0.0.4"] {
        let line = format!("fanout --subscribers 5 --rate 100 --source {sources} {SHORT}");
        let (code, report, stderr) = run(Fault::None, &line);
        assert_eq!(code, 0, "{stderr} {report:#}");
    }
    let (code, _, stderr) = run(Fault::None, &format!("fanout --subscribers 1 --source 192.0.2.1 {SHORT}"));
    assert_eq!(code, 3, "an address that this machine has not: {stderr}");
}

#[test]
fn expectations_set_the_exit_code() {
    let fanout = format!("fanout --subscribers 3 --rate 100 {SHORT}");
    for (fault, expect, wanted) in [
        (Fault::None, "p99<30s,lost=0,rate>1", 0),
        (Fault::None, "p50<1ns", 5),
        (Fault::None, "cpu<1s", 5), // not measured without --server-pid
        (Fault::LoseOne, "lost<2", 0),
        (Fault::LoseOne, "lost=0", 5),
        (Fault::LoseOne, "p99<30s", 1),
    ] {
        let (code, report, _) = run(fault, &format!("{fanout} --expect {expect}"));
        assert_eq!(code, wanted, "{fault:?} {expect}: {report:#}");
        assert_eq!(report["exit_code"], wanted);
    }
}

/// A directory of this test process that nobody else uses.
fn scratch(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("fanwire-loadgen-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn two_results_are_compared_and_unequal_ones_refused() {
    let address = stub::start(Fault::None);
    let place = scratch("compare");
    for (name, rate) in [("a", 100), ("b", 100), ("c", 200)] {
        let file = place.join(format!("{name}.json"));
        let line = format!("fanout --subscribers 2 --rate {rate} {SHORT} --url ws://{address}/ws --quiet");
        assert!(generator(&format!("{line} --json {}", file.display())).status.success());
    }
    let compare = |a: &str, b: &str| {
        let path = |name: &str| place.join(format!("{name}.json")).display().to_string();
        generator(&format!("compare {} {}", path(a), path(b)))
    };
    let output = compare("a", "b");
    let words = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(words.contains("deliveries /s") && words.contains("latency p99"), "{words}");
    let output = compare("a", "c");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("rate: 100.0 and 200.0"), "{output:?}");
    let output = compare("a", "nothing");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be read"), "{output:?}");
    std::fs::remove_dir_all(place).unwrap();
}

#[test]
fn time_line_and_percentiles_are_written_for_other_tools() {
    let address = stub::start(Fault::None);
    let place = scratch("files");
    let (csv, hgrm) = (place.join("a.csv"), place.join("a.hgrm"));
    let line = "fanout --subscribers 2 --rate 100 --duration 2200ms --warmup 50ms --threads 2 --quiet";
    let output = generator(&format!(
        "{line} --url ws://{address}/ws --csv {} --hgrm {} --server-pid {}",
        csv.display(),
        hgrm.display(),
        std::process::id()
    ));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("PASS"), "the table is still there: {output:?}");
    let csv = std::fs::read_to_string(csv).unwrap();
    let mut rows = csv.lines();
    assert_eq!(
        rows.next(),
        Some("second,deliveries,p50_us,p99_us,max_us,server_cpus,server_rss_bytes,generator_busy")
    );
    // The end of the last second may have been missed on a machine that stalls: then two fields are empty.
    let number = |field: &str| if field.is_empty() { 0.0 } else { field.parse().unwrap() };
    let rows: Vec<Vec<f64>> = rows.map(|row| row.split(',').map(number).collect()).collect();
    assert_eq!(rows.len(), 2, "whole seconds: {csv}");
    assert!(rows.iter().enumerate().all(|(n, row)| row[0] == n as f64 && row.len() == 8), "{csv}");
    assert!(rows.iter().all(|row| (150.0..=250.0).contains(&row[1])), "{csv}");
    let hgrm = std::fs::read_to_string(hgrm).unwrap();
    assert!(hgrm.trim_start().starts_with("Value"), "{hgrm}");
    let points: Vec<&str> =
        hgrm.lines().skip(2).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let last: Vec<&str> = points.last().unwrap().split_whitespace().collect();
    assert_eq!((last[1].parse::<f64>().unwrap(), last[2]), (1.0, "440"), "{hgrm}");
    assert!(hgrm.contains("#[Mean    =") && hgrm.contains("Total count    ="), "{hgrm}");
    let output = generator("fanout --csv /nowhere/a.csv");
    assert_eq!(output.status.code(), Some(2), "before the run: {output:?}");
    let output = generator("fanout --csv - --json -");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    std::fs::remove_dir_all(place).unwrap();
}

/// Every element of the page that is opened is closed again, in order. Panics where it is not.
fn parse_page(page: &str) {
    const VOID: [&str; 5] = ["!doctype", "meta", "line", "polyline", "polygon"];
    let (mut open, mut rest) = (Vec::new(), page);
    while let Some(at) = rest.find('<') {
        let end = rest[at..].find('>').unwrap_or_else(|| panic!("no end of a tag: {}", &rest[at..])) + at;
        let tag = &rest[at + 1..end];
        assert!(!tag.contains('<'), "a tag in a tag: {tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap();
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{}", &rest[at..end + 1]),
            None if VOID.contains(&name) => {}
            None => open.push(name),
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?} are not closed");
}

#[test]
fn the_page_needs_nothing_but_itself_and_escapes_what_it_shows() {
    let address = stub::start(Fault::None);
    let pid = std::process::id();
    let line = format!(
        "fanout --subscribers 2 --rate 100 --duration 2200ms --url ws://{address}/ws --quiet --server-pid {pid}"
    );
    let place = scratch("page");
    let file = place.join("a.html");
    // The command line is on the page; this one would be markup.
    let output = generator(&format!("{line} --topic <script>x</script> --json - --html {}", file.display()));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let page = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_dir_all(place).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
    parse_page(&page);
    for words in [
        "Latency by percentile",
        "deliveries per second",
        "Open loop",
        "CPUs busy",
        "What was checked",
        "&lt;script&gt;x&lt;/script&gt;",
        "prefers-color-scheme:dark",
    ] {
        assert!(page.contains(words), "{words} in {page}");
    }
    // Nothing is fetched: no address but the server's and that of the SVG elements' names, which are inline.
    for words in
        ["<script", "<link", "<img", "http://", "https://", "url(", "@import", "src=", "href", "NaN", "inf"]
    {
        assert!(!page.contains(words), "{words} in {page}");
    }
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let shown =
        |path: &str| fanwire_loadgen::units::show_nanos(report.pointer(path).unwrap().as_f64().unwrap());
    for figure in [
        shown("/latency/p50_ns"),
        shown("/latency/p99_ns"),
        shown("/latency/p999_ns"),
        shown("/latency/max_ns"),
        shown("/server/cost/cpu_ns_per_delivery"),
        fanwire_loadgen::units::show_rate(report["deliveries"]["per_second"].as_f64().unwrap()),
        report["machine"]["kernel"].as_str().unwrap().to_owned(),
    ] {
        assert!(page.contains(&figure), "{figure} in {page}");
    }
    for second in report["timeline"].as_array().unwrap() {
        let hint =
            format!("second {}: {} deliveries", second["second"].as_u64().unwrap() + 1, second["deliveries"]);
        assert!(page.contains(&hint), "{hint} in {page}");
    }
    // The end of the last second may have been missed on a machine that stalls.
    assert!(report["timeline"][0]["server_cpus"].is_f64(), "{report:#}");
    let lines = 1 + 1 + 3 + 2;
    assert_eq!(page.matches("<polyline").count(), 2 * lines, "each line for a wide page and a narrow one");
}

#[test]
fn every_scenario_has_a_page() {
    let address = stub::start(Fault::None);
    for scenario in [
        "rpc --callers 2",
        "idle --connections 2",
        "connect --rate 50",
        "churn --subscribers 2 --rate 50",
        "rooms --rooms 2 --rate 50",
        "mixed --rate 100",
        "broadcast+rpc --alone 2s --calls 20 --rate 20 --subscribers 2",
    ] {
        let output = generator(&format!("{scenario} {SHORT} --url ws://{address}/ws --quiet --html -"));
        let page = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && page.contains("To repeat it"), "{output:?}");
        assert!(!page.contains("NaN") && page.contains("What was checked"), "{page}");
        parse_page(&page);
    }
}

#[test]
fn a_sweep_runs_each_value_and_finds_the_knee() {
    let address = stub::start(Fault::None);
    let place = scratch("sweep");
    let (csv, page) = (place.join("a.csv"), place.join("a.html"));
    let line = format!("fanout --subscribers 2 --url ws://{address}/ws --quiet {SHORT}");
    let files = format!("--csv {} --html {}", csv.display(), page.display());
    let output = generator(&format!("{line} --sweep rate=50..200 --json - {files}"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let sweep: Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = sweep["steps"].as_array().unwrap();
    let values: Vec<&str> = steps.iter().map(|step| step["value"].as_str().unwrap()).collect();
    assert_eq!(
        (values, &sweep["schema"]),
        (vec!["50", "100", "200"], &Value::from("fanwire-loadgen-sweep/1"))
    );
    for step in steps {
        assert_eq!(step["report"]["parameters"]["rate"], step["number"], "{step:#}");
        assert!(step["followed"].as_f64().unwrap() > 0.1, "{step:#}");
    }
    assert!(sweep["knee"].as_u64().unwrap() < 3, "{sweep:#}");
    assert!(sweep["findings"][0].as_str().unwrap().starts_with("knee at rate="), "{sweep:#}");
    let csv = std::fs::read_to_string(csv).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().map(|row| row.split(',').collect()).collect();
    assert_eq!(
        (rows.len(), &rows[0][..2], &rows[3][..2]),
        (4, &["option", "value"][..], &["rate", "200"][..])
    );
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{csv}");
    let page = std::fs::read_to_string(page).unwrap();
    std::fs::remove_dir_all(place).unwrap();
    parse_page(&page);
    for words in ["fanout: rate = 50, 100, 200", "Throughput, per second", "CPUs busy", "knee"] {
        assert!(page.contains(words), "{words} in {page}");
    }
    assert!(!page.contains("NaN") && !page.contains("http") && !page.contains("<script"), "{page}");
    // Values that are no numbers stand side by side.
    let output = generator(&format!("{line} --sweep serializer=json,msgpack"));
    let table = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(table.contains("serializer = json, msgpack") && table.contains("PASS"), "{table}");
    for (bad, words) in [
        ("--sweep rate", "names no values"),
        ("--sweep bogus=1", "unexpected argument"),
        ("--sweep window=1,none", "--sweep window=none"),
        ("--sweep window=1 --hgrm a", "--hgrm"),
    ] {
        let output = generator(&format!("{line} {bad}"));
        assert_eq!(output.status.code(), Some(2), "{bad}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{bad}: {output:?}");
    }
}

#[test]
fn failures_to_connect_say_what_where_and_what_to_do() {
    for (fault, code, words) in [
        (Fault::RefuseSession, 3, "nobody comes in today"),
        (Fault::NotFound, 3, "give the path of the WAMP endpoint with --url"),
        (Fault::SayNothing, 4, "0 of 2 connections"),
    ] {
        let line = format!("fanout --subscribers 1 --connect-timeout 1s {SHORT}");
        let (found, report, stderr) = run(fault, &line);
        assert_eq!(found, code, "{fault:?}: {stderr}");
        assert!(stderr.contains(words), "{fault:?}: {stderr}");
        assert_eq!(report, Value::Null);
    }
    // Nobody listens on port 1; a port that was free a moment ago may be another test's by now.
    let output = generator("idle --connections 1 --url ws://127.0.0.1:1/ws");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("start the server"), "{output:?}");
}

#[test]
fn usage_errors_end_with_2() {
    for line in [
        "fanout --payload 3",
        "fanout --bogus",
        "idle --server-pid 4000000",
        "idle --url http://x",
        "nothing",
    ] {
        let output = generator(line);
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert!(!output.stderr.is_empty(), "{line}");
    }
}

#[test]
fn the_table_begins_with_what_was_run_and_the_verdict() {
    let address = stub::start(Fault::None);
    let output = generator(&format!(
        "fanout --subscribers 3 --window 2 {SHORT} --url ws://{address}/ws --server-pid {}",
        std::process::id()
    ));
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(
        table.starts_with(
            "fanout: 1 publisher to 3 subscribers, 64 B, json, closed loop, window 2 by average\n"
        )
    );
    assert!(table.contains("PASS: 0 lost, 0 out of order, 0 duplicates, 0 corrupt"), "{table}");
    for words in ["server CPU", "messages per receive", "p99.9", "Linux"] {
        assert!(table.contains(words), "{words} in {table}");
    }
}
