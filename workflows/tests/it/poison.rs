//! Garbage in the queue's keys, written past us: it is counted, kept and taken out, and a good message behind it is still delivered. Keys
//! of the wrong type are deleted, and what was pushed again arrives.

use product_tests::servers::{self, RedisDb};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workflows::message::Message;
use workflows::plan::Step;
use workflows::queue::{Deliver, Queue, RedisQueue};

const LIMIT: Duration = Duration::from_secs(30);

fn message(generation: i64) -> Message {
    Message { run: Uuid::from_u128(7), step: Step::Scrape, generation, queue: "scrape".into() }
}

struct Rig {
    server: RedisDb,
    queue: RedisQueue,
    received: mpsc::UnboundedReceiver<Message>,
    stop: CancellationToken,
}

impl Rig {
    /// The garbage is there before the consumer is.
    async fn start(garbage: &[&[&[u8]]]) -> Option<Self> {
        let server = servers::redis().await?;
        for command in garbage {
            run(&server, command).await;
        }
        let queue = RedisQueue::new(&server.url(), "p").unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        let deliver: Deliver = Arc::new(move |message| {
            let sender = sender.clone();
            Box::pin(async move {
                let _ = sender.send(message);
            })
        });
        let stop = CancellationToken::new();
        let (consumer, token) = (queue.clone(), stop.clone());
        tokio::spawn(async move { consumer.consume("scrape", "test", deliver, token).await });
        Some(Self { server, queue, received, stop })
    }

    async fn next(&mut self) -> Message {
        tokio::time::timeout(LIMIT, self.received.recv()).await.expect("a delivery").expect("a consumer")
    }

    async fn kept(&self) -> Vec<serde_json::Value> {
        let lines: Vec<String> = redis::cmd("LRANGE")
            .arg("p:poison")
            .arg(0)
            .arg(-1)
            .query_async(&mut self.server.connection().await)
            .await
            .unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn run(server: &RedisDb, command: &[&[u8]]) {
    let mut call = redis::cmd(std::str::from_utf8(command[0]).unwrap());
    command[1..].iter().for_each(|argument| {
        call.arg(*argument);
    });
    call.exec_async(&mut server.connection().await).await.unwrap();
}

/// One command per line; every word an argument.
macro_rules! commands {
    ($($($word:expr),+);+ $(;)?) => { &[$(&[$($word as &[u8]),+]),+] };
}

const META: [&[u8]; 6] = [b"attempts", b"0", b"max_attempts", b"25", b"status", b"Pending"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_kept_and_taken_out_and_a_good_message_arrives() {
    let [a, b, c, d, e, f] = META;
    let mut rig = match Rig::start(commands! {
        // Payloads that are no message, with sound metadata.
        b"HSET", b"p_scrape:data", b"json", b"{\"run\":";
        b"HSET", b"p_scrape:meta:json", a, b, c, d, e, f;
        b"HSET", b"p_scrape:data", b"shape", b"[1,2,3]";
        b"HSET", b"p_scrape:meta:shape", a, b, c, d, e, f;
        b"HSET", b"p_scrape:data", b"bytes", b"\xff\xfe\x00";
        b"HSET", b"p_scrape:meta:bytes", a, b, c, d, e, f;
        // An id without a payload, one without metadata, one that is no text, and metadata of the wrong kind.
        b"HSET", b"p_scrape:data", b"nometa", b"{}";
        b"HSET", b"p_scrape:data", b"badmeta", b"{}";
        b"SET", b"p_scrape:meta:badmeta", b"no hash";
        b"HSET", b"p_scrape:data", b"\xff\xfe", b"{}";
        b"RPUSH", b"p_scrape:active", b"json", b"nodata", b"shape", b"nometa", b"bytes", b"badmeta", b"\xff\xfe", b"nodata";
        b"ZADD", b"p_scrape:scheduled", b"1", b"later";
    })
    .await
    {
        Some(rig) => rig,
        None => return,
    };
    rig.queue.push(&[message(1)]).await.unwrap();
    assert_eq!(rig.next().await, message(1));
    product_tests::eventually("all garbage to be kept", LIMIT, || async {
        (rig.kept().await.len() >= 8).then_some(())
    })
    .await;
    let kept = rig.kept().await;
    let of = |id: &str| kept.iter().find(|line| line["id"] == id).unwrap_or_else(|| panic!("{id}: {kept:#?}"));
    assert_eq!((of("json")["queue"].as_str(), of("json")["size"].as_u64()), (Some("scrape"), Some(7)));
    assert_eq!(of("shape")["payload"], "[1,2,3]");
    assert!(of("nodata")["size"].is_null() && of("nodata")["why"].as_str().unwrap().contains("without a payload"));
    assert!(["later", "bytes", "nometa", "badmeta"].iter().all(|id| of(id).is_object()));
    assert!(of("json")["at_unix_s"].as_u64().unwrap() > 1_700_000_000);
    // Nothing of it is left to come back.
    let left = || async {
        rig.queue.sweep().await.ok()?;
        let mut connection = rig.server.connection().await;
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("p_scrape:*").query_async(&mut connection).await.ok()?;
        let bad = |key: &&Vec<u8>| {
            let key = String::from_utf8_lossy(key);
            key.contains(":meta:") || key.ends_with(":data") || key.ends_with(":active") || key.ends_with(":scheduled")
        };
        keys.iter().find(bad).is_none().then_some(())
    };
    product_tests::eventually("the queue to be clean", LIMIT, left).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_garbage_holds_nobody_up_for_long() {
    let Some(server) = servers::redis().await else { return };
    drop(server);
    let ids: Vec<String> = (0..1_500).map(|n| format!("none-{n}")).collect();
    let mut push: Vec<&[u8]> = vec![b"RPUSH", b"p_scrape:active"];
    push.extend(ids.iter().map(String::as_bytes));
    let Some(mut rig) = Rig::start(&[&push]).await else { return };
    rig.queue.push(&[message(1)]).await.unwrap();
    assert_eq!(rig.next().await, message(1));
    assert_eq!(rig.kept().await.len(), 100, "the list is capped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_the_wrong_type_are_deleted_and_the_queue_goes_on() {
    for key in ["active", "scheduled", "workers", "data", "done"] {
        let key = format!("p_scrape:{key}");
        let Some(mut rig) = Rig::start(&[&[b"SET", key.as_bytes(), b"garbage"]]).await else { return };
        let before = rig.queue.incarnation().await.unwrap();
        // As the ledger does: what is not known to have arrived is pushed again.
        let pushed_again = async {
            let mut generation = 0;
            loop {
                generation += 1;
                let _ = rig.queue.push(&[message(generation)]).await;
                let _ = rig.queue.sweep().await;
                let heard = tokio::time::timeout(Duration::from_millis(200), rig.received.recv()).await.is_ok();
                if heard && rig.queue.sweep().await.is_ok() {
                    break;
                }
            }
        };
        tokio::time::timeout(LIMIT, pushed_again).await.unwrap_or_else(|_| panic!("{key}: nothing arrives"));
        assert_ne!(rig.queue.incarnation().await.unwrap(), before, "{key}: everything outstanding is pushed again");
    }
}
