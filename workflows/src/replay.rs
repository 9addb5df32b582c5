//! What there is to replay of a run. In come its steps and the records they left, out comes for each step that made something what it was made
//! with, or the word that nobody noted it.

use crate::db::{Db, StoreResult};
use crate::ledger::StepRow;
use crate::plan::Step;
use crate::stores::made_with::{self, Made, Written};
use uuid::Uuid;

/// The steps that make what can be made again.
const MAKERS: [Step; 3] = [Step::Finetune, Step::Cache, Step::Pretrain];

/// One step that made something.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Which.
    pub step: Step,
    /// What it was made with; `None`: it was made before this was recorded.
    pub written: Option<Written>,
}

/// What a run has made, in the order of its steps; and as which version of the series its bars were archived, if they were.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRun {
    /// The steps that made something.
    pub steps: Vec<Past>,
    /// The version.
    pub archived: Option<i64>,
}

/// Reads it for the run of that id and steps.
pub async fn of_run(db: &Db, run: Uuid, steps: &[StepRow]) -> StoreResult<PastRun> {
    let mut records = made_with::of_run(db, run).await?;
    let archived = match records.get(Step::Archive.as_str()).map(|written| &written.made) {
        Some(Made::Archived { series }) => Some(*series),
        _ => None,
    };
    let made = steps.iter().filter(|row| row.state == "done").filter_map(|row| row.step.parse().ok());
    let steps = made
        .filter(|step| MAKERS.contains(step))
        .map(|step| Past { step, written: records.remove(step.as_str()) })
        .collect();
    Ok(PastRun { steps, archived })
}
