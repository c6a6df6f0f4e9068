//! The command line: what all scenarios have in common. `scenarios.rs` has the options of each.

mod mix;
mod scenarios;

pub use mix::{Mix, Shares};
pub use scenarios::*;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use fanwire_codec::ws::deflate::Offer;

use crate::expect::{self, Expectation};
use crate::sweep::SweepSpec;
use crate::units::{parse_bytes, parse_count, parse_duration, parse_rate};

/// Drives a WAMP router, proves that it loses, reorders and doubles nothing, and says what that costs.
#[derive(Clone, Debug, Parser)]
#[command(name = "fanwire-loadgen", version, max_term_width = 120, after_help = AFTER_HELP)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A scenario, or work on the results of two.
#[derive(Clone, Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it, read once")]
pub enum Command {
    /// Drives a server.
    #[command(flatten)]
    Scenario(ScenarioArgs),
    /// Compares two files that --json has written: the figures side by side with the ratio B/A.
    Compare(CompareArgs),
}

/// Options of `compare`.
#[derive(Clone, Debug, ClapArgs)]
pub struct CompareArgs {
    /// Result of the first run.
    pub a: PathBuf,
    /// Result of the second run, of the same scenario with the same parameters.
    pub b: PathBuf,
}

const AFTER_HELP: &str = "\
Examples:
  fanwire-loadgen fanout --subscribers 10k --window 16 --duration 60s --server-pid $(pidof fanwire)
  fanwire-loadgen fanout --publishers 4 --subscribers 1k --rate 500 --expect 'p99<5ms,lost=0'
  fanwire-loadgen rpc --callers 1k --callees 8
  fanwire-loadgen fanin --publishers 1k --rate 20k
  fanwire-loadgen pairs --pairs 1k --window 4
  fanwire-loadgen rooms --rooms 200 --members 20 --skew zipf:1.0 --rate 5k
  fanwire-loadgen broadcast+rpc --subscribers 10k --rate 7 --calls 200
  fanwire-loadgen mixed --rate 2k --mix publish:70,call:20,subscribe:5,join:5
  fanwire-loadgen churn --subscribers 1k --rate 100 --joins 500 --stay 2s
  fanwire-loadgen connect --rate 2k --expect 'p99<50ms,errors=0'
  fanwire-loadgen fanout --subscribers 1k --sweep rate=50..1600 --html knee.html
  fanwire-loadgen compare before.json after.json
  fanwire-loadgen idle --connections 10k --hold subscription --server-pid $(pidof fanwire)

Exit codes: 0 fine, 1 something was lost, reordered, doubled, damaged or cut, 2 usage, 3 cannot connect, 4 timeout,
5 an --expect was missed.";

/// The scenarios.
#[derive(Clone, Debug, Subcommand)]
pub enum ScenarioArgs {
    /// Publishers send to all subscribers of one topic, or of several unequal ones.
    Fanout(FanoutArgs),
    /// Many publishers send to one subscriber.
    Fanin(FaninArgs),
    /// Each publisher sends to one subscriber, on a topic of their own.
    Pairs(PairsArgs),
    /// Rooms of equal or unequal sizes; each room has its publishers and its members.
    Rooms(RoomsArgs),
    /// Publishers send to subscribers that stay, while others join and leave.
    Churn(ChurnArgs),
    /// Callers call procedures that this generator registers itself; they echo their argument.
    Rpc(RpcArgs),
    /// Calls first alone and then beside a broadcast: what a large topic costs those who have nothing to do with it.
    #[command(name = "broadcast+rpc")]
    BroadcastRpc(BroadcastRpcArgs),
    /// Publications, calls, subscriptions and logins in set proportions.
    Mixed(MixedArgs),
    /// Sessions are opened at a rate and left at once. Measures the latency of a login.
    Connect(ConnectArgs),
    /// Connections are opened and held; nothing is sent. Measures memory per connection and idle CPU.
    Idle(IdleArgs),
}

impl ScenarioArgs {
    /// What all scenarios have in common.
    pub fn common(&self) -> &CommonArgs {
        match self {
            ScenarioArgs::Fanout(args) => &args.common,
            ScenarioArgs::Fanin(args) => &args.common,
            ScenarioArgs::Pairs(args) => &args.common,
            ScenarioArgs::Rooms(args) => &args.common,
            ScenarioArgs::Churn(args) => &args.common,
            ScenarioArgs::BroadcastRpc(args) => &args.common,
            ScenarioArgs::Mixed(args) => &args.common,
            ScenarioArgs::Rpc(args) => &args.common,
            ScenarioArgs::Idle(args) => &args.common,
            ScenarioArgs::Connect(args) => &args.common,
        }
    }
}

/// Where the server is if nobody says.
pub const URL: &str = "ws://127.0.0.1:8080/ws";

/// Wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Format {
    Json,
    Msgpack,
    Cbor,
}

/// Whether messages are compressed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Not at all.
    Off,
    /// Each message by itself: no context takeover in either direction.
    On,
    /// A message may refer to those before it: context takeover in both directions, as browsers offer it.
    Takeover,
}

impl Compression {
    /// What is offered to the server.
    pub fn offer(self) -> Option<Offer> {
        match self {
            Compression::Off => None,
            Compression::On => Some(Offer::default()),
            Compression::Takeover => Some(Offer {
                server_no_context_takeover: false,
                client_no_context_takeover: false,
                ..Offer::default()
            }),
        }
    }
}

/// Which subscribers open the window again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WindowRule {
    /// A publication counts as arrived in proportion to the subscribers that have it. Lets a server run ahead with some
    /// subscribers, which flatters coalescing.
    Average,
    /// A publication counts as arrived when the last subscriber has it.
    Slowest,
}

// Headings of the help. What is a scenario's own stands before them, without one.
const SERVER: &str = "Server and sessions";
const GENERATOR: &str = "Generator";
const MEASURE: &str = "Measurement";
const FILES: &str = "Files";

/// Options of all scenarios.
#[derive(Clone, Debug, ClapArgs)]
pub struct CommonArgs {
    /// Address of the server [default: ws://127.0.0.1:8080/ws, or what the target's file says]
    #[arg(help_heading = SERVER, long)]
    pub url: Option<String>,
    /// A server that is no WAMP router: the file that says how it is spoken to, see docs/loadgen.md.
    #[arg(help_heading = SERVER, long, value_name = "FILE")]
    pub target: Option<PathBuf>,
    /// Realm to join.
    #[arg(help_heading = SERVER, long, default_value = "realm1")]
    pub realm: String,
    /// Log every session in as this user, by ticket: from --ticket-file, else FANWIRE_TICKET. Each login costs the router
    /// tens of milliseconds of a CPU: lower --connect-rate.
    #[arg(help_heading = SERVER, long, value_name = "NAME")]
    pub user: Option<String>,
    /// File with the ticket.
    #[arg(help_heading = SERVER, long, value_name = "FILE", requires = "user")]
    pub ticket_file: Option<PathBuf>,
    /// Serializer of all sessions.
    #[arg(help_heading = SERVER, long, value_enum, default_value = "json")]
    pub serializer: Format,
    /// permessage-deflate on all connections.
    #[arg(help_heading = SERVER, long, value_enum, default_value = "off")]
    pub compression: Compression,
    /// Threads of the generator; default: one per usable CPU.
    #[arg(help_heading = GENERATOR, long)]
    pub threads: Option<usize>,
    /// CPUs to pin the generator's threads to, for example 1 or 2,3 or 4-7.
    #[arg(help_heading = GENERATOR, long, value_parser = parse_cpus)]
    pub cpus: Option<CpuList>,
    /// Poll without sleeping: steadier latencies, but each thread keeps its CPU busy all the time.
    #[arg(help_heading = GENERATOR, long)]
    pub spin: bool,
    /// New connections per second.
    #[arg(help_heading = SERVER, long, value_name = "RATE", default_value = "5000", value_parser = parse_rate)]
    pub connect_rate: f64,
    /// Handshakes that may be under way at once.
    #[arg(help_heading = SERVER, long, value_name = "COUNT", default_value = "1000", value_parser = parse_count)]
    pub connect_in_flight: usize,
    /// All connections must be ready after this time.
    #[arg(help_heading = SERVER, long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub connect_timeout: Duration,
    /// Local addresses to connect from, comma-separated; default: as many 127.0.0.x as needed, for a 127.x server.
    #[arg(help_heading = SERVER, long, value_delimiter = ',')]
    pub source: Vec<IpAddr>,
    /// Time that is measured.
    #[arg(help_heading = MEASURE, long, default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Time of the same load before it, verified but not measured.
    #[arg(help_heading = MEASURE, long, default_value = "1s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// After the end, deliveries may come for so long without progress before they count as lost.
    #[arg(help_heading = MEASURE, long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub drain_timeout: Duration,
    /// Process of the server, if it runs on this machine: its CPU time, memory and context switches are measured.
    #[arg(help_heading = MEASURE, long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Write everything as JSON to this file; `-` is the standard output, in place of the table.
    #[arg(help_heading = FILES, long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the time line as CSV, a row per second; `-` is the standard output, in place of the table.
    #[arg(help_heading = FILES, long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the latencies by percentile as HdrHistogram's tools read them, in milliseconds; `-` as above.
    #[arg(help_heading = FILES, long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write a page with plots that needs nothing but a browser; `-` as above.
    #[arg(help_heading = FILES, long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Run the scenario at several values of one option, for example rate=1k,2k,5k or window=1..64 (which doubles), and find
    /// the knee. The files are then those of the whole sweep.
    #[arg(help_heading = MEASURE, long, value_name = "OPTION=LIST", value_parser = SweepSpec::parse)]
    pub sweep: Option<SweepSpec>,
    /// Thresholds, for example 'p99<5ms,lost=0'; exit code 5 if one is missed.
    #[arg(help_heading = MEASURE, long, value_name = "LIST", value_parser = parse_expect, long_help = expect_help())]
    pub expect: Option<ExpectList>,
    /// No progress lines.
    #[arg(help_heading = GENERATOR, long)]
    pub quiet: bool,
}

/// Options of the closed and the open loop.
#[derive(Clone, Debug, ClapArgs)]
pub struct LoadArgs {
    /// Closed loop: messages in flight per publisher or caller.
    #[arg(long, default_value = "1", value_parser = parse_count, conflicts_with = "rate")]
    pub window: usize,
    /// Open loop: messages per second of all publishers or callers together; latency counts from the planned time.
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Bytes of the text that each message carries; at least 32.
    #[arg(long, default_value = "64", value_parser = parse_bytes)]
    pub payload: usize,
}

/// CPU numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

/// Thresholds of one `--expect`.
#[derive(Clone, Debug)]
pub struct ExpectList(pub Vec<Expectation>);

fn parse_expect(text: &str) -> Result<ExpectList, String> {
    expect::parse(text).map(ExpectList)
}

fn expect_help() -> String {
    format!(
        "Thresholds, for example 'p99<5ms,lost=0'; exit code 5 if one is missed.\n\
         What is not named keeps its check: lost, order, dup, corrupt, closed and errors must be 0.\n\n{}",
        expect::help()
    )
}

fn parse_cpus(text: &str) -> Result<CpuList, String> {
    let bad = || format!("'{text}' is not a list of CPUs; write for example 1 or 2,3 or 4-7");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) =
            (from.trim().parse().map_err(|_| bad())?, to.trim().parse().map_err(|_| bad())?);
        if from > to || to >= rustix::thread::CpuSet::MAX_CPU {
            return Err(bad());
        }
        cpus.extend(from..=to);
    }
    Ok(CpuList(cpus))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn scenarios_are_read() {
        let args = Args::try_parse_from(
            "x fanout --publishers 2 --subscribers 10k --window 16 --window-by slowest --payload 1KiB --cpus 1-2,5 \
             --expect p99<5ms,lost=0 --serializer msgpack --duration 2s"
                .split_whitespace(),
        )
        .unwrap();
        let Command::Scenario(ScenarioArgs::Fanout(fanout)) = args.command else {
            panic!("fanout was asked for")
        };
        assert_eq!((fanout.publishers, fanout.subscribers), (2, 10_000));
        assert_eq!((fanout.load.window, fanout.load.payload), (16, 1024));
        assert_eq!(fanout.window_by, WindowRule::Slowest);
        assert_eq!(fanout.common.cpus, Some(CpuList(vec![1, 2, 5])));
        assert_eq!(fanout.common.expect.unwrap().0.len(), 2);
        assert_eq!(fanout.common.serializer, Format::Msgpack);
    }

    #[test]
    fn a_window_and_a_rate_exclude_each_other() {
        let error = Args::try_parse_from("x rpc --window 2 --rate 10".split_whitespace()).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
        assert!(Args::try_parse_from("x idle --cpus 3-1".split_whitespace()).is_err());
        assert!(Args::try_parse_from("x idle --expect p99".split_whitespace()).is_err());
    }
}
