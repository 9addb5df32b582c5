//! What happens to tickers whose run of yesterday is still open when the schedule fires today: decided ticker by ticker, on the real scheduler, on
//! PostgreSQL, SQLite and in memory.

use crate::both::on_all;
use crate::conformance::{ending, now};
use chrono::{DateTime, TimeDelta, Utc};
use market::{Exchange, Ticker};
use std::sync::Arc;
use uuid::Uuid;
use workflows::clock::FixedClock;
use workflows::ledger::{CatchUp, Overlap, ScheduleRow};
use workflows::queue::MemoryQueue;
use workflows::scheduler::{default_schedules, look};
use workflows::{Engine, EngineSettings, Ledger, Outcome};

on_all!(
    under_skip_only_the_busy_ticker_is_left_out,
    under_queue_one_the_newest_waits,
    under_queue_one_every_missed_session_waits_where_all_are_wanted,
    under_cancel_old_what_is_open_ends,
);

/// A market of three tickers, of which C is paused: its runs stay open.
struct Market {
    engine: Arc<Engine>,
    clock: Arc<FixedClock>,
}

/// Quarter past six in New York, in March after the change of clocks.
fn evening(day: u32) -> DateTime<Utc> {
    format!("2024-03-{day}T22:16:00Z").parse().unwrap()
}

impl Market {
    async fn new(ledger: Ledger, overlap: Overlap, catch_up: CatchUp) -> Self {
        let tickers = ["A", "B", "C"].map(|symbol| Ticker::new(Exchange::Nasdaq, symbol).unwrap());
        match &ledger {
            Ledger::Sql(db) => workflows::stores::tickers::add(db, &tickers, now()).await.unwrap(),
            Ledger::Memory(memory) => memory.add_tickers(&tickers),
        }
        ledger.add_schedule(&ScheduleRow { overlap, catch_up, ..default_schedules()[0].clone() }).await.unwrap();
        ledger.pause("ticker", "NASDAQ:C", "its page is broken", now()).await.unwrap();
        let clock = Arc::new(FixedClock::default());
        let engine = Engine::new(ledger, Arc::new(MemoryQueue::default()), clock.clone(), EngineSettings::default());
        Self { engine, clock }
    }

    /// The evening comes, the schedule fires, and everything that may be carried out is.
    async fn evening(&self, day: u32) {
        self.clock.set(evening(day));
        look(&self.engine, true).await.unwrap();
        self.carry_out().await;
    }

    async fn carry_out(&self) {
        let ledger = &self.engine.ledger;
        for _ in 0..20 {
            let at = ledger.now() + TimeDelta::seconds(1);
            // A finished step marks the next one sent: its message is the worker's to push, and here nobody does.
            ledger.unsend(at + TimeDelta::seconds(1)).await.unwrap();
            let room: Vec<_> = ledger.unsent_queues().await.unwrap().into_iter().map(|queue| (queue, 50)).collect();
            let messages = ledger.take_due(&room, at).await.unwrap();
            let claims = ledger.claim(&messages, Uuid::nil(), "test", at, at + TimeDelta::seconds(20)).await.unwrap();
            let done = |claim| ending(claim, Outcome::Done("ok".into()), &[]);
            ledger.complete(&claims.iter().flatten().map(done).collect::<Vec<_>>(), at).await.unwrap();
        }
    }

    /// The runs of a ticker, oldest session first: session and state.
    async fn runs(&self, symbol: &str, days: &[u32]) -> Vec<String> {
        let ledger = &self.engine.ledger;
        let mut found = Vec::new();
        for run in self.all().await {
            let (row, ..) = ledger.get_run(run).await.unwrap().unwrap();
            if row.ticker.as_deref() == Some(symbol) {
                found.push(format!("{} {}", row.session.format("%d"), row.state));
            }
        }
        found.sort();
        found.retain(|run| days.iter().any(|day| run.starts_with(&day.to_string())));
        found
    }

    async fn all(&self) -> Vec<Uuid> {
        match &self.engine.ledger {
            Ledger::Memory(memory) => memory.everything().into_iter().map(|(run, ..)| run.id).collect(),
            Ledger::Sql(db) => {
                let filter = workflows::ledger::RunFilter::default();
                workflows::ledger::list_runs(db, &filter, 100).await.unwrap().into_iter().map(|run| run.id).collect()
            }
        }
    }

    async fn last_tick(&self) -> Option<u32> {
        let last = self.engine.ledger.last_tick("nasdaq-daily").await.unwrap();
        last.map(|day| chrono::Datelike::day(&day))
    }
}

const DAYS: [u32; 3] = [12, 13, 14];

async fn under_skip_only_the_busy_ticker_is_left_out(ledger: Ledger) {
    let market = Market::new(ledger, Overlap::Skip, CatchUp::Latest).await;
    for day in DAYS {
        market.evening(day).await;
    }
    assert_eq!(market.runs("A", &DAYS).await, ["12 succeeded", "13 succeeded", "14 succeeded"], "C holds up nobody");
    assert_eq!(market.runs("C", &DAYS).await, ["12 queued"]);
    // When all are busy, the tick is skipped, and the next one is not.
    market.engine.ledger.pause("exchange", "NASDAQ", "holiday", now()).await.unwrap();
    for day in [15, 18] {
        market.evening(day).await;
    }
    assert_eq!((market.runs("A", &[15, 18]).await, market.last_tick().await), (vec!["15 queued".to_owned()], Some(18)));
    assert!(market.engine.ledger.open_ticks().await.unwrap().is_empty());
}

async fn under_queue_one_the_newest_waits(ledger: Ledger) {
    let market = Market::new(ledger, Overlap::QueueOne, CatchUp::Latest).await;
    for day in DAYS {
        market.evening(day).await;
    }
    assert_eq!(market.runs("B", &DAYS).await, ["12 succeeded", "13 succeeded", "14 succeeded"], "C holds up nobody");
    let open = market.runs("C", &DAYS).await;
    assert_eq!(open[2], "14 queued", "the newest waits; {open:?}");
    market.engine.ledger.resume("ticker", "NASDAQ:C").await.unwrap();
    for _ in 0..3 {
        market.engine.ledger.release(market.engine.ledger.now(), 100).await.unwrap();
        market.carry_out().await;
    }
    assert_eq!(market.runs("C", &DAYS).await, ["12 cancelled", "13 cancelled", "14 succeeded"]);
}

async fn under_queue_one_every_missed_session_waits_where_all_are_wanted(ledger: Ledger) {
    let market = Market::new(ledger, Overlap::QueueOne, CatchUp::All).await;
    market.evening(12).await;
    // The thirteenth is slept through.
    market.evening(14).await;
    market.evening(14).await;
    assert_eq!(market.runs("A", &DAYS).await, ["12 succeeded", "13 succeeded", "14 succeeded"]);
    market.engine.ledger.resume("ticker", "NASDAQ:C").await.unwrap();
    for _ in 0..3 {
        market.engine.ledger.release(market.engine.ledger.now(), 100).await.unwrap();
        market.carry_out().await;
    }
    assert_eq!(market.runs("C", &DAYS).await, ["12 succeeded", "13 succeeded", "14 succeeded"]);
}

async fn under_cancel_old_what_is_open_ends(ledger: Ledger) {
    let market = Market::new(ledger, Overlap::CancelOld, CatchUp::Latest).await;
    for day in [12, 13] {
        market.evening(day).await;
    }
    assert_eq!(market.runs("A", &DAYS).await, ["12 succeeded", "13 succeeded"]);
    market.engine.ledger.resume("ticker", "NASDAQ:C").await.unwrap();
    for _ in 0..3 {
        market.engine.ledger.release(market.engine.ledger.now(), 100).await.unwrap();
        market.carry_out().await;
    }
    assert_eq!(market.runs("C", &DAYS).await, ["12 cancelled", "13 succeeded"]);
}
