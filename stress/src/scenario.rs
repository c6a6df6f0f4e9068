//! What a scenario is, and what it is given.

use std::time::Duration;

use crate::control::Control;
use crate::random::Random;
use crate::testbed::{Launch, Router};

/// One mischief, and the promise that it puts to the test.
pub struct Scenario {
    /// Its name on the command line. Where it has a parameter, that is behind a slash.
    pub name: String,
    /// The promise that it proves.
    pub promise: &'static str,
    /// Plays it, and says in a few words what happened. A panic is its failure.
    pub play: Box<dyn Fn(&mut Stage) -> String + Send + Sync>,
}

impl Scenario {
    /// One without a parameter.
    pub fn new(name: &str, promise: &'static str, play: fn(&mut Stage) -> String) -> Self {
        Self { name: name.to_owned(), promise, play: Box::new(play) }
    }
}

/// What a scenario is played with.
pub struct Stage {
    /// The driver of its routers.
    pub driver: &'static str,
    /// How many clients make a crowd.
    pub crowd: usize,
    /// How late an event of the control clients may be.
    pub slack: Duration,
    /// Chance, from the seed.
    pub random: Random,
}

impl Stage {
    /// How to start a router; a scenario adds what it needs.
    pub fn launch(&self) -> Launch {
        Launch::on(self.driver)
    }

    /// Healthy clients of this router.
    pub fn control(&self, router: &Router) -> Control {
        Control::start(router)
    }

    /// Ends the healthy clients, who must have noticed nothing, and puts their words behind the scenario's.
    pub fn close(&self, control: Control, words: impl std::fmt::Display) -> String {
        format!("{words}; {}", control.finish(self.slack))
    }
}
