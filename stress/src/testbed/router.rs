//! Starts the binary and finds out where it listens.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, eventually, get};

/// The binary under test: what `FANWIRE_BIN` names, else the one that was built with this program.
pub fn binary() -> OsString {
    if let Some(named) = std::env::var_os("FANWIRE_BIN") {
        return named;
    }
    // Programs are in `target/PROFILE`, tests in `target/PROFILE/deps`.
    let ours = std::env::current_exe().expect("Linux knows it");
    let beside = ours.ancestors().skip(1).take(2).map(|folder| folder.join("fanwire"));
    beside.clone().find(|path| path.is_file()).map_or_else(
        || panic!("no fanwire beside {}; build it, or name it in FANWIRE_BIN", ours.display()),
        Into::into,
    )
}

/// Routers that run, so that who gives up can end them.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Kills all routers that this process has started; for who ends without unwinding.
pub fn kill_all() {
    for id in RUNNING.lock().expect("nobody panics with it").iter() {
        if let Some(pid) = Pid::from_raw(id.cast_signed()) {
            _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// How to start a router.
pub struct Launch {
    driver: String,
    shards: u8,
    prefix: Vec<OsString>,
    settings: BTreeMap<String, String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// No deadline comes while a test waits on a busy machine. Who tests a deadline sets that one.
const PATIENT: [&str; 5] = [
    "limits.handshake_time",
    "limits.login_time",
    "limits.message_time",
    "limits.ping_interval",
    "limits.outbox_age",
];

impl Launch {
    /// Two shards on this driver, on free ports, with [`PATIENT`] deadlines.
    pub fn on(driver: &str) -> Self {
        let shards =
            std::env::var("FANWIRE_TEST_SHARDS").ok().and_then(|count| count.parse().ok()).unwrap_or(2);
        let settings = PATIENT.map(|key| (key.to_owned(), "300s".to_owned())).into();
        Self {
            driver: driver.to_owned(),
            shards,
            prefix: Vec::new(),
            settings,
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// With a key of the configuration.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With one more word on the command line.
    pub fn argument(mut self, word: &str) -> Self {
        self.arguments.push(word.to_owned());
        self
    }

    /// With a variable of the environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Through `launch.py` with these options.
    pub fn launched_with(mut self, options: &[&str]) -> Self {
        self.prefix = vec!["python3".into(), "-c".into(), include_str!("launch.py").into()];
        self.prefix.extend(options.iter().map(OsString::from));
        self.prefix.push("--".into());
        self
    }

    /// The command line.
    pub fn command(&self) -> Command {
        let mut words = self.prefix.clone();
        words.push(binary());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(&self.arguments);
        for (key, value) in &self.settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(["--driver", &self.driver]);
        if !self.arguments.iter().any(|word| word == "--shards") {
            command.args(["--shards", &self.shards.to_string()]);
        }
        if !self.arguments.iter().any(|word| word == "--bind") {
            command.args(["--port", "0"]);
        }
        command.args(["--admin", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Router {
        Router::start(&self)
    }
}

/// A router that runs. Dropping it kills it.
pub struct Router {
    child: Child,
    /// Where WAMP is spoken, at `/ws`.
    pub wamp: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

impl Router {
    /// Two shards on this driver with the defaults, but for the deadlines.
    pub fn on(driver: &str) -> Self {
        Launch::on(driver).start()
    }

    fn start(launch: &Launch) -> Self {
        let mut child = launch.command().spawn().expect("the binary starts");
        RUNNING.lock().expect("nobody panics with it").insert(child.id());
        let said = Arc::new(Mutex::new(Vec::new()));
        listen(child.stdout.take().expect("piped"), &said);
        listen(child.stderr.take().expect("piped"), &said);
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut router = Self { child, wamp: unknown, admin: unknown, said };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = (router.find("ws://"), router.find("admin    http://"));
            if let (Some(wamp), Some(admin)) = found {
                (router.wamp, router.admin) = (wamp, admin);
                break;
            }
            let ended = router.child.try_wait().expect("our own child");
            assert!(ended.is_none() && Instant::now() < deadline, "it did not start:\n{}", router.said());
            thread::sleep(Duration::from_millis(5));
        }
        eventually("readiness", || super::status(&get(router.admin, "/readyz")) == 200);
        router
    }

    /// The first address behind `scheme` that it printed.
    fn find(&self, scheme: &str) -> Option<SocketAddr> {
        let said = self.said();
        said.split(scheme).skip(1).find_map(|rest| {
            let end =
                rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(rest.len());
            rest[..end].trim_end_matches(['.', ':']).parse::<SocketAddr>().ok()
        })
    }

    /// All that it printed.
    pub fn said(&self) -> String {
        self.said.lock().expect("readers do not panic").join("\n")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The URL of its WAMP endpoint.
    pub fn url(&self) -> String {
        format!("ws://{}/ws", self.wamp)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it still runs");
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {limit:?}:\n{}", self.said());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The sum of a metric over its samples whose labels contain `label`. There must be at least one.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        sum_of(&get(self.admin, "/metrics"), name, label)
    }

    /// Memory that it holds.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says it");
        let kib = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).expect("a number");
        kib << 10
    }

    /// CPU time that it has used.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        // Fields 14 and 15, counted behind the name, which may hold blanks; in ticks of 10 ms.
        let fields: Vec<_> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<u64>().expect("a number");
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }
}

/// The sum of a metric of the page over its samples whose labels contain `label`. There must be at least one.
pub fn sum_of(page: &str, name: &str, label: &str) -> f64 {
    let values: Vec<f64> = page
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter(|line| line.contains(label))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    assert!(!values.is_empty(), "no metric {name} {label} in:\n{page}");
    values.iter().sum()
}

impl Drop for Router {
    fn drop(&mut self) {
        // Before it is reaped: then its number may be somebody else's.
        RUNNING.lock().expect("nobody panics with it").remove(&self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the router said:\n{}", self.said());
        }
    }
}

fn listen(pipe: impl Read + Send + 'static, said: &Arc<Mutex<Vec<String>>>) {
    let said = Arc::clone(said);
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            said.lock().expect("nobody panics with it").push(line);
        }
    });
}
