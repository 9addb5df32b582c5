//! Changes as the database writes them: only while somebody listens, in the order of their commits, none skipped.

use crate::both::on_both;
use chrono::{DateTime, Utc};
use std::time::Duration;
use uuid::Uuid;
use workflows::Db;
use workflows::ledger::{self, NewEntry, Steering};
use workflows::stores::events::{self, Place};

on_both!(changes_are_written_while_somebody_listens, what_commits_late_is_not_skipped,);

fn now() -> DateTime<Utc> {
    "2024-03-05T22:00:00Z".parse().unwrap()
}

async fn pause(db: &Db, value: &str) {
    let (who, subject, detail) = ("operator".to_owned(), value.to_owned(), String::new());
    let id = Uuid::now_v7();
    let entry = NewEntry { id, at: now(), who, door: "api", action: "pause", subject, detail, request: None };
    let what = Steering::Pause { kind: "ticker", value, reason: "a test" };
    ledger::steer(db, &what, &entry, now()).await.unwrap();
}

async fn subjects(db: &Db, after: Place) -> Vec<String> {
    let rows = events::after(db, after, 100).await.unwrap();
    rows.into_iter().map(|row| row.subject.unwrap()).collect()
}

/// The same once there are so many: the oldest open transaction may be of another test on the same server, and holds them up.
async fn told(db: &Db, after: Place, count: usize) -> Vec<String> {
    let read = async {
        loop {
            let subjects = subjects(db, after).await;
            if subjects.len() >= count {
                return subjects;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.unwrap_or_else(|_| panic!("{count} changes are missing"))
}

async fn changes_are_written_while_somebody_listens(db: Db) {
    pause(&db, "NEPSE:A").await;
    assert!(subjects(&db, Place::default()).await.is_empty());
    let since = events::listen(&db).await.unwrap();
    let head = events::newest(&db).await.unwrap();
    pause(&db, "NEPSE:B").await;
    pause(&db, "NEPSE:C").await;
    assert_eq!(told(&db, head, 2).await, ["ticker:NEPSE:B", "ticker:NEPSE:C"]);
    let rows = events::after(&db, head, 1).await.unwrap();
    assert_eq!(subjects(&db, rows[0].place()).await, ["ticker:NEPSE:C"]);
    // Listening on is no new beginning.
    assert_eq!(events::listen(&db).await.unwrap(), since);
    assert_eq!(subjects(&db, head).await.len(), 2);
}

/// Many writers at once, a reader that looks all the time: it sees each change once, whichever commits first.
async fn what_commits_late_is_not_skipped(db: Db) {
    events::listen(&db).await.unwrap();
    let mut head = events::newest(&db).await.unwrap();
    let writers = futures::future::join_all((0..8).map(|writer| {
        let db = db.clone();
        tokio::spawn(async move {
            for n in 0..25 {
                pause(&db, &format!("NEPSE:W{writer}N{n}")).await;
            }
        })
    }));
    let mut seen = Vec::new();
    let read = async {
        while seen.len() < 200 {
            let rows = events::after(&db, head, 10).await.unwrap();
            if let Some(last) = rows.last() {
                assert!(last.place() > head);
                head = last.place();
            }
            seen.extend(rows.into_iter().map(|row| row.subject.unwrap()));
            tokio::task::yield_now().await;
        }
    };
    // As in `told`.
    let (read, _) = tokio::join!(tokio::time::timeout(Duration::from_secs(60), read), writers);
    read.unwrap_or_else(|_| panic!("changes are missing"));
    let once: std::collections::BTreeSet<&String> = seen.iter().collect();
    assert_eq!((seen.len(), once.len()), (200, 200), "each change once");
}
