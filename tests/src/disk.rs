//! A folder whose disk can be full. Where we may mount, it is a small file system of its own that is filled to the brim; elsewhere a file stands
//! in the folder's place, so that nothing can be written either.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder.
pub struct Disk {
    path: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Makes the folder inside `home`, on a file system of its own if that is allowed.
    pub fn make(home: &Path, name: &str) -> io::Result<Self> {
        Self::of_size(home, name, 256)
    }

    /// The same with so many kilobytes; `None`, and a sentence, where we may not mount.
    pub fn mounted(home: &Path, name: &str, kilobytes: u32) -> Option<Self> {
        let disk = Self::of_size(home, name, kilobytes).expect("a folder");
        if !disk.mounted {
            println!("skipped: needs a small file system of its own, which may not be mounted here");
        }
        Some(disk).filter(|disk| disk.mounted)
    }

    fn of_size(home: &Path, name: &str, kilobytes: u32) -> io::Result<Self> {
        let path = home.join(name);
        fs::create_dir(&path)?;
        let size = format!("size={kilobytes}k");
        let mounted = rustix::process::getuid().is_root()
            && quietly(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path));
        Ok(Self { path, mounted })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it, or tops it up: files that were deleted meanwhile left room.
    pub fn fill(&self) -> io::Result<()> {
        if self.mounted {
            let mut filler = File::options().create(true).append(true).open(self.filler())?;
            while filler.write_all(&[0; 4096]).is_ok() {}
            return Ok(());
        }
        if self.path.is_dir() {
            fs::rename(&self.path, self.aside())?;
            File::create(&self.path)?;
        }
        Ok(())
    }

    /// Gives the room back.
    pub fn free(&self) -> io::Result<()> {
        if self.mounted {
            return fs::remove_file(self.filler());
        }
        if self.path.is_file() {
            fs::remove_file(&self.path)?;
            fs::rename(self.aside(), &self.path)?;
        }
        Ok(())
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    fn aside(&self) -> PathBuf {
        self.path.with_extension("aside")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a process that is about to end may still hold a file.
            quietly(Command::new("umount").arg("-l").arg(&self.path));
        }
    }
}

fn quietly(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_and_a_freed_one_does() {
        let home = tempfile::tempdir().unwrap();
        let disk = Disk::make(home.path(), "w1").unwrap();
        let file = disk.path().join("step");
        fs::write(&file, [1; 512]).unwrap();
        fs::remove_file(&file).unwrap();
        disk.fill().unwrap();
        assert!(fs::write(&file, [1; 512]).is_err());
        disk.free().unwrap();
        fs::write(&file, [1; 512]).unwrap();
    }
}
