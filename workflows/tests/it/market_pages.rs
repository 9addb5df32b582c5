//! Market pages on both databases: one with too few tickers waits as a whole, and is confirmed, overtaken, released or dismissed.

use crate::both::on_both;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use market::Exchange;
use market::market_page::{PageState, PageVerdict};
use uuid::Uuid;
use workflows::Db;
use workflows::ledger::NewEntry;
use workflows::stores::market_pages::{self, PageSeen};
use workflows::stores::quarantine::{self, Filter, QuarantineRow, Settled};

on_both!(
    half_a_page_waits_and_the_same_again_confirms_it,
    the_next_page_confirms_or_overtakes,
    an_operator_releases_or_dismisses,
    a_page_without_a_row_is_noted,
);

fn at(minutes: i64) -> DateTime<Utc> {
    "2025-09-18T11:45:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minutes)
}

fn day(n: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2025, 9, n).unwrap()
}

fn page(session: u32, tickers: usize, minutes: i64) -> PageSeen {
    PageSeen {
        exchange: Exchange::Nepse,
        source: "sharesansar",
        session: day(session),
        symbols: (0..tickers).map(|n| format!("T{n}")).collect(),
        body_sha256: format!("{session}-{tickers}"),
        read_at: at(minutes),
    }
}

async fn read(db: &Db, session: u32, tickers: usize, minutes: i64) -> PageVerdict {
    market_pages::judge(db, &page(session, tickers, minutes)).await.unwrap()
}

fn is_aside(verdict: &PageVerdict) -> bool {
    matches!(verdict, PageVerdict::SetAside(_))
}

async fn waiting(db: &Db) -> Vec<QuarantineRow> {
    quarantine::list(db, &Filter::default(), None, 100).await.unwrap()
}

async fn states(db: &Db) -> Vec<(NaiveDate, usize, PageState)> {
    let pages = market_pages::newest(db, Exchange::Nepse, 9).await.unwrap();
    pages.into_iter().map(|page| (page.session, page.symbols.len(), page.state)).collect()
}

fn entry() -> NewEntry {
    let (who, subject, detail) = ("operator".to_owned(), String::new(), String::new());
    NewEntry {
        id: Uuid::now_v7(),
        at: at(0),
        who,
        door: "cli",
        action: "quarantine_release",
        subject,
        detail,
        request: None,
    }
}

async fn half_a_page_waits_and_the_same_again_confirms_it(db: Db) {
    assert_eq!(read(&db, 17, 20, 0).await, PageVerdict::Take);
    for minutes in [0, 10, 29] {
        assert!(is_aside(&read(&db, 18, 10, minutes).await), "{minutes}");
    }
    let rows = waiting(&db).await;
    assert_eq!(rows.len(), 1, "the same page twice waits once");
    let row = &rows[0];
    assert_eq!(
        (row.ticker.as_str(), row.rule.as_str(), row.session, row.seen),
        ("*", "partial_page", Some(day(18)), 3)
    );
    assert!(matches!(read(&db, 18, 10, 30).await, PageVerdict::Confirm(_)));
    assert_eq!(read(&db, 18, 10, 31).await, PageVerdict::Take);
    assert_eq!(waiting(&db).await[0].state, "confirmed");
    assert_eq!(states(&db).await, [(day(18), 10, PageState::Confirmed), (day(17), 20, PageState::Taken)]);
    // From then on ten are as many as there are.
    assert_eq!(read(&db, 19, 9, 2_000).await, PageVerdict::Take);
}

async fn the_next_page_confirms_or_overtakes(db: Db) {
    read(&db, 15, 20, 0).await;
    assert!(is_aside(&read(&db, 16, 10, 0).await));
    assert_eq!(read(&db, 16, 19, 5).await, PageVerdict::Take, "it had not been whole yet");
    assert_eq!(waiting(&db).await[0].state, "overtaken");
    assert!(is_aside(&read(&db, 16, 5, 6).await), "a later reading broke off");
    assert_eq!(states(&db).await[0], (day(16), 19, PageState::Taken), "what was taken stays taken");
    assert!(is_aside(&read(&db, 17, 10, 0).await));
    assert!(matches!(read(&db, 18, 11, 0).await, PageVerdict::Confirm(_)), "two sessions with as few");
    let of_17 = waiting(&db).await.into_iter().find(|row| row.session == Some(day(17))).unwrap();
    assert_eq!(of_17.state, "confirmed");
    assert!(states(&db).await.iter().all(|(_, _, state)| state.counts()));
}

async fn an_operator_releases_or_dismisses(db: Db) {
    read(&db, 16, 20, 0).await;
    read(&db, 17, 10, 0).await;
    let id = waiting(&db).await[0].id;
    assert_eq!(quarantine::release(&db, id, "half were halted", &entry(), at(1)).await.unwrap(), Settled::Now);
    assert_eq!(quarantine::release(&db, id, "half were halted", &entry(), at(1)).await.unwrap(), Settled::Already);
    assert_eq!(read(&db, 17, 10, 2).await, PageVerdict::Take);
    assert_eq!(read(&db, 17, 11, 3).await, PageVerdict::Take);
    assert!(is_aside(&read(&db, 18, 3, 0).await));
    let id = waiting(&db).await.into_iter().find(|row| row.state == "open").unwrap().id;
    assert_eq!(quarantine::dismiss(&db, id, "broken", &entry(), at(1)).await.unwrap(), Settled::Now);
    assert!(is_aside(&read(&db, 18, 3, 600).await), "it stays so");
    assert_eq!(waiting(&db).await.iter().filter(|row| row.state == "open").count(), 0, "and nobody is asked again");
}

async fn a_page_without_a_row_is_noted(db: Db) {
    market_pages::empty(&db, &page(16, 0, 0)).await.unwrap();
    assert!(waiting(&db).await.is_empty(), "there is no page to compare with");
    read(&db, 16, 20, 0).await;
    for minutes in 0..2 {
        market_pages::empty(&db, &page(17, 0, minutes)).await.unwrap();
    }
    let rows = waiting(&db).await;
    assert_eq!((rows.len(), rows[0].seen, rows[0].session), (1, 2, None));
    assert_eq!(quarantine::release(&db, rows[0].id, "", &entry(), at(1)).await.unwrap(), Settled::NothingKept);
    read(&db, 17, 20, 5).await;
    assert_eq!(waiting(&db).await[0].state, "overtaken");
}
