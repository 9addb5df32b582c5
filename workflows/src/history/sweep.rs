//! Sweeping: about once an hour, or by hand, one process looks where runs are due to go, removes what a sweep left that died, and has the
//! runs put away, one bundle or one month after the other.

use super::{History, HistoryError, bundle, on_a_thread};
use crate::engine::Engine;
use crate::ledger::history::{self, Due};
use crate::ledger::months::{self, Month, Split};
use crate::ledger::{BundleRow, Dropped, Ledger, bundle_table};
use chrono::TimeDelta;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The name of the duty in the ledger.
pub(crate) const DUTY: &str = "history";
/// How often somebody looks whether runs are due.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);
/// The first look comes when a start is over.
const FIRST_LOOK_AFTER: Duration = Duration::from_secs(60);
/// A leader that says nothing for so long is followed by another.
const REIGN: TimeDelta = TimeDelta::seconds(60);
/// How often it says something.
const RENEW_EVERY: Duration = Duration::from_secs(15);
/// By itself a sweep waits until a run is so long over its time, so that a bundle holds a week and not an hour.
const COMPANY: TimeDelta = TimeDelta::days(7);
/// Runs that may stay of a month that goes as a whole: they are moved while all others wait. A month with more loses single rows first.
const MOST_STAYING: usize = 1_000;
/// How often the same is tried again at once: when runs were pinned meanwhile, and when a month is in use.
pub(super) const TRIES: u32 = 4;

/// What one portion of a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// The bundle that was made.
    pub bundle: Option<BundleRow>,
    /// The month whose partitions were dropped.
    pub month: Option<String>,
    /// Months that are due but were in use: the next sweep tries again.
    pub busy: Vec<String>,
    /// Whether there may be more to do.
    pub more: bool,
}

/// What a sweep would do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WouldGo {
    /// Due runs by outcome.
    pub by_outcome: BTreeMap<String, i64>,
    /// Months whose partitions would be dropped.
    pub months: Vec<String>,
}

/// Where due runs are, and how they go.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Row by row, from this table.
    Rows(String),
    /// The whole month, but for what stays.
    Month(Month, Split),
}

/// Looks about once an hour until `stop`, and puts away what is due. Every process that fires schedules runs it; one at a time leads.
pub async fn keep_house(engine: Arc<Engine>, history: History, stop: CancellationToken) {
    let mut wait = FIRST_LOOK_AFTER;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => wait = LOOK_EVERY,
        }
        let swept = tokio::select! {
            biased;
            // On any line: what is half done is done again, or removed.
            () = stop.cancelled() => return,
            swept = history.sweep_in_company() => swept,
        };
        match swept {
            Ok(0) | Err(HistoryError::Busy) => {}
            Ok(runs) => tracing::info!(runs, instance = %engine.instance, "old runs were put away"),
            Err(error) => tracing::warn!(%error, "old runs could not be put away; trying again in an hour"),
        }
    }
}

impl History {
    /// What the loop does at each look: everything that is due, once it is worth a bundle; how many runs went.
    pub async fn sweep_in_company(&self) -> Result<i64, HistoryError> {
        let db = self.db()?;
        let now = self.ledger.now();
        let over = self.keep.due(now - COMPANY);
        let mut worth = false;
        for place in self.places(&self.keep.due(now)).await? {
            worth |= match place {
                Place::Month(..) => true,
                Place::Rows(table) => !history::due_runs(db, &table, &over, Uuid::nil(), 1).await?.is_empty(),
            };
        }
        let mut runs = 0;
        while worth {
            let swept = self.sweep().await?;
            runs += swept.bundle.as_ref().map_or(0, |bundle| bundle.runs);
            worth = swept.more;
        }
        Ok(runs)
    }

    /// For the one process that may open an embedded store, when it starts: whoever swept before is gone.
    pub async fn begin_alone(&self) -> Result<(), HistoryError> {
        Ok(history::free_duty(self.db()?, DUTY).await?)
    }

    /// One portion: removes what an earlier sweep left when it died, and puts away one bundle or one month.
    pub async fn sweep(&self) -> Result<Swept, HistoryError> {
        self.folder()?;
        self.leading(self.portion()).await
    }

    /// What a sweep would do, without doing it.
    pub async fn would_go(&self) -> Result<WouldGo, HistoryError> {
        self.folder()?;
        let due = self.keep.due(self.ledger.now());
        let mut would = WouldGo::default();
        for place in self.places(&due).await? {
            let table = match place {
                Place::Rows(table) => table,
                Place::Month(month, _) => {
                    would.months.push(month.to_string());
                    month.partition("run")
                }
            };
            for (outcome, count) in history::count_due(self.db()?, &table, &due).await? {
                *would.by_outcome.entry(outcome).or_default() += count;
            }
        }
        Ok(would)
    }

    /// Does `work` while no other process does such work; its lease is renewed meanwhile.
    async fn leading<T>(&self, work: impl Future<Output = Result<T, HistoryError>>) -> Result<T, HistoryError> {
        let (ledger, me) = (&self.ledger, self.chance.uuid());
        if !lead(ledger, me).await? {
            return Err(HistoryError::Busy);
        }
        let renewing = async {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                match lead(ledger, me).await {
                    Ok(false) => return,
                    Ok(true) => {}
                    Err(error) => tracing::debug!(%error, "the lead of a sweep could not be renewed"),
                }
            }
        };
        let done = tokio::select! {
            biased;
            done = work => done,
            () = renewing => Err(HistoryError::Busy),
        };
        if let Err(error) = ledger.step_down(DUTY, me).await {
            tracing::debug!(%error, "the lead of a sweep could not be given back; it lapses");
        }
        done
    }

    async fn portion(&self) -> Result<Swept, HistoryError> {
        let (mut passed, mut busy, mut refused) = (Vec::new(), Vec::new(), None);
        let mut tries = 0;
        loop {
            self.remove_leftovers().await?;
            let due = self.keep.due(self.ledger.now());
            let Some(place) = self.next_place(&due, &passed).await? else {
                return refused.map_or(Ok(Swept { busy, ..Swept::default() }), Err);
            };
            if let Place::Month(month, _) = &place {
                let rows = months::orphans(self.db()?, *month).await?;
                if rows > 0 {
                    // Everything else goes first; then this is said.
                    refused = Some(HistoryError::Orphans { month: month.to_string(), rows });
                    passed.push(*month);
                    continue;
                }
            }
            let prepared = match &place {
                Place::Month(_, split) if split.due == 0 => None,
                place => self.prepare(place, due).await?,
            };
            let (month, dropped) = match (&place, prepared.as_ref()) {
                (_, Some(prepared)) => (prepared.row.month.clone(), self.let_go(prepared).await?),
                // Nothing of it is due: nothing has to be put away first.
                (Place::Month(month, split), None) if split.due == 0 => {
                    (Some(month.to_string()), self.drop_month(None, *month, split, &due).await?)
                }
                (_, None) => (None, Dropped::Changed),
            };
            match dropped {
                Dropped::Yes => {
                    let bundle = prepared.map(|prepared| prepared.row);
                    note(bundle.as_ref(), month.as_deref());
                    return Ok(Swept { bundle, month, busy, more: true });
                }
                Dropped::Busy => {
                    tracing::warn!(month, "a month that is due to go is in use; trying again at the next sweep");
                    busy.extend(month);
                    // All months stand behind the same locks.
                    passed = months::partitions(self.db()?).await?.months;
                }
                Dropped::Changed if tries < TRIES => tries += 1,
                Dropped::Changed => return Err(HistoryError::Changed),
            }
        }
    }

    /// The next place from which something goes, but for months that are passed over.
    pub(super) async fn next_place(&self, due: &Due, passed: &[Month]) -> Result<Option<Place>, HistoryError> {
        let db = self.db()?;
        for place in self.places(due).await? {
            match &place {
                Place::Month(month, _) if passed.contains(month) => {}
                Place::Month(..) => return Ok(Some(place)),
                Place::Rows(table) if history::due_runs(db, table, due, Uuid::nil(), 1).await?.is_empty() => {}
                Place::Rows(_) => return Ok(Some(place)),
            }
        }
        Ok(None)
    }

    /// All places from which something may go. A month goes once its youngest possible run is old enough for a succeeded one.
    async fn places(&self, due: &Due) -> Result<Vec<Place>, HistoryError> {
        let db = self.db()?;
        let partitions = months::partitions(db).await?;
        let mut places: Vec<Place> = partitions.others.into_iter().map(Place::Rows).collect();
        for month in partitions.months.into_iter().filter(|month| month.end() <= due.succeeded) {
            let split = months::split(db, month, due).await?;
            places.push(match split.staying.len() > MOST_STAYING {
                true => Place::Rows(month.partition("run")),
                false => Place::Month(month, split),
            });
        }
        Ok(places)
    }

    /// Folders of bundles that nobody will finish. A folder that the ledger never heard of is left alone: it may be somebody's only copy.
    async fn remove_leftovers(&self) -> Result<(), HistoryError> {
        let (db, folder) = (self.db()?, self.folder()?);
        for name in bundle_table::abandon(db).await? {
            tracing::info!(bundle = name, "removing what an unfinished sweep left; its runs are still in the ledger");
            let (at, left) = (folder.to_owned(), name.clone());
            on_a_thread(move || bundle::remove(&at, &left)).await?;
            bundle_table::forget(db, &name).await?;
        }
        Ok(())
    }
}

async fn lead(ledger: &Ledger, me: Uuid) -> Result<bool, HistoryError> {
    let now = ledger.now();
    Ok(ledger.lead(DUTY, me, now, now + REIGN).await?)
}

fn note(bundle: Option<&BundleRow>, month: Option<&str>) {
    let runs = bundle.map_or(0, |bundle| bundle.runs);
    metrics::counter!("retainai_history_runs_total").increment(runs.unsigned_abs());
    tracing::info!(bundle = bundle.map(|bundle| &bundle.name), month, runs, "old runs went from the ledger");
}
