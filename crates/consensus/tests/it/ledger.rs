//! A state machine for the tests: it remembers every command in order, in memory, and in a file when flushed.

// The crate's own tests take it in as well.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, BufMut, Bytes};
use forebay_consensus::{Batch, Flush, StateMachine, StateMachineError};
use parking_lot::Mutex;

/// What was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    pub applied: Option<Bytes>,
    pub commands: Vec<Bytes>,
}

/// The state machine; clones are views of the same one.
#[derive(Clone, Default)]
pub struct Ledger {
    pages: Arc<Mutex<Pages>>,
    file: Option<PathBuf>,
    pub applies: Arc<AtomicUsize>,
    pub flushes: Arc<AtomicUsize>,
    pub installs: Arc<AtomicUsize>,
    /// Milliseconds that an installation takes longer.
    pub install_takes_ms: Arc<AtomicUsize>,
}

impl Ledger {
    /// One that forgets all at the end of the process.
    pub fn in_memory() -> Ledger {
        Ledger::default()
    }

    /// One that comes back as it was last flushed to `file`.
    pub fn at(file: &Path) -> Ledger {
        let pages = fs::read(file).map_or_else(|_| Pages::default(), |bytes| decode(bytes.into()));
        Ledger { pages: Arc::new(Mutex::new(pages)), file: Some(file.to_owned()), ..Ledger::default() }
    }

    /// The commands applied so far.
    pub fn commands(&self) -> Vec<Bytes> {
        self.pages.lock().commands.clone()
    }

    pub fn boxed(&self) -> Box<dyn StateMachine> {
        Box::new(self.clone())
    }
}

impl StateMachine for Ledger {
    /// The reply is the number of commands before this one, and the command itself.
    fn apply(&mut self, batch: Batch<'_>) -> Result<Vec<Bytes>, StateMachineError> {
        self.applies.fetch_add(1, Ordering::Relaxed);
        let mut pages = self.pages.lock();
        let mut replies = Vec::new();
        for entry in batch.entries {
            if &entry.command[..] == b"poison" {
                return Err(StateMachineError::new("it was poisoned"));
            }
            replies.push(reply(pages.commands.len(), &entry.command));
            pages.commands.push(entry.command.clone());
        }
        pages.applied = Some(batch.applied.clone());
        Ok(replies)
    }

    fn applied(&self) -> Result<Option<Bytes>, StateMachineError> {
        Ok(self.pages.lock().applied.clone())
    }

    fn flusher(&self) -> Arc<dyn Flush> {
        Arc::new(self.clone())
    }

    fn checkpoint(&self, target: &Path) -> Result<Option<Bytes>, StateMachineError> {
        let pages = self.pages.lock().clone();
        fs::create_dir(target).map_err(StateMachineError::new)?;
        fs::write(target.join("pages"), encode(&pages)).map_err(StateMachineError::new)?;
        Ok(pages.applied)
    }

    fn install(&mut self, source: &Path) -> Result<(), StateMachineError> {
        let bytes = fs::read(source.join("pages")).map_err(StateMachineError::new)?;
        std::thread::sleep(std::time::Duration::from_millis(self.install_takes_ms.load(Ordering::Relaxed) as u64));
        *self.pages.lock() = decode(bytes.into());
        self.installs.fetch_add(1, Ordering::Relaxed);
        self.flush().map(drop)
    }
}

impl Flush for Ledger {
    fn flush(&self) -> Result<Option<Bytes>, StateMachineError> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        let pages = self.pages.lock().clone();
        if let Some(file) = &self.file {
            let temporary = file.with_extension("tmp");
            fs::write(&temporary, encode(&pages)).map_err(StateMachineError::new)?;
            fs::rename(&temporary, file).map_err(StateMachineError::new)?;
        }
        Ok(pages.applied)
    }
}

/// What [`Ledger`] answers to the command that comes after `before` others.
pub fn reply(before: usize, command: &Bytes) -> Bytes {
    let mut reply = Vec::new();
    reply.put_u64_le(before as u64);
    reply.extend_from_slice(command);
    reply.into()
}

fn encode(pages: &Pages) -> Vec<u8> {
    let mut out = Vec::new();
    let applied = pages.applied.clone().unwrap_or_default();
    for field in std::iter::once(&applied).chain(&pages.commands) {
        out.put_u32_le(field.len() as u32);
        out.extend_from_slice(field);
    }
    out
}

fn decode(mut bytes: Bytes) -> Pages {
    let mut fields = Vec::new();
    while bytes.has_remaining() {
        let length = bytes.get_u32_le() as usize;
        fields.push(bytes.split_to(length));
    }
    let applied = fields.remove(0);
    Pages { applied: (!applied.is_empty()).then_some(applied), commands: fields }
}
