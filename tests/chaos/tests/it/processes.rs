//! The processes of this machine, as the kernel lists them.

use std::fs::read_to_string;

/// One process; the time of its start tells it from a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub command: String,
    started: String,
    ended: bool,
}

impl Process {
    /// The process of that number, if there is one.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let command = read_to_string(format!("/proc/{pid}/cmdline")).ok()?.replace('\0', " ");
        // The name in parentheses may hold anything.
        let words: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            pid,
            parent: words.get(1)?.parse().ok()?,
            command,
            started: (*words.get(19)?).to_owned(),
            ended: matches!(*words.first()?, "Z" | "X"),
        })
    }

    /// Whether it is there still.
    pub fn lives(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.started == self.started && !now.ended)
    }
}

/// Everything that `ancestor` has started, and what that has started.
pub fn descendants(ancestor: u32) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: Vec<Process> = numbers.filter_map(Process::of).collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|process| process.parent == parent) {
            parents.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}

/// How long the threads of a process have waited for a core so far, in seconds; 0 where the kernel does not count it.
pub fn waited_s(pid: u32) -> f64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    let waited_ns = |path: std::path::PathBuf| -> Option<f64> {
        read_to_string(path.join("schedstat")).ok()?.split_whitespace().nth(1)?.parse().ok()
    };
    threads.flatten().filter_map(|thread| waited_ns(thread.path())).sum::<f64>() / 1e9
}
