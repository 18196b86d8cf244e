//! A lock on a file of ours: keeps a second process, or a second handle in this one, from opening
//! what only one may write; or what those have open who share it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::env;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, ErrorKind, Result};

/// A lock of the operating system, on a file beside the one it protects: `jobs.redb.lock` for
/// `jobs.redb`. One holds it [alone](Self::acquire), or several [share](Self::share) it. It is
/// released when dropped, and by the operating system when the process ends, however it ends.
///
/// The lock file says who holds it alone: process id and program name, for the message a second
/// opener gets. (Not the whole command line, which may hold passwords.) It stays behind when the
/// lock is released, empty: removing it would let two processes lock two files of the same name.
#[derive(Debug)]
pub struct FileLock {
    /// What stands in [`held`].
    path: PathBuf,
}

/// A lock file that this process holds.
#[derive(Debug)]
enum Held {
    Alone(File),
    /// By so many handles. On some file systems a process that closes any handle of a file loses
    /// its locks on it, so they have one file.
    Shared(File, usize),
}

/// The lock files this process holds. The operating system refuses a second handle of the same
/// process on most file systems, but not on all, and the process id does not tell this process
/// from process 1 of another container.
fn held() -> MutexGuard<'static, BTreeMap<PathBuf, Held>> {
    static HELD: Mutex<BTreeMap<PathBuf, Held>> = Mutex::new(BTreeMap::new());
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long those who share wait for one who prepares.
const PATIENCE: Duration = Duration::from_secs(10);

impl FileLock {
    /// Locks `path`, or says who has it. Does not wait, and does not touch `path` itself, which
    /// need not exist; its directory must.
    ///
    /// # Errors
    /// [`InUse`](ErrorKind::InUse) if somebody holds it;
    /// [`Unsupported`](ErrorKind::Unsupported) if the file system has no locks;
    /// [`Backend`](ErrorKind::Backend) if the lock file cannot be opened.
    pub fn acquire(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let lock_path = lock_path(path);
        let mut held = held();
        // Before opening it: on some file systems a process that closes any handle of a file
        // loses its locks on it.
        if lock_path
            .canonicalize()
            .is_ok_and(|path| held.contains_key(&path))
        {
            return Err(already_open(path));
        }
        let mut file = open(path, &lock_path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(path, &mut file)),
            Err(TryLockError::Error(error)) => return Err(cannot_lock(&lock_path, error)),
        }
        // Only for the message others get: failing to write it (a full disk) is no reason not to
        // open the store.
        let _ = sign(&mut file);
        let path = lock_path.canonicalize().unwrap_or(lock_path);
        held.insert(path.clone(), Held::Alone(file));
        Ok(Self { path })
    }

    /// Locks `path` together with all who share it, also within this process, or says who has it
    /// alone. Whoever is the first runs `prepare`, alone; the others wait for it, some seconds at
    /// most. If that process dies meanwhile the next one need not run it again: make sure
    /// afterwards that what must be there is.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and what `prepare` says.
    pub fn share(path: impl AsRef<Path>, mut prepare: impl FnMut() -> Result<()>) -> Result<Self> {
        let path = path.as_ref();
        let lock_path = lock_path(path);
        if let Ok(real) = lock_path.canonicalize() {
            match held().get_mut(&real) {
                Some(Held::Alone(_)) => return Err(already_open(path)),
                Some(Held::Shared(_, holders)) => {
                    *holders += 1;
                    return Ok(Self { path: real });
                }
                None => {}
            }
        }
        let mut file = open(path, &lock_path)?;
        let mut prepared = false;
        let begin = Instant::now();
        loop {
            if !prepared && locked(file.try_lock(), &lock_path)? {
                // What a process that was killed said of itself.
                let _ = file.set_len(0);
                prepare()?;
                prepared = true;
                // To turn one lock into the other is not possible everywhere.
                file.unlock()
                    .map_err(|error| cannot_lock(&lock_path, error))?;
            }
            if locked(file.try_lock_shared(), &lock_path)? {
                break;
            }
            // Only who holds it alone for long has signed.
            if is_signed(&file) || begin.elapsed() > PATIENCE {
                return Err(in_use(path, &mut file));
            }
            thread::sleep(Duration::from_millis(5));
        }
        let path = lock_path.canonicalize().unwrap_or(lock_path);
        match held().entry(path.clone()) {
            // Another thread was faster.
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Held::Shared(_, holders) => *holders += 1,
                Held::Alone(_) => return Err(already_open(&path)),
            },
            Entry::Vacant(entry) => {
                entry.insert(Held::Shared(file, 1));
            }
        }
        Ok(Self { path })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Both under the guard, so that a thread which opens it next sees both gone.
        let mut held = held();
        match held.get_mut(&self.path) {
            Some(Held::Shared(_, holders)) if *holders > 1 => *holders -= 1,
            Some(Held::Shared(file, _)) => {
                let _ = file.unlock();
                held.remove(&self.path);
            }
            Some(Held::Alone(file)) => {
                let _ = file.set_len(0);
                let _ = file.unlock();
                held.remove(&self.path);
            }
            None => {}
        }
    }
}

fn already_open(path: &Path) -> Error {
    let message = format!(
        "{} is already open in this process: open it once and share the store",
        path.display()
    );
    Error::new(ErrorKind::InUse, message)
}

fn open(path: &Path, lock_path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(lock_path)
        .map_err(|error| cannot_open(path, lock_path, error))
}

/// Whether the lock was had.
fn locked(outcome: Result<(), TryLockError>, lock_path: &Path) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(cannot_lock(lock_path, error)),
    }
}

fn is_signed(file: &File) -> bool {
    // Where locks keep others from reading, it is as good as signed.
    file.metadata().map_or(true, |metadata| metadata.len() > 0)
}

fn lock_path(path: &Path) -> PathBuf {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    lock_path.into()
}

fn sign(file: &mut File) -> io::Result<()> {
    let program = env::args_os().next().map(PathBuf::from);
    let program = program.as_deref().and_then(Path::file_name);
    let program = program.unwrap_or_default().to_string_lossy();
    file.set_len(0)?;
    file.write_all(format!("{}\n{program}\n", process::id()).as_bytes())
}

fn in_use(path: &Path, file: &mut File) -> Error {
    let mut message = format!("{} is in use by ", path.display());
    let mut signed = String::new();
    // Fails where locks keep others from reading, too.
    let _ = file.take(4096).read_to_string(&mut signed);
    let mut lines = signed.lines();
    match lines.next().and_then(|pid| pid.parse::<u32>().ok()) {
        Some(pid) => {
            let _ = write!(message, "process {pid}");
            if let Some(program) = lines.next().filter(|program| !program.is_empty()) {
                let _ = write!(message, " ({program})");
            }
        }
        None => message.push_str("another process, or by several that share it"),
    }
    message.push_str(": only one may have it open; stop that one, or choose another path");
    Error::new(ErrorKind::InUse, message)
}

fn cannot_open(path: &Path, lock_path: &Path, error: io::Error) -> Error {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let what = match error.kind() {
        io::ErrorKind::NotFound => format!(
            "the directory {} does not exist; create it, or choose another path",
            directory.display()
        ),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => format!(
            "{error}; this process must be allowed to write in the directory {}",
            directory.display()
        ),
        _ => error.to_string(),
    };
    let message = format!(
        "cannot open {}: its lock file {} cannot be opened: {what}",
        path.display(),
        lock_path.display()
    );
    Error::new(ErrorKind::Backend, message).with_source(error)
}

fn cannot_lock(lock_path: &Path, error: io::Error) -> Error {
    let message = format!(
        "cannot lock {}: {error}; put the store on a local disk, whose file system has locks",
        lock_path.display()
    );
    Error::new(ErrorKind::Unsupported, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_share_it_keep_out_whoever_wants_it_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs");
        let mut prepared = 0;
        let mut share = || {
            FileLock::share(&path, || {
                prepared += 1;
                Ok(())
            })
        };
        let [first, second] = [share().unwrap(), share().unwrap()];
        for left in [first, second] {
            let error = FileLock::acquire(&path).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::InUse);
            drop(left);
        }
        let alone = FileLock::acquire(&path).unwrap();
        let error = share().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InUse);
        drop(alone);
        share().unwrap();
        assert_eq!(prepared, 2, "by the first of each time");
    }

    #[test]
    fn another_process_that_has_it_alone_is_named_to_those_who_would_share() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs");
        let mut other = File::create(lock_path(&path)).unwrap();
        other.try_lock().unwrap();
        other.write_all(b"4711\nkvjob\n").unwrap();
        let error = FileLock::share(&path, || Ok(())).unwrap_err();
        assert!(error.to_string().contains("process 4711"), "{error}");
        // While it does not say so it may be about to let others in.
        other.set_len(0).unwrap();
        let waiting = std::thread::spawn(move || FileLock::share(&path, || Ok(())).map(drop));
        other.unlock().unwrap();
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn what_cannot_be_prepared_is_not_shared() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs");
        let failed = || Err(Error::new(ErrorKind::Backend, "no"));
        let error = FileLock::share(&path, failed).unwrap_err();
        assert_eq!(error.to_string(), "no");
        FileLock::acquire(&path).unwrap();
    }

    #[test]
    fn a_second_opener_in_this_process_is_refused_until_the_first_lets_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs");
        let first = FileLock::acquire(&path).unwrap();
        let error = FileLock::acquire(&path).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InUse);
        assert!(error.to_string().contains("in this process"), "{error}");
        drop(first);
        FileLock::acquire(&path).unwrap();
        assert!(!path.exists(), "what it protects is not touched");
    }

    #[test]
    fn who_holds_it_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs");
        // Another handle of the operating system's lock, as another process would hold it.
        let mut other = File::create(lock_path(&path)).unwrap();
        other.try_lock().unwrap();
        other.write_all(b"4711\nkvjob\n").unwrap();
        let error = FileLock::acquire(&path).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InUse);
        let message = error.to_string();
        assert!(message.contains("process 4711 (kvjob)"), "{message}");
        assert!(message.contains("choose another path"), "{message}");
    }

    #[test]
    fn a_holder_that_has_not_signed_yet_is_another_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs");
        let other = File::create(lock_path(&path)).unwrap();
        other.try_lock().unwrap();
        let error = FileLock::acquire(&path).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
    }

    #[test]
    fn the_lock_file_says_who_holds_it_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let lock = FileLock::acquire(directory.path().join("jobs")).unwrap();
        let signed = std::fs::read_to_string(lock.path()).unwrap();
        assert_eq!(signed.lines().next(), Some(&*process::id().to_string()));
        assert_eq!(signed.lines().count(), 2, "{signed}");
    }

    #[test]
    fn a_missing_directory_is_named_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let error = FileLock::acquire(directory.path().join("nowhere/jobs")).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("nowhere does not exist"), "{message}");
        assert!(message.contains("create it"), "{message}");
    }
}
