//! The product's words as the API spells them: enums of the document, and the way from a path or a table row to our types.

use crate::problem::Problem;
use market::{Exchange, Ticker};
use poem_openapi::types::ParseFromJSON;
use poem_openapi::{Enum, Tags};

/// Chapters of the document.
#[derive(Tags)]
pub(crate) enum Tag {
    /// What we say about the next session of each ticker.
    Forecasts,
    /// How good the forecasts were, always beside the naive ones.
    Accuracy,
    /// What we know of each ticker: its archived prices, its model.
    Tickers,
    /// What the engine does and has done.
    Runs,
    /// What an operator looks at and changes: queues, pauses, schedules, backfills, dead letters, the audit.
    Steering,
    /// Whether this server is well.
    Health,
}

/// A stock exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "Exchange", rename_all = "UPPERCASE", remote = "Exchange")]
pub(crate) enum ExchangeName {
    /// New York.
    Nasdaq,
    /// Kathmandu.
    Nepse,
}

/// How a day, or a target session, was found: the strongest evidence that had a say. `operator`: somebody said so. `observed`: it was seen in prices, or every
/// source was asked and had none. `calendar_hint`: a list of holidays. `observed_week`: the days of the week on which the exchange traded in its last four
/// weeks. `usual_week`: those on which it may trade, where there is too little to learn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "TargetBasis", rename_all = "snake_case", remote = "market::TargetBasis")]
pub(crate) enum TargetBasisName {
    Operator,
    Observed,
    CalendarHint,
    ObservedWeek,
    UsualWeek,
}

/// Whose numbers the forecast carries. `own`: the ticker's own model. `global`: the one that all tickers of its exchange share. `baseline`: the
/// naive forecast, where there is no model or none fit to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "MadeBy", rename_all = "snake_case", remote = "market::MadeBy")]
pub(crate) enum MadeByName {
    Own,
    Global,
    Baseline,
}

/// Whose forecasts are counted. `served`: what readers got. `own`: what the tickers' own models said, served or not. `global`: what the exchange's global
/// model said, served or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Enum)]
#[oai(rename = "Line", rename_all = "snake_case", remote = "workflows::stores::record::Line")]
pub(crate) enum LineName {
    #[default]
    Served,
    Own,
    Global,
}

/// What became of a forecast. `waiting`: its close is not known yet. `not_traded`: the ticker did not trade in its session. `no_close`: none was
/// ever seen. `superseded`: the same line of models had another word before the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "Outcome", rename_all = "snake_case")]
pub(crate) enum OutcomeName {
    Waiting,
    Scored,
    NotTraded,
    NoClose,
    Superseded,
}

/// What an alarm is about. `coverage`: 80 % intervals hold too few or too many closes. `intervals_worse`: they are worse than the baseline's, which is
/// served instead. `points_worse`: points are worse than the reference price, which is used instead. `off_centre`: closes lie on one side of
/// the forecasts. `misses`: three of five closes outside the 95 % interval. `unscored`: a forecast waits for its close too long.
/// `no_session`: sessions were expected and asked for, and none came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "AlarmKind", rename_all = "snake_case", remote = "market::AlarmKind")]
pub(crate) enum AlarmKindName {
    Coverage,
    IntervalsWorse,
    PointsWorse,
    OffCentre,
    Misses,
    Unscored,
    NoSession,
}

/// What a day of an exchange is. `open`: a session. `closed`: none. `expected`: to come, and the evidence speaks for a session. `unknown`: over, and nothing was
/// seen of it though later sessions were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "SessionState", rename_all = "snake_case", remote = "market::DayState")]
pub(crate) enum SessionStateName {
    Open,
    Closed,
    Expected,
    Unknown,
}

/// A caveat. `cold_start`: no model yet. `stale_data`: the target session has opened, or the data is older than it should be.
/// `thin_trading`: many sessions without trades. `corporate_action`: one lies between the last close and the target.
/// `short_history`: fewer than 250 sessions. `market_unknown`: the market's own return of the newest session was not known.
/// `model_set_aside`: the models' intervals have been worse than the baseline's of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "Flag", rename_all = "snake_case", remote = "market::Flag")]
pub(crate) enum FlagName {
    ColdStart,
    StaleData,
    ThinTrading,
    CorporateAction,
    ShortHistory,
    MarketUnknown,
    ModelSetAside,
}

/// `forecast`: issued before its target session opened. `hindcast`: issued later, kept apart in every statistic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "ForecastKind", rename_all = "snake_case")]
pub(crate) enum ForecastKind {
    Forecast,
    Hindcast,
}

/// Where a run stands. `no_new_session`: it ended early, without an error, because the exchange has had none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "RunState", rename_all = "snake_case", remote = "workflows::state::RunState")]
pub(crate) enum RunStateName {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    NoNewSession,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "StepState", rename_all = "snake_case", remote = "workflows::state::StepState")]
pub(crate) enum StepStateName {
    Waiting,
    Ready,
    Running,
    Done,
    Failed,
    Skipped,
    Cancelled,
}

/// How an attempt ended, or `running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "AttemptOutcome", rename_all = "snake_case")]
pub(crate) enum AttemptOutcome {
    Running,
    Done,
    Skipped,
    Retry,
    Failed,
    Interrupted,
    /// It could not begin yet and gave its slot back; did not count.
    Waited,
    Lost,
    Fenced,
    Cancelled,
}

/// What happens to sessions that a schedule missed while nothing ran: none, only the latest, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "CatchUp", rename_all = "snake_case", remote = "workflows::ledger::CatchUp")]
pub(crate) enum CatchUpName {
    Skip,
    Latest,
    All,
}

/// What happens to a ticker whose run of an earlier session has not ended: it is left out, one run waits behind it, or it is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "Overlap", rename_all = "snake_case", remote = "workflows::ledger::Overlap")]
pub(crate) enum OverlapName {
    Skip,
    QueueOne,
    CancelOld,
}

/// Whether a schedule fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "ScheduleState", rename_all = "snake_case")]
pub(crate) enum ScheduleStateName {
    Active,
    Paused,
}

/// Where a tick stands. `queued`: it makes way by the overlap policy; `firing`: its runs are being started; `fired`: all are;
/// `skipped`: the overlap policy left out every ticker, or an operator said that the exchange is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "TickState", rename_all = "snake_case")]
pub(crate) enum TickStateName {
    Queued,
    Firing,
    Fired,
    Skipped,
}

/// Which runs a backfill starts: where there is none, also where the newest one failed, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Enum)]
#[oai(rename = "BackfillPolicy", rename_all = "snake_case", remote = "workflows::ledger::BackfillPolicy")]
pub(crate) enum BackfillPolicyName {
    #[default]
    Missing,
    MissingAndFailed,
    All,
}

/// Where a backfill stands. `done`: every run was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "BackfillState", rename_all = "snake_case")]
pub(crate) enum BackfillStateName {
    Running,
    Paused,
    Cancelled,
    Done,
}

/// A word from a table, read as one of the document's.
pub(crate) fn word<T: ParseFromJSON>(text: &str) -> Result<T, Problem> {
    T::parse_from_json(Some(text.into()))
        .map_err(|_| Problem::internal(&format!("the word `{text}` in the database is not known to this version")))
}

/// The exchange that a path names.
pub(crate) fn exchange_in_path(exchange: &str) -> Result<Exchange, Problem> {
    exchange.parse().map_err(|error: market::UnknownExchange| {
        Problem::not_found("unknown_exchange", "There is no such exchange here", sentence(&error))
    })
}

/// The ticker that a path names; whether we know it is another question.
pub(crate) fn ticker_in_path(exchange: &str, symbol: &str) -> Result<Ticker, Problem> {
    Ticker::new(exchange_in_path(exchange)?, symbol)
        .map_err(|error| Problem::not_found("unknown_ticker", "There is no such ticker here", sentence(&error)))
}

/// The problem of a ticker that we do not know.
pub(crate) fn unknown_ticker(ticker: &Ticker) -> Problem {
    let detail = format!(
        "{ticker} is not known here. GET /v1/tickers lists what is; importing bars or `retainai run {ticker}` makes it known."
    );
    Problem::not_found("unknown_ticker", "There is no such ticker here", detail)
}

/// The exchange that a filter names.
pub(crate) fn exchange_in_query(exchange: Option<&str>) -> Result<Option<Exchange>, Problem> {
    exchange
        .map(|text| {
            text.parse().map_err(|error: market::UnknownExchange| Problem::bad_parameter("exchange", error.to_string()))
        })
        .transpose()
}

/// An error's text as a sentence.
fn sentence(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}
