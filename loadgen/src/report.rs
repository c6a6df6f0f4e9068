//! Everything that is known after a run, in the form of `--json`, and the verdict.

use clap::ValueEnum;
use serde::Serialize;

use crate::args::{CommonArgs, Compression, Match};
use crate::expect::{self, Expectation, Figures, Metric};
use crate::failure::Exit;
use crate::latency::{Latencies, LatencySummary, PercentilePoint};
use crate::machine::Machine;
use crate::meter::{Meter, Operation, Words, operation};
use crate::plan::{Load, Plan, Scenario};
use crate::server_stats::{Sample, Server, ServerCost};
use crate::timeline::Second;
use crate::topics::Topics;
use crate::verify::Faults;
use crate::worker::Outcome;

/// Version of the JSON's shape; fields may be added without a new one.
pub const SCHEMA: &str = "fanwire-loadgen/1";
/// Above this share of a thread's time spent outside waiting, figures are the generator's rather than the server's.
const BUSY_MAX: f64 = 0.9;
/// Messages that leave later than this in an open loop are noticed in the latencies.
const LAG_NS_MAX: f64 = 1e6;

/// What was asked for, as figures.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the command line's options of the same names")]
pub struct Parameters {
    pub scenario: &'static str,
    pub url: String,
    /// Name of a server that is no WAMP router.
    pub target: Option<String>,
    pub realm: String,
    pub serializer: String,
    pub publisher_serializer: String,
    /// Publishers, callers, held connections, or places for logins.
    pub senders: usize,
    /// Verified subscribers, or callees.
    pub receivers: usize,
    pub stuck: usize,
    pub slow: usize,
    pub connections: usize,
    pub payload_bytes: usize,
    /// `closed`, `open` or `idle`.
    pub loop_kind: &'static str,
    pub window: Option<usize>,
    /// The rule that every figure of a closed fan-out depends on.
    pub window_by: Option<&'static str>,
    pub rate: Option<f64>,
    /// Topics, and subscribers of the largest, if there are several.
    pub topics: Option<usize>,
    pub largest_topic: Option<usize>,
    /// Calls beside the publications.
    pub callers: Option<usize>,
    pub callees: Option<usize>,
    pub calls_per_second: Option<f64>,
    /// Publications from one to one beside a broadcast: pairs, publications per second, and the window of the flood.
    pub probes: Option<usize>,
    pub probes_per_second: Option<f64>,
    pub flood_window: Option<usize>,
    /// Proportions of the operations.
    pub mix: Option<String>,
    /// SUBSCRIBEs and UNSUBSCRIBEs per second.
    pub toggles_per_second: Option<f64>,
    /// How long the calls were alone.
    pub alone_s: Option<f64>,
    /// Visitors: how many come per second, how long each stays, and whether they leave without a word.
    pub joins: Option<f64>,
    pub stay_s: Option<f64>,
    pub leave_by_cut: Option<bool>,
    pub login_timeout_s: Option<f64>,
    /// What an idle connection is.
    pub hold: Option<String>,
    /// What each slow subscriber reads per second.
    pub slow_read_bytes: Option<usize>,
    pub acknowledge: bool,
    /// How subscribers name their topics, if not exactly.
    #[serde(rename = "match")]
    pub matching: Option<String>,
    /// permessage-deflate: `off`, `on` or `takeover`.
    pub compression: Option<String>,
    /// Who the sessions were, if not anonymous.
    pub user: Option<String>,
    pub warmup_s: f64,
    pub duration_s: f64,
    pub threads: usize,
    pub cpus: Vec<usize>,
    pub spin: bool,
}

/// What was delivered, and what was wrong with it.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "as in Meter and Faults")]
pub struct Deliveries {
    /// Verified events or results, warm-up and drain included.
    pub total: u64,
    /// Those that should have come.
    pub expected: u64,
    pub lost: u64,
    pub out_of_order: u64,
    pub duplicates: u64,
    pub corrupt: u64,
    /// Connections that the server closed, without stuck and slow ones.
    pub closed: u64,
    pub closed_by_words: Vec<(String, u64)>,
    pub errors: u64,
    pub errors_by_words: Vec<(String, u64)>,
    pub sent: u64,
    pub unsent: u64,
    pub acknowledged: u64,
    pub foreign: u64,
    pub results_reordered: u64,
    /// Length of the measured part; shorter than asked for if the run ended early.
    pub measured_s: f64,
    /// Deliveries in it.
    pub measured: u64,
    pub measured_sent: u64,
    pub per_second: f64,
    pub sent_per_second: f64,
    /// Verified messages per receive that brought any: how well the server coalesces.
    pub messages_per_receive: f64,
    pub received_bytes_per_second: f64,
    /// What slow subscribers have read, and how many stuck and slow ones the server has cut.
    pub slow_delivered: u64,
    pub unverified_closed: u64,
}

/// Logins of connections that came and went while the load ran.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Logins {
    /// Visits per second that were asked for.
    pub rate: f64,
    /// Logins that succeeded, in the whole run.
    pub completed: u64,
    /// Logins that failed.
    pub failed: u64,
    /// Events that visitors got, each verified from its SUBSCRIBED on.
    pub delivered: u64,
    /// Visits that were due and found no free place until the end.
    pub unbegun: u64,
    /// From the timetable to WELCOME (`connect`) or SUBSCRIBED (`churn`), measured part.
    pub latency: LatencySummary,
}

/// What is counted beside the deliveries: requests of one kind with their answers.
#[derive(Clone, Debug, Serialize)]
pub struct OperationReport {
    /// What it is.
    pub name: &'static str,
    /// Requests in the whole run.
    pub begun: u64,
    /// Answers that were as expected.
    pub done: u64,
    /// Answers that were an error.
    pub failed: u64,
    /// Answers per second of the part in which it was measured.
    pub per_second: f64,
    /// From the planned time of the request to its answer.
    pub latency: LatencySummary,
}

/// The load on the generator itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Generator {
    /// Share of each thread's time that was not waiting, in the measured part.
    pub busy: Vec<f64>,
    /// The largest of them.
    pub busy_max: f64,
    /// How late messages of the open loop left.
    pub send_lag: LatencySummary,
    /// Longest single turn of a thread's loop.
    pub turn_ns_max: u64,
}

/// The server's process.
#[derive(Clone, Debug, Serialize)]
pub struct ServerReport {
    /// Its id.
    pub pid: u32,
    /// Its command line.
    pub command_line: Vec<String>,
    /// Resident bytes before the first connection.
    pub rss_before_bytes: u64,
    /// Resident bytes when all connections were ready.
    pub rss_ready_bytes: u64,
    /// The difference per connection. The kernel's socket buffers are not in it.
    pub rss_per_connection_bytes: f64,
    /// Cost of the measured part.
    pub cost: Option<ServerCost>,
}

/// One threshold and whether it held.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The threshold.
    pub threshold: String,
    /// Given by `--expect`; otherwise one that always holds.
    pub is_named: bool,
    /// How it was missed.
    pub missed: Option<String>,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this shape.
    pub schema: &'static str,
    /// Where it was measured.
    pub machine: Machine,
    /// What was asked for.
    pub parameters: Parameters,
    /// What happened.
    pub deliveries: Deliveries,
    /// Latency of each delivery from the intended send time.
    pub latency: LatencySummary,
    /// The same by percentile, as a curve.
    pub latency_by_percentile: Vec<PercentilePoint>,
    /// What is counted beside the deliveries, if the scenario has more than one kind of traffic.
    pub operations: Vec<OperationReport>,
    /// Logins of visitors, if the scenario has any.
    pub logins: Option<Logins>,
    /// Second by second.
    pub timeline: Vec<Second>,
    /// The generator's own load.
    pub generator: Generator,
    /// Connections on which compression was agreed, if it was offered.
    pub compressed_connections: Option<u64>,
    /// Software of the server, as its WELCOME names it.
    pub server_agent: Option<String>,
    /// The server's process, if `--server-pid` was given.
    pub server: Option<ServerReport>,
    /// What a reader should know before he believes the figures.
    pub warnings: Vec<String>,
    /// Thresholds.
    pub checks: Vec<Check>,
    /// Why the run ended before its time.
    pub ended_early: Option<String>,
    /// Seconds from the first connect until all were ready.
    pub connect_s: f64,
    /// The exit code.
    pub exit_code: u8,
}

/// What the coordinator hands over.
#[derive(Debug)]
pub struct Ingredients<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The command line.
    pub common: &'a CommonArgs,
    /// Of each thread.
    pub outcomes: &'a [Outcome],
    /// Second by second.
    pub timeline: Vec<Second>,
    /// Length of the measured part as it really was.
    pub measured_ns: u64,
    /// Time until all connections were ready.
    pub connect_ns: u64,
    /// The server and its readings: before the connections, with them, at the begin and the end of the measured part.
    pub server: Option<(&'a Server, [Option<Sample>; 4])>,
    /// Software of the server.
    pub server_agent: Option<String>,
    /// Connections on which compression was agreed, and on which it was offered in vain.
    pub compression: (u64, u64),
    /// Why the run ended before its time.
    pub ended_early: Option<String>,
}

impl Report {
    /// Adds everything up and judges it.
    pub fn new(ingredients: Ingredients<'_>) -> Self {
        let Ingredients {
            plan,
            common,
            outcomes,
            timeline,
            measured_ns,
            connect_ns,
            server,
            server_agent,
            compression: (compressed, uncompressed),
            ended_early,
        } = ingredients;
        let (mut faults, mut latency, mut lag) = (Faults::default(), Latencies::new(), Latencies::new());
        let (mut closed, mut errors) = (Words::default(), Words::default());
        for outcome in outcomes {
            faults.add(&outcome.faults);
            latency.add(&outcome.meter.total);
            lag.add(&outcome.meter.lag);
            closed.add(&outcome.meter.closed);
            errors.add(&outcome.meter.errors);
        }
        let sum =
            |which: fn(&Meter) -> u64| outcomes.iter().map(|outcome| which(&outcome.meter)).sum::<u64>();
        // A run that ended in its warm-up has measured nothing.
        let per_second =
            |count: u64| if measured_ns == 0 { 0.0 } else { count as f64 * 1e9 / measured_ns as f64 };
        let measured = sum(|meter| meter.delivered_measured);
        let receives = sum(|meter| meter.receives_measured);
        let sent = sum(|meter| meter.sent);
        let deliveries = Deliveries {
            total: sum(|meter| meter.delivered),
            expected: sum(|meter| meter.expected),
            lost: faults.lost,
            out_of_order: faults.out_of_order,
            duplicates: faults.duplicates,
            corrupt: faults.corrupt,
            closed: closed.count,
            closed_by_words: closed.by_words.into_iter().collect(),
            errors: errors.count,
            errors_by_words: errors.by_words.into_iter().collect(),
            sent,
            unsent: sum(|meter| meter.unsent),
            acknowledged: sum(|meter| meter.acknowledged),
            foreign: sum(|meter| meter.foreign),
            results_reordered: sum(|meter| meter.results_reordered),
            measured,
            measured_sent: sum(|meter| meter.sent_measured),
            measured_s: measured_ns as f64 / 1e9,
            per_second: per_second(measured),
            sent_per_second: per_second(sum(|meter| meter.sent_measured)),
            messages_per_receive: if receives == 0 { 0.0 } else { measured as f64 / receives as f64 },
            received_bytes_per_second: per_second(sum(|meter| meter.bytes_measured)),
            slow_delivered: sum(|meter| meter.slow_delivered),
            unverified_closed: sum(|meter| meter.unverified_closed),
        };
        let busy = |outcome: &Outcome| match measured_ns {
            0 => 0.0,
            _ => (outcome.meter.busy_ns as f64 / measured_ns as f64).min(1.0),
        };
        let busy: Vec<f64> = outcomes.iter().map(busy).collect();
        let generator = Generator {
            busy_max: busy.iter().copied().fold(0.0, f64::max),
            busy,
            send_lag: lag.summary(),
            turn_ns_max: outcomes.iter().map(|outcome| outcome.meter.turn_ns_max).max().unwrap_or(0),
        };
        // The server has delivered to visitors too.
        let cost_of = measured + sum(|meter| meter.visitor_measured);
        let server =
            server.map(|(server, samples)| server_report(server, samples, plan, measured_ns, cost_of));
        let logins = plan.visits.map(|visits| {
            let mut latency = Latencies::new();
            outcomes.iter().for_each(|outcome| latency.add(&outcome.meter.login_latencies));
            Logins {
                rate: visits.rate,
                completed: sum(|meter| meter.logins),
                failed: sum(|meter| meter.failed_logins.count),
                delivered: sum(|meter| meter.visitor_delivered),
                unbegun: sum(|meter| meter.unbegun),
                latency: latency.summary(),
            }
        });
        let mut report = Self {
            schema: SCHEMA,
            machine: Machine::look(),
            parameters: Parameters::new(plan),
            deliveries,
            latency: latency.summary(),
            latency_by_percentile: latency.by_percentile(),
            operations: operations(plan, outcomes, measured_ns),
            logins,
            timeline,
            generator,
            compressed_connections: (plan.compression != Compression::Off).then_some(compressed),
            server_agent: server_agent.or_else(|| plan.dialect.as_ref().map(|script| script.name.clone())),
            server,
            warnings: Vec::new(),
            checks: Vec::new(),
            ended_early,
            connect_s: connect_ns as f64 / 1e9,
            exit_code: 0,
        };
        report.warn(plan);
        if uncompressed > 0 {
            report.warnings.push(format!(
                "the server has declined to compress on {uncompressed} of {} connections",
                compressed + uncompressed
            ));
        }
        report.judge(common.expect.as_ref().map_or(&[], |list| &list.0));
        report
    }

    fn warn(&mut self, plan: &Plan) {
        let Generator { busy_max, send_lag, .. } = &self.generator;
        let is_open = matches!(plan.load, Load::Open { .. });
        let remedy = "give it more --threads and CPUs, or run it on another machine";
        let mut warnings = Vec::new();
        if *busy_max > BUSY_MAX && plan.load != Load::Idle {
            let effect =
                if is_open { "latencies include its own delay" } else { "the rate is bounded by it" };
            warnings.push(format!(
                "the generator itself is the bottleneck: a thread is busy {:.0} % of the time, {effect}; {remedy}",
                busy_max * 100.0
            ));
        }
        if is_open && send_lag.p99_ns > LAG_NS_MAX {
            warnings.push(format!(
                "1 % of the messages left more than {} late; the latencies include this; {remedy}, or lower --rate",
                crate::units::show_nanos(send_lag.p99_ns)
            ));
        }
        if matches!(plan.scenario, Scenario::Connect) && self.deliveries.unsent > 0 {
            warnings.push(format!(
                "{} planned logins never began: all {} connections were in use; the server is slower than --rate, \
                 or give more --in-flight",
                self.deliveries.unsent,
                plan.connections()
            ));
        } else if self.deliveries.unsent > 0 {
            warnings.push(format!(
                "{} planned messages could not be sent: the server did not read them in time or closed the connection",
                self.deliveries.unsent
            ));
        }
        if self.logins.as_ref().is_some_and(|logins| logins.unbegun > 0) && plan.name == "churn" {
            warnings.push(
                "joins were due and never began, because those before them took too long: the server is slower than --joins"
                    .to_owned(),
            );
        }
        if self.deliveries.foreign > 0 {
            warnings.push(format!(
                "{} messages of somebody else came on the same topic: choose another --topic",
                self.deliveries.foreign
            ));
        }
        if self.machine.generator_profile == "debug" {
            warnings.push("this is a debug build: figures mean nothing; use cargo run --release".to_owned());
        }
        if plan.load == Load::Idle
            && self.server.as_ref().is_some_and(|server| server.rss_per_connection_bytes <= 0.0)
        {
            warnings.push(
                "the server has taken no new memory: it had room from an earlier load; start it anew to measure this"
                    .to_owned(),
            );
        }
        if self.server.as_ref().is_some_and(|server| server.cost.is_none()) {
            warnings.push("the server's process ended or could not be read during the run".to_owned());
        }
        self.warnings = warnings;
    }

    fn judge(&mut self, named: &[Expectation]) {
        let figures = self.figures();
        let check = |expectation: &Expectation, is_named| Check {
            threshold: expectation.to_string(),
            is_named,
            missed: expectation.check(&figures).err(),
        };
        let mut checks: Vec<Check> = named.iter().map(|expectation| check(expectation, true)).collect();
        checks.extend(expect::default_checks(named).iter().map(|expectation| check(expectation, false)));
        let exit = if checks.iter().any(|check| check.is_named && check.missed.is_some()) {
            Exit::ExpectationMissed
        } else if checks.iter().any(|check| check.missed.is_some()) {
            Exit::FailedCheck
        } else if self.ended_early.is_some() {
            Exit::Timeout
        } else {
            Exit::Ok
        };
        self.checks = checks;
        self.exit_code = exit.code();
    }

    /// The figures that thresholds are compared with.
    fn figures(&self) -> Figures {
        let mut figures = Figures::new();
        let deliveries = &self.deliveries;
        for (metric, value) in [
            (Metric::Lost, deliveries.lost),
            (Metric::Order, deliveries.out_of_order),
            (Metric::Duplicates, deliveries.duplicates),
            (Metric::Corrupt, deliveries.corrupt),
            (Metric::Closed, deliveries.closed),
            (Metric::Errors, deliveries.errors),
        ] {
            figures.insert(metric, value as f64);
        }
        if self.parameters.loop_kind != "idle" {
            figures.insert(Metric::Rate, deliveries.per_second);
            figures.insert(Metric::PublishRate, deliveries.sent_per_second);
            figures.insert(Metric::PerReceive, deliveries.messages_per_receive);
        }
        if self.parameters.loop_kind == "open" {
            figures.insert(Metric::SendLag, self.generator.send_lag.p99_ns);
        }
        // Without a delivery there is no latency, and no threshold of it holds.
        if self.latency.count > 0 {
            for (metric, value) in [
                (Metric::P50, self.latency.p50_ns),
                (Metric::P90, self.latency.p90_ns),
                (Metric::P99, self.latency.p99_ns),
                (Metric::P999, self.latency.p999_ns),
                (Metric::P9999, self.latency.p9999_ns),
                (Metric::Max, self.latency.max_ns),
                (Metric::Mean, self.latency.mean_ns),
            ] {
                figures.insert(metric, value);
            }
        }
        let measured = |name: &str| {
            let operation = self.operations.iter().find(|operation| operation.name == name)?;
            Some(&operation.latency).filter(|latency| latency.count > 0)
        };
        let calls = [operation::CALL_BESIDE, operation::PROBE_BESIDE, operation::CALL];
        if let Some(calls) = calls.into_iter().find_map(measured) {
            figures.insert(Metric::CallP50, calls.p50_ns);
            figures.insert(Metric::CallP99, calls.p99_ns);
            figures.insert(Metric::CallMax, calls.max_ns);
        }
        figures.extend(measured(operation::SUBSCRIBE).map(|latency| (Metric::SubscribeP99, latency.p99_ns)));
        if let Some(logins) = self.logins.as_ref().filter(|logins| logins.latency.count > 0) {
            figures.insert(Metric::LoginP99, logins.latency.p99_ns);
        }
        if let Some(server) = &self.server {
            figures.insert(Metric::RssPerConnection, server.rss_per_connection_bytes);
            if let Some(cost) = &server.cost {
                figures.extend(cost.cpu_ns_per_delivery.map(|value| (Metric::CpuPerDelivery, value)));
                figures.extend(cost.user_ns_per_delivery.map(|value| (Metric::UserPerDelivery, value)));
                if self.parameters.loop_kind == "idle" {
                    figures.insert(Metric::IdleCpu, cost.cpu_ns_per_second);
                }
            }
        }
        figures
    }
}

impl Parameters {
    fn new(plan: &Plan) -> Self {
        let (fanout, rpc) = (plan.fanout.as_ref(), plan.rpc.as_ref());
        let (senders, receivers) = match (fanout, rpc) {
            (Some(fanout), _) => (fanout.publishers, fanout.subscribers),
            (None, Some(rpc)) => (rpc.callers, rpc.procedures.len()),
            (None, None) => (plan.connections(), 0),
        };
        // A topic with one subscriber has no rule, and neither have calls.
        let rule = fanout
            .filter(|fanout| fanout.topics.sizes.iter().any(|size| *size > 1))
            .map(|fanout| fanout.rule);
        let topics = fanout.map(|fanout| &fanout.topics).filter(|topics| topics.count() > 1);
        let calls = rpc.filter(|_| fanout.is_some());
        let (loop_kind, window, rate) = match plan.load {
            Load::Closed { window } => ("closed", Some(window), None),
            Load::Open { rate } => ("open", None, Some(rate)),
            Load::Idle => ("idle", None, None),
        };
        let format = |serializer: fanwire_codec::wamp2::Serializer| match &plan.dialect {
            Some(script) => script.name.clone(),
            None => serializer.to_string(),
        };
        let rule_name = |rule| match rule {
            crate::args::WindowRule::Average => "average",
            crate::args::WindowRule::Slowest => "slowest",
        };
        Self {
            scenario: plan.name,
            url: plan.url.clone(),
            target: plan.dialect.as_ref().map(|script| script.name.clone()),
            realm: plan.realm.clone(),
            serializer: format(plan.serializer),
            publisher_serializer: format(plan.publisher_serializer),
            senders,
            receivers,
            stuck: fanout.map_or(0, |fanout| fanout.stuck),
            slow: fanout.map_or(0, |fanout| fanout.slow),
            connections: plan.connections(),
            payload_bytes: plan.payload_bytes,
            loop_kind,
            window,
            window_by: rule.filter(|_| window.is_some()).map(rule_name),
            rate,
            topics: topics.map(Topics::count),
            largest_topic: topics.and_then(|topics| topics.sizes.iter().max().copied()),
            callers: calls.map(|calls| calls.callers),
            callees: calls.map(|calls| calls.procedures.len()),
            calls_per_second: calls.and_then(|calls| match calls.load {
                Load::Open { rate } => Some(rate),
                _ => None,
            }),
            probes: plan.probe.as_ref().map(|probe| probe.pairs),
            probes_per_second: plan.probe.as_ref().map(|probe| probe.rate),
            flood_window: plan.probe.as_ref().map(|probe| probe.flood_window).filter(|window| *window > 0),
            mix: plan.mix.clone(),
            toggles_per_second: plan.toggles.map(|toggles| toggles.rate),
            alone_s: plan.alone.map(|alone| alone.as_secs_f64()),
            joins: plan.visits.map(|visits| visits.rate),
            stay_s: plan.visits.map(|visits| visits.stay_ns as f64 / 1e9),
            leave_by_cut: plan.visits.map(|visits| visits.cut),
            login_timeout_s: plan.visits.map(|visits| visits.login_timeout_ns as f64 / 1e9),
            hold: match plan.scenario {
                Scenario::Idle { hold, .. } => {
                    hold.to_possible_value().map(|value| value.get_name().to_owned())
                }
                _ => None,
            },
            slow_read_bytes: fanout.filter(|fanout| fanout.slow > 0).map(|fanout| fanout.slow_read),
            matching: Some(plan.matching)
                .filter(|matching| *matching != Match::Exact)
                .and_then(|matching| matching.to_possible_value())
                .map(|value| value.get_name().to_owned()),
            compression: match plan.compression {
                Compression::Off => None,
                used => used.to_possible_value().map(|value| value.get_name().to_owned()),
            },
            user: plan.login.as_ref().map(|login| login.user.clone()),
            acknowledge: fanout.is_some_and(|fanout| fanout.acknowledge),
            warmup_s: plan.warmup.as_secs_f64(),
            duration_s: plan.duration.as_secs_f64(),
            threads: plan.threads,
            cpus: plan.cpus.clone(),
            spin: plan.spin,
        }
    }
}

fn operations(plan: &Plan, outcomes: &[Outcome], measured_ns: u64) -> Vec<OperationReport> {
    let one = |(index, name): (usize, &&'static str)| {
        let mut sum = Operation::default();
        for operation in outcomes.iter().filter_map(|outcome| outcome.meter.operations.get(index)) {
            sum.begun += operation.begun;
            sum.done += operation.done;
            sum.failed += operation.failed;
            sum.measured += operation.measured;
            sum.total.add(&operation.total);
        }
        let is_alone = matches!(*name, operation::CALL_ALONE | operation::PROBE_ALONE);
        let alone_s = plan.alone.filter(|_| is_alone).map(|alone| alone.as_secs_f64());
        let seconds = alone_s.unwrap_or(measured_ns as f64 / 1e9);
        OperationReport {
            name,
            begun: sum.begun,
            done: sum.done,
            failed: sum.failed,
            per_second: if seconds > 0.0 { sum.measured as f64 / seconds } else { 0.0 },
            latency: sum.total.summary(),
        }
    };
    plan.operations.iter().enumerate().map(one).collect()
}

fn server_report(
    server: &Server,
    [before, ready, from, to]: [Option<Sample>; 4],
    plan: &Plan,
    measured_ns: u64,
    deliveries: u64,
) -> ServerReport {
    let rss = |sample: Option<Sample>| sample.map_or(0, |sample| sample.rss_bytes);
    let cost = match (from, to) {
        (Some(from), Some(to)) => Some(ServerCost::between(&from, &to, measured_ns, deliveries)),
        _ => None,
    };
    ServerReport {
        pid: server.pid(),
        command_line: server.command_line.clone(),
        rss_before_bytes: rss(before),
        rss_ready_bytes: rss(ready),
        rss_per_connection_bytes: (rss(ready) as f64 - rss(before) as f64) / plan.residents().max(1) as f64,
        cost,
    }
}
