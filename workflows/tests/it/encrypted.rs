//! Redis behind TLS and an ACL user, PostgreSQL with `sslmode=verify-full`: both work, and whoever gets one thing wrong is told which.

use product_tests::servers::{self, RedisOptions, TlsPostgres};
use product_tests::tls::Authority;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workflows::db::StoreError;
use workflows::message::Message;
use workflows::plan::Step;
use workflows::queue::server_check::acl_rules;
use workflows::queue::{Deliver, Queue, QueueError, RedisQueue, RedisServer};
use workflows::unreached::Unreached;
use workflows::{Cache, Db};

const PASSWORD: &str = "s3cret-of-the-test";

/// Only the first provider of a process is taken; the program installs the same.
fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

async fn why(url: &str, ca_file: Option<&Path>) -> (Option<Unreached>, String) {
    let queue = RedisQueue::new(RedisServer { url, ca_file }, "tls").unwrap();
    let error = queue.ping().await.unwrap_err();
    let text = error.to_string();
    let cache = Cache::redis(RedisServer { url, ca_file }, "tls").unwrap();
    assert!(!cache.ping().await.unwrap_err().to_string().contains(PASSWORD));
    match error {
        QueueError::Redis { cause, .. } => (cause, text),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_behind_tls_with_a_user() {
    install_provider();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let options = RedisOptions {
        tls: Some((&authority, &["localhost"])),
        user: Some(("alice", PASSWORD)),
        arguments: &[],
        group: None,
    };
    let Some(server) = servers::redis_with(&options).await else { return };
    let (ca, url) = (authority.file(), server.url());
    assert!(url.starts_with("rediss://alice:"), "{url}");

    let queue = RedisQueue::new(RedisServer { url: &url, ca_file: Some(&ca) }, "tls").unwrap();
    queue.ping().await.unwrap();
    queue.incarnation().await.unwrap();
    let cache = Cache::redis(RedisServer { url: &url, ca_file: Some(&ca) }, "tls").unwrap();
    cache.ping().await.unwrap();

    let port = server.port();
    let other = stranger.file();
    let cases = [
        (url.clone(), Some(other.as_path()), Unreached::Authority),
        (url.clone(), None, Unreached::Authority),
        (format!("rediss://alice:{PASSWORD}@127.0.0.1:{port}"), Some(ca.as_path()), Unreached::HostName),
        (format!("rediss://alice:{PASSWORD}x@localhost:{port}"), Some(ca.as_path()), Unreached::Credentials),
        (format!("rediss://bob:{PASSWORD}@localhost:{port}"), Some(ca.as_path()), Unreached::Credentials),
        (format!("rediss://localhost:{port}"), Some(ca.as_path()), Unreached::Credentials),
        (
            format!("rediss://alice:{PASSWORD}@localhost:{}", product_tests::free_port()),
            Some(ca.as_path()),
            Unreached::Address,
        ),
    ];
    for (url, ca_file, expected) in cases {
        let (cause, text) = why(&url, ca_file).await;
        assert_eq!(cause, Some(expected), "{text}");
        assert!(text.contains(expected.advice()) && text.contains("could not be reached"), "{text}");
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_for_our_keys_alone_carries_the_queues() {
    let Some(server) = servers::redis().await else { return };
    let mut admin = server.connection().await;
    redis::cmd("ACL")
        .arg(&["SETUSER", "alice", "on", ">pw"])
        .arg(&acl_rules("tls"))
        .exec_async(&mut admin)
        .await
        .unwrap();
    let url = format!("redis://alice:pw@127.0.0.1:{}", server.port());
    let carrier = RedisQueue::new(&url, "tls").unwrap();
    carrier.check_server(Uuid::new_v4()).await.unwrap();
    let (queue, stop) = (carrier.clone(), CancellationToken::new());
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let deliver: Deliver = Arc::new(move |message| {
        let _ = sender.send(message);
        Box::pin(std::future::ready(()))
    });
    let (consumer, token) = (queue.clone(), stop.clone());
    tokio::spawn(async move { consumer.consume("scrape", "test", deliver, token).await });
    let (listener, token) = (carrier.clone(), stop.clone());
    tokio::spawn(async move { listener.listen(token).await });
    let message = Message { run: Uuid::from_u128(7), step: Step::Scrape, generation: 1, queue: "scrape".into() };
    queue.push(std::slice::from_ref(&message)).await.unwrap();
    let delivered = tokio::time::timeout(Duration::from_secs(30), received.recv()).await.expect("a delivery");
    assert_eq!(delivered, Some(message));
    queue.incarnation().await.unwrap();
    queue.sweep().await.unwrap();
    // Somebody else's keys are out of its reach, and the error says what is wrong.
    let other = RedisQueue::new(&url, "other").unwrap();
    let error = other.incarnation().await.unwrap_err();
    assert!(matches!(error, QueueError::Redis { cause: Some(Unreached::Rights), .. }), "{error}");
    stop.cancel();
}

#[tokio::test]
async fn a_redis_without_tls_is_not_asked_for_it() {
    install_provider();
    let Some(server) = servers::redis().await else { return };
    let url = format!("rediss://localhost:{}", server.port());
    let (cause, text) = why(&url, None).await;
    // A plain Redis waits for the end of what it takes for a command.
    assert_eq!(cause, Some(Unreached::Silent), "{text}");
    assert!(text.contains("whether it speaks TLS"), "{text}");
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let with = |file: &Path| {
        RedisQueue::new(RedisServer { url: "rediss://a:b@localhost", ca_file: Some(file) }, "x")
            .err()
            .unwrap()
            .to_string()
    };
    assert!(with(&file).contains("ca.pem") && with(&file).contains("redis_ca_file"), "{}", with(&file));
    std::fs::write(&file, "not a certificate").unwrap();
    assert!(with(&file).contains("no certificate in PEM form"), "{}", with(&file));
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(with(&file).contains("cannot be used"), "{}", with(&file));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_checked_in_full() {
    install_provider();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let Some(server) = servers::tls_postgres(&authority, &["localhost"]).await else { return };
    let (ca, right) = (authority.file(), TlsPostgres::PASSWORD);
    let db = Db::postgres(&server.url("localhost", right, &ca), 2).unwrap();
    db.migrate().await.unwrap();
    assert_eq!(db.missing_migrations().await.unwrap(), 0);
    db.close().await;

    let absent = authority.file().with_file_name("absent.pem");
    let cases = [
        (server.url("localhost", right, &stranger.file()), Unreached::Authority),
        (server.url("127.0.0.1", right, &ca), Unreached::HostName),
        (server.url("localhost", "wrong-password-x", &ca), Unreached::Credentials),
        (server.url("localhost", right, &absent), Unreached::CertificateFile),
        (server.url("localhost", right, &ca).replace("/postgres?", "/nowhere?"), Unreached::Database),
    ];
    for (url, expected) in cases {
        let error = Db::postgres(&url, 2).unwrap().read_clock().await.unwrap_err();
        let text = error.to_string();
        let StoreError::Database { source, .. } = &error else { panic!("{text}") };
        assert_eq!(Unreached::of_postgres(source), Some(expected), "{text}");
        assert!(text.contains(expected.advice()), "{text}");
        assert!(!text.contains(right) && !text.contains("wrong-password-x"), "{text}");
    }
}
