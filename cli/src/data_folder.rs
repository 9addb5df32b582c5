//! The data folder of the embedded store: one process owns it at a time. The lock file also tells other commands where the owner answers.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Ownership of a data folder; ends with the process, however it ends (the operating system drops the lock).
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    lock: File,
}

/// Who owns a data folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Owner {
    /// Its process.
    pub pid: u32,
    /// Where its API answers; absent for a command that serves none.
    pub listen: Option<SocketAddr>,
    /// What opens that API to whoever may read this file; absent where no key is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What came of trying to own it.
#[derive(Debug)]
pub enum Taken {
    /// It is ours.
    Ours(DataFolder),
    /// Another process has it.
    Theirs(Owner),
}

impl DataFolder {
    /// Takes the folder, making it when absent, or says who has it.
    pub fn take(path: &Path, listen: Option<SocketAddr>) -> anyhow::Result<Taken> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("the data folder {} could not be made", path.display()))?;
        let file = path.join("retainai.lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .with_context(|| format!("{} could not be opened", file.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Taken::Theirs(read_owner(&mut lock, &file)?)),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{} could not be locked", file.display()));
            }
        }
        let mut folder = Self { path: path.to_owned(), lock };
        folder.announce(listen, None)?;
        Ok(Taken::Ours(folder))
    }

    /// Who has it, without taking it; none where nobody has, or where there is no folder.
    pub fn owner(path: &Path) -> anyhow::Result<Option<Owner>> {
        let file = path.join("retainai.lock");
        let Ok(mut lock) = File::open(&file) else { return Ok(None) };
        // A shared lock, given back at the end of this function: a role that starts in this very moment would be refused and have to
        // be started again. Asking without a lock would answer wrongly where the owner lives in another container.
        match lock.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => read_owner(&mut lock, &file).map(Some),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{} could not be asked for its owner", file.display()))
            }
        }
    }

    /// Writes where the API answers, and what opens it. Only this user may read the file.
    pub fn announce(&mut self, listen: Option<SocketAddr>, token: Option<String>) -> anyhow::Result<()> {
        let text = serde_json::to_string(&Owner { pid: std::process::id(), listen, token })?;
        self.lock.set_permissions(Permissions::from_mode(0o600))?;
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        self.lock.write_all(text.as_bytes())?;
        self.lock.flush()?;
        Ok(())
    }

    /// The store's file.
    pub fn database(&self) -> PathBuf {
        self.path.join("retainai.db")
    }
}

/// The owner writes its line right after it has locked; a reader may come in between, so it looks again for a moment.
fn read_owner(lock: &mut File, file: &Path) -> anyhow::Result<Owner> {
    for _ in 0..50 {
        let mut text = String::new();
        lock.rewind()?;
        lock.read_to_string(&mut text)?;
        if let Ok(owner) = serde_json::from_str(&text) {
            return Ok(owner);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    anyhow::bail!(
        "{} is locked by a process that does not say who it is; end it, or use another --data-dir",
        file.display()
    )
}
