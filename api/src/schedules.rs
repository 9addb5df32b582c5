//! `/v1/schedules`: when runs start by themselves, and what an operator may change about it.

use crate::Shared;
use crate::door::By;
use crate::paging::{Pair, after, cursor, page};
use crate::problem::Problem;
use crate::schedule_view::{ScheduleView, TickPage, TickView};
use crate::words::{CatchUpName, OverlapName, Tag};
use chrono::{NaiveDate, NaiveTime};
use market::latest_final_session;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use std::sync::Arc;
use workflows::ledger::{self, ScheduleRow, Steering};
use workflows::stores::sessions;

/// All schedules.
#[derive(Debug, Object)]
struct SchedulePage {
    /// All of them.
    items: Vec<ScheduleView>,
}

/// What is to change; what is absent stays.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct ChangeSchedule {
    /// When, `HH:MM` in the exchange's zone.
    local_time: Option<String>,
    /// What happens to missed sessions.
    catch_up: Option<CatchUpName>,
    /// What happens to a ticker whose run of an earlier session has not ended.
    overlap: Option<OverlapName>,
}

/// What a schedule is to be triggered for.
#[derive(Debug, Default, Object)]
#[oai(deny_unknown_fields)]
struct TriggerSchedule {
    /// The session; without it the latest one that is final by the market clock.
    session: Option<NaiveDate>,
}

#[derive(ApiResponse)]
enum Triggered {
    /// A tick was made; its runs follow.
    #[oai(status = 202)]
    Accepted(
        Json<TickView>,
        /// The ticks of the schedule.
        #[oai(header = "Location")]
        String,
    ),
}

pub(crate) struct Schedules;

#[OpenApi(tag = "Tag::Steering")]
impl Schedules {
    /// The schedules, each with its last and next ticks.
    #[oai(path = "/v1/schedules", method = "get", operation_id = "list_schedules")]
    async fn list(&self, shared: Data<&Arc<Shared>>) -> Result<Json<SchedulePage>, Problem> {
        let mut items = Vec::new();
        for row in shared.engine().ledger.schedules().await? {
            items.push(ScheduleView::of(&shared, row).await?);
        }
        Ok(Json(SchedulePage { items }))
    }

    /// One schedule.
    #[oai(path = "/v1/schedules/:id", method = "get", operation_id = "get_schedule")]
    async fn get(&self, shared: Data<&Arc<Shared>>, id: Path<String>) -> Result<Json<ScheduleView>, Problem> {
        view(&shared, &id).await
    }

    /// Changes when a schedule fires, and its policies.
    ///
    /// The program's defaults never overwrite it. A time that has passed today is due at once.
    #[oai(path = "/v1/schedules/:id", method = "put", operation_id = "change_schedule")]
    async fn change(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        id: Path<String>,
        body: Json<ChangeSchedule>,
    ) -> Result<Json<ScheduleView>, Problem> {
        let old = read(&shared, &id).await?;
        let ChangeSchedule { local_time, catch_up, overlap } = body.0;
        let new = ScheduleRow {
            local_time: local_time.as_deref().map(time_of_day).transpose()?.unwrap_or(old.local_time),
            catch_up: catch_up.map_or(old.catch_up, Into::into),
            overlap: overlap.map_or(old.overlap, Into::into),
            ..old.clone()
        };
        if new != old {
            let detail = format!("{} → {}", in_words(&old), in_words(&new));
            let entry = by.entry(&shared, "schedule_change", &new.id, detail);
            ledger::steer(&shared.stores().db, &Steering::ChangeSchedule(&new), &entry, shared.engine().ledger.now())
                .await?;
        }
        view(&shared, &id).await
    }

    /// Silences a schedule. What it started goes on.
    #[oai(path = "/v1/schedules/:id/pause", method = "post", operation_id = "pause_schedule")]
    async fn pause(&self, shared: Data<&Arc<Shared>>, by: By, id: Path<String>) -> Result<Json<ScheduleView>, Problem> {
        silence(&shared, by, &id, true).await
    }

    /// Lets a schedule fire again; sessions missed meanwhile follow its `catch_up`.
    #[oai(path = "/v1/schedules/:id/resume", method = "post", operation_id = "resume_schedule")]
    async fn resume(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        id: Path<String>,
    ) -> Result<Json<ScheduleView>, Problem> {
        silence(&shared, by, &id, false).await
    }

    /// Fires a schedule by hand, also while it is paused.
    ///
    /// Each request is one more tick, with a run for every active ticker.
    #[oai(path = "/v1/schedules/:id/trigger", method = "post", operation_id = "trigger_schedule")]
    async fn trigger(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        id: Path<String>,
        body: Json<Option<TriggerSchedule>>,
    ) -> Result<Triggered, Problem> {
        let row = read(&shared, &id).await?;
        let (engine, db) = (shared.engine(), &shared.stores().db);
        let latest = latest_final_session(row.exchange, engine.market_clock.now());
        let session = body.0.unwrap_or_default().session.unwrap_or(latest);
        if session > latest {
            let reason = format!("the latest session that is final is {latest}");
            return Err(Problem::bad_field("session", reason));
        }
        if !sessions::calendar(db, row.exchange, session).await?.may_trade_on(session) {
            let reason = format!("{} does not trade on that day of the week", row.exchange);
            return Err(Problem::bad_field("session", reason));
        }
        let entry = by.entry(&shared, "schedule_trigger", &row.id, format!("for {session}"));
        // Two at the same instant may want the same number; the second takes the next one.
        for _ in 0..5 {
            let made = ledger::trigger(db, &row.id, session, "triggered by hand", &entry, engine.ledger.now()).await?;
            let Some(nth) = made else { continue };
            let ticks = ledger::ticks(db, &row.id, Some((session, nth + 1)), 1).await?;
            let tick = ticks.into_iter().next().ok_or_else(|| Problem::internal(&"a tick that was made is gone"))?;
            return Ok(Triggered::Accepted(Json(TickView::of(tick)?), format!("/v1/schedules/{}/ticks", row.id)));
        }
        let detail = "Look at its ticks, and trigger it again if yours is missing.";
        Err(Problem::conflict("trigger_conflict", "Others trigger this schedule at the same time", detail))
    }

    /// The ticks of a schedule, newest session first.
    #[oai(path = "/v1/schedules/:id/ticks", method = "get", operation_id = "list_ticks")]
    async fn ticks(
        &self,
        shared: Data<&Arc<Shared>>,
        id: Path<String>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<TickPage>, Problem> {
        let row = read(&shared, &id).await?;
        let before: Option<Pair<NaiveDate, i64>> = after("tick", cursor.as_deref())?;
        let limit = limit.0 as usize;
        let rows =
            ledger::ticks(&shared.stores().db, &row.id, before.map(|key| (key.0, key.1)), limit as i64 + 1).await?;
        let (rows, more) = page(rows, limit);
        let next_cursor = rows.last().filter(|_| more).map(|tick| self::cursor("tick", Pair(tick.session, tick.nth)));
        Ok(Json(TickPage { items: rows.into_iter().map(TickView::of).collect::<Result<_, _>>()?, next_cursor }))
    }
}

fn default_limit() -> u32 {
    50
}

async fn read(shared: &Shared, id: &str) -> Result<ScheduleRow, Problem> {
    let row = shared.engine().ledger.schedules().await?.into_iter().find(|row| row.id == id);
    row.ok_or_else(|| {
        let detail = format!("There is no schedule `{id}`. GET /v1/schedules lists those there are.");
        Problem::not_found("unknown_schedule", "There is no such schedule here", detail)
    })
}

async fn view(shared: &Shared, id: &str) -> Result<Json<ScheduleView>, Problem> {
    let row = read(shared, id).await?;
    Ok(Json(ScheduleView::of(shared, row).await?))
}

async fn silence(shared: &Shared, by: By, id: &str, paused: bool) -> Result<Json<ScheduleView>, Problem> {
    let row = read(shared, id).await?;
    let action = if paused { "schedule_pause" } else { "schedule_resume" };
    let entry = by.entry(shared, action, &row.id, "");
    let what = Steering::PauseSchedule { id: &row.id, paused };
    ledger::steer(&shared.stores().db, &what, &entry, shared.engine().ledger.now()).await?;
    view(shared, id).await
}

fn time_of_day(text: &str) -> Result<NaiveTime, Problem> {
    NaiveTime::parse_from_str(text, "%H:%M")
        .map_err(|_| Problem::bad_field("local_time", format!("`{text}` is no time of day like 18:15")))
}

fn in_words(row: &ScheduleRow) -> String {
    format!("{} {} {}", row.local_time.format("%H:%M"), row.catch_up.as_str(), row.overlap.as_str())
}
