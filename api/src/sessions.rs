//! `/v1/exchanges/{exchange}/sessions`: the calendar day by day, with the evidence for each, and an operator's word on a day.

use crate::Shared;
use crate::door::By;
use crate::paging::{after, cursor};
use crate::problem::Problem;
use crate::words::{ExchangeName, SessionStateName, Tag, TargetBasisName, exchange_in_path};
use chrono::{DateTime, Days, NaiveDate, Utc};
use market::{Calendar, Exchange, TargetBasis, Witness, Word};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use std::sync::Arc;
use workflows::stores::sessions::{self, Noted};

/// Days shown before and after today when nobody asks for others.
const AROUND_DAYS: u64 = 14;
/// No calendar of ours reaches further: the first year of archived prices, and one in which nobody announces holidays yet.
const FIRST_DAY: NaiveDate = NaiveDate::from_ymd_opt(1990, 1, 1).expect("a valid date");
const LAST_DAY: NaiveDate = NaiveDate::from_ymd_opt(2099, 12, 31).expect("a valid date");

/// One day of an exchange.
#[derive(Debug, Object)]
#[oai(rename = "SessionDay", skip_serializing_if_is_none)]
struct SessionDayView {
    /// Whose day.
    exchange: ExchangeName,
    /// The day, in the exchange's zone.
    session: NaiveDate,
    /// What it is.
    state: SessionStateName,
    /// By which evidence.
    basis: TargetBasisName,
    /// That evidence in words.
    evidence: String,
    /// When that was noted, by the engine clock; absent where it follows from other days or from a list of holidays.
    noted_at: Option<DateTime<Utc>>,
    /// An operator's word, while it stands.
    operator: Option<OperatorView>,
}

/// What an operator says of a day.
#[derive(Debug, Object)]
#[oai(rename = "SessionOverride")]
struct OperatorView {
    /// `open` or `closed`.
    state: SaidName,
    /// Why.
    reason: String,
    /// Who said so.
    by: String,
    /// When, by the engine clock.
    at: DateTime<Utc>,
}

/// What can be said of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "SessionWord", rename_all = "snake_case")]
enum SaidName {
    /// The exchange trades.
    Open,
    /// It does not.
    Closed,
}

/// Days of an exchange, the earliest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct SessionPage {
    /// At most `limit` of them.
    items: Vec<SessionDayView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

/// What is said of a day, and why.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct SetSession {
    /// `open` or `closed`.
    state: SaidName,
    /// For whoever looks later: who announced it, and where.
    #[oai(validator(min_length = 1, max_length = 500))]
    reason: String,
}

#[derive(ApiResponse)]
enum Cleared {
    /// No operator's word stands, whether one did or not.
    #[oai(status = 204)]
    Cleared,
}

pub(crate) struct Sessions;

#[OpenApi(tag = "Tag::Steering")]
impl Sessions {
    /// The calendar of an exchange, day by day.
    ///
    /// Every day from `from` to `to` is listed, the past and the coming ones, with what is known of it and by which evidence: an operator's word, what was
    /// observed, a list of holidays, the week as it was lately, in this order.
    #[oai(path = "/v1/exchanges/:exchange/sessions", method = "get", operation_id = "list_sessions")]
    #[allow(clippy::too_many_arguments, reason = "they are the parameters of one request")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The first day; two weeks ago by default.
        from: Query<Option<NaiveDate>>,
        /// The last day; two weeks ahead by default, and never before the first.
        to: Query<Option<NaiveDate>>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<SessionPage>, Problem> {
        let exchange = exchange_in_path(&exchange)?;
        let today = today(&shared, exchange);
        let from = known_day("from", from.0.unwrap_or(today - Days::new(AROUND_DAYS)))?;
        let to = known_day("to", to.0.unwrap_or(from.max(today + Days::new(AROUND_DAYS))))?;
        if to < from {
            return Err(Problem::bad_parameter("to", format!("it lies before `from`, which is {from}")));
        }
        let after: Option<NaiveDate> = after("session", cursor.as_deref())?;
        let first = after.map_or(from, |day| from.max(known_day("cursor", day).map_or(from, |day| day + Days::new(1))));
        let days: Vec<NaiveDate> = first.iter_days().take_while(|day| *day <= to).take(limit.0 as usize).collect();
        let Some(last) = days.last().copied() else {
            return Ok(Json(SessionPage { items: vec![], next_cursor: None }));
        };
        let known = Known::read(&shared, exchange, first, last).await?;
        let items = days.into_iter().map(|day| known.view(day)).collect();
        let next_cursor = (last < to).then(|| self::cursor("session", last));
        Ok(Json(SessionPage { items, next_cursor }))
    }

    /// Says that a day is a session, or none.
    ///
    /// An operator's word stands above everything that is observed, until it is taken back. A day that is closed is no target of new forecasts, and its scheduled
    /// runs are not started; one that is open is both, whatever day of the week it is. Forecasts that stand stay as they are. Saying the same twice is
    /// saying it once.
    #[oai(path = "/v1/exchanges/:exchange/sessions/:date", method = "put", operation_id = "set_session")]
    async fn set(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The day.
        date: Path<NaiveDate>,
        body: Json<SetSession>,
    ) -> Result<Json<SessionDayView>, Problem> {
        let exchange = exchange_in_path(&exchange)?;
        let session = known_day("date", date.0)?;
        let why = body.reason.trim().to_owned();
        if why.is_empty() {
            return Err(Problem::bad_field("reason", "say why, for whoever looks later"));
        }
        let open = body.state == SaidName::Open;
        let detail = format!("{}: {why}", if open { "open" } else { "closed" });
        let entry = by.entry(&shared, "session_set", format!("{exchange} {session}"), detail);
        let word = Word { session, open, by: Witness::Operator, why };
        let (db, now) = (&shared.stores().db, shared.engine().ledger.now());
        sessions::override_day(db, exchange, &word, &entry, now).await?;
        Ok(Json(Known::read(&shared, exchange, session, session).await?.view(session)))
    }

    /// Takes an operator's word on a day back: what is observed and expected counts again.
    ///
    /// A tick that was skipped meanwhile stays so; trigger its schedule by hand. Taking back twice is taking back once.
    #[oai(path = "/v1/exchanges/:exchange/sessions/:date", method = "delete", operation_id = "clear_session")]
    async fn clear(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The day.
        date: Path<NaiveDate>,
    ) -> Result<Cleared, Problem> {
        let exchange = exchange_in_path(&exchange)?;
        let session = known_day("date", date.0)?;
        let entry = by.entry(&shared, "session_clear", format!("{exchange} {session}"), "");
        sessions::take_back(&shared.stores().db, exchange, session, &entry).await?;
        Ok(Cleared::Cleared)
    }
}

fn default_limit() -> u32 {
    50
}

fn today(shared: &Shared, exchange: Exchange) -> NaiveDate {
    shared.engine().market_clock.now().with_timezone(&exchange.zone()).date_naive()
}

fn known_day(parameter: &str, day: NaiveDate) -> Result<NaiveDate, Problem> {
    if day < FIRST_DAY || day > LAST_DAY {
        return Err(Problem::bad_parameter(parameter, format!("calendars reach from {FIRST_DAY} to {LAST_DAY}")));
    }
    Ok(day)
}

/// The calendar, and the rows that it comes from.
struct Known {
    calendar: Calendar,
    noted: Vec<Noted>,
}

impl Known {
    async fn read(shared: &Shared, exchange: Exchange, from: NaiveDate, to: NaiveDate) -> Result<Self, Problem> {
        let db = &shared.stores().db;
        let calendar = sessions::calendar(db, exchange, from).await?;
        Ok(Self { calendar, noted: sessions::noted(db, exchange, from, to).await? })
    }

    fn view(&self, session: NaiveDate) -> SessionDayView {
        let day = self.calendar.day(session);
        let said = |by: Option<Witness>| self.noted.iter().find(|noted| noted.session == session && noted.by == by);
        let bar = said(None);
        let operator = said(Some(Witness::Operator));
        let decided = match day.basis {
            TargetBasis::Operator => operator,
            TargetBasis::Observed => bar.or_else(|| said(Some(Witness::Sources))),
            _ => None,
        };
        let evidence = match bar {
            Some(bar) if day.basis == TargetBasis::Observed => {
                format!("{}; the first was {}", day.reason, bar.evidence)
            }
            _ => day.reason,
        };
        SessionDayView {
            exchange: self.calendar.exchange().into(),
            session,
            state: day.state.into(),
            basis: day.basis.into(),
            evidence,
            noted_at: decided.map(|noted| noted.noted_at),
            operator: operator.map(|noted| OperatorView {
                state: if noted.open { SaidName::Open } else { SaidName::Closed },
                reason: noted.evidence.clone(),
                by: noted.noted_by.clone(),
                at: noted.noted_at,
            }),
        }
    }
}
