//! `fanwire-faultproxy`: a TCP proxy that is late, slow, cuts and damages, as told.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use fanwire_loadgen::units::{parse_bytes, parse_duration};
use fanwire_stress::proxy::{Faults, Line, serve_for_ever};
use tokio::net::TcpListener;

/// A TCP proxy that mistreats what goes through it
#[derive(Debug, Parser)]
#[command(name = "fanwire-faultproxy", version, after_help = EXAMPLES)]
struct Cli {
    /// Where it listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where it passes the bytes on to
    #[arg(long, value_name = "ADDRESS")]
    to: SocketAddr,
    /// Which bytes are meant: what clients send (up), what the server sends (down), or both
    #[arg(long, value_name = "WHICH", default_value = "both")]
    direction: Direction,
    /// Every byte comes this much later
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = parse_duration)]
    latency: Duration,
    /// And up to this much later still, at random; the order stays
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = parse_duration)]
    jitter: Duration,
    /// Bytes that pass in a second at most: 1B/s, 64KiB/s
    #[arg(long, value_name = "RATE", value_parser = rate)]
    bandwidth: Option<NonZeroU64>,
    /// Bytes that are written at once at most
    #[arg(long, value_name = "BYTES")]
    slice: Option<NonZeroUsize>,
    /// Reset both sides when this many bytes have passed
    #[arg(long, value_name = "BYTE")]
    reset_at: Option<u64>,
    /// End the stream towards the receiver when this many bytes have passed
    #[arg(long, value_name = "BYTE")]
    half_close_at: Option<u64>,
    /// Swallow what comes after this many bytes, and the end of the stream
    #[arg(long, value_name = "BYTE")]
    blackhole_after: Option<u64>,
    /// Flip this bit; the first bit of the first byte is 0 (repeatable)
    #[arg(long, value_name = "BIT")]
    corrupt_bit: Vec<u64>,
    /// Flip a random bit of about every so many bytes
    #[arg(long, value_name = "BYTES")]
    corrupt_every: Option<NonZeroU64>,
    /// Receive buffer towards the server in bytes
    #[arg(long, value_name = "BYTES")]
    receive_buffer: Option<u32>,
    /// Repeats the random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Direction {
    Up,
    Down,
    Both,
}

const EXAMPLES: &str = "\
Examples, with a router at 127.0.0.1:8080:
  fanwire-faultproxy --listen 127.0.0.1:9000 --to 127.0.0.1:8080 --latency 50ms --jitter 10ms
  fanwire-faultproxy --listen 127.0.0.1:9000 --to 127.0.0.1:8080 --direction up --bandwidth 1B/s
  fanwire sub demo --url ws://127.0.0.1:9000/ws";

impl Cli {
    fn line(&self) -> Line {
        let faults = Faults {
            latency: self.latency,
            jitter: self.jitter,
            bandwidth: self.bandwidth,
            slice: self.slice,
            reset_at: self.reset_at,
            half_close_at: self.half_close_at,
            blackhole_after: self.blackhole_after,
            corrupt_bits: self.corrupt_bit.clone(),
            corrupt_every: self.corrupt_every,
        };
        let mut line = match self.direction {
            Direction::Up => Line::up(faults),
            Direction::Down => Line::down(faults),
            Direction::Both => Line::both(faults),
        };
        line.receive_buffer = self.receive_buffer;
        line
    }
}

/// `1B/s`, `64KiB/s`, `1MiB/s`.
fn rate(text: &str) -> Result<NonZeroU64, String> {
    let size =
        text.strip_suffix("/s").ok_or_else(|| format!("`{text}` is no rate; write 1B/s or 64KiB/s"))?;
    NonZeroU64::new(parse_bytes(size)? as u64)
        .ok_or_else(|| "a rate is more than 0; write 1B/s or more".to_owned())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot listen at {}: {error}; choose another --listen", cli.listen);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(cli.listen).await?;
        println!("{} -> {} (seed {})", listener.local_addr()?, cli.to, cli.seed);
        tokio::select! {
            () = serve_for_ever(listener, cli.to, cli.line(), cli.seed) => Ok(()),
            ended = tokio::signal::ctrl_c() => ended,
        }
    })
}
