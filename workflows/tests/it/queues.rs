//! The queue's promises on both carriers: a push is delivered once, a second push of the same id is a no-op, an idle consumer wakes at
//! once, and a flushed or killed Redis does not end a consumer.

use product_tests::servers;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workflows::message::Message;
use workflows::plan::Step;
use workflows::queue::{Deliver, MemoryQueue, Queue, RedisQueue};

fn message(generation: i64) -> Message {
    Message { run: Uuid::from_u128(7), step: Step::Scrape, generation, queue: "scrape".into() }
}

/// A consumer of queue `scrape` that hands every delivery to the test.
fn consume(queue: &Arc<dyn Queue>, stop: &CancellationToken) -> mpsc::UnboundedReceiver<Message> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let deliver: Deliver = Arc::new(move |message| {
        let sender = sender.clone();
        Box::pin(async move {
            let _ = sender.send(message);
        })
    });
    let (queue, stop) = (queue.clone(), stop.clone());
    tokio::spawn(async move { queue.consume("scrape", "test", deliver, stop).await });
    receiver
}

async fn next(received: &mut mpsc::UnboundedReceiver<Message>) -> Message {
    tokio::time::timeout(Duration::from_secs(30), received.recv())
        .await
        .expect("a delivery within 30 s")
        .expect("a consumer")
}

async fn delivers_each_id_once(queue: Arc<dyn Queue>) {
    let stop = CancellationToken::new();
    queue.push(&[message(1), message(1)]).await.unwrap();
    queue.push(&[message(1), message(2)]).await.unwrap();
    let mut received = consume(&queue, &stop);
    let mut generations = [next(&mut received).await.generation, next(&mut received).await.generation];
    generations.sort_unstable();
    assert_eq!(generations, [1, 2]);
    queue.push(&[message(3)]).await.unwrap();
    assert_eq!(next(&mut received).await, message(3), "nothing was delivered twice in between");
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_delivers_each_id_once() {
    delivers_each_id_once(Arc::new(MemoryQueue::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_delivers_each_id_once() {
    let Some(server) = servers::redis().await else { return };
    delivers_each_id_once(Arc::new(RedisQueue::new(&server.url(), "test").unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_forgets_finished_ids_and_survives_a_flush() {
    let Some(server) = servers::redis().await else { return };
    let queue: Arc<dyn Queue> = Arc::new(RedisQueue::new(&server.url(), "test").unwrap());
    let stop = CancellationToken::new();
    let mut received = consume(&queue, &stop);
    queue.push(&[message(1)]).await.unwrap();
    next(&mut received).await;
    // A finished id is swept, and may then be pushed and delivered again.
    let again = async {
        loop {
            queue.sweep().await.unwrap();
            queue.push(&[message(1)]).await.unwrap();
            if let Ok(Some(message)) = tokio::time::timeout(Duration::from_millis(300), received.recv()).await {
                break message;
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), again).await.expect("delivered again"), message(1));
    let before = queue.incarnation().await.unwrap();
    assert_eq!(queue.incarnation().await.unwrap(), before);
    server.flush_all().await;
    assert_ne!(queue.incarnation().await.unwrap(), before, "a flush is noticed");
    queue.push(&[message(5)]).await.unwrap();
    assert_eq!(next(&mut received).await, message(5), "the consumer registered itself anew");
    stop.cancel();
}
