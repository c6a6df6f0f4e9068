//! The report for people: the verdict first, then the figures, each with what it depends on.

use std::fmt::Write;

use crate::meter::operation;
use crate::report::{Deliveries, Parameters, Report};
use crate::units::{show_bytes, show_count, show_nanos, show_rate};

/// The final table.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    let mut line = |name: &str, words: String| {
        // A String takes everything.
        let _ = writeln!(out, "  {name:<12} {words}");
    };
    let (parameters, deliveries) = (&report.parameters, &report.deliveries);
    let is_idle = parameters.loop_kind == "idle";
    line("verdict", verdict(report));
    if let Some(words) = &report.ended_early {
        line("ended early", words.clone());
    }
    if !is_idle {
        let (made, caused) = match parameters.scenario {
            "rpc" => ("results", "calls"),
            "connect" => ("logins", "attempts"),
            _ => ("deliveries", "publications"),
        };
        line(
            made,
            format!(
                "{} /s from {} {caused} /s, measured {:.1} s ({} of {} in the whole run)",
                show_rate(deliveries.per_second),
                show_rate(deliveries.sent_per_second),
                deliveries.measured_s,
                show_count(deliveries.total),
                show_count(deliveries.expected)
            ),
        );
        let latency = &report.latency;
        line(
            "latency",
            format!(
                "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}  (from {})",
                show_nanos(latency.p50_ns),
                show_nanos(latency.p90_ns),
                show_nanos(latency.p99_ns),
                show_nanos(latency.p999_ns),
                show_nanos(latency.max_ns),
                if parameters.scenario == "connect" {
                    "the planned time to WELCOME"
                } else if parameters.loop_kind == "open" {
                    "the intended send time"
                } else {
                    "sending; closed loop"
                }
            ),
        );
        if parameters.scenario != "connect" {
            line(
                "coalescing",
                format!(
                    "{:.2} messages per receive, {:.1} B received for each",
                    deliveries.messages_per_receive,
                    deliveries.received_bytes_per_second / deliveries.per_second.max(1.0)
                ),
            );
        }
    }
    for operation in &report.operations {
        let latency = &operation.latency;
        line(
            operation.name,
            format!(
                "{} /s, {} of {} answered{}; p50 {}  p99 {}  p99.9 {}  max {}  (from the intended send time)",
                show_rate(operation.per_second),
                show_count(operation.done),
                show_count(operation.begun),
                match operation.failed {
                    0 => String::new(),
                    failed => format!(", {} errors", show_count(failed)),
                },
                show_nanos(latency.p50_ns),
                show_nanos(latency.p99_ns),
                show_nanos(latency.p999_ns),
                show_nanos(latency.max_ns)
            ),
        );
    }
    if let Some(words) = beside(report) {
        line("beside", words);
    }
    if let ("churn" | "mixed", Some(logins)) = (parameters.scenario, &report.logins) {
        line(
            "visitors",
            format!(
                "{} joined, {} failed; {} events verified from SUBSCRIBED on; login p50 {}  p99 {}  max {}",
                show_count(logins.completed),
                show_count(logins.failed),
                show_count(logins.delivered),
                show_nanos(logins.latency.p50_ns),
                show_nanos(logins.latency.p99_ns),
                show_nanos(logins.latency.max_ns)
            ),
        );
    }
    if parameters.stuck + parameters.slow > 0 {
        line(
            "not read",
            format!(
                "{} stuck and {} slow subscribers, not verified: {} of them cut by the server, slow ones read {} messages",
                parameters.stuck,
                parameters.slow,
                deliveries.unverified_closed,
                show_count(deliveries.slow_delivered)
            ),
        );
    }
    if parameters.acknowledge {
        line(
            "PUBLISHED",
            format!("{} of {}", show_count(deliveries.acknowledged), show_count(deliveries.sent)),
        );
    }
    if deliveries.results_reordered > 0 {
        line(
            "reordered",
            format!("{} results overtook an earlier one (allowed)", deliveries.results_reordered),
        );
    }
    if let Some(server) = &report.server {
        if let Some(cost) = &server.cost {
            if let (Some(cpu), Some(user)) = (cost.cpu_ns_per_delivery, cost.user_ns_per_delivery) {
                line(
                    "server CPU",
                    format!(
                        "{} per {}, of it {} user; {:.2} CPUs",
                        show_nanos(cpu),
                        match parameters.scenario {
                            "rpc" => "call",
                            "connect" => "login",
                            _ => "delivery",
                        },
                        show_nanos(user),
                        cost.cpus
                    ),
                );
            } else {
                line("server CPU", format!("{} per second", show_nanos(cost.cpu_ns_per_second)));
            }
            line(
                "switches",
                format!(
                    "{} /s voluntary, {} /s involuntary, {} threads; waited {} a second for a CPU",
                    show_rate(cost.voluntary_switches_per_second),
                    show_rate(cost.involuntary_switches_per_second),
                    cost.threads,
                    show_nanos(cost.wait_ns_per_second)
                ),
            );
        }
        if parameters.scenario != "connect" {
            line(
                "server RSS",
                format!(
                    "{} per connection ({} before, {} with {} connections{})",
                    show_bytes(server.rss_per_connection_bytes),
                    show_bytes(server.rss_before_bytes as f64),
                    show_bytes(server.rss_ready_bytes as f64),
                    show_count(parameters.connections as u64),
                    server.cost.as_ref().map_or(String::new(), |cost| format!(
                        ", {} at the end",
                        show_bytes(cost.rss_bytes as f64)
                    ))
                ),
            );
        }
    }
    let generator = &report.generator;
    let lag = if parameters.loop_kind == "open" {
        format!(
            ", send lag p99 {} max {}",
            show_nanos(generator.send_lag.p99_ns),
            show_nanos(generator.send_lag.max_ns)
        )
    } else {
        String::new()
    };
    line(
        "generator",
        format!(
            "{}, busiest {:.0} %{lag}{}",
            many(parameters.threads, "thread"),
            generator.busy_max * 100.0,
            match parameters.scenario {
                "connect" => String::new(),
                _ => format!(
                    "; {} connections ready in {:.2} s",
                    show_count(parameters.connections as u64),
                    report.connect_s
                ),
            }
        ),
    );
    let machine = &report.machine;
    line(
        "machine",
        format!(
            "{}, {} CPUs, {}; generator {} {}, server {}",
            machine.cpu,
            machine.cpus,
            machine.kernel,
            machine.generator_version,
            machine.generator_profile,
            report.server_agent.as_deref().unwrap_or("without a name")
        ),
    );
    for (words, count) in deliveries.closed_by_words.iter().chain(&deliveries.errors_by_words) {
        line("cause", format!("{count} x {words}"));
    }
    for check in &report.checks {
        match (&check.missed, check.is_named) {
            (Some(missed), _) => line("MISSED", missed.clone()),
            (None, true) => line("held", check.threshold.clone()),
            (None, false) => {}
        }
    }
    for warning in &report.warnings {
        line("WARNING", warning.clone());
    }
    format!("{}\n{out}", headline(report))
}

/// What the broadcast costs the calls beside it.
pub fn beside(report: &Report) -> Option<String> {
    let of = |name: &str| report.operations.iter().find(|operation| operation.name == name);
    let (alone, beside, one) = match (of(operation::CALL_ALONE), of(operation::PROBE_ALONE)) {
        (Some(alone), _) => (alone, of(operation::CALL_BESIDE)?, "a call"),
        (None, alone) => (alone?, of(operation::PROBE_BESIDE)?, "a message from one to one"),
    };
    if alone.latency.count == 0 || beside.latency.count == 0 {
        return None;
    }
    let broadcast = &report.latency;
    Some(format!(
        "beside the broadcast {one} takes {:.1} times as long in the median and {:.1} times at p99; its p99 is {:.3} of the \
         broadcast's own",
        beside.latency.p50_ns / alone.latency.p50_ns.max(1.0),
        beside.latency.p99_ns / alone.latency.p99_ns.max(1.0),
        beside.latency.p99_ns / broadcast.p99_ns.max(1.0)
    ))
}

/// `1 publisher`, `2,000 publishers`.
pub fn many(count: usize, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{} {one}s", show_count(count as u64)),
    }
}

fn beside_what(parameters: &Parameters) -> String {
    match (parameters.calls_per_second, parameters.probes_per_second, parameters.flood_window) {
        (Some(calls), ..) => format!("{} calls /s", show_rate(calls)),
        (None, probes, None) => {
            format!("{} messages /s from one to one", show_rate(probes.unwrap_or_default()))
        }
        (None, probes, Some(window)) => format!(
            "{} messages /s from one to one and a flood of {} under way",
            show_rate(probes.unwrap_or_default()),
            show_count(window as u64)
        ),
    }
}

/// What was run, with the rule that the figures depend on.
pub fn headline(report: &Report) -> String {
    let parameters = &report.parameters;
    let load = match (parameters.window, parameters.rate) {
        (Some(window), _) => match parameters.window_by {
            Some(rule) => format!("closed loop, window {window} by {rule}"),
            None => format!("closed loop, window {window}"),
        },
        (_, Some(rate)) => format!("open loop, {} /s", show_rate(rate)),
        _ => format!("held for {:.1} s", parameters.duration_s),
    };
    let mut formats = if parameters.serializer == parameters.publisher_serializer {
        parameters.serializer.clone()
    } else {
        format!("{} to {}", parameters.publisher_serializer, parameters.serializer)
    };
    if let Some(matching) = &parameters.matching {
        formats.push_str(", by ");
        formats.push_str(matching);
    }
    if let Some(compression) = &parameters.compression {
        formats.push_str(match compression.as_str() {
            "takeover" => ", compressed with takeover",
            _ => ", compressed",
        });
    }
    let (publishers, subscribers) =
        (many(parameters.senders, "publisher"), many(parameters.receivers, "subscriber"));
    let senders = show_count(parameters.senders as u64);
    match parameters.scenario {
        name @ ("fanout" | "fanin" | "pairs") => format!(
            "{name}: {publishers} to {subscribers}{}, {} B, {formats}, {load}",
            match (name, parameters.topics) {
                ("fanout", Some(topics)) => format!(" of {}", many(topics, "topic")),
                _ => String::new(),
            },
            parameters.payload_bytes
        ),
        "rooms" => format!(
            "rooms: {publishers} to {subscribers} in {} of up to {}, {} B, {formats}, {load}",
            many(parameters.topics.unwrap_or(1), "room"),
            show_count(parameters.largest_topic.unwrap_or(parameters.receivers) as u64),
            parameters.payload_bytes
        ),
        "broadcast+rpc" => format!(
            "broadcast+rpc: {publishers} to {subscribers}, {} B, {load}, beside {}, {formats}",
            parameters.payload_bytes,
            beside_what(parameters)
        ),
        "mixed" => format!(
            "mixed: {} of {publishers} and {}, {subscribers} on {}, {} B, {formats}, {load}",
            parameters.mix.as_deref().unwrap_or("operations"),
            many(parameters.callers.unwrap_or_default(), "caller"),
            many(parameters.topics.unwrap_or(1), "topic"),
            parameters.payload_bytes
        ),
        "rpc" => {
            format!(
                "rpc: {} to {}, {} B, {formats}, {load}",
                many(parameters.senders, "caller"),
                many(parameters.receivers, "callee"),
                parameters.payload_bytes
            )
        }
        "churn" => format!(
            "churn: {publishers} to {subscribers} that stay, {} /s join for {:.1} s, {} B, {formats}, {load}",
            show_rate(parameters.joins.unwrap_or_default()),
            parameters.stay_s.unwrap_or_default(),
            parameters.payload_bytes
        ),
        "connect" => {
            format!("connect: logins on at most {senders} connections at once, {formats}, {load}")
        }
        _ => format!("idle: {}, {formats}, {load}", many(parameters.senders, "connection")),
    }
}

/// Good or bad in one line; every count is named, the zeros too.
pub fn verdict(report: &Report) -> String {
    let Deliveries { lost, out_of_order, duplicates, corrupt, closed, errors, .. } = &report.deliveries;
    let word = match report.exit_code {
        0 => "PASS",
        _ => "FAIL",
    };
    if report.parameters.loop_kind == "idle" {
        return format!(
            "{word}: {closed} of {} connections closed by the server",
            report.parameters.connections
        );
    }
    if let ("connect", Some(logins)) = (report.parameters.scenario, &report.logins) {
        return format!(
            "{word}: {} logins, {} failed, {} never begun; {} connections closed by the server",
            show_count(logins.completed),
            show_count(logins.failed),
            show_count(logins.unbegun),
            show_count(*closed)
        );
    }
    format!(
        "{word}: {} lost, {} out of order, {} duplicates, {} corrupt; {} connections closed, {} errors",
        show_count(*lost),
        show_count(*out_of_order),
        show_count(*duplicates),
        show_count(*corrupt),
        show_count(*closed),
        show_count(*errors)
    )
}
