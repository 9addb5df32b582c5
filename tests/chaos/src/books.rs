//! The effect ledger: what the nodes say of themselves, written down as it comes. It knows nothing of the engine's tables.

use crate::wire::{Word, Work};
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;
use workflows::plan::Step;

/// One attempt of a step, as its node told it.
#[derive(Debug, Clone)]
pub struct Told {
    /// Under which epoch.
    pub epoch: i64,
    /// Who.
    pub node: String,
    /// When it began.
    pub began_us: i64,
    /// When it ended, if it did.
    pub ended_us: Option<i64>,
}

/// Everything that was told.
#[derive(Debug, Default)]
pub struct Pages {
    /// The attempts of each step, in the order in which they were told.
    pub steps: HashMap<(Uuid, Step), Vec<Told>>,
    /// The acknowledged starts: key, run. A key with two runs is in `twice`.
    pub started: BTreeMap<String, Uuid>,
    /// Keys under which two different runs were acknowledged.
    pub twice: Vec<String>,
    /// How many attempts each node is in the middle of.
    pub open: HashMap<String, usize>,
    /// The next place in the sequence of each scheduler: one after the last that was acknowledged.
    pub next: HashMap<String, u64>,
}

impl Pages {
    /// Writes one word down.
    pub fn note(&mut self, node: &str, word: Word) {
        match word {
            Word::Hello { .. } => {}
            Word::Began(Work { run, step, epoch, at_us }) => {
                let told = Told { epoch, node: node.to_owned(), began_us: at_us, ended_us: None };
                self.steps.entry((run, step)).or_default().push(told);
                *self.open.entry(node.to_owned()).or_default() += 1;
            }
            Word::Ended(Work { run, step, epoch, at_us }) => {
                let attempts = self.steps.entry((run, step)).or_default();
                if let Some(told) = attempts.iter_mut().rev().find(|told| told.epoch == epoch && told.node == node) {
                    told.ended_us = Some(at_us);
                }
                if let Some(open) = self.open.get_mut(node) {
                    *open = open.saturating_sub(1);
                }
            }
            Word::Started { key, nth, run } => {
                let place = place_of(node);
                let next = self.next.entry(place.to_owned()).or_default();
                *next = (*next).max(nth + 1);
                self.acknowledge(key, run);
            }
        }
    }

    /// Notes an acknowledged start.
    pub fn acknowledge(&mut self, key: String, run: Uuid) {
        match self.started.get(&key) {
            Some(known) if *known != run => self.twice.push(key),
            Some(_) => {}
            None => drop(self.started.insert(key, run)),
        }
    }
}

/// The place that a process takes: `w2` of `w2.3`.
pub fn place_of(node: &str) -> &str {
    node.split('.').next().unwrap_or(node)
}

/// The books, open. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Books(Arc<Mutex<Pages>>);

impl Books {
    /// Opens new books, and a port at which nodes are listened to.
    pub async fn open() -> std::io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let books = Self::default();
        let own = books.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(own.clone().listen(stream));
            }
        });
        Ok((books, address))
    }

    async fn listen(self, stream: TcpStream) {
        let mut lines = BufReader::new(stream).lines();
        let mut speaker = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            // The last line of a process that was killed may be cut off.
            let Ok(word) = serde_json::from_str(&line) else { continue };
            if let Word::Hello { node, .. } = &word {
                speaker.clone_from(node);
            }
            self.pages().note(&speaker, word);
        }
    }

    /// The pages, to read or to write.
    pub fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
