//! Cache: predicts from series and staged bars with the ticker's models, stores the served forecast and those of the others for good, and fills
//! the cache.

use super::{Workshop, series_with_staged, store_failed, version};
use async_trait::async_trait;
use forecast::{ForecastError, Issued, Models, Predicted};
use market::{Forecast, MIN_CLOSES};
use std::sync::Arc;
use workflows::stores::forecasts::How;
use workflows::stores::{forecasts, made_with::Made};
use workflows::{Attempt, Effect, Report, StepBody};

pub(super) struct CacheForecast(pub Arc<Workshop>);

#[async_trait]
impl StepBody for CacheForecast {
    async fn run(&self, attempt: &Attempt) -> Report {
        let (stores, claim) = (&self.0.stores, &attempt.claim);
        let (ticker, exchange) = (claim.ticker(), claim.ticker().exchange());
        let (series, known) = match series_with_staged(&stores.db, claim).await {
            Ok(Some((series, known))) if series.bars().len() >= MIN_CLOSES => (series, known),
            Ok(found) => {
                let have = found.map_or(0, |(series, _)| series.bars().len());
                return Report::skip(
                    format!("{have} closes are known and {MIN_CLOSES} are needed for a forecast"),
                    vec![],
                );
            }
            Err(error) => return store_failed(&error),
        };
        let (global, own, market) =
            match (self.0.global(exchange).await, self.0.own(ticker).await, self.0.market(exchange).await) {
                (Ok(global), Ok(own), Ok(market)) => (global, own, market),
                (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => return store_failed(&error),
            };
        let doubts = match self.0.doubts(ticker).await {
            Ok(doubts) => doubts,
            Err(error) => return store_failed(&error),
        };
        let (now, session) = (self.0.engine.market_clock.now(), claim.session);
        let newest = series.last_session().map_or(session, |last| session.max(last));
        let outlook = match self.0.outlook(exchange, newest, series.bars()).await {
            Ok(outlook) => outlook,
            Err(error) => return store_failed(&error),
        };
        let (made_at, kernel) = (self.0.engine.ledger.now(), self.0.kernel);
        let predicted = self.0.compute.run(&attempt.cancel, move || {
            let market = market.until(series.last_session().unwrap_or_default());
            let models = Models { global: global.as_deref(), own: own.as_ref() };
            let issued = forecast::issue(models, &series, &market, Some(session), now, &doubts, Some(&outlook))?;
            let made = Made::Forecasts {
                version: version(kernel, global.as_ref().map(|global| global.recipe().id())),
                known,
                market_hash: market.hash(),
                input_hash: issued.predicted.served.input_hash.clone(),
                session,
                doubts,
                outlook: Some(outlook),
                global: global.map(|global| global.hash().to_owned()),
                own: own.map(|own| own.hash().to_owned()),
                forecasts: vec![],
            };
            Ok::<_, ForecastError>((issued, made))
        });
        match predicted.await {
            Ok(Ok((Issued { predicted, hindcast, opens_at }, made))) => {
                let served = &predicted.served;
                let note = format!(
                    "{ticker} for {}: {} (last close {}), {}: {}",
                    served.target,
                    served.point,
                    served.last_close,
                    served.made_by.as_str(),
                    served.reason
                );
                let how = How { hindcast, served: true, opens_at, made_at };
                Report::done(note, with_record(effects(predicted, how), made))
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

/// Adds the record of what they were made with.
fn with_record(mut effects: Vec<Effect>, mut made: Made) -> Vec<Effect> {
    if let Made::Forecasts { forecasts, .. } = &mut made {
        let id = |effect: &Effect| match effect {
            Effect::Forecast { forecast, .. } => Some(forecasts::id_of(forecast)),
            _ => None,
        };
        *forecasts = effects.iter().filter_map(id).collect();
    }
    effects.push(Effect::MadeWith(Box::new(made)));
    effects
}

/// The served forecast, and what the others said: all are kept, before the outcome, to be scored.
fn effects(predicted: Predicted, how: How) -> Vec<Effect> {
    let effect =
        |forecast: Forecast, served| Effect::Forecast { forecast: Box::new(forecast), how: How { served, ..how } };
    let version = predicted.served.model_version.clone();
    let others = [predicted.own, predicted.global].into_iter().flatten().filter(|other| other.model_version != version);
    let mut effects: Vec<Effect> = others.map(|other| effect(other, false)).collect();
    effects.push(effect(predicted.served, true));
    effects
}
