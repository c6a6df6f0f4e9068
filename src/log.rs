//! The log: to standard error, by a thread of its own, so that a slow terminal or a full pipe stalls nothing.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Handle;

use crate::config::schema;

/// Lines that may wait for standard error; further ones are dropped and counted.
const WAITING_LINES_MAX: usize = 16_384;

/// Keeps the log's thread. Dropping it writes what is waiting.
pub struct Log {
    _guard: WorkerGuard,
    dropped: ErrorCounter,
    level: Level,
}

/// Sets the level of the log that runs.
pub type Level = Arc<dyn Fn(&str) + Send + Sync>;

impl Log {
    /// Starts the log of this process.
    ///
    /// # Panics
    ///
    /// When called twice: there is one log.
    pub fn start(config: &schema::Log) -> Self {
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(WAITING_LINES_MAX)
            .thread_name("fanwire-log")
            .finish(io::stderr());
        let dropped = writer.error_counter();
        let filter = EnvFilter::try_new(&config.level).expect(CHECKED);
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let subscriber =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colour);
        let level = match config.format {
            schema::LogFormat::Text => {
                let subscriber = subscriber.with_target(false).with_filter_reloading();
                let level = level(subscriber.reload_handle());
                subscriber.init();
                level
            }
            schema::LogFormat::Json => {
                let subscriber = subscriber.json().flatten_event(true).with_filter_reloading();
                let level = level(subscriber.reload_handle());
                subscriber.init();
                level
            }
        };
        Self { _guard: guard, dropped, level }
    }

    /// Sets another level, which must be a valid one.
    pub fn level(&self) -> Level {
        Arc::clone(&self.level)
    }

    /// Tells how many lines were dropped, for the metrics page.
    pub fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let dropped = self.dropped.clone();
        move || dropped.dropped_lines() as u64
    }
}

fn level<S: 'static>(handle: Handle<EnvFilter, S>) -> Level {
    Arc::new(move |level| {
        // Fails only where the subscriber is gone, and then there is no log.
        _ = handle.reload(EnvFilter::try_new(level).expect(CHECKED));
    })
}

const CHECKED: &str = "the configuration was checked";
