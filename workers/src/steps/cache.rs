//! Cache: predicts from series and staged bars with the champion, stores the forecast for good, and fills the cache.

use super::{Workshop, series_with_staged, store_failed};
use async_trait::async_trait;
use forecast::{Issued, Model};
use market::MIN_CLOSES;
use std::sync::Arc;
use workflows::stores::models;
use workflows::{Attempt, Effect, Report, StepBody};

pub(super) struct CacheForecast(pub Arc<Workshop>);

#[async_trait]
impl StepBody for CacheForecast {
    async fn run(&self, attempt: &Attempt) -> Report {
        let (stores, claim) = (&self.0.stores, &attempt.claim);
        let series = match series_with_staged(&stores.db, claim).await {
            Ok(Some(series)) if series.bars().len() >= MIN_CLOSES => series,
            Ok(found) => {
                let have = found.map_or(0, |series| series.bars().len());
                return Report::skip(
                    format!("{have} closes are known and {MIN_CLOSES} are needed for a forecast"),
                    vec![],
                );
            }
            Err(error) => return store_failed(&error),
        };
        let bytes = match models::champion(&stores.db, claim.ticker()).await {
            Ok(Some(hash)) => match stores.model_bytes(&hash).await {
                Ok(bytes) => bytes,
                Err(error) => return store_failed(&error),
            },
            Ok(None) => None,
            Err(error) => return store_failed(&error),
        };
        let (now, session) = (self.0.engine.market_clock.now(), claim.session);
        let predicted = self.0.compute.run(&attempt.cancel, move || {
            let model = bytes.as_deref().map(Model::from_bytes).transpose()?;
            forecast::issue_after(model.as_ref(), &series, Some(session), now)
        });
        match predicted.await {
            Ok(Ok(Issued { forecast, hindcast })) => {
                let note = format!(
                    "{} for {}: {} (last close {})",
                    claim.ticker(),
                    forecast.target,
                    forecast.point,
                    forecast.last_close
                );
                Report::done(note, vec![Effect::Forecast { forecast: Box::new(forecast), hindcast }])
            }
            Ok(Err(error)) => Report::retry("arithmetic", error.to_string(), None),
            Err(crate::compute::NotComputed::Cancelled) => Report::interrupted(),
            Err(error) => Report::retry("compute", error.to_string(), None),
        }
    }

    async fn committed(&self, attempt: &Attempt) {
        self.0.stores.refresh_forecast(attempt.claim.ticker()).await;
    }
}
