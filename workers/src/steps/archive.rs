//! Archive: moves the run's staged bars into `price_raw`, `price_daily` and `series`. The move is one effect, inside the completion.

use super::{Workshop, store_failed};
use async_trait::async_trait;
use std::sync::Arc;
use workflows::stores::staging;
use workflows::{Attempt, Effect, Report, StepBody};

pub(super) struct Archive(pub Arc<Workshop>);

#[async_trait]
impl StepBody for Archive {
    async fn run(&self, attempt: &Attempt) -> Report {
        match staging::get(&self.0.stores.db, attempt.claim.run).await {
            Ok(Some(batch)) => {
                let note = format!("{} bars from {} archived", batch.bars.len(), batch.source);
                Report::done(note, vec![Effect::ArchiveStaged])
            }
            Ok(None) => Report::skip("nothing is staged", vec![]),
            Err(error) => store_failed(&error),
        }
    }
}
