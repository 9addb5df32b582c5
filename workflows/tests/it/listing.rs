//! Reading the ledger in the databases: lists page through everything, migrations can run twice.

use crate::both::on_both;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use market::{Exchange, Ticker};
use uuid::Uuid;
use workflows::ledger::{self, NewRun, RunFilter};
use workflows::plan::TICKER;
use workflows::{Db, Ledger};

on_both!(lists_page_through_all_runs, migrating_twice_changes_nothing,);

fn now() -> DateTime<Utc> {
    "2024-03-05T22:00:00Z".parse().unwrap()
}

fn session() -> NaiveDate {
    "2024-03-05".parse().unwrap()
}

fn new_run(symbol: &str) -> NewRun {
    NewRun {
        id: Uuid::now_v7(),
        plan: &TICKER,
        subject: Ticker::new(Exchange::Nasdaq, symbol).unwrap().into(),
        session: session(),
        schedule: None,
        backfill: None,
        priority: 0,
        offline: false,
        idempotency_key: None,
        repeats: None,
    }
}

async fn lists_page_through_all_runs(db: Db) {
    let runs: Vec<NewRun> = (0..25).map(|n| new_run(&format!("T{n}"))).collect();
    Ledger::Sql(db.clone()).start(&runs, now()).await.unwrap();
    let (mut seen, mut filter) =
        (Vec::new(), RunFilter { states: vec!["queued".into(), "running".into()], ..RunFilter::default() });
    loop {
        let page = ledger::list_runs(&db, &filter, 10).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        seen.extend(page.into_iter().map(|r| r.id));
    }
    let mut expected: Vec<Uuid> = runs.iter().map(|r| r.id).collect();
    expected.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(seen, expected);
    let one = RunFilter {
        exchange: Some("NASDAQ".into()),
        ticker: Some("T7".into()),
        session: Some(session()),
        ..RunFilter::default()
    };
    assert_eq!(ledger::list_runs(&db, &one, 10).await.unwrap().len(), 1);
    assert_eq!(ledger::queue_depths(&db).await.unwrap(), [("scrape".to_string(), "ready".to_string(), 25)]);
}

async fn migrating_twice_changes_nothing(db: Db) {
    assert_eq!(db.missing_migrations().await.unwrap(), 0);
    db.migrate().await.unwrap();
    db.read_clock().await.unwrap();
    let before = db.now();
    db.read_clock().await.unwrap();
    assert!(db.now() - before < TimeDelta::seconds(30), "the clock is measured, not invented");
}
