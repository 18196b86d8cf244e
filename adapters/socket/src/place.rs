//! Where the socket stands in the file system, and how it gets there for its owner alone.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use kvjob::kv::{Error, ErrorKind, Result};

/// The socket of the store at this path: `jobs.redb.sock` for `jobs.redb`, whichever way one comes
/// to that file.
pub fn path_beside(store: impl AsRef<Path>) -> PathBuf {
    let store = store.as_ref();
    // What is not there has no other name, and no socket either.
    let store = store.canonicalize().unwrap_or_else(|_| store.to_owned());
    with_ending(&store, ".sock")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A path as the system takes it for a socket: about a hundred bytes at most.
pub(crate) struct Short {
    pub(crate) path: PathBuf,
    /// What the path leads through.
    _directory: Option<File>,
}

impl Short {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let fits = |path: &Path| SocketAddr::from_pathname(path).is_ok();
        if fits(path) {
            return Ok(Self {
                path: path.to_owned(),
                _directory: None,
            });
        }
        // A long directory is passed by where the system names open files.
        let opened = path
            .parent()
            .zip(path.file_name())
            .and_then(|(parent, name)| {
                let directory = File::open(parent).ok()?;
                let through = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
                let path = through.join(name);
                (fits(&path) && through.exists()).then_some((path, directory))
            });
        match opened {
            Some((path, directory)) => Ok(Self {
                path,
                _directory: Some(directory),
            }),
            None => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the path of the socket {} is too long for this system; choose a shorter one for the store",
                    path.display()
                ),
            )),
        }
    }
}

/// A socket that was bound. Dropped, it goes, unless another took its place.
#[derive(Debug)]
pub(crate) struct Bound {
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

impl Bound {
    /// Binds `path`, in place of a socket that a process left there which is gone. Only for whoever
    /// holds the store's lock.
    pub(crate) fn bind(path: &Path) -> Result<(Self, UnixListener)> {
        let failed = |error: io::Error| {
            let message = format!("cannot listen on {}: {error}", path.display());
            Error::new(ErrorKind::Backend, message).with_source(error)
        };
        // Those who come must be able to name it, too.
        Short::of(path)?;
        match path.symlink_metadata() {
            Ok(there) if !there.file_type().is_socket() => {
                let message = format!(
                    "cannot listen on {}: what is there is no socket; move it away",
                    path.display()
                );
                return Err(Error::new(ErrorKind::Backend, message));
            }
            _ => {}
        }
        // The mode a socket is born with depends on the whole process's umask: so it is born where
        // nobody else can go, and moved once it is its owner's alone.
        let nursery = with_ending(path, ".new");
        let born = nursery.join("s");
        let clean = || {
            let _ = fs::remove_file(&born);
            let _ = fs::remove_dir(&nursery);
        };
        clean();
        DirBuilder::new()
            .mode(0o700)
            .create(&nursery)
            .map_err(failed)?;
        let bound = Short::of(&born).and_then(|short| {
            let bind = || {
                let listener = UnixListener::bind(&short.path)?;
                listener.set_nonblocking(true)?;
                fs::set_permissions(&born, Permissions::from_mode(0o600))?;
                let file = identity(&born)?;
                fs::rename(&born, path)?;
                let path = path.to_owned();
                Ok((Self { path, file }, listener))
            };
            bind().map_err(failed)
        });
        clean();
        bound
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|there| there == self.file) {
            // What stays behind is replaced by the next one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let there = path.symlink_metadata()?;
    Ok((there.dev(), there.ino()))
}

/// Whether the one at the other end of a socket is our user.
pub(crate) fn is_ours(stream: &tokio::net::UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own)
}
