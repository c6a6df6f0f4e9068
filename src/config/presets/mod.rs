//! Configurations that come with the program: texts to try something with one flag, and to start from.
//!
//! A preset is laid over the defaults, below the file: `defaults → preset → file → environment → flags`.

use clap::ValueEnum;

/// A configuration that comes with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// A live room at port 1234, with Redis
    Echo,
    /// A message center at port 6790, its API at 6789
    MessageCenter,
}

impl Preset {
    /// What it says, in TOML.
    pub fn text(self) -> &'static str {
        match self {
            Self::Echo => include_str!("echo.toml"),
            Self::MessageCenter => include_str!("message-center.toml"),
        }
    }

    /// What it is called where the place of a value is told.
    pub fn place(self) -> &'static str {
        match self {
            Self::Echo => "preset echo",
            Self::MessageCenter => "preset message-center",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flag, Sources};

    #[test]
    fn presets_can_be_started_and_flags_change_them() {
        for preset in Preset::value_variants() {
            let sources = Sources { preset: Some(*preset), ..Sources::default() };
            let loaded = sources.load().unwrap_or_else(|problems| panic!("{preset:?}: {problems}"));
            assert!(!loaded.config.listener[0].bind.is_local(), "{preset:?}");
            let flags = vec![Flag::Port(9_999), Flag::Set("echo.template={payload}".to_owned())];
            let changed = Sources { flags, ..sources }.load().expect("right");
            assert_eq!(changed.config.listener[0].bind.to_string(), "0.0.0.0:9999");
            assert_eq!(changed.config.echo.template, "{payload}");
        }
    }

    #[test]
    fn a_file_is_laid_over_a_preset() {
        let folder = std::env::temp_dir().join(format!("fanwire-preset-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        let file = folder.join("fanwire.toml");
        std::fs::write(&file, "[echo]\ninclude_sender = false\n").expect("it is writable");
        let sources = Sources { preset: Some(Preset::Echo), file: Some(file), ..Sources::default() };
        let loaded = sources.load().expect("right");
        assert!(!loaded.config.echo.include_sender && loaded.config.echo.template == "RECEIVED: {payload}");
        assert_eq!(loaded.config.bridge[0].map.len(), 1);
        let shown = loaded.origins.place("listener.0.bind").to_string();
        assert!(shown.contains("preset echo"), "{shown}");
        std::fs::remove_dir_all(&folder).expect("it is there");
    }
}
