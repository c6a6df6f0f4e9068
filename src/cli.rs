//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use fanwire_codec::wamp2::MatchPolicy;
use fanwire_control::api::keys::AddressRange;

use crate::config::Flag;
use crate::config::presets::Preset;
use crate::config::schema::{ApiRight, HookBody, HookEvent};

/// A real-time message router: publish/subscribe and remote procedure calls over WebSocket
#[derive(Debug, Parser)]
#[command(name = "fanwire", version, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(after_help = AFTER_HELP)]
pub struct Cli {
    /// Without one: run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

const AFTER_HELP: &str = "\
Without a command it starts: WAMP at ws://127.0.0.1:8080/ws, realm \"realm1\", open to this machine only.
Every key of the configuration: `fanwire config default`, `fanwire config doc`";

const PUB_HELP: &str = "\
A single - as argument publishes each line of standard input. Examples:
  fanwire pub demo.tick --rate 2 --template '{\"n\":{{seq}},\"at\":{{now_ms}}}'
  tail -f app.log | fanwire pub demo.log -";

const PASSWD_HELP: &str = "\
The ticket, or the password, is asked for twice, or read from standard input where that is no terminal. A user can have several
methods; each time one of them is set, the others stay. Examples:
  fanwire passwd users.txt joe --role member
  head -c 24 /dev/urandom | base64 | tee joe.ticket | fanwire passwd users.txt joe --role member
  fanwire passwd - joe --role member     # for [[realm.user]]
  fanwire passwd users.txt ann --role member --method scram
  fanwire passwd users.txt ann --method wampcra              # as well
  fanwire passwd users.txt gate --role device --method cryptosign            # makes a key pair
  fanwire passwd users.txt gate --method cryptosign --key 545e…9122          # its own key
  fanwire passwd users.txt --list
  fanwire passwd users.txt joe --delete
A running router reads the file again when it is told to: fanwire reload.";

const HEALTH_HELP: &str = "\
It asks the admin port that the configuration names, or --address. Exit status: 0 well, 1 not (draining), 2 there is no
admin port to ask, 3 nobody is there, 4 no answer in time. Examples:
  fanwire health                          # readiness
  fanwire health --live -c fanwire.toml   # liveness, for the health check of a container";

const RELOAD_HELP: &str = "\
The running router reads the sources that it was started with, as at the start: its file, its environment, its flags. It lists
what has changed, and whether that acts now, for new connections, or after a restart. An error anywhere changes nothing.
It is asked at the admin port that the configuration names, or --address; SIGHUP does the same, and says so in the log.
Exit status: 0 done, 1 refused, 2 there is no admin port to ask, 3 nobody is there, 4 no answer in time. Examples:
  fanwire reload -c /etc/fanwire/fanwire.toml
  fanwire reload --check                  # what would change, without changing it";

const APIKEY_HELP: &str = "\
The key goes to standard error, this once; the table for the configuration, which holds its hash alone, to standard output.
  fanwire apikey shop --role backend --allow publish,call >> fanwire.toml
  fanwire apikey ops --role operator --allow read,disconnect --address 10.0.0.0/8";

const HOOK_TEST_HELP: &str = "\
It asks once, as the router would, and tells what was sent, what came back and what follows. Exit status: 0 allowed, 1 denied or
no answer, 3 it cannot be reached, 4 no answer in time. Examples:
  fanwire hook test -c fanwire.toml
  fanwire hook test -c fanwire.toml --name backend --event authenticate --token secret
  fanwire hook test --url http://127.0.0.1:8000/ --event publish --topic shop.orders --args '[1]'";

const COMPLETION_HELP: &str = "\
bash, this session:  source <(fanwire completion bash)
bash, for good:      fanwire completion bash > ~/.local/share/bash-completion/completions/fanwire
zsh:                 fanwire completion zsh > \"${fpath[1]}/_fanwire\"
fish:                fanwire completion fish > ~/.config/fish/completions/fanwire.fish";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the router (this is the default)
    Run(RunArgs),
    /// Publish to a topic: fanwire pub demo.chat hello '{"n":1}'
    #[command(after_help = PUB_HELP)]
    Pub(PubArgs),
    /// Subscribe to a topic and print its events: fanwire sub demo.chat
    Sub(SubArgs),
    /// Call a procedure and print its result: fanwire call demo.add 2 3
    Call(CallArgs),
    /// Answer calls of a procedure.
    #[command(about = "Answer calls of a procedure: fanwire register demo.add --exec 'jq .args[0]+.args[1]'")]
    Register(RegisterArgs),
    /// List the clients that do not read as fast as they are sent to: fanwire slow
    Slow(SlowArgs),
    /// List who is connected: fanwire conn list
    #[command(subcommand)]
    Conn(ConnCommand),
    /// Check, show or explain a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Add, change or remove a user, and how it logs in: fanwire passwd users.txt joe --role member
    #[command(after_help = PASSWD_HELP)]
    Passwd(PasswdArgs),
    /// Ask the router on this machine how it is: exit 0 if it takes clients
    #[command(after_help = HEALTH_HELP)]
    Health(HealthArgs),
    /// Have the router on this machine read its configuration again: fanwire reload --check
    #[command(after_help = RELOAD_HELP)]
    Reload(ReloadArgs),
    /// Ask a hook, to see what it answers
    #[command(subcommand)]
    Hook(HookCommand),
    /// Make a key of the HTTP API: fanwire apikey shop --role backend --allow publish,call
    #[command(after_help = APIKEY_HELP)]
    Apikey(ApikeyArgs),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETION_HELP)]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Print the man page, or write one for each command
    Man {
        /// Write fanwire.1, fanwire-pub.1 and so on there
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// Print the version
    Version,
}

/// `fanwire passwd`
#[derive(Debug, Args)]
pub struct PasswdArgs {
    /// Users file (realm.users_file); made if it is not there. - prints a table for the configuration instead
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Name, which the client says as authid
    #[arg(required_unless_present = "list")]
    pub user: Option<String>,
    /// Role of the user's sessions; a user that is there keeps its role without it
    #[arg(long, value_name = "NAME")]
    pub role: Option<String>,
    /// How the user logs in: by ticket, if left out. With --delete: what is removed, in place of the user
    #[arg(long, value_enum)]
    pub method: Option<PasswdMethod>,
    /// Public key of the user, 64 hexadecimal digits; without it --method cryptosign makes a pair and says the private one
    #[arg(long, value_name = "HEX")]
    pub key: Option<String>,
    /// Rounds of PBKDF2 that each login costs the client (wampcra, scram-pbkdf2)
    #[arg(long, value_name = "COUNT")]
    pub rounds: Option<u32>,
    /// Show who is in the file, and how each logs in
    #[arg(long, conflicts_with_all = ["user", "role", "delete", "stdin", "key", "rounds"])]
    pub list: bool,
    /// Remove the user
    #[arg(long, conflicts_with_all = ["role", "stdin", "key", "rounds"])]
    pub delete: bool,
    /// Read the ticket from standard input also where that is a terminal
    #[arg(long)]
    pub stdin: bool,
}

/// What `fanwire passwd` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PasswdMethod {
    /// Secret that is sent as it is; the file has its hash
    Ticket,
    /// WAMP-CRA: the file has a key that is derived from the password
    Wampcra,
    /// WAMP-CRA without a salt, for clients that cannot derive keys: the file has the password itself
    WampcraPlain,
    /// SCRAM with Argon2id: the file has keys that nobody can log in with
    Scram,
    /// SCRAM with PBKDF2, for clients without Argon2
    ScramPbkdf2,
    /// Ed25519 key of the user: the file has the public half
    Cryptosign,
}

/// `fanwire health`
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Ask whether the process answers at all, not whether new clients are welcome
    #[arg(long)]
    pub live: bool,
    /// Ask there, whatever the configuration says
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<SocketAddr>,
    /// Wait so long for the answer, such as 500ms or 10s
    #[arg(short, long, value_name = "TIME", default_value = "5s")]
    pub timeout: String,
    /// The configuration of the router that is asked.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `fanwire reload`
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Only say what would change
    #[arg(long)]
    pub check: bool,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
    /// Ask there, whatever the configuration says
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<SocketAddr>,
    /// Wait so long for the answer, such as 500ms or 10s
    #[arg(short, long, value_name = "TIME", default_value = "30s")]
    pub timeout: String,
    /// The configuration of the router that is asked.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What to do with a hook.
#[derive(Debug, Subcommand)]
pub enum HookCommand {
    /// Send a sample to a hook of the configuration, or to --url: fanwire hook test -c fanwire.toml --event subscribe
    #[command(after_help = HOOK_TEST_HELP)]
    Test(HookTestArgs),
}

/// `fanwire hook test`
#[derive(Debug, Args)]
pub struct HookTestArgs {
    /// About what it is asked; without it the first of its events
    #[arg(long, value_enum)]
    pub event: Option<HookEvent>,
    /// The hook of this name; without it the first one, with --event the first one for that
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Ask there, with everything else at its default, whatever hooks the configuration has
    #[arg(long, value_name = "URL", conflicts_with = "name")]
    pub url: Option<String>,
    /// How --url is asked
    #[arg(long, value_enum, default_value_t = HookBody::Json, requires = "url")]
    pub body: HookBody,
    /// Realm; without it the hook's first, or the configuration's
    #[arg(short, long, value_name = "NAME")]
    pub realm: Option<String>,
    /// Who wants something; "" is nobody
    #[arg(long, value_name = "AUTHID", default_value = "joe")]
    pub authid: String,
    /// In which role; without it the realm's first
    #[arg(long, value_name = "NAME")]
    pub role: Option<String>,
    /// The ticket, for authenticate
    #[arg(long, value_name = "TEXT", default_value = "secret")]
    pub token: String,
    /// The topic, for subscribe and publish; without it one that the hook is asked about
    #[arg(long, value_name = "URI")]
    pub topic: Option<String>,
    /// What is published: a list in JSON
    #[arg(long, value_name = "JSON", default_value = "[\"hello\",1]")]
    pub args: String,
    /// The configuration with the hook.
    #[command(flatten)]
    pub run: RunArgs,
}

/// `fanwire apikey`
#[derive(Debug, Args)]
pub struct ApikeyArgs {
    /// Whose key it is
    pub name: String,
    /// Role whose permissions its publications and calls need
    #[arg(long, value_name = "NAME")]
    pub role: String,
    /// Realm where it may be used; may be given several times
    #[arg(short, long, value_name = "NAME", default_value = "realm1")]
    pub realm: Vec<String>,
    /// What it may be used for
    #[arg(long, value_name = "RIGHTS", value_enum, value_delimiter = ',', default_value = "publish")]
    pub allow: Vec<ApiRight>,
    /// From where it may be used, such as 10.0.0.0/8; may be given several times. Without it from everywhere
    #[arg(long, value_name = "RANGE")]
    pub address: Vec<AddressRange>,
}

/// Where the router's configuration comes from.
#[derive(Debug, Args, Clone, Default)]
pub struct RunArgs {
    /// Configuration file (TOML); without one FANWIRE_CONFIG, else the defaults
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Begin with a configuration that comes with the program; a file, the environment and flags change it
    #[arg(long, value_name = "NAME", value_enum)]
    pub preset: Option<Preset>,
    /// Address of the first listener: an IP address, with or without a port, or unix:/path
    #[arg(short, long, value_name = "ADDRESS")]
    pub bind: Option<String>,
    /// Port of the first listener; 0 takes a free one
    #[arg(short, long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Address of the admin port (health, metrics), or "none"
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// Number of shards (threads that carry connections), or "auto"
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
    /// CPUs to pin the shards to, such as 0-3,8; or "auto"
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<String>,
    /// What a shard waits with: auto, io_uring or epoll
    #[arg(long, value_name = "NAME")]
    pub driver: Option<String>,
    /// Log level: off, error, warn, info, debug, trace, or "info,fanwire_io=debug"
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
    /// Any key of the configuration: --set limits.message=64KiB
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl RunArgs {
    /// As the configuration wants them: `--set` first, so that the short flags win.
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags: Vec<Flag> = self.set.iter().cloned().map(Flag::Set).collect();
        flags.extend(self.bind.clone().map(Flag::Bind));
        flags.extend(self.port.map(Flag::Port));
        for (flag, key, value) in [
            ("--admin", "admin.bind", &self.admin),
            ("--shards", "shards.count", &self.shards),
            ("--cpus", "shards.cpus", &self.cpus),
            ("--driver", "shards.driver", &self.driver),
            ("--log", "log.level", &self.log),
        ] {
            flags.extend(value.clone().map(|value| Flag::Key(flag, key, value)));
        }
        flags
    }
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a file (and the environment): exit 0, or 2 and all that is wrong
    Check {
        /// The file; without one FANWIRE_CONFIG, else the defaults
        file: Option<PathBuf>,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Print what is in effect as TOML, and where each value was written
    Show {
        /// The file; without one FANWIRE_CONFIG, else the defaults
        file: Option<PathBuf>,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Print a file to start from: every key, its default, its meaning
    Default,
    /// Print a configuration that comes with the program, to start from: fanwire config preset echo
    Preset {
        /// Which one
        #[arg(value_enum)]
        name: Preset,
    },
    /// Print the reference of all keys in Markdown, as in docs/configuration.md
    Doc,
}

/// Shells that a completion script can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    // Not documented for clap, as `Serializer`.
    Bash,
    Zsh,
    Fish,
}

/// How the small clients reach a router.
#[derive(Debug, Args, Clone)]
pub struct Connect {
    /// Where the router is; /ws if the URL has no path. wss:// for TLS. A Unix socket: unix:/run/fanwire.sock or unix:/run/fanwire.sock:/ws. RawSocket: rs://HOST:PORT, rss:// for TLS, rs://unix:/run/fanwire.sock
    #[arg(short, long, value_name = "URL", default_value = "ws://127.0.0.1:8080/ws")]
    pub url: String,
    /// File with the authorities to trust for wss://, in PEM; by default those of the system
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Realm to join
    #[arg(short, long, value_name = "NAME", default_value = "realm1")]
    pub realm: String,
    /// Log in as this user, by ticket: from --ticket-file, else FANWIRE_TICKET, else asked for; or by --password-file or --key-file
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// File with the ticket, which the router is sent; on the command line it would show in `ps`
    #[arg(long, value_name = "FILE", requires = "user")]
    pub ticket_file: Option<PathBuf>,
    /// File with the password, or - to be asked for it, else FANWIRE_PASSWORD: log in by SCRAM or WAMP-CRA, without sending it
    #[arg(long, value_name = "FILE", requires = "user", conflicts_with = "ticket_file")]
    pub password_file: Option<PathBuf>,
    /// File with the private key, 64 hexadecimal digits: log in by cryptosign
    #[arg(long, value_name = "FILE", requires = "user", conflicts_with_all = ["ticket_file", "password_file"])]
    pub key_file: Option<PathBuf>,
    /// Serializer to speak
    #[arg(short, long, value_enum, default_value_t = Serializer::Json)]
    pub serializer: Serializer,
    /// Offer compression (permessage-deflate), and compress what is sent
    #[arg(long)]
    pub compression: bool,
}

/// Serializers that the small clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Serializer {
    // Not documented for clap: a line each would make every help twice as long.
    Json,
    Msgpack,
    Cbor,
}

/// Arguments of an event or a call.
#[derive(Debug, Args, Clone)]
pub struct Values {
    /// Each is JSON if it can be read as JSON, else a string
    #[arg(value_name = "ARGS", allow_negative_numbers = true)]
    pub args: Vec<String>,
    /// Keyword argument; V as above
    #[arg(short, long, value_name = "K=V")]
    pub kw: Vec<String>,
}

/// `fanwire slow`
#[derive(Debug, Args)]
pub struct SlowArgs {
    /// The router's admin port (admin.bind)
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub address: std::net::SocketAddr,
    /// How many at most, those with most bytes waiting first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do with connections.
#[derive(Debug, Subcommand)]
pub enum ConnCommand {
    /// List who is connected, in all protocols and realms
    List(ConnListArgs),
}

/// `fanwire conn list`
#[derive(Debug, Args)]
pub struct ConnListArgs {
    /// The router's admin port (admin.bind)
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub address: std::net::SocketAddr,
    /// How many at most; without it all
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<u32>,
    /// Print each as one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// `fanwire pub`
#[derive(Debug, Args)]
pub struct PubArgs {
    /// Topic
    pub topic: String,
    #[command(flatten)]
    pub values: Values,
    /// Publish so many times; without it once, with --rate until Ctrl-C, with - each line
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// Publish so many per second, such as 2, 0.5 or 10k; without it each as soon as the one before is acknowledged
    #[arg(long, value_name = "R")]
    pub rate: Option<String>,
    /// Publish TEXT with {{seq}} (1, 2, …) and {{now_ms}} (Unix time) filled in: as JSON if it is JSON then
    #[arg(long, value_name = "TEXT", conflicts_with = "args")]
    pub template: Option<String>,
    /// Tell the subscribers who publishes
    #[arg(long)]
    pub disclose: bool,
    /// What the event is about: slow subscribers of a topic that conflates get only the newest of each
    #[arg(long, value_name = "KEY")]
    pub conflate_key: Option<String>,
    /// Print each publication as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub connect: Connect,
    // The last: its heading is that of whatever follows.
    #[command(flatten)]
    pub receivers: Receivers,
}

/// Which subscribers get an event. Each may be given several times.
#[derive(Debug, Args, Clone, Default)]
#[command(next_help_heading = "Receivers (each may be given several times)")]
pub struct Receivers {
    /// Not for this session
    #[arg(long, value_name = "ID", value_parser = session_ids())]
    pub exclude: Vec<u64>,
    /// Not for sessions with this authid
    #[arg(long, value_name = "AUTHID")]
    pub exclude_authid: Vec<String>,
    /// Not for sessions with this role
    #[arg(long, value_name = "ROLE")]
    pub exclude_authrole: Vec<String>,
    /// Only for such sessions
    #[arg(long, value_name = "ID", value_parser = session_ids())]
    pub eligible: Vec<u64>,
    /// Only for sessions with such an authid
    #[arg(long, value_name = "AUTHID")]
    pub eligible_authid: Vec<String>,
    /// Only for sessions with such a role
    #[arg(long, value_name = "ROLE")]
    pub eligible_authrole: Vec<String>,
}

fn session_ids() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=fanwire_codec::wamp2::ID_MAX)
}

/// `fanwire sub`
#[derive(Debug, Args)]
pub struct SubArgs {
    /// Topic, or a pattern with --match
    pub topic: String,
    #[command(flatten)]
    pub matching: Matching,
    /// End after so many events; without it at Ctrl-C
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// Print each event as one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Tell each second how many messages came, on standard error
    #[arg(long)]
    pub stats: bool,
    /// Do not print the events
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
    #[command(flatten)]
    pub connect: Connect,
}

/// `fanwire call`
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Procedure
    pub procedure: String,
    #[command(flatten)]
    pub values: Values,
    /// Call so many times, one after the other
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1)]
    pub count: u64,
    /// Wait so long for each answer, such as 500ms or 10s
    #[arg(short, long, value_name = "TIME", default_value = "30s")]
    pub timeout: String,
    /// Tell the callee who calls
    #[arg(long)]
    pub disclose: bool,
    /// Print each answer as one line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub connect: Connect,
}

/// `fanwire register`
#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// Procedure, or a pattern with --match
    pub procedure: String,
    #[command(flatten)]
    pub matching: Matching,
    #[command(flatten)]
    pub answer: Answer,
    /// End after so many calls; without it at Ctrl-C
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// Print each call as one line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub connect: Connect,
}

/// How the URI of a subscription or registration is meant.
#[derive(Debug, Args, Clone, Copy)]
pub struct Matching {
    /// exact: this one; prefix: all that begin with it; wildcard: empty components, as in a..c, stand for any one
    #[arg(long = "match", value_name = "POLICY", default_value = "exact", value_parser = match_policy())]
    pub policy: MatchPolicy,
}

fn match_policy() -> impl TypedValueParser<Value = MatchPolicy> {
    let policies = [MatchPolicy::Exact, MatchPolicy::Prefix, MatchPolicy::Wildcard];
    PossibleValuesParser::new(policies.map(MatchPolicy::name))
        .map(|name| MatchPolicy::from_name(&name).expect("one of these names was given"))
}

/// What a call is answered with.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Answer {
    /// Answer with the call's own arguments
    #[arg(long)]
    pub echo: bool,
    /// Run CMD by the shell: {"procedure":"…","args":[…],"kwargs":{…}} on its standard input, the result from its output
    #[arg(long, value_name = "CMD")]
    pub exec: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default() {
        let cli = Cli::try_parse_from(["fanwire", "--port", "9000", "--set", "a.b=c"]).expect("flags of run");
        assert!(cli.command.is_none());
        assert_eq!(cli.run.port, Some(9000));
        let cli = Cli::try_parse_from(["fanwire", "run", "--shards", "2"]).expect("named");
        assert!(
            matches!(cli.command, Some(Command::Run(RunArgs { shards: Some(count), .. })) if count == "2")
        );
    }

    #[test]
    fn arguments_may_look_like_numbers() {
        let cli = Cli::try_parse_from(["fanwire", "call", "add", "-2", "3.5"]).expect("numbers");
        assert!(matches!(cli.command, Some(Command::Call(call)) if call.values.args == ["-2", "3.5"]));
    }

    /// The words of a line of a shell, as far as the examples go: single quotes, and the end at a comment or a redirection.
    fn words_of(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for character in line.chars().chain([' ']) {
            match character {
                '\'' => quoted = !quoted,
                '#' | '>' if !quoted && word.is_empty() => break,
                ' ' if !quoted && !word.is_empty() => words.push(std::mem::take(&mut word)),
                ' ' if !quoted => {}
                other => word.push(other),
            }
        }
        words
    }

    #[test]
    fn examples_are_understood() {
        let page = include_str!("../docs/cli.md").lines().filter(|line| line.starts_with("    "));
        let help = PUB_HELP.lines().filter(|line| line.starts_with("  "));
        let mut count = 0;
        for line in page.chain(help) {
            let at = line.find("fanwire ").expect("examples are of this program");
            Cli::try_parse_from(words_of(&line[at..])).unwrap_or_else(|error| panic!("{line}\n{error}"));
            count += 1;
        }
        assert!(count >= 16, "{count} examples");
    }

    #[test]
    fn a_template_takes_the_place_of_arguments() {
        let parse = |words: &[&str]| Cli::try_parse_from([&["fanwire", "pub", "a.b"][..], words].concat());
        assert!(parse(&["--template", "{{seq}}", "--kw", "a=1"]).is_ok());
        assert!(parse(&["--template", "{{seq}}", "x"]).is_err());
        let Ok(Cli { command: Some(Command::Pub(args)), .. }) = parse(&["-"]) else { panic!("it is right") };
        assert_eq!(args.values.args, ["-"]);
    }

    #[test]
    fn receivers_are_sessions_authids_and_roles() {
        let parse =
            |words: &[&str]| Cli::try_parse_from([&["fanwire", "pub", "a.b", "x"][..], words].concat());
        let words = ["--exclude", "7", "--exclude", "8", "--eligible-authrole", "staff", "--disclose"];
        let Ok(Cli { command: Some(Command::Pub(args)), .. }) = parse(&words) else { panic!("it is right") };
        assert_eq!(
            (args.receivers.exclude, args.receivers.eligible_authrole),
            (vec![7, 8], vec!["staff".into()])
        );
        assert!(args.disclose && args.receivers.eligible.is_empty());
        for id in ["0", "-1", "x", "9007199254740993"] {
            assert!(parse(&["--eligible", id]).is_err(), "{id}");
        }
    }

    #[test]
    fn register_needs_one_answer() {
        assert!(Cli::try_parse_from(["fanwire", "register", "add"]).is_err());
        assert!(Cli::try_parse_from(["fanwire", "register", "add", "--echo", "--exec", "x"]).is_err());
        assert!(Cli::try_parse_from(["fanwire", "register", "add", "--echo"]).is_ok());
    }
}
