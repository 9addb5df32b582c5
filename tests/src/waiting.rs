//! Waiting for a sign rather than for a time.

use std::time::{Duration, Instant};

/// Between two looks. Short, because a look is cheap and a test should end as soon as its sign is there.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks `probe` until it answers `Some`, and fails the test when `limit` passes first. `what` completes the
/// sentence "waited 5s for …".
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // A look that hangs (a server that is stopped, not gone) must not outlast the limit either.
        match tokio::time::timeout(left.max(PAUSE), probe()).await {
            Ok(Some(found)) => return found,
            Ok(None) if !left.is_zero() => tokio::time::sleep(PAUSE).await,
            _ => panic!("waited {limit:?} for {what}"),
        }
    }
}
