//! A place for a test's files.

use std::path::PathBuf;

/// A folder that lasts as long as the value.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty folder; `name` keeps it apart from those of other tests.
    pub fn new(name: &str) -> Self {
        let name = name.replace('/', "-");
        let path = std::env::temp_dir().join(format!("fanwire-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a writable temporary folder");
        Self(path)
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Writes a file that its owner alone may read, and gives its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a writable temporary folder");
        let owner_alone = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, owner_alone).expect("our own file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
