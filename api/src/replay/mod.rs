//! Making again what a past run made. In comes a run with the records it left, out goes for each thing it made whether the bits are the same.
//! Reads the archive as it was known then; writes nothing.

mod exchange;
pub(crate) mod finding;
mod ticker;

use crate::problem::Problem;
use finding::{Difference, Finding, Item, What, compare};
use forecast::{Global, Kernel, MarketReturns, Model};
use workflows::Db;
use workflows::db::StoreResult;
use workflows::ledger::{RunRow, StepRow};
use workflows::plan::Step;
use workflows::replay::{Past, PastRun};
use workflows::stores::made_with::{Made, Version, Written};
use workflows::stores::{globals, models};

/// Replays what the run made; an empty answer when it made nothing.
pub(crate) async fn replay(db: &Db, run: &RunRow, steps: &[StepRow]) -> Result<Vec<Item>, Problem> {
    let PastRun { steps, archived } = workflows::replay::of_run(db, run.id, steps).await?;
    let (mut items, mut retrained) = (vec![], None);
    for Past { step, written } in steps {
        let Some(Written { made, made_at }) = written else {
            items.push(Item::unrecorded(step));
            continue;
        };
        match &made {
            Made::Model { .. } => {
                let (found, model) = ticker::model(db, run, &made, made_at, archived).await?;
                items.extend(found);
                retrained = model;
            }
            Made::Forecasts { .. } => {
                items.extend(ticker::forecasts(db, run, &made, made_at, archived, retrained.take()).await?);
            }
            Made::Global { .. } => items.extend(exchange::global(db, run, &made, made_at).await?),
            Made::Archived { .. } => {}
        }
    }
    Ok(items)
}

/// Does `work` on a thread that may block.
async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::internal(&error))
}

/// The market that a step knew: that of the candidates whose hash is the recorded one, else the likeliest.
fn market_of(candidates: impl Iterator<Item = MarketReturns>, hash: &str) -> MarketReturns {
    let mut likeliest = None;
    for market in candidates {
        if market.hash() == hash {
            return market;
        }
        likeliest.get_or_insert(market);
    }
    likeliest.unwrap_or_default()
}

/// The hashes of what was read, then and now.
fn inputs(step: Step, version: &Version, then: (&str, &str), now: (&str, &str)) -> Item {
    let differences: Vec<Difference> =
        [compare("input_hash", then.0, now.0), compare("market_hash", then.1, now.1)].into_iter().flatten().collect();
    Item::of(step, What::Inputs, then.0, version, Finding::of(differences))
}

/// Said of what was made from inputs that are not what they were.
fn other_inputs() -> Finding {
    Finding::NotReplayable("what it was made from could not be read again as it was; see the inputs".to_owned())
}

/// A global model by its hash, to compute by the arithmetic of that version, or why there is none.
async fn global_model(db: &Db, hash: &str, version: &Version) -> StoreResult<Result<Global, String>> {
    let Some(bytes) = globals::weights(db, hash).await? else {
        let kept = "those of the newest four are kept";
        return Ok(Err(format!("the weights of the global model {hash} are gone; {kept}")));
    };
    let kernel = Kernel::of_version(version.kernel);
    let from = |bytes: &[u8]| Global::from_bytes(bytes).map(|global| global.with_kernel(kernel));
    Ok(read(&bytes, hash, "global model", from, Global::hash))
}

/// A ticker's own model by its hash, or why there is none.
async fn own_model(db: &Db, hash: &str, which: &str) -> StoreResult<Result<Model, String>> {
    let Some(bytes) = models::weights(db, hash).await? else {
        let kept = "those of the champion, its parent and the last three are kept";
        return Ok(Err(format!("the weights of the {which} {hash} are gone; {kept}")));
    };
    Ok(read(&bytes, hash, which, Model::from_bytes, Model::hash))
}

fn read<M>(
    bytes: &[u8],
    hash: &str,
    which: &str,
    from: impl Fn(&[u8]) -> Result<M, forecast::ForecastError>,
    hash_of: impl Fn(&M) -> &str,
) -> Result<M, String> {
    let model = from(bytes).map_err(|error| format!("the {which} {hash} cannot be read: {error}"))?;
    match hash_of(&model) == hash {
        true => Ok(model),
        false => Err(format!("the registry holds other bytes than those of the {which} {hash}")),
    }
}
