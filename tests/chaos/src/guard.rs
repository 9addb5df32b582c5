//! Ends what the driver has started when the driver itself is killed and can end nothing any more. Every process of a fault run joins one group; its
//! leader is a shell that does nothing but wait for the end of a pipe, and only the driver holds the other end.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The driver never writes: the pipe ends when the driver does. What is mounted in the folder is let go, and then the whole group is killed, its
/// leader included; also those that are stopped. The children of a PostgreSQL end when they notice that their postmaster is gone. Hanging up is
/// what the kernel does to a group that has lost its driver while one of its processes is stopped; the leader must live on.
const WAIT: &str =
    r#"trap '' HUP; while read -r _; do :; done; for disk in "$1"/*; do umount -l "$disk"; done; kill -s KILL 0"#;

/// The leader of the group.
pub struct Guard(Child);

impl Guard {
    /// Starts it; `disks` is the folder in which there are mounts.
    pub fn start(disks: &Path) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", WAIT, "guard"]).arg(disks).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Self)
    }

    /// The group that a process joins when it is started.
    pub fn group(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap_or(0)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Everybody else has ended before. Errors mean that it has as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
