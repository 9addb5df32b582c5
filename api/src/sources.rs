//! `/v1/sources`: the price sources as set, in the order in which they are asked, and how their hosts stand with all processes together.

use crate::Shared;
use crate::problem::Problem;
use crate::words::{ExchangeName, Tag};
use chrono::{DateTime, Utc};
use market::Exchange;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{Enum, Object, OpenApi};
use std::sync::Arc;
use std::time::Duration;
use workflows::flow::{BreakerState, Flow, FlowState, Heard, Limit};
use workflows::ledger;

/// A source as set.
#[derive(Debug, Clone)]
pub struct ConfiguredSource {
    /// Its id.
    pub id: String,
    /// For whom.
    pub exchange: Exchange,
    /// Its host, by which the flow control knows it; `None` for one that asks nobody.
    pub host: Option<String>,
}

/// How the sources are asked.
#[derive(Clone, Default)]
pub struct Politeness {
    /// The sources of each exchange, in order.
    pub sources: Vec<ConfiguredSource>,
    /// What each host bears.
    pub limit: Option<Limit>,
    /// Who knows how the hosts stand; without it nothing is known.
    pub flow: Option<Flow>,
}

/// Where a host's circuit breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "BreakerState", rename_all = "snake_case")]
enum BreakerName {
    /// Requests pass.
    Closed,
    /// The host failed too often in a row and is left alone.
    Open,
    /// One request may find out whether it has recovered.
    HalfOpen,
}

/// A price source as set. What is said of its host is by all processes together, since each of them last asked; absent where nothing was.
#[derive(Debug, Object)]
#[oai(rename = "Source", skip_serializing_if_is_none)]
struct SourceView {
    /// Its id: `yahoo`, `nasdaq`, `tiingo`, `sharesansar`, `merolagani`, `csv`.
    id: String,
    /// Whose prices it is asked for.
    exchange: ExchangeName,
    /// Its place in the exchange's order, from 1: the next is asked when one fails.
    order: u32,
    /// Whether an operator has paused it.
    paused: bool,
    /// Where it is asked; absent for a folder.
    host: Option<String>,
    /// Least milliseconds between two requests: ours, or what the host's robots.txt asks for. Absent: no pause.
    pause_ms: Option<u64>,
    /// Requests to the host under way at a time; absent: without limit.
    concurrency: Option<u32>,
    /// Requests to the host under way now.
    in_flight: Option<u64>,
    /// Most requests to the host per UTC day; absent: without limit.
    daily_budget: Option<u64>,
    /// Requests to the host since midnight UTC.
    used_today: Option<u64>,
    /// What is left of the budget today.
    left_today: Option<u64>,
    /// The host's circuit breaker.
    breaker: Option<BreakerName>,
    /// While it is open: then one request may find out.
    breaker_until: Option<DateTime<Utc>>,
    /// The host asked for quiet until then.
    blocked_until: Option<DateTime<Utc>>,
    /// When a request to the host last ended well.
    last_success_at: Option<DateTime<Utc>>,
    /// When one last failed.
    last_error_at: Option<DateTime<Utc>>,
    /// What kind of failure that was: `rate_limited`, `blocked`, `transport` and so on.
    last_error: Option<String>,
}

/// The price sources.
#[derive(Debug, Object)]
struct SourcePage {
    /// By exchange, in the order in which they are asked.
    items: Vec<SourceView>,
}

pub(crate) struct Sources;

#[OpenApi(tag = "Tag::Steering")]
impl Sources {
    /// The price sources and how their hosts stand: pace, budget, breaker, last success and last failure.
    #[oai(path = "/v1/sources", method = "get", operation_id = "list_sources")]
    async fn list(&self, shared: Data<&Arc<Shared>>) -> Result<Json<SourcePage>, Problem> {
        let Politeness { sources, limit, flow } = &shared.state.politeness;
        let paused = ledger::paused(&shared.stores().db).await?;
        let hosts: Vec<String> = sources.iter().filter_map(|source| source.host.clone()).collect();
        let (states, heard) = match flow {
            Some(flow) => (flow.states().await, flow.heard(&hosts).await),
            None => Default::default(),
        };
        let mut items: Vec<SourceView> = Vec::new();
        for source in sources {
            let order = 1 + items.iter().filter(|item| item.exchange == source.exchange.into()).count() as u32;
            let host = source.host.as_ref();
            let state = states.iter().find(|state| Some(&state.key) == host);
            let mut view = view(source, limit.as_ref(), state, host.and_then(|host| heard.get(host)));
            view.order = order;
            view.paused = paused.iter().any(|pause| pause.kind == "source" && pause.value == source.id);
            items.push(view);
        }
        Ok(Json(SourcePage { items }))
    }
}

fn view(
    source: &ConfiguredSource,
    limit: Option<&Limit>,
    state: Option<&FlowState>,
    heard: Option<&Heard>,
) -> SourceView {
    // A source that asks nobody has no pace and no budget.
    let limit = limit.filter(|_| source.host.is_some());
    let ours = limit.and_then(|limit| limit.rate).map(|rate| Duration::from_secs_f64(1.0 / rate));
    let pause = ours.max(heard.and_then(|heard| heard.pause));
    let used_today = source.host.as_ref().map(|_| state.map_or(0, |state| state.used_today));
    let daily_budget = limit.and_then(|limit| limit.daily_budget);
    let (breaker, breaker_until) = match state.map(|state| state.breaker) {
        None => (source.host.as_ref().map(|_| BreakerName::Closed), None),
        Some(BreakerState::Closed) => (Some(BreakerName::Closed), None),
        Some(BreakerState::Open { until }) => (Some(BreakerName::Open), Some(until)),
        Some(BreakerState::HalfOpen) => (Some(BreakerName::HalfOpen), None),
    };
    SourceView {
        id: source.id.clone(),
        exchange: source.exchange.into(),
        order: 0,
        paused: false,
        host: source.host.clone(),
        pause_ms: pause.map(|pause| pause.as_millis() as u64),
        concurrency: limit.and_then(|limit| limit.concurrency),
        in_flight: source.host.as_ref().map(|_| state.map_or(0, |state| state.in_flight)),
        daily_budget,
        used_today,
        left_today: daily_budget.zip(used_today).map(|(budget, used)| budget.saturating_sub(used)),
        breaker,
        breaker_until,
        blocked_until: state.and_then(|state| state.blocked_until),
        last_success_at: heard.and_then(|heard| heard.last_success_at),
        last_error_at: heard.and_then(|heard| heard.last_error_at),
        last_error: heard.and_then(|heard| heard.last_error.clone()),
    }
}
