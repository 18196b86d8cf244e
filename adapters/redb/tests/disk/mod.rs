//! A disk in memory that fails when it is told to, and knows what would be left of it after a
//! loss of power.

use std::io;
use std::sync::{Arc, Mutex};

use kvjob_redb::redb::StorageBackend;

/// What fails from now on, with "no space left".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Failing {
    #[default]
    Nothing,
    /// Every write, growth and sync after this many.
    After(usize),
    Growth,
    Syncs,
}

#[derive(Debug, Default)]
struct State {
    data: Vec<u8>,
    /// What the changes since the last sync replaced, in their order.
    undo: Vec<Undo>,
    failing: Failing,
    syncs: usize,
}

#[derive(Debug)]
enum Undo {
    Write { offset: usize, before: Vec<u8> },
    Length { before: usize, cut: Vec<u8> },
}

/// A handle on the disk; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(crate) fn fail(&self, failing: Failing) {
        self.0.lock().unwrap().failing = failing;
    }

    pub(crate) fn syncs(&self) -> usize {
        self.0.lock().unwrap().syncs
    }

    /// Whether it stopped failing after some, because that many were never reached.
    pub(crate) fn never_failed(&self) -> bool {
        matches!(self.0.lock().unwrap().failing, Failing::After(left) if left > 0)
    }

    /// A healthy disk with everything that was written.
    pub(crate) fn after_kill(&self) -> Self {
        let data = self.0.lock().unwrap().data.clone();
        Self::of(data)
    }

    /// A healthy disk with nothing but what was synced.
    pub(crate) fn after_power_loss(&self) -> Self {
        let state = self.0.lock().unwrap();
        let mut data = state.data.clone();
        for undo in state.undo.iter().rev() {
            match undo {
                Undo::Write { offset, before } => {
                    data[*offset..*offset + before.len()].copy_from_slice(before);
                }
                Undo::Length { before, cut } => {
                    data.resize(*before, 0);
                    let end = data.len() - cut.len();
                    data[end..].copy_from_slice(cut);
                }
            }
        }
        Self::of(data)
    }

    fn of(data: Vec<u8>) -> Self {
        let state = State {
            data,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }
}

impl State {
    fn checked(&mut self, growth: bool, sync: bool) -> io::Result<()> {
        let fails = match &mut self.failing {
            Failing::Nothing => false,
            Failing::After(0) => true,
            Failing::After(left) => {
                *left -= 1;
                false
            }
            Failing::Growth => growth,
            Failing::Syncs => sync,
        };
        if fails {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "No space left on device",
            ));
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().data.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let state = self.0.lock().unwrap();
        let end = offset + out.len();
        let found = state.data.get(offset..end);
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap();
        let mut state = self.0.lock().unwrap();
        let before = state.data.len();
        state.checked(len > before, false)?;
        let cut = state.data.get(len..).unwrap_or_default().to_vec();
        state.undo.push(Undo::Length { before, cut });
        state.data.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.checked(false, true)?;
        state.undo.clear();
        state.syncs += 1;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let mut state = self.0.lock().unwrap();
        state.checked(false, false)?;
        let end = offset + data.len();
        let before = state.data[offset..end].to_vec();
        state.undo.push(Undo::Write { offset, before });
        state.data[offset..end].copy_from_slice(data);
        Ok(())
    }
}
