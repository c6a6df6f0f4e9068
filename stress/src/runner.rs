//! Plays scenarios one after the other, each on both drivers, and says a line about each.

use std::any::Any;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::random::Random;
use crate::scenario::{Scenario, Stage};
use crate::testbed::kill_all;

/// How to play.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The drivers, by name.
    pub drivers: Vec<&'static str>,
    /// On all drivers at once, which takes half the time and more of the machine.
    pub together: bool,
    /// Of the first round; each further round has the next number.
    pub seed: u64,
    /// Rounds.
    pub repeat: u64,
    /// Clients that make a crowd.
    pub crowd: usize,
    /// How late an event of the control clients may be.
    pub slack: Duration,
    /// For one scenario on one driver. Beyond it the run is given up.
    pub limit: Duration,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Plays that went well.
    pub passed: u64,
    /// Plays that did not.
    pub failed: u64,
}

/// Plays them all.
pub fn play(scenarios: Vec<Scenario>, settings: &Settings) -> Score {
    let scenarios: Vec<_> = scenarios.into_iter().map(Arc::new).collect();
    let mut score = Score::default();
    for seed in settings.seed..settings.seed.saturating_add(settings.repeat) {
        for scenario in &scenarios {
            let at_once = if settings.together { settings.drivers.len() } else { 1 };
            for drivers in settings.drivers.chunks(at_once.max(1)) {
                let plays: Vec<_> =
                    drivers.iter().map(|driver| Play::begin(scenario, driver, seed, settings)).collect();
                for play in plays {
                    match play.end(settings) {
                        Outcome::Passed => score.passed += 1,
                        Outcome::Failed => score.failed += 1,
                        Outcome::Hangs => {
                            // Its threads cannot be ended, and would disturb what comes after it.
                            score.failed += 1;
                            kill_all();
                            return score;
                        }
                    }
                }
            }
        }
    }
    score
}

enum Outcome {
    Passed,
    Failed,
    Hangs,
}

/// A scenario that is played.
struct Play {
    name: String,
    driver: &'static str,
    seed: u64,
    begun: Instant,
    /// Its words, or why it failed.
    result: Receiver<Result<String, String>>,
}

impl Play {
    fn begin(scenario: &Arc<Scenario>, driver: &'static str, seed: u64, settings: &Settings) -> Self {
        let name = scenario.name.clone();
        let number = name.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let mut stage = Stage {
            driver,
            crowd: settings.crowd,
            slack: settings.slack,
            random: Random::part(seed, number),
        };
        let (done, result) = channel();
        let scenario = Arc::clone(scenario);
        thread::spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| (scenario.play)(&mut stage)));
            // Nobody listens any more if it took too long.
            _ = done.send(outcome.map_err(|cause| words_of(&*cause)));
        });
        Self { name, driver, seed, begun: Instant::now(), result }
    }

    /// Waits for its end and tells about it.
    fn end(self, settings: &Settings) -> Outcome {
        let left = (self.begun + settings.limit).saturating_duration_since(Instant::now());
        let (outcome, words) = match self.result.recv_timeout(left) {
            Ok(Ok(words)) => (Outcome::Passed, words),
            Ok(Err(words)) => (Outcome::Failed, words),
            Err(RecvTimeoutError::Timeout) => {
                (Outcome::Hangs, "it does not end; the run is given up".to_owned())
            }
            Err(RecvTimeoutError::Disconnected) => {
                (Outcome::Failed, "its thread ended without a word".to_owned())
            }
        };
        let Self { name, driver, seed, begun, .. } = &self;
        let seconds = begun.elapsed().as_secs_f64();
        let verdict = if matches!(outcome, Outcome::Passed) { "ok" } else { "FAILED" };
        say(&format!("{verdict:6} {driver:8} {name:24} {seconds:5.1} s  {words}"));
        if !matches!(outcome, Outcome::Passed) {
            let crowd = settings.crowd;
            say(&format!(
                "       again: fanwire-stress --only {name} --driver {driver} --seed {seed} --crowd {crowd}"
            ));
        }
        outcome
    }
}

/// What a panic said.
fn words_of(cause: &(dyn Any + Send)) -> String {
    let words = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
    words.unwrap_or("it panicked without words").to_owned()
}

/// At once, also where the output is a pipe that somebody waits at.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Who does not want to hear it is not told.
    _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(limit: Duration) -> Settings {
        Settings {
            drivers: vec!["io_uring", "epoll"],
            together: true,
            seed: 1,
            repeat: 2,
            crowd: 1,
            slack: Duration::ZERO,
            limit,
        }
    }

    #[test]
    fn plays_are_counted_and_a_panic_is_a_failure() {
        let scenarios = vec![
            Scenario::new("good", "", |_| "well".to_owned()),
            Scenario::new("bad", "", |stage| panic!("on {}", stage.driver)),
        ];
        assert_eq!(play(scenarios, &settings(Duration::from_secs(60))), Score { passed: 4, failed: 4 });
    }

    #[test]
    fn what_does_not_end_ends_the_run() {
        let hang = Scenario::new("hang", "", |_| {
            loop {
                thread::park();
            }
        });
        let never = Scenario::new("never", "", |_| panic!("it is not played"));
        assert_eq!(
            play(vec![hang, never], &settings(Duration::from_millis(10))),
            Score { passed: 0, failed: 1 }
        );
    }

    #[test]
    fn a_seed_gives_a_scenario_the_same_chances_again() {
        let drawn = || {
            let scenario = Arc::new(Scenario::new("draw", "", |stage| stage.random.bits().to_string()));
            let play = Play::begin(&scenario, "epoll", 7, &settings(Duration::from_secs(60)));
            play.result.recv().expect("it ends").expect("it only draws")
        };
        assert_eq!(drawn(), drawn());
    }
}
