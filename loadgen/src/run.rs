//! The coordinator: starts the threads, leads them through the phases, prints the progress, collects the report.
//!
//! ```text
//! baseline ─▶ Connect ─all ready─▶ Load (warm-up, measured part) ─▶ Drain ─all here or nothing moves─▶ Close
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::args::ScenarioArgs;
use crate::failure::Failure;
use crate::flow::Flows;
use crate::limits;
use crate::meter::{Gauges, Slice, Timing, UNDER_WAY, Words};
use crate::plan::{Load, Plan, Role, Scenario};
use crate::progress::Progress;
use crate::report::{Ingredients, Report};
use crate::scenario_connect::Connect;
use crate::scenario_fanout::Fanout;
use crate::scenario_idle::Idle;
use crate::scenario_mixed::Mixed;
use crate::scenario_rpc::Rpc;
use crate::server_stats::{Sample, Server};
use crate::shared::{Phase, Shared};
use crate::timeline::{Slot, Timeline};
use crate::units::{show_count, show_nanos, show_rate};
use crate::worker::{Note, Outcome, Worker};

/// Pace of the coordinator.
const TICK: Duration = Duration::from_millis(20);
/// From the order to begin until the first message: enough for every thread to have woken.
const LEAD_NS: u64 = 30_000_000;
/// A step of the time line.
const SECOND_NS: u64 = 1_000_000_000;
/// The drain is given up so soon when connections were cut: their deliveries will not come.
const DRAIN_AFTER_CUT_NS: u64 = 2_000_000_000;

/// Runs what the command line asks for.
pub fn run(args: &ScenarioArgs) -> Result<Report, Failure> {
    use std::hash::{BuildHasher, RandomState};
    let common = args.common();
    let plan = Arc::new(Plan::new(args, RandomState::new().hash_one(0u8) as u16)?);
    limits::raise_open_files(plan.connections())?;
    let server = common.server_pid.map(Server::watch).transpose()?;
    let shared = Arc::new(Shared::new(plan.threads, message_flows(&plan), probe_flows(&plan), flows(&plan))?);
    let mut progress = Progress::new(common.quiet);
    let before = server.as_ref().and_then(Server::sample);
    let (sender, notes) = channel();
    let crew = spawn(&plan, &shared, &sender)?;
    drop(sender);
    let mut run =
        Run { plan: &plan, shared: &shared, notes, timeline: Timeline::default(), server: server.as_ref() };
    let result = run.lead(&mut progress);
    // Whatever happened: the threads end.
    shared.enter(Phase::Close);
    let outcomes: Vec<Outcome> = crew
        .into_iter()
        .filter_map(|thread| {
            thread.join().expect("a panic of a generator thread is a bug; see its message above")
        })
        .collect();
    progress.clear();
    let led = result?;
    if outcomes.len() < plan.threads {
        // A thread that failed has said why.
        run.collect_notes(&mut progress)?;
    }
    if matches!(plan.scenario, Scenario::Connect) {
        check_logins(&plan, &outcomes)?;
    }
    let timeline = run.timeline.finish(&plan.operations);
    Ok(Report::new(Ingredients {
        plan: &plan,
        common,
        outcomes: &outcomes,
        timeline,
        measured_ns: led.measured_ns,
        connect_ns: led.connect_ns,
        server: server.as_ref().map(|server| (server, [before, led.ready, led.from, led.to])),
        server_agent: shared.agent.get().cloned(),
        compression: (shared.compressed.load(Ordering::Relaxed), shared.uncompressed.load(Ordering::Relaxed)),
        ended_early: led.ended_early,
    }))
}

/// A server at which nobody could log in was not measured.
fn check_logins(plan: &Plan, outcomes: &[Outcome]) -> Result<(), Failure> {
    let mut failed = Words::default();
    outcomes.iter().for_each(|outcome| failed.add(&outcome.meter.failed_logins));
    if failed.count == 0 || outcomes.iter().any(|outcome| outcome.meter.logins > 0) {
        return Ok(());
    }
    // What a server said tells more than that it was too late to say it.
    let telling = |(words, count): &(&String, &u64)| (*words != UNDER_WAY, **count);
    let words = failed.by_words.iter().max_by_key(telling).map_or("no words", |(words, _)| words.as_str());
    Err(Failure::cannot_connect(format!(
        "none of {} logins at {} succeeded: {words}: start the server, or name it with --url",
        failed.count, plan.target.address
    )))
}

fn message_flows(plan: &Plan) -> usize {
    plan.fanout.as_ref().map_or(0, |fanout| fanout.topics.flows)
}

fn probe_flows(plan: &Plan) -> usize {
    plan.probe.as_ref().map_or(0, |probe| probe.topics.len())
}

fn flows(plan: &Plan) -> Option<Flows> {
    let fanout = plan.fanout.as_ref()?;
    let Load::Closed { window } = fanout.load else { return None };
    // How many verified subscribers each topic has on each thread.
    let mut subscribers = vec![vec![0; plan.threads]; fanout.topics.count()];
    for (thread, assignments) in plan.assignments.iter().enumerate() {
        for assignment in assignments.iter().filter(|one| matches!(one.role, Role::Subscriber(_))) {
            subscribers[assignment.topic as usize][thread] += 1;
        }
    }
    let of = |publisher: usize, thread: usize| subscribers[fanout.topics.of_flow(publisher)][thread];
    Some(Flows::new(fanout.rule, window, &plan.publisher_threads(), plan.threads, of))
}

type Crew = Vec<JoinHandle<Option<Outcome>>>;

fn spawn(plan: &Arc<Plan>, shared: &Arc<Shared>, notes: &Sender<Note>) -> Result<Crew, Failure> {
    let one = |thread: usize| {
        let (plan, shared, notes) = (plan.clone(), shared.clone(), notes.clone());
        let builder = std::thread::Builder::new().name(format!("loadgen-{thread}"));
        let spawned = match plan.scenario {
            Scenario::Fanout => {
                let scenario = Fanout::new(&plan, thread);
                let worker = Worker::new(thread, plan, shared, scenario, notes)?;
                builder.spawn(move || worker.run())
            }
            Scenario::Rpc => {
                let scenario = Rpc::new(&plan, thread);
                let worker = Worker::new(thread, plan, shared, scenario, notes)?;
                builder.spawn(move || worker.run())
            }
            Scenario::Mixed => {
                let scenario = Mixed::new(&plan, thread);
                let worker = Worker::new(thread, plan, shared, scenario, notes)?;
                builder.spawn(move || worker.run())
            }
            Scenario::Idle { .. } => {
                let worker = Worker::new(thread, plan, shared, Idle, notes)?;
                builder.spawn(move || worker.run())
            }
            Scenario::Connect => {
                let worker = Worker::new(thread, plan, shared, Connect, notes)?;
                builder.spawn(move || worker.run())
            }
        };
        spawned
            .map_err(|error| Failure::usage(format!("no thread for the generator: {error}; lower --threads")))
    };
    (0..plan.threads).map(one).collect()
}

/// What leading the run gave.
#[derive(Debug, Default)]
struct Led {
    connect_ns: u64,
    measured_ns: u64,
    ready: Option<Sample>,
    from: Option<Sample>,
    to: Option<Sample>,
    ended_early: Option<String>,
}

#[derive(Debug)]
struct Run<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    notes: Receiver<Note>,
    timeline: Timeline,
    server: Option<&'a Server>,
}

impl Run<'_> {
    fn lead(&mut self, progress: &mut Progress) -> Result<Led, Failure> {
        let mut led = Led { connect_ns: self.connect(progress)?, ..Led::default() };
        if self.plan.load == Load::Idle {
            // Allocations of the last handshakes settle before the memory is read.
            self.sleep_until(self.shared.now_ns() + self.plan.warmup.as_nanos() as u64, progress)?;
        }
        led.ready = self.sample();
        let lead_ns = if self.plan.load == Load::Idle { 0 } else { LEAD_NS };
        let start_ns = self.shared.now_ns() + lead_ns;
        let warmup_ns = if self.plan.load == Load::Idle { 0 } else { self.plan.warmup.as_nanos() as u64 };
        let from_ns = start_ns + warmup_ns;
        let timing = Timing { start_ns, from_ns, to_ns: from_ns + self.plan.measured().as_nanos() as u64 };
        self.shared.begin(timing);
        led.ended_early = self.watch(timing.from_ns, progress)?;
        // What the run is about may begin later; the server's cost is that of its part.
        let main_ns = self.plan.main_timing(timing).from_ns;
        led.from = self.read_second();
        while led.ended_early.is_none() && self.shared.now_ns() < timing.to_ns {
            let second_ns = timing.from_ns + (self.timeline.seconds_read() + 1) * SECOND_NS;
            let now_ns = self.shared.now_ns();
            let main_ns = if now_ns < main_ns { main_ns } else { u64::MAX };
            let next_ns = second_ns.min(timing.to_ns).min(main_ns);
            led.ended_early = self.watch(next_ns, progress)?;
            if led.ended_early.is_some() {
                break;
            }
            if next_ns == second_ns {
                self.read_second();
            }
            if next_ns == main_ns {
                led.from = self.sample();
            }
        }
        led.to = self.sample();
        led.measured_ns = self.shared.now_ns().min(timing.to_ns).saturating_sub(main_ns);
        self.drain(progress)?;
        Ok(led)
    }

    fn sample(&self) -> Option<Sample> {
        self.server.and_then(Server::sample)
    }

    /// Reads what the server and this process have used so far, for the time line.
    fn read_second(&mut self) -> Option<Sample> {
        let sample = self.sample();
        let busy = |gauges: &Gauges| gauges.busy_ns.load(Ordering::Relaxed);
        let busy_ns = self.shared.gauges.iter().map(busy).collect();
        self.timeline.read(self.shared.now_ns(), sample, busy_ns);
        sample
    }

    fn connect(&mut self, progress: &mut Progress) -> Result<u64, Failure> {
        let begin_ns = self.shared.now_ns();
        let connections = self.plan.residents() as u64;
        loop {
            self.collect_notes(progress)?;
            let ready = Gauges::sum(&self.shared.gauges, |gauges| &gauges.ready);
            if ready == connections {
                return Ok(self.shared.now_ns() - begin_ns);
            }
            let waited = Duration::from_nanos(self.shared.now_ns() - begin_ns);
            if waited > self.plan.connect_timeout {
                let handshaking = Gauges::sum(&self.shared.gauges, |gauges| &gauges.handshaking);
                let words = self.shared.last_words.lock().expect("nobody panics while holding it");
                let said = words.as_ref().map_or(String::new(), |words| {
                    format!("; or is --target wrong about it? it said last: {words}")
                });
                return Err(Failure::timeout(format!(
                    "{ready} of {connections} connections to {} were ready after {:.0} s, {handshaking} handshakes are under way: \
                     is the server overloaded? give more --connect-timeout or less --connect-rate{said}",
                    self.plan.target.host,
                    waited.as_secs_f64()
                )));
            }
            progress.each_second(waited, || {
                let handshaking = Gauges::sum(&self.shared.gauges, |gauges| &gauges.handshaking);
                format!(
                    "connecting: {} of {} ready, {handshaking} handshakes under way",
                    show_count(ready),
                    show_count(connections)
                )
            });
        }
    }

    fn sleep_until(&mut self, until_ns: u64, progress: &mut Progress) -> Result<(), Failure> {
        while self.shared.now_ns() < until_ns {
            self.collect_notes(progress)?;
        }
        Ok(())
    }

    /// Waits until `until_ns`; `Some` says why it makes no sense to wait longer.
    fn watch(&mut self, until_ns: u64, progress: &mut Progress) -> Result<Option<String>, Failure> {
        let (mut advanced, mut moved_ns) = (u64::MAX, self.shared.now_ns());
        loop {
            let now_ns = self.shared.now_ns();
            if now_ns >= until_ns {
                return Ok(None);
            }
            // The readings of the server at the edges of the measured part should be punctual.
            self.collect_notes_within(TICK.min(Duration::from_nanos(until_ns - now_ns)), progress)?;
            if self.plan.load == Load::Idle {
                let closed = Gauges::sum(&self.shared.gauges, |gauges| &gauges.closed);
                let connections = self.plan.connections() as u64;
                progress.each_second(Duration::from_nanos(now_ns), || {
                    format!(
                        "holding {} connections, {closed} closed by the server",
                        show_count(connections - closed)
                    )
                });
                continue;
            }
            let gauges = &self.shared.gauges;
            let closed = Gauges::sum(gauges, |gauges| &gauges.closed);
            if closed > 0 && matches!(self.plan.load, Load::Closed { .. }) {
                return Ok(Some(format!(
                    "the server closed {closed} connections, a closed loop cannot go on without them"
                )));
            }
            let now_advanced = Gauges::sum(gauges, |gauges| &gauges.advanced);
            let outstanding = self.expected().saturating_sub(now_advanced);
            if now_advanced != advanced || outstanding == 0 {
                (advanced, moved_ns) = (now_advanced, now_ns);
            } else if Duration::from_nanos(now_ns.saturating_sub(moved_ns)) > self.plan.drain_timeout {
                return Ok(Some(format!(
                    "nothing has been delivered for {:.0} s although {} deliveries are outstanding",
                    self.plan.drain_timeout.as_secs_f64(),
                    show_count(outstanding)
                )));
            }
        }
    }

    /// Waits until everything sent has come, or nothing comes any more.
    fn drain(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        self.shared.enter(Phase::Drain);
        let has_seen = |gauges: &Gauges| gauges.phase.load(Ordering::Acquire) >= Phase::Drain as u8;
        let begin_ns = self.shared.now_ns();
        let (mut advanced, mut moved_ns) = (u64::MAX, begin_ns);
        loop {
            let now_ns = self.shared.now_ns();
            let all_have_seen = self.shared.gauges.iter().all(has_seen);
            let now_advanced = Gauges::sum(&self.shared.gauges, |gauges| &gauges.advanced);
            if all_have_seen && now_advanced >= self.expected() {
                return Ok(());
            }
            if now_advanced != advanced {
                (advanced, moved_ns) = (now_advanced, now_ns);
            }
            let closed = Gauges::sum(&self.shared.gauges, |gauges| &gauges.closed);
            let patience_ns = self.plan.drain_timeout.as_nanos() as u64;
            let patience_ns = if closed > 0 { patience_ns.min(DRAIN_AFTER_CUT_NS) } else { patience_ns };
            if now_ns - moved_ns > patience_ns {
                return Ok(());
            }
            self.collect_notes(progress)?;
            progress.each_second(Duration::from_nanos(now_ns), || {
                format!(
                    "draining: {} deliveries outstanding",
                    show_count(self.expected().saturating_sub(now_advanced))
                )
            });
        }
    }

    /// Deliveries and answers that everything sent so far must cause.
    fn expected(&self) -> u64 {
        Gauges::sum(&self.shared.gauges, |gauges| &gauges.expected)
    }

    fn collect_notes(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        self.collect_notes_within(TICK, progress)
    }

    /// Waits for notes for at most `patience` and handles all that are there.
    fn collect_notes_within(&mut self, patience: Duration, progress: &mut Progress) -> Result<(), Failure> {
        let mut patience = patience;
        loop {
            match self.notes.recv_timeout(patience) {
                Ok(Note::Failed(failure)) => return Err(failure),
                Ok(Note::Slice { second, slice }) => self.add_slice(second, *slice, progress),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    // All threads have ended; the waiting loops end by what they see.
                    std::thread::sleep(patience);
                    return Ok(());
                }
            }
            patience = Duration::ZERO;
        }
    }

    fn add_slice(&mut self, second: u64, slice: Slice, progress: &mut Progress) {
        let slot = self.timeline.add(second, slice, self.plan.threads);
        if let Some(Slot { slice, .. }) = slot.filter(|_| self.plan.load != Load::Idle) {
            let gauges = &self.shared.gauges;
            let faults: Vec<String> = [
                (Gauges::sum(gauges, |gauges| &gauges.lost), "missing"),
                (Gauges::sum(gauges, |gauges| &gauges.out_of_order), "out of order"),
                (Gauges::sum(gauges, |gauges| &gauges.duplicates), "duplicates"),
                (Gauges::sum(gauges, |gauges| &gauges.corrupt), "corrupt"),
                (Gauges::sum(gauges, |gauges| &gauges.closed), "closed"),
                (Gauges::sum(gauges, |gauges| &gauges.errors), "errors"),
            ]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, words)| format!("{} {words}", show_count(count)))
            .collect();
            let outstanding = Gauges::sum(gauges, |gauges| &gauges.expected)
                .saturating_sub(Gauges::sum(gauges, |gauges| &gauges.advanced));
            progress.line(&format!(
                "{:>4} s  {:>11} /s  p50 {:>9}  p99 {:>9}  max {:>9}  under way {}{}{}",
                second + 1,
                show_rate(slice.deliveries as f64),
                show_nanos(slice.latencies.quantile(0.5)),
                show_nanos(slice.latencies.quantile(0.99)),
                show_nanos(slice.latencies.quantile(1.0)),
                show_count(outstanding),
                if faults.is_empty() { "" } else { "  " },
                faults.join(", ")
            ));
        }
    }
}
