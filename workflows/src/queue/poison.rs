//! A queue that holds something else than messages. In comes what apalis could not take, out goes a line in the list `{prefix}:poison`,
//! and the queue goes on; keys that are broken as such are deleted, for the ledger fills the queue again.

use super::Queue;
use super::{QueueError, RedisQueue};
use crate::message::Message;
use apalis_core::backend::codec::Codec;
use apalis_redis::Config;
use apalis_redis::queries::deserialize_with_meta;
use redis::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How many are kept for an operator to look at.
const KEPT: isize = 100;
/// How much of a payload is kept, characters.
const SHOWN: usize = 200;
/// How many waiting ids are looked at once one of them has ended a consumer.
const LOOKED_AT: isize = 500;
/// So many failures of one queue within this time, while the server is well, and its keys are taken for broken.
const STRIKES: usize = 5;
const STRIKE_TIME: Duration = Duration::from_secs(30);

/// What a delivery turns out to be.
pub(super) enum Delivered {
    Message(Message),
    /// Bytes that are no message.
    Poison(Vec<u8>),
}

/// Reads a payload without ever failing: apalis ends a worker over a payload that it cannot read.
#[derive(Clone)]
pub(super) struct Wire;

impl Codec<Delivered> for Wire {
    type Error = serde_json::Error;
    type Compact = Vec<u8>;

    fn encode(&self, delivered: &Delivered) -> Result<Vec<u8>, serde_json::Error> {
        match delivered {
            Delivered::Message(message) => serde_json::to_vec(message),
            Delivered::Poison(bytes) => Ok(bytes.clone()),
        }
    }

    fn decode(&self, bytes: &Vec<u8>) -> Result<Delivered, serde_json::Error> {
        Ok(serde_json::from_slice(bytes).map_or_else(|_| Delivered::Poison(bytes.clone()), Delivered::Message))
    }
}

/// One poison message, as it is kept.
pub(super) struct Poison<'a> {
    pub id: &'a [u8],
    pub payload: Option<&'a [u8]>,
    pub why: &'a str,
}

impl Poison<'_> {
    fn line(&self, queue: &str, at_s: u64) -> String {
        let shown: String = String::from_utf8_lossy(self.payload.unwrap_or_default()).chars().take(SHOWN).collect();
        let line = serde_json::json!({
            "queue": queue, "id": String::from_utf8_lossy(self.id), "size": self.payload.map(<[u8]>::len),
            "payload": shown, "why": self.why, "at_unix_s": at_s,
        });
        line.to_string()
    }
}

/// When a queue failed lately. A failure on its own is nothing: connections break, and a flush takes the workers' registration away.
#[derive(Default)]
pub(super) struct Strikes(Mutex<HashMap<String, VecDeque<Instant>>>);

impl Strikes {
    /// Notes one; true when it was the last that is borne.
    fn note(&self, queue: &str, now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = all.entry(queue.to_owned()).or_default();
        lately.push_back(now);
        while lately.front().is_some_and(|first| now.duration_since(*first) > STRIKE_TIME) {
            lately.pop_front();
        }
        let last = lately.len() >= STRIKES;
        if last {
            lately.clear();
        }
        last
    }
}

/// Whether an error may come from what stands in the queue's keys. Not so when the server is in trouble, when it forbids something, or
/// when the keys are merely gone (a flush): a new registration heals that.
fn is_of_the_keys(error: &str) -> bool {
    const OTHERWISE: [&str; 20] = [
        "worker not registered",
        "not executed by worker",
        "not held by this worker",
        "still active within threshold",
        "NoPerm",
        "NOPERM",
        "NOAUTH",
        "uthentication",
        "OOM",
        "Loading",
        "ReadOnly",
        "READONLY",
        "MISCONF",
        "BUSY",
        "MasterDown",
        "os error",
        "timed out",
        "roken pipe",
        "closed",
        "dropped",
    ];
    !OTHERWISE.iter().any(|other| error.contains(other))
}

impl RedisQueue {
    /// Counts and keeps a poison message, and says so. Never fails: there is nobody to tell.
    pub(super) async fn keep_poison(&self, queue: &str, poison: &Poison<'_>) {
        metrics::counter!("retainai_poison_messages_total", "queue" => queue.to_owned()).increment(1);
        tracing::warn!(
            queue,
            id = %String::from_utf8_lossy(poison.id),
            size = poison.payload.map(<[u8]>::len),
            why = poison.why,
            "what stood in the queue is no message of ours; it was taken out and kept in {}:poison",
            self.prefix
        );
        let mut connection = self.connection.clone();
        let key = format!("{}:poison", self.prefix);
        let kept = async {
            let (at_s, _): (u64, u64) = redis::cmd("TIME").query_async(&mut connection).await?;
            redis::pipe()
                .lpush(&key, poison.line(queue, at_s))
                .ignore()
                .ltrim(&key, 0, KEPT - 1)
                .ignore()
                .query_async::<()>(&mut connection)
                .await
        };
        if let Err(error) = kept.await {
            tracing::warn!(queue, %error, "a poison message could not be kept");
        }
    }

    /// After a consumer has failed: takes out of its queue what apalis cannot read, and rebuilds a queue that fails again and again.
    /// True when something was done, so that it may start again at once.
    pub(super) async fn mend(&self, name: &str, worker: &str, error: &str) -> bool {
        if Queue::ping(self).await.is_err() {
            return false;
        }
        match self.take_poison_out(name, worker).await {
            Ok(0) => self.strike(name, error).await,
            Ok(_) => true,
            Err(found) if found.is_io_error() => false,
            Err(found) => self.strike(name, &found.to_string()).await,
        }
    }

    /// Notes that `name` failed. The fifth time in half a minute its keys are deleted; true then.
    pub(super) async fn strike(&self, name: &str, error: &str) -> bool {
        if !is_of_the_keys(error) || !self.strikes.note(name, Instant::now()) {
            return false;
        }
        match self.rebuild(name).await {
            Ok(keys) => {
                metrics::counter!("retainai_queues_rebuilt_total", "queue" => name.to_owned()).increment(1);
                tracing::error!(
                    queue = name,
                    error,
                    keys,
                    "the queue failed again and again, so its keys were deleted; the ledger fills it again"
                );
                true
            }
            Err(error) => {
                tracing::error!(queue = name, %error, "the queue fails again and again, and its keys could not be deleted");
                false
            }
        }
    }

    /// Looks at what the failed consumer held and at the head of the queue; how many ids were thrown out.
    async fn take_poison_out(&self, name: &str, worker: &str) -> redis::RedisResult<usize> {
        let config = self.config(name);
        let mut connection = self.connection.clone();
        let held_set = format!("{}:{worker}", config.inflight_jobs_set());
        let held: Vec<Vec<u8>> = redis::cmd("SMEMBERS").arg(&held_set).query_async(&mut connection).await?;
        let mut thrown_out = self.throw_out(name, &config, &held_set, &held).await?;
        if thrown_out > 0 {
            let head: Vec<Vec<u8>> = redis::cmd("LRANGE")
                .arg(config.active_jobs_list())
                .arg(0)
                .arg(LOOKED_AT - 1)
                .query_async(&mut connection)
                .await?;
            thrown_out += self.throw_out(name, &config, &held_set, &head).await?;
        }
        Ok(thrown_out)
    }

    async fn throw_out(
        &self,
        name: &str,
        config: &Config,
        held_set: &str,
        ids: &[Vec<u8>],
    ) -> redis::RedisResult<usize> {
        let mut connection = self.connection.clone();
        let mut thrown_out = 0;
        for id in ids {
            let meta_key = [config.job_meta_hash().as_bytes(), b":", id].concat();
            let payload: Value =
                redis::cmd("HGET").arg(config.job_data_hash()).arg(id).query_async(&mut connection).await?;
            let meta = match redis::cmd("HGETALL").arg(&meta_key).query_async::<Value>(&mut connection).await {
                Err(error) if error.is_io_error() => return Err(error),
                // The key is no hash.
                Err(_) => Value::Array(Vec::new()),
                Ok(meta) => meta,
            };
            let Err(why) = readable(id, &payload, meta) else { continue };
            let bytes = match &payload {
                Value::BulkString(bytes) => Some(bytes.as_slice()),
                _ => None,
            };
            self.keep_poison(name, &Poison { id, payload: bytes, why: &why }).await;
            redis::pipe()
                .cmd("LREM")
                .arg(config.active_jobs_list())
                .arg(0)
                .arg(id)
                .ignore()
                .zrem(config.scheduled_jobs_set(), id)
                .ignore()
                .hdel(config.job_data_hash(), id)
                .ignore()
                .del(&meta_key)
                .ignore()
                .srem(held_set, id)
                .ignore()
                .query_async::<()>(&mut connection)
                .await?;
            thrown_out += 1;
        }
        Ok(thrown_out)
    }

    /// Deletes every key of one queue, and the mark by which the reconcilers see that the queues have lost something.
    async fn rebuild(&self, name: &str) -> redis::RedisResult<usize> {
        let queue = self.config(name).queue.to_string();
        // In a pattern these letters mean something else.
        let literal: String =
            queue.chars().flat_map(|c| "*?[]^\\".contains(c).then_some('\\').into_iter().chain([c])).collect();
        let mut connection = self.connection.clone();
        let (mut cursor, mut deleted) = (0u64, 0);
        loop {
            let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("{literal}:*"))
                .arg("COUNT")
                .arg(1000)
                .query_async(&mut connection)
                .await?;
            if !keys.is_empty() {
                deleted += redis::cmd("UNLINK").arg(&keys).query_async::<usize>(&mut connection).await?;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        redis::cmd("DEL").arg(self.incarnation_key()).query_async::<()>(&mut connection).await?;
        Ok(deleted)
    }

    /// The address and what a failed command said, as an error of the queue.
    pub(super) fn failed(&self, doing: &'static str) -> impl Fn(redis::RedisError) -> QueueError {
        move |error| QueueError::redis(&self.at, doing, &error)
    }
}

/// Whether apalis can read an id with what belongs to it, by apalis' own reading; if not, why.
fn readable(id: &[u8], payload: &Value, meta: Value) -> Result<(), String> {
    let Value::BulkString(bytes) = payload else { return Err("the queue holds this id without a payload".to_owned()) };
    let Value::Array(fields) = meta else { return Err("its metadata are no list".to_owned()) };
    let meta = [vec![Value::BulkString(id.to_vec())], fields].concat();
    deserialize_with_meta(vec![Value::Array(vec![payload.clone()]), Value::Array(vec![Value::Array(meta)])])
        .map_err(|e| e.to_string())?;
    serde_json::from_slice::<Message>(bytes).map(drop).map_err(|e| format!("its payload is no message: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_now_and_then_is_borne_and_a_row_of_them_is_not() {
        let (strikes, start) = (Strikes::default(), Instant::now());
        let after = |s| start + Duration::from_secs(s);
        assert!((0..20).all(|n| !strikes.note("slow", after(n * 10))));
        assert_eq!(
            (0..6).map(|n| strikes.note("q", after(n))).collect::<Vec<_>>(),
            [false, false, false, false, true, false]
        );
    }

    #[test]
    fn the_keys_are_not_blamed_for_the_server() {
        assert!(is_of_the_keys("\"WRONGTYPE\": Operation against a key holding the wrong kind of value script: …"));
        assert!(is_of_the_keys("ResponseError: user_script:35: too many results to unpack"));
        for other in [
            "ResponseError: user_script:20: Cant fetch next: worker not registered",
            "\"OOM\": command not allowed when used memory > 'maxmemory'.",
            "NoPerm: this user has no permissions to run the 'evalsha' command",
            "Connection reset by peer (os error 104)",
        ] {
            assert!(!is_of_the_keys(other), "{other}");
        }
    }

    #[test]
    fn what_is_kept_is_short_and_always_text() {
        let bytes = [vec![0xff, b'"'], vec![b'x'; 5000]].concat();
        let line = Poison { id: b"a\xff", payload: Some(&bytes), why: "why" }.line("scrape", 7);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((line["size"].as_u64(), line["queue"].as_str()), (Some(5002), Some("scrape")));
        assert_eq!(line["payload"].as_str().unwrap().chars().count(), 200);
    }
}
