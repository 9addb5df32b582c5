//! Putting runs away in two halves: announce a bundle, write it, make it durable, read it back; and only then drop its runs, in the
//! transaction that notes it. Whoever dies in between leaves a folder that the next sweep removes.

use super::sweep::{Place, TRIES};
use super::{History, HistoryError, bundle, on_a_thread};
use crate::db::{Db, StoreResult, Ts};
use crate::ledger::history::{self, Due};
use crate::ledger::months::{self, Month, Split};
use crate::ledger::{BundleRow, Dropped, bundle_table, lines};
use chrono::{DateTime, Utc};
use std::time::Duration;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Runs in a bundle of single rows: what one transaction drops.
const PER_BUNDLE: i64 = 5_000;
/// Runs whose rows are in memory at once.
const PER_PAGE: usize = 500;
/// Between two tries to lock a month.
const LOCK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// A bundle that is durable and was read back, while its runs are still in the ledger.
#[derive(Debug)]
pub struct Prepared {
    pub(super) row: BundleRow,
    counts: history::Counts,
    due: Due,
    goes: Goes,
}

#[derive(Debug)]
enum Goes {
    Runs(Vec<Uuid>),
    Month(Month, Split),
}

impl History {
    /// The first half of putting away, for tests that look at what is between: the oldest due runs as a durable bundle, still in the ledger too.
    pub async fn prepare_next(&self) -> Result<Option<Prepared>, HistoryError> {
        let due = self.keep.due(self.ledger.now());
        match self.next_place(&due, &[]).await? {
            Some(place) => self.prepare(&place, due).await,
            None => Ok(None),
        }
    }

    pub(super) async fn prepare(&self, place: &Place, due: Due) -> Result<Option<Prepared>, HistoryError> {
        let (db, folder) = (self.db()?, self.folder()?.to_owned());
        let installation = db.installation().await?;
        let (month, runs) = match place {
            Place::Rows(table) => (None, history::due_runs(db, table, &due, Uuid::nil(), PER_BUNDLE).await?),
            Place::Month(month, _) => (Some(month.to_string()), Vec::new()),
        };
        let now = self.ledger.now();
        let name = self.new_name(month.as_deref(), runs.first());
        bundle_table::announce(db, &name, month.as_deref(), now).await?;
        let (to, mut from) = mpsc::channel::<lines::Page>(2);
        let (at, called) = (folder.clone(), name.clone());
        let writing = tokio::task::spawn_blocking(move || {
            let mut writer = bundle::Writer::begin(&at, &called)?;
            while let Some(page) = from.blocking_recv() {
                writer.add(page)?;
            }
            Ok::<_, HistoryError>(writer)
        });
        let sent = match place {
            Place::Rows(_) => send_runs(db, &runs, &to).await,
            Place::Month(month, split) => send_month(db, *month, &split.staying, &due, &to).await,
        };
        drop(to);
        let writer = writing.await.unwrap_or_else(|error| Err(HistoryError::Stopped(error.to_string())))?;
        sent?;
        let (called, of) = (name.clone(), month.clone());
        let finished = on_a_thread(move || writer.finish(&called, installation, of, Ts::from(now))).await?;
        let Some((manifest, manifest_sha256)) = finished else { return Ok(None) };
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let counts = manifest.counts();
        let row = BundleRow {
            name,
            month,
            runs: whole(counts.runs),
            bytes: whole(manifest.bytes()),
            manifest_sha256,
            oldest: manifest.oldest,
            newest: manifest.newest,
            first_run: manifest.first_run,
            last_run: manifest.last_run,
            created_at: Ts::from(now),
        };
        let goes = match place {
            Place::Rows(_) => Goes::Runs(runs),
            // None of those that stayed then was written; what stays is compared again under the lock, and whoever comes meanwhile is pinned and
            // stays. So if as many go as were written, they are the same ones.
            Place::Month(month, split) => Goes::Month(*month, Split { due: row.runs, staying: split.staying.clone() }),
        };
        Ok(Some(Prepared { row, counts, due, goes }))
    }

    /// The second half: drops the runs of a bundle, all that belongs to them, and notes the bundle, in one transaction.
    pub async fn let_go(&self, prepared: &Prepared) -> Result<Dropped, HistoryError> {
        let Prepared { row, counts, due, goes } = prepared;
        match goes {
            Goes::Runs(runs) => Ok(match history::drop_runs(self.db()?, row, runs, counts, due).await? {
                true => Dropped::Yes,
                false => Dropped::Changed,
            }),
            Goes::Month(month, split) => self.drop_month(Some(row), *month, split, due).await,
        }
    }

    pub(super) async fn drop_month(
        &self,
        made: Option<&BundleRow>,
        month: Month,
        split: &Split,
        due: &Due,
    ) -> Result<Dropped, HistoryError> {
        let db = self.db()?;
        for _ in 1..TRIES {
            match months::drop_month(db, made, month, split, due).await? {
                Dropped::Busy => tokio::time::sleep(LOCK_AGAIN_AFTER).await,
                other => return Ok(other),
            }
        }
        Ok(months::drop_month(db, made, month, split, due).await?)
    }

    /// `month-2024-03-1a2b3c4d`, or `runs-2024-03-05-1a2b3c4d` by the day on which its first run was started.
    fn new_name(&self, month: Option<&str>, first: Option<&Uuid>) -> String {
        let mark = format!("{:08x}", self.chance.uuid().as_u128() >> 96);
        match (month, first) {
            (Some(month), _) => format!("month-{month}-{mark}"),
            (None, first) => {
                let millis = first.map_or(0, |id| i64::try_from(id.as_u128() >> 80).unwrap_or(0));
                let day = DateTime::<Utc>::from_timestamp_millis(millis).unwrap_or_default().date_naive();
                format!("runs-{day}-{mark}")
            }
        }
    }
}

type Pages = mpsc::Sender<lines::Page>;

/// A receiver that has gone says itself why.
async fn send_runs(db: &Db, runs: &[Uuid], to: &Pages) -> StoreResult<()> {
    for page in runs.chunks(PER_PAGE) {
        if to.send(lines::read(db, page).await?).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Without those that stayed when it began, even if they were unpinned meanwhile.
async fn send_month(db: &Db, month: Month, staying: &[Uuid], due: &Due, to: &Pages) -> StoreResult<()> {
    let (table, mut after) = (month.partition("run"), month.before());
    loop {
        let mut runs = history::due_runs(db, &table, due, after, PER_PAGE as i64).await?;
        let Some(last) = runs.last() else { return Ok(()) };
        after = *last;
        runs.retain(|run| staying.binary_search(run).is_err());
        if to.send(lines::read(db, &runs).await?).await.is_err() {
            return Ok(());
        }
    }
}
