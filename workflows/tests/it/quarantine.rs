//! The quarantine on both databases: a row is set aside once, decided once, and enters the archive with the source that gave it.

use crate::both::on_both;
use crate::stores::{bar, batch, now, ticker};
use market::validate::{Finding, Row, Rule};
use market::{Bar, RawBar};
use uuid::Uuid;
use workflows::Db;
use workflows::ledger::NewEntry;
use workflows::stores::archive;
use workflows::stores::quarantine::{self, Confirmed, Filter, QuarantineRow, SetAside, Settled};

on_both!(
    a_row_is_set_aside_once_and_released_once,
    a_confirmed_row_enters_the_archive,
    a_batch_waits_once_and_is_released_whole,
);

fn entry() -> NewEntry {
    let (who, subject, detail) = ("operator".to_owned(), String::new(), String::new());
    NewEntry {
        id: Uuid::now_v7(),
        at: now(),
        who,
        door: "cli",
        action: "quarantine_release",
        subject,
        detail,
        request: None,
    }
}

fn aside(bars: &[Bar]) -> SetAside {
    let finding = |bar: &Bar| Finding {
        rule: Rule::Jump,
        row: Row { line: 0, raw: RawBar::from(bar) },
        why: "too far".to_owned(),
    };
    SetAside {
        ticker: ticker(),
        source: "yahoo".to_owned(),
        body_sha256: "11".to_owned(),
        fetched_at: now(),
        rows: bars.iter().map(finding).collect(),
        whole: None,
        confirmed: vec![],
        restated: None,
    }
}

async fn all(db: &Db) -> Vec<QuarantineRow> {
    quarantine::list(db, &Filter::default(), None, 100).await.unwrap()
}

async fn closes(db: &Db) -> Vec<f64> {
    let series = archive::series(db, &ticker()).await.unwrap();
    series.map_or(vec![], |series| series.bars().iter().map(|bar| bar.close).collect())
}

async fn a_row_is_set_aside_once_and_released_once(db: Db) {
    let what = aside(&[bar(2, 80.0)]);
    quarantine::import(&db, Some(&batch(vec![bar(0, 100.0)])), Some(&what), now()).await.unwrap();
    quarantine::import(&db, None, Some(&what), now()).await.unwrap();
    let rows = all(&db).await;
    assert_eq!((rows.len(), rows[0].seen, closes(&db).await), (1, 2, vec![100.0]));
    assert_eq!(quarantine::open_counts(&db).await.unwrap(), [("NEPSE".to_owned(), "jump".to_owned(), 1)]);
    assert_eq!(quarantine::standing(&db, &ticker()).await.unwrap().pending.len(), 1);

    let id = rows[0].id;
    assert_eq!(quarantine::release(&db, id, "seen", &entry(), now()).await.unwrap(), Settled::Now);
    assert_eq!(quarantine::release(&db, id, "seen", &entry(), now()).await.unwrap(), Settled::Already);
    assert_eq!(quarantine::dismiss(&db, id, "no", &entry(), now()).await.unwrap(), Settled::Otherwise);
    assert_eq!(quarantine::dismiss(&db, Uuid::nil(), "no", &entry(), now()).await.unwrap(), Settled::Unknown);
    assert_eq!(closes(&db).await, [100.0, 80.0]);
    let version = archive::series_and_version(&db, &ticker()).await.unwrap().unwrap().1;
    let row = quarantine::get(&db, id).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.archived_version), ("released", Some(version)));
    let narrowed = Filter { state: Some("open"), rule: Some("jump"), exchange: Some("NEPSE"), ..Filter::default() };
    assert!(quarantine::list(&db, &narrowed, None, 9).await.unwrap().is_empty());
}

async fn a_confirmed_row_enters_the_archive(db: Db) {
    quarantine::import(&db, Some(&batch(vec![bar(0, 100.0)])), Some(&aside(&[bar(1, 80.0)])), now()).await.unwrap();
    let id = all(&db).await[0].id;
    let confirmed = vec![Confirmed { id, why: "the next session goes on from it".to_owned(), archives: true }];
    let what = SetAside { confirmed, ..aside(&[]) };
    for _ in 0..2 {
        quarantine::import(&db, Some(&batch(vec![bar(2, 81.0)])), Some(&what), now()).await.unwrap();
    }
    assert_eq!(closes(&db).await, [100.0, 80.0, 81.0]);
    assert_eq!(all(&db).await[0].state, "confirmed");
}

async fn a_batch_waits_once_and_is_released_whole(db: Db) {
    archive::import(&db, &batch(vec![bar(0, 100.0), bar(1, 101.0)]), now()).await.unwrap();
    let other = batch(vec![bar(0, 9.0), bar(1, 9.5)]);
    let finding = Finding { rule: Rule::Disagrees, row: Row::default(), why: "another".to_owned() };
    let what = SetAside { whole: Some((finding.clone(), Some(other))), ..aside(&[]) };
    for _ in 0..2 {
        quarantine::import(&db, None, Some(&what), now()).await.unwrap();
    }
    let empty = SetAside { whole: Some((Finding { rule: Rule::Identity, ..finding }, None)), ..aside(&[]) };
    quarantine::import(&db, None, Some(&empty), now()).await.unwrap();
    let rows = all(&db).await;
    assert_eq!((rows.len(), closes(&db).await), (2, vec![100.0, 101.0]));
    for row in rows {
        let settled = quarantine::release(&db, row.id, "it is so", &entry(), now()).await.unwrap();
        let kept = if row.rule == "identity" { Settled::NothingKept } else { Settled::Now };
        assert_eq!(settled, kept, "{}", row.rule);
    }
    assert_eq!(closes(&db).await, [9.0, 9.5]);
}
