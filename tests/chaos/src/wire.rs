//! What a node tells the effect ledger: one JSON line each, over one connection. A line that was written has arrived even if its writer is
//! killed the moment after, for the kernel holds it then.

use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;
use workflows::plan::Step;

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum Word {
    /// The first line: who speaks.
    Hello {
        /// Name of this process, new at each start: `w2.3` is the third process in the place of the second worker.
        node: String,
        /// Its process id.
        pid: u32,
        /// Its engine instance: the owner of its leases.
        instance: Uuid,
    },
    /// A body begins its work.
    Began(Work),
    /// A body has done its work and is about to answer.
    Ended(Work),
    /// The engine has acknowledged a start.
    Started {
        /// The idempotency key.
        key: String,
        /// The place of the key in the sequence of its scheduler.
        nth: u64,
        /// The run.
        run: Uuid,
    },
}

/// One attempt of a step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Work {
    /// Its run.
    pub run: Uuid,
    /// Which step.
    pub step: Step,
    /// Under which epoch.
    pub epoch: i64,
    /// When, in microseconds since 1970.
    pub at_us: i64,
}

/// The node's end of the connection.
pub struct Teller(Mutex<TcpStream>);

impl Teller {
    /// Connects and says who speaks. When the ledger goes away this process ends: nobody would watch it any more.
    pub fn connect(ledger: SocketAddr, hello: &Word) -> io::Result<Self> {
        let stream = TcpStream::connect(ledger)?;
        stream.set_nodelay(true)?;
        let mut listening = stream.try_clone()?;
        std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            // The ledger says nothing; this returns when it is gone.
            let _ = listening.read(&mut [0]);
            std::process::exit(4);
        })?;
        let teller = Self(Mutex::new(stream));
        teller.tell(hello);
        Ok(teller)
    }

    /// Tells one word.
    pub fn tell(&self, word: &Word) {
        let Ok(mut line) = serde_json::to_vec(word) else { return };
        line.push(b'\n');
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stream.write_all(&line).is_err() {
            std::process::exit(4);
        }
    }
}
