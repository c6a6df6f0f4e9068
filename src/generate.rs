//! What other programs read about the command line: completions for shells, man pages.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::shells;

use crate::cli::{Cli, Shell};

const NAME: &str = "fanwire";

/// `fanwire completion SHELL`: a script for that shell.
pub fn completion(shell: Shell) -> Vec<u8> {
    let mut command = Cli::command();
    let mut script = Vec::new();
    match shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, NAME, &mut script),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, NAME, &mut script),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, NAME, &mut script),
    }
    script
}

/// `fanwire man`: the page of the whole program.
pub fn man_page() -> Vec<u8> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).expect("writing to memory succeeds");
    page
}

/// `fanwire man DIR`: a page for the program and one for each command, such as `fanwire-config-check.1`.
pub fn man_pages(folder: &Path) -> Result<(), String> {
    let wrong = |error: io::Error| format!("cannot write man pages to {}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(wrong)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_gets_a_script_of_its_own() {
        let script = |shell| String::from_utf8(completion(shell)).expect("UTF-8");
        assert!(script(Shell::Bash).contains("complete -F _fanwire"));
        assert!(script(Shell::Zsh).starts_with("#compdef fanwire\n"));
        assert!(script(Shell::Fish).contains("complete -c fanwire"));
    }

    #[test]
    fn the_man_page_names_every_command() {
        let page = String::from_utf8(man_page()).expect("UTF-8").replace('\\', "");
        for command in Cli::command().get_subcommands() {
            let name = format!("fanwire-{}(1)", command.get_name());
            assert!(page.contains(&name), "{name} is missing in\n{page}");
        }
    }
}
