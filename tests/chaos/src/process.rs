//! The place of one node: a process of ours, killed and started again under a new name each time.

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The arguments of the next process in a place, besides its name.
pub type Arguments = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// A place and the process in it. Dropping it kills the process.
pub struct Place {
    name: String,
    program: PathBuf,
    arguments: Arguments,
    logs: PathBuf,
    group: i32,
    now: Mutex<Now>,
}

struct Now {
    times: u32,
    child: Option<Child>,
}

/// A process of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incarnation {
    /// Its name: `w2.3`.
    pub node: String,
    times: u32,
}

impl Place {
    /// An empty place, called `w2`, whose processes will be of this group.
    pub fn new(name: String, program: PathBuf, logs: PathBuf, group: i32, arguments: Arguments) -> Self {
        Self { name, program, arguments, logs, group, now: Mutex::new(Now { times: 0, child: None }) }
    }

    /// Starts the next process.
    pub fn start(&self) -> anyhow::Result<()> {
        self.start_in(&mut self.lock())
    }

    fn start_in(&self, now: &mut Now) -> anyhow::Result<()> {
        now.times += 1;
        let node = self.name_of(now.times);
        let log = File::create(self.logs.join(format!("{node}.log")))?;
        let child = Command::new(&self.program)
            .args(["--name", &node])
            .args((self.arguments)())
            .process_group(self.group)
            .env_clear()
            .env("TZ", "UTC")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        now.child = Some(child);
        Ok(())
    }

    /// Who is there.
    pub fn incarnation(&self) -> Incarnation {
        let times = self.lock().times;
        Incarnation { node: self.name_of(times), times }
    }

    /// Kills the process; answers who it was and when. The next one is started at once.
    pub fn kill_and_restart(&self) -> anyhow::Result<(Incarnation, i64)> {
        let mut now = self.lock();
        let killed = Incarnation { node: self.name_of(now.times), times: now.times };
        let at_us = crate::now_us();
        if let Some(mut child) = now.child.take() {
            child.kill()?;
            child.wait()?;
        }
        self.start_in(&mut now)?;
        Ok((killed, at_us))
    }

    /// Sends a signal, if this is still the process that is meant.
    pub fn signal(&self, whom: &Incarnation, signal: Signal) -> bool {
        let now = self.lock();
        let pid = now.child.as_ref().and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?));
        now.times == whom.times && pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Notices a process that ended without being told to, and starts the next one.
    pub fn look(&self) -> anyhow::Result<Option<(Incarnation, ExitStatus)>> {
        let mut now = self.lock();
        let Some(status) = now.child.as_mut().map(Child::try_wait).transpose()?.flatten() else { return Ok(None) };
        let ended = Incarnation { node: self.name_of(now.times), times: now.times };
        now.child = None;
        self.start_in(&mut now)?;
        Ok(Some((ended, status)))
    }

    fn name_of(&self, times: u32) -> String {
        format!("{}.{times}", self.name)
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut child) = self.lock().child.take() {
            // Errors mean that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
