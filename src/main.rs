//! Fanwire: a real-time message router. This crate is the command line, the configuration and the start; what a message
//! means is in `fanwire-core`, when bytes move in `fanwire-io`.

mod allocator;
mod apikey;
mod ask_admin;
mod certificates;
mod cli;
mod client;
mod config;
mod generate;
mod hook_test;
mod limits;
mod log;
mod notify;
mod port_owner;
mod prompt;
mod refusal;
mod reload;
mod run;
mod users;
mod wiring;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, ConfigCommand, ConnCommand, HookCommand, PasswdArgs, RunArgs};
use crate::config::presets::Preset;
use crate::config::{Loaded, Problems, Sources};

/// Names the configuration file where no flag does. One underscore: it is no key.
const CONFIG_VARIABLE: &str = "FANWIRE_CONFIG";
/// Bad usage, bad configuration.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => return start(&cli.run),
        Some(Command::Run(run)) => return start(&run),
        Some(Command::Config(ConfigCommand::Check { file, run })) => return check(file, &run),
        Some(Command::Config(ConfigCommand::Show { file, run })) => return show(file, &run),
        Some(Command::Config(ConfigCommand::Default)) => return print(&config::reference::default_file()),
        Some(Command::Config(ConfigCommand::Preset { name })) => return print(name.text()),
        Some(Command::Config(ConfigCommand::Doc)) => return print(&config::reference::markdown()),
        Some(Command::Completion { shell }) => return print_bytes(&generate::completion(shell)),
        Some(Command::Man { folder: None }) => return print_bytes(&generate::man_page()),
        Some(Command::Man { folder: Some(folder) }) => return man_pages(&folder),
        Some(Command::Version) => return print(concat!("fanwire ", env!("CARGO_PKG_VERSION"), "\n")),
        Some(Command::Health(args)) => return ask_admin::health(&args, &sources(None, &args.run)),
        Some(Command::Hook(HookCommand::Test(args))) => {
            return hook_test::hook_test(&args, &sources(None, &args.run));
        }
        Some(Command::Passwd(args)) => return passwd(&args),
        Some(Command::Apikey(args)) => {
            let (key, table) = apikey::apikey(&args);
            eprintln!("key of {}, shown this once: {key}", args.name);
            return print(&table);
        }
        Some(Command::Pub(args)) => client::publish(&args),
        Some(Command::Sub(args)) => client::subscribe(&args),
        Some(Command::Call(args)) => client::call(&args),
        Some(Command::Register(args)) => client::register(&args),
        Some(Command::Slow(args)) => client::slow(&args),
        Some(Command::Conn(ConnCommand::List(args))) => client::list_connections(&args),
        Some(Command::Reload(args)) => return ask_admin::reload(&args, &sources(None, &args.run)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(client::Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_status())
        }
    }
}

fn start(args: &RunArgs) -> ExitCode {
    let sources = sources(None, args);
    match sources.load() {
        Ok(loaded) => run::run(loaded, sources),
        Err(problems) => refuse(&problems),
    }
}

fn check(file: Option<PathBuf>, args: &RunArgs) -> ExitCode {
    let sources = sources(file, args);
    match sources.load() {
        Ok(Loaded { config, warnings, .. }) => {
            for words in warnings {
                eprintln!("warning: {words}");
            }
            let without = || sources.preset.map_or("no file, the defaults", Preset::place).to_owned();
            let name = sources.file.as_ref().map_or_else(without, |file| file.display().to_string());
            let listeners: Vec<String> =
                config.listener.iter().map(|listener| listener.bind.to_string()).collect();
            let realms: Vec<&str> = config.realm.iter().map(|realm| realm.name.as_str()).collect();
            print(&format!(
                "{name}: ok (listens at {}; realms {})\n",
                listeners.join(", "),
                realms.join(", ")
            ))
        }
        Err(problems) => refuse(&problems),
    }
}

fn show(file: Option<PathBuf>, args: &RunArgs) -> ExitCode {
    match sources(file, args).load() {
        Ok(loaded) => print(&config::show::show(&loaded)),
        Err(problems) => refuse(&problems),
    }
}

fn sources(file: Option<PathBuf>, args: &RunArgs) -> Sources {
    let named = std::env::var_os(CONFIG_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
    Sources {
        preset: args.preset,
        file: file.or_else(|| args.config.clone()).or(named),
        environment: Sources::from_process_environment(),
        flags: args.flags(),
    }
}

fn refuse(problems: &Problems) -> ExitCode {
    eprintln!("{problems}");
    ExitCode::from(EXIT_USAGE)
}

fn passwd(args: &PasswdArgs) -> ExitCode {
    match users::passwd::passwd(args) {
        Ok(words) => print(&format!("{words}\n")),
        Err(words) => {
            eprintln!("error: {words}");
            ExitCode::FAILURE
        }
    }
}

fn man_pages(folder: &Path) -> ExitCode {
    match generate::man_pages(folder) {
        Ok(()) => {
            eprintln!("man pages are in {0}; to read one: man {0}/fanwire.1", folder.display());
            ExitCode::SUCCESS
        }
        Err(words) => {
            eprintln!("error: {words}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    print_bytes(text.as_bytes())
}

/// To standard output; whoever reads it may have gone.
fn print_bytes(bytes: &[u8]) -> ExitCode {
    use std::io::Write;
    _ = std::io::stdout().write_all(bytes);
    ExitCode::SUCCESS
}
