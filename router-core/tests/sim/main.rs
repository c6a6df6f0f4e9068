//! The simulation: several shards of the real core in one thread, with everything around them modelled and every order
//! of events decided by a seed.
//!
//! ```text
//! seed ─▶ plan (sizes, limits, which steps) ─▶ world: shards, rings, sockets, clients, clock
//!                                                 │ history: what clients did and saw
//!                                                 ▼
//!                                              check: O1–O10, replies, books, emptiness
//! ```
//!
//! A failure prints its seed and the command that replays it. The same seed is the same run, byte for byte.

mod center;
mod check;
mod client;
mod coverage;
mod echo;
mod focus;
mod history;
mod messages;
mod meta;
mod names;
mod orders;
mod past;
mod plan;
#[cfg(feature = "mutations")]
mod planted;
mod retention;
mod rng;
mod rules;
mod speech;
mod wamp1;
mod wire;
mod world;

use coverage::Coverage;
use fanwire_core::DropReason;
use plan::Plan;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use world::World;

/// One seed's run, or how it failed.
fn run(seed: u64, steps: usize) -> Result<(u64, Coverage), String> {
    run_with(seed, steps, |_| {})
}

fn run_with(seed: u64, steps: usize, prepare: impl Fn(&mut World)) -> Result<(u64, Coverage), String> {
    let mut world = World::new(Plan::new(seed, steps));
    prepare(&mut world);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let words = match outcome {
        Ok(Ok(trace)) => return Ok((trace, world.coverage())),
        Ok(Err(words)) => words,
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            format!("panic: {}", words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without words"))
        }
    };
    Err(format!(
        "seed {seed}, step {} of {steps}: {words}\n\nThe last lines:\n{}\nReplay it:\n  \
         FANWIRE_SIM_SEED={seed} FANWIRE_SIM_STEPS={steps} cargo test -p fanwire-core --test sim replay -- --ignored --nocapture\n",
        world.steps_done,
        world.last_words(number("FANWIRE_SIM_LINES", 40) as usize),
    ))
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// `FANWIRE_SIM_SEEDS`, `FANWIRE_SIM_STEPS` and `FANWIRE_SIM_FIRST` make it longer or another one.
#[test]
fn two_thousand_seeds_hold_all_rules() {
    let (first, seeds) = (number("FANWIRE_SIM_FIRST", 0), number("FANWIRE_SIM_SEEDS", 2_000));
    let steps = number("FANWIRE_SIM_STEPS", 2_000) as usize;
    let (next, coverage) = (AtomicU64::new(first), Mutex::new(Coverage::default()));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return Ok(());
            }
            let (_, met) = run(seed, steps)?;
            coverage.lock().expect("no run panics").merge(&met);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().filter_map(|worker| worker.join().expect("a run catches panics").err()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let coverage = coverage.into_inner().expect("no run panics");
    println!("{seeds} seeds of {steps} steps met:\n{coverage}");
    if seeds * steps as u64 >= 10_000 * 2_000 {
        // Everything said here has a form in each serializer, and no client takes only short messages.
        let unmet = [DropReason::Untranslatable, DropReason::MessageTooLong].map(DropReason::as_str);
        let gaps = coverage.gaps(100, &unmet);
        assert!(gaps.is_empty(), "the runs hardly ever met: {}", gaps.join(", "));
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run(seed, 500), run(seed, 500));
    }
}

#[test]
#[ignore = "replays the seed of FANWIRE_SIM_SEED"]
fn replay() {
    let (seed, steps) = (number("FANWIRE_SIM_SEED", 0), number("FANWIRE_SIM_STEPS", 2_000));
    match run(seed, steps as usize) {
        Ok((trace, met)) => println!("seed {seed} holds all rules, trace {trace:016x}; it met:\n{met}"),
        Err(words) => panic!("{words}"),
    }
}
