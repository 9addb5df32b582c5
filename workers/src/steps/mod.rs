//! The five steps of the daily chain, the pre-training and the settlement of an exchange, one file per step. Each body reads, computes and answers; what it wants written are effects, which
//! join the transaction that completes it.

mod archive;
mod cache;
mod cleanup;
mod finetune;
mod judged;
mod minds;
mod pretrain;
mod scrape;
mod settle;

pub use minds::Globals;

use crate::compute::ComputePool;
use crate::sources::Sources;
use forecast::Kernel;
use market::Series;
use std::sync::Arc;
use std::time::Duration;
use workflows::db::StoreResult;
use workflows::ledger::Claim;
use workflows::plan::Step;
use workflows::stores::made_with::{Known, Staged, Version};
use workflows::stores::{archive as archive_store, staging};
use workflows::{Bodies, Db, Engine, Report, StepBody, Stores};

/// What the step bodies of one process share.
pub struct Workshop {
    /// The engine whose attempts these are; its clocks.
    pub engine: Arc<Engine>,
    /// Archive, registry and cache.
    pub stores: Stores,
    /// Where prices come from.
    pub sources: Sources,
    /// Where arithmetic is done.
    pub compute: ComputePool,
    /// Whether no request may leave this program, whatever a run says.
    pub offline: bool,
    /// Global models read last.
    pub globals: Globals,
    /// How many days of history a new ticker asks for.
    pub history_days: u64,
    /// A ticker's model is continued every so many sessions.
    pub finetune_every: usize,
    /// Who does the arithmetic of the networks.
    pub kernel: Kernel,
}

/// The steps that have a body here.
pub const CARRIED_OUT: [Step; 7] =
    [Step::Scrape, Step::Finetune, Step::Cache, Step::Archive, Step::Cleanup, Step::Pretrain, Step::Settle];

/// The bodies of `steps`, to be handed to the engine.
pub fn bodies(workshop: &Arc<Workshop>, steps: &[Step]) -> Bodies {
    steps
        .iter()
        .filter_map(|step| {
            let body: Arc<dyn StepBody> = match step {
                Step::Scrape => Arc::new(scrape::Scrape(workshop.clone())),
                Step::Finetune => Arc::new(finetune::Finetune(workshop.clone())),
                Step::Cache => Arc::new(cache::CacheForecast(workshop.clone())),
                Step::Archive => Arc::new(archive::Archive(workshop.clone())),
                Step::Cleanup => Arc::new(cleanup::Cleanup(workshop.clone())),
                Step::Pretrain => Arc::new(pretrain::Pretrain(workshop.clone())),
                Step::Settle => Arc::new(settle::Settle(workshop.clone())),
                // Of other plans; whoever has their bodies hands them in.
                Step::Digest | Step::Deliver => return None,
            };
            Some((*step, body))
        })
        .collect()
}

/// The ticker's archived series with the run's staged bars laid over it, and how it is found again; `None` when there is neither.
async fn series_with_staged(db: &Db, claim: &Claim) -> StoreResult<Option<(Series, Known)>> {
    let (archived, version) = archive_store::series_and_version(db, claim.ticker()).await?.unzip();
    let staged = staging::get(db, claim.run).await?;
    let known = Known { series: version, staged: staged.as_ref().and_then(Staged::of) };
    let series = match (archived, staged) {
        (archived, None) => archived,
        (archived, Some(batch)) => {
            let base = archived.or_else(|| Series::new(claim.ticker().clone(), Vec::new(), Vec::new()).ok());
            base.map(|series| series.with(&batch.bars, &batch.factors))
        }
    };
    Ok(series.map(|series| (series, known)))
}

/// The arithmetic of this program, as results record it.
fn version(kernel: Kernel, recipe: Option<String>) -> Version {
    Version { program: forecast::VERSION.to_owned(), kernel: kernel.version(), recipe }
}

/// Our own stores failed: it may pass.
fn store_failed(error: &workflows::db::StoreError) -> Report {
    if error.is_transient() {
        Report::retry("store", error.to_string(), None)
    } else {
        Report::retry("store", format!("{error} (this may not heal by itself)"), Some(Duration::from_secs(5)))
    }
}
