//! The file of a listening Unix socket: how it gets there, who owns it, when it is removed.
//!
//! ```text
//! nothing there ───────────────────────────────▶ bind
//! a socket, and somebody answers ──────────────▶ refuse: in use
//! a socket, and nobody does (a killed process) ▶ remove, bind
//! anything else ───────────────────────────────▶ refuse: not ours to remove
//! ```
//!
//! The folder is locked meanwhile: two routers that start at the same moment would both find a dead socket, and the second
//! would remove what the first has just bound.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::SockAddr;

use crate::listen::{is_alive, unix_socket};

/// The file of a socket of this process. Dropping it removes the file, if it is still this one.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Binds a listening socket at `path`, for whom the permissions `mode` allow.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if somebody listens there, `AlreadyExists` if something else is there, or what the kernel says.
    pub(crate) fn listen(path: &Path, mode: u32, backlog: i32) -> io::Result<(OwnedFd, Self)> {
        let _locked = lock_folder(path)?;
        make_room(path)?;
        // The file gets the mode of the socket, cut by the umask: never more than it should have, at no moment.
        let socket = File::from(OwnedFd::from(unix_socket()?));
        socket.set_permissions(Permissions::from_mode(mode))?;
        let socket = socket2::Socket::from(OwnedFd::from(socket));
        socket.bind(&SockAddr::unix(path)?)?;
        let metadata = fs::symlink_metadata(path)?;
        let file = Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() };
        // What the umask took away.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        socket.listen(backlog)?;
        Ok((socket.into(), file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = |found: &fs::Metadata| (found.dev(), found.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).as_ref().is_ok_and(same) {
            // Whoever removes it in this moment wanted the same.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket file that nobody listens at.
fn make_room(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) if is_alive(path)? => Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path),
    }
}

/// Keeps other routers from this folder until the file is closed.
#[allow(clippy::disallowed_methods, reason = "no shard runs yet")]
fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(folder)?;
    for _ in 0..LOCK_TRIES {
        if folder.try_lock().is_ok() {
            return Ok(folder);
        }
        std::thread::sleep(LOCK_WAIT);
    }
    // Somebody else's lock, for another purpose: a scheduler's, say, that starts us under it.
    Ok(folder)
}

const LOCK_TRIES: u32 = 50;
const LOCK_WAIT: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    /// A folder of its own that is removed in the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("fanwire-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_file_has_its_mode_and_goes_with_the_socket() {
        let folder = Folder::new("mode");
        let path = folder.0.join("a.sock");
        for mode in [0o660, 0o600, 0o666] {
            let (socket, file) = SocketFile::listen(&path, mode, 8).unwrap();
            assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, mode);
            UnixStream::connect(&path).unwrap();
            drop((file, socket));
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = Folder::new("dead");
        let path = folder.0.join("a.sock");
        // The standard library leaves the file behind.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_socket, _file) = SocketFile::listen(&path, 0o600, 8).unwrap();
        let error = SocketFile::listen(&path, 0o600, 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_stream_socket_of_a_dead_process_stays() {
        let folder = Folder::new("other");
        let path = folder.0.join("file");
        fs::write(&path, "precious").unwrap();
        let link = folder.0.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for path in [&path, &link] {
            let error = SocketFile::listen(path, 0o600, 8).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let path = folder.0.join("datagrams");
        let _other = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert_eq!(SocketFile::listen(&path, 0o600, 8).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_file_of_somebody_else_by_then_is_left_alone() {
        let folder = Folder::new("successor");
        let path = folder.0.join("a.sock");
        let (_socket, file) = SocketFile::listen(&path, 0o600, 8).unwrap();
        // Kept until the end, or its inode might be used again at once.
        fs::rename(&path, folder.0.join("kept")).unwrap();
        let _successor = UnixListener::bind(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn of_many_that_start_at_once_over_a_dead_socket_one_listens() {
        let folder = Folder::new("race");
        let path = folder.0.join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| SocketFile::listen(&path, 0o600, 8))).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        UnixStream::connect(&path).unwrap();
    }
}
