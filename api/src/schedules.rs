//! `/v1/schedules`: when runs start by themselves. Read only for now.

use crate::Shared;
use crate::problem::Problem;
use crate::words::{ExchangeName, Tag};
use chrono::NaiveDate;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::sync::Arc;
use workflows::ledger;

/// When runs of an exchange's tickers start by themselves.
#[derive(Debug, Object)]
#[oai(rename = "Schedule", skip_serializing_if_is_none)]
struct ScheduleView {
    /// Its name.
    id: String,
    /// Whose active tickers.
    exchange: ExchangeName,
    /// What each run goes through.
    plan: String,
    /// When, `HH:MM` in `time_zone`, on each day on which the exchange may trade.
    local_time: String,
    /// IANA zone of the exchange.
    time_zone: String,
    /// What happens to sessions missed while nothing ran: `skip`, `latest` or `all`.
    catch_up: String,
    /// Whether it is silent.
    paused: bool,
    /// The newest session for which it has fired.
    last_session: Option<NaiveDate>,
}

/// All schedules.
#[derive(Debug, Object)]
struct SchedulePage {
    /// All of them.
    items: Vec<ScheduleView>,
}

pub(crate) struct Schedules;

#[OpenApi(tag = "Tag::Runs")]
impl Schedules {
    /// The schedules.
    #[oai(path = "/v1/schedules", method = "get", operation_id = "list_schedules")]
    async fn list(&self, shared: Data<&Arc<Shared>>) -> Result<Json<SchedulePage>, Problem> {
        let db = &shared.engine().db;
        let mut items = Vec::new();
        for row in ledger::schedules(db).await? {
            items.push(ScheduleView {
                last_session: ledger::last_tick(db, &row.id).await?,
                id: row.id,
                exchange: row.exchange.into(),
                plan: row.plan,
                local_time: row.local_time.format("%H:%M").to_string(),
                time_zone: row.exchange.zone().name().to_owned(),
                catch_up: row.catch_up.as_str().to_owned(),
                paused: row.paused,
            });
        }
        Ok(Json(SchedulePage { items }))
    }
}
