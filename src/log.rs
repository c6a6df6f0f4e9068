//! The log: to standard error, by a thread of its own, so that a slow terminal or a full pipe stalls nothing.

use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::schema;

/// Lines that may wait for standard error; further ones are dropped and counted.
const WAITING_LINES_MAX: usize = 16_384;

/// Keeps the log's thread. Dropping it writes what is waiting.
pub struct Log {
    _guard: WorkerGuard,
    dropped: ErrorCounter,
}

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
        let filter = EnvFilter::try_new(&config.level).expect("the configuration was checked");
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let subscriber =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colour);
        match config.format {
            schema::LogFormat::Text => subscriber.with_target(false).init(),
            schema::LogFormat::Json => subscriber.json().flatten_event(true).init(),
        }
        Self { _guard: guard, dropped }
    }

    /// Tells how many lines were dropped, for the metrics page.
    pub fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let dropped = self.dropped.clone();
        move || dropped.dropped_lines() as u64
    }
}
