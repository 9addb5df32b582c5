//! The compute pool: one permit per core. Training is blocking work; it must neither starve the async threads nor itself.

use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Runs blocking arithmetic, at most one piece per core. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ComputePool {
    permits: Arc<Semaphore>,
}

/// The work was not done: the process is stopping, or the work panicked.
#[derive(Debug, thiserror::Error)]
pub enum NotComputed {
    /// Cancelled while it waited for a core.
    #[error("stopped before it began")]
    Cancelled,
    /// It panicked.
    #[error("the computation broke off: {0}")]
    Panicked(String),
}

impl ComputePool {
    /// A pool of `cores` permits.
    pub fn new(cores: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(cores.max(1))) }
    }

    /// Does `work` on a blocking thread as soon as a core is free, unless `cancel` comes first.
    pub async fn run<T: Send + 'static>(
        &self,
        cancel: &CancellationToken,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotComputed> {
        let permit = tokio::select! {
            permit = self.permits.clone().acquire_owned() => permit.map_err(|_| NotComputed::Cancelled)?,
            () = cancel.cancelled() => return Err(NotComputed::Cancelled),
        };
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        })
        .await
        .map_err(|e| NotComputed::Panicked(e.to_string()))
    }
}
