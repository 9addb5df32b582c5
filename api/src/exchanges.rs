//! `/v1/exchanges`: the exchanges whose equities we forecast.

use crate::Shared;
use crate::problem::Problem;
use crate::words::{ExchangeName, Tag};
use chrono::NaiveDate;
use market::Exchange;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::sync::Arc;

/// An exchange and the hours of its regular session.
#[derive(Debug, Object)]
#[oai(rename = "ExchangeFacts")]
struct ExchangeView {
    /// Its name.
    exchange: ExchangeName,
    /// The IANA zone in which its dates and hours are meant.
    time_zone: String,
    /// ISO 4217 code of its prices.
    currency: String,
    /// When the session opens, `HH:MM`.
    opens: String,
    /// When the session closes, `HH:MM`.
    closes: String,
    /// Minutes after the close until a bar counts as final.
    final_after_minutes: i64,
    /// The newest day on which it may have traded and whose close is final now. A holiday looks like a session here.
    latest_final_session: NaiveDate,
}

/// All exchanges.
#[derive(Debug, Object)]
struct ExchangePage {
    /// All of them.
    items: Vec<ExchangeView>,
}

pub(crate) struct Exchanges;

#[OpenApi(tag = "Tag::Tickers")]
impl Exchanges {
    /// The exchanges we forecast.
    #[oai(path = "/v1/exchanges", method = "get", operation_id = "list_exchanges")]
    async fn list(&self, shared: Data<&Arc<Shared>>) -> Result<Json<ExchangePage>, Problem> {
        let now = shared.engine().market_clock.now();
        let view = |exchange: Exchange| ExchangeView {
            exchange: exchange.into(),
            time_zone: exchange.zone().name().to_owned(),
            currency: exchange.currency().to_owned(),
            opens: exchange.opens().format("%H:%M").to_string(),
            closes: exchange.closes().format("%H:%M").to_string(),
            final_after_minutes: exchange.settles_after().num_minutes(),
            latest_final_session: market::latest_final_session(exchange, now),
        };
        Ok(Json(ExchangePage { items: Exchange::ALL.into_iter().map(view).collect() }))
    }
}
