//! How a duty that every replica looks after goes on: again each second until it is told to stop; what fails is said once, and tried again.

use crate::db::StoreResult;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often a duty is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One duty, and whether its last look failed.
pub(crate) struct Duty {
    what: &'static str,
    failing: bool,
    stop: CancellationToken,
}

impl Duty {
    /// `what` is said when it fails: `the exchanges could not be looked after`.
    pub(crate) fn new(what: &'static str, stop: CancellationToken) -> Self {
        Self { what, failing: false, stop }
    }

    /// Whether there is another look.
    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.is_cancelled()
    }

    /// Takes what came of a look, and waits for the next one.
    pub(crate) async fn looked(&mut self, came: StoreResult<()>) {
        if let Err(error) = &came
            && !self.failing
        {
            tracing::warn!(%error, "{}; trying again", self.what);
        }
        self.failing = came.is_err();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
