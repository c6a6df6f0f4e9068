//! A handler's file, with the modules beside it, as they were when they were read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use super::LuaLimits;

/// What one script and its modules may have. People write them.
const BYTES_MAX: usize = 4 << 20;
/// How long its top level may take; what is Lua in it ends long before.
const CHECK_TIME: Duration = Duration::from_secs(60);

/// A script, read and compiled once, so that all that run it run the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Where it is.
    pub path: PathBuf,
    pub(super) source: Arc<str>,
    /// By the names with which they are required.
    pub(super) modules: Arc<BTreeMap<String, Arc<str>>>,
}

/// A script that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// Where the mistake is.
    pub path: PathBuf,
    /// What is wrong; begins with the file's name and the line where Lua knows it.
    pub words: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.words)
    }
}

impl Script {
    /// Reads a file, runs its top level once, and keeps it with all that it requires.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is no Lua, fails at its top level, or handles nothing.
    /// Its top level runs with what it will find: these limits, and these options.
    pub fn read(
        path: &Path,
        limits: &LuaLimits,
        options: &BTreeMap<String, String>,
    ) -> Result<Self, ScriptError> {
        let error = |words: String| ScriptError { path: path.to_owned(), words };
        let source = read_text(path).map_err(error)?;
        let script = Self { path: path.to_owned(), source: source.into(), modules: Arc::default() };
        let (checked, limits, options) = (script.clone(), limits.clone(), options.clone());
        // On a thread of its own: a call into Lua's library that does not end keeps that one alone.
        let (sender, receiver) = mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("fanwire-lua-read".into())
            .spawn(move || _ = sender.send(super::vm::check(&checked, &limits, &options)))
            .map_err(|why| error(format!("there is no thread to run it: {why}")))?;
        let modules =
            receiver.recv_timeout(CHECK_TIME).map_err(|_| error("its top level does not end".into()))?;
        let modules = modules.map_err(error)?;
        Ok(Self { modules: Arc::new(modules), ..script })
    }

    /// The name of its file, for messages.
    pub(super) fn name(&self) -> String {
        self.path.file_name().map_or_else(|| "?".into(), |name| name.to_string_lossy().into_owned())
    }

    /// Where the module of this name is: beside the script, a dot for each folder.
    fn module_path(&self, name: &str) -> Option<PathBuf> {
        let is_plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        };
        if !name.split(['.', '/']).all(is_plain) {
            return None;
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        Some(folder.join(format!("{}.lua", name.replace('.', "/"))))
    }

    /// The text of a module, from what was read with the script, else from its file.
    pub(super) fn module(&self, name: &str) -> Result<Arc<str>, String> {
        if let Some(text) = self.modules.get(name) {
            return Ok(Arc::clone(text));
        }
        // For the look of what is printed, which here is the log: `print` shows tables by itself.
        if matches!(name, "prettyprint" | "utils.prettyprint") {
            return Ok("".into());
        }
        let path = self.module_path(name).ok_or_else(|| format!("{name:?} is no name of a module"))?;
        read_text(&path)
            .map(Arc::from)
            .map_err(|words| format!("module {name:?}: {}: {words}", path.display()))
    }

    /// Whether both are made of the same files.
    pub(super) fn has_the_files_of(&self, other: &Self) -> bool {
        self.path == other.path && self.modules.keys().eq(other.modules.keys())
    }

    /// When each of its files was written, and how long it is: another value, another script.
    pub(super) fn stamp(&self) -> Stamp {
        let modules = self.modules.keys().filter_map(|name| self.module_path(name));
        let files = std::iter::once(self.path.clone()).chain(modules);
        files
            .map(|path| std::fs::metadata(path).and_then(|file| Ok((file.modified()?, file.len()))).ok())
            .collect()
    }
}

/// Of each file, while it is there.
pub(super) type Stamp = Vec<Option<(SystemTime, u64)>>;

fn read_text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > BYTES_MAX {
        return Err(format!("{} bytes are more than {BYTES_MAX}", bytes.len()));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}
