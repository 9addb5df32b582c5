//! Cleanup: closes every run, however it ended. Deletes the staging, and copies the newest forecast into the cache once more, in case the
//! process that stored it died before it could.

use super::Workshop;
use async_trait::async_trait;
use std::sync::Arc;
use workflows::{Attempt, Effect, Report, StepBody};

pub(super) struct Cleanup(pub Arc<Workshop>);

#[async_trait]
impl StepBody for Cleanup {
    async fn run(&self, attempt: &Attempt) -> Report {
        self.0.stores.refresh_forecast(attempt.claim.ticker()).await;
        Report::done("staging deleted", vec![Effect::DropStaging])
    }
}
