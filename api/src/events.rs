//! `/v1/events`: changes of runs, steps, forecasts and pauses as they are committed, as server-sent events. One reader per process follows the database;
//! each stream takes its own from what that reader remembers, or from the database when it comes back later.

use crate::Shared;
use crate::auth::{self, Caller};
use crate::problem::Problem;
use crate::words::{ExchangeName, Tag, exchange_in_query, word};
use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::{self, BoxStream, StreamExt};
use market::Exchange;
use poem::web::Data;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::param::{Header, Query};
use poem_openapi::payload::EventStream;
use poem_openapi::types::ToJSON;
use poem_openapi::{Enum, Object, OpenApi};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use uuid::Uuid;
use workflows::Db;
use workflows::db::StoreResult;
use workflows::stores::events::{self, EventRow, Place};

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "EventKind", rename_all = "snake_case")]
enum EventKind {
    /// A run was started, or has another state.
    Run,
    /// A step of a run has another state, or another attempt at it has begun.
    Step,
    /// A forecast was made.
    Forecast,
    /// Something was paused, or resumed.
    Pause,
    /// Some changes cannot be told any more: read anew what you show.
    Reset,
}

/// A change.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Event", skip_serializing_if_is_none)]
struct EventView {
    /// Its place in the order of changes; sent as `id`, so that `Last-Event-ID` goes on after it.
    id: String,
    /// What changed.
    kind: EventKind,
    /// When.
    at: DateTime<Utc>,
    /// The run; of a forecast the one that made it.
    run: Option<Uuid>,
    /// The plan of the run.
    plan: Option<String>,
    /// Where the ticker trades.
    exchange: Option<ExchangeName>,
    /// The ticker's symbol.
    ticker: Option<String>,
    /// The step; the target session of a forecast; what is paused, as KIND:VALUE.
    subject: Option<String>,
    /// The state that it is in now: of the run or step; `forecast` or `hindcast`; `paused` or `resumed`.
    state: Option<String>,
}

/// Which changes are wanted.
#[derive(Debug, Clone, Default)]
struct Wanted {
    kinds: Vec<EventKind>,
    exchange: Option<Exchange>,
    ticker: Option<String>,
    run: Option<Uuid>,
}

/// How often the database is asked while somebody listens.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it is told that somebody does.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// The most changes remembered for all streams of a process.
const REMEMBERED: usize = 4_096;
/// The most read at a time.
const PAGE: i64 = 500;
/// A stream ends after so long; the client comes back by itself, and shows its key again.
const LASTS: Duration = Duration::from_secs(30 * 60);
/// How often it is looked whether the caller may still listen.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// How far a time that the database gave may lie ahead of ours.
const CLOCKS_APART: TimeDelta = TimeDelta::seconds(10);
/// A comment is sent when nothing was for so long, so that what lies between does not hang up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The reader of this process: what it remembers, and how many streams wait for more.
#[derive(Default)]
pub(crate) struct Feed {
    known: Mutex<Known>,
    moved: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    /// In order; everything after `from` up to the last of them.
    events: VecDeque<Arc<EventRow>>,
    from: Place,
    head: Place,
    since: Option<DateTime<Utc>>,
    reader: Option<tokio::task::JoinHandle<()>>,
}

/// What a stream begins with: the newest place, since when changes are written without a pause, and what tells of more.
struct Joined {
    head: Place,
    since: DateTime<Utc>,
    moved: watch::Receiver<u64>,
}

impl Feed {
    /// Makes sure that the reader runs, and counts one more stream while nobody can end it in between.
    async fn join(self: &Arc<Self>, db: &Db) -> StoreResult<Joined> {
        let mut known = self.known.lock().await;
        if let (Some(reader), Some(since)) = (&known.reader, known.since)
            && !reader.is_finished()
        {
            return Ok(Joined { head: known.head, since, moved: self.moved.subscribe() });
        }
        let since = events::listen(db).await?;
        let head = events::newest(db).await?;
        *known = Known { events: VecDeque::new(), from: head, head, since: Some(since), reader: None };
        known.reader = Some(tokio::spawn(read(self.clone(), db.clone(), head)));
        Ok(Joined { head, since, moved: self.moved.subscribe() })
    }

    /// What follows `after` in what is remembered; `None` when that does not reach back so far.
    async fn remembered(&self, after: Place) -> Option<Vec<Arc<EventRow>>> {
        let known = self.known.lock().await;
        (known.from <= after).then(|| {
            let at = known.events.partition_point(|event| event.place() <= after);
            known.events.iter().skip(at).take(PAGE as usize).cloned().collect()
        })
    }
}

/// Follows the database until nobody has listened for a while.
async fn read(feed: Arc<Feed>, db: Db, mut head: Place) {
    let (mut told, mut wanted) = (Instant::now(), Instant::now());
    loop {
        if feed.moved.receiver_count() > 0 {
            wanted = Instant::now();
        } else if wanted.elapsed() > TELL_EVERY {
            // Under the lock under which streams join: none comes in between and waits for a reader that has gone.
            let mut known = feed.known.lock().await;
            if feed.moved.receiver_count() == 0 {
                known.reader = None;
                return;
            }
        }
        if told.elapsed() > TELL_EVERY {
            match events::listen(&db).await {
                Ok(since) => {
                    told = Instant::now();
                    feed.known.lock().await.since = Some(since);
                }
                Err(error) => tracing::debug!(%error, "the database could not be told that somebody listens"),
            }
        }
        match events::after(&db, head, PAGE).await {
            Ok(rows) if rows.is_empty() => tokio::time::sleep(LOOK_EVERY).await,
            Ok(rows) => {
                let mut known = feed.known.lock().await;
                for row in rows {
                    head = row.place();
                    known.events.push_back(Arc::new(row));
                }
                while known.events.len() > REMEMBERED {
                    if let Some(gone) = known.events.pop_front() {
                        known.from = gone.place();
                    }
                }
                known.head = head;
                drop(known);
                feed.moved.send_modify(|count| *count = count.wrapping_add(1));
            }
            Err(error) => {
                tracing::debug!(%error, "changes could not be read; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Who listens.
struct Listener(Option<Caller>);

impl<'a> FromRequest<'a> for Listener {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(request.data::<Caller>().cloned()))
    }
}

pub(crate) struct Events;

#[OpenApi(tag = "Tag::Runs")]
impl Events {
    /// Changes as they happen.
    ///
    /// A stream of server-sent events, in the order in which the changes were committed. A client that comes back with `Last-Event-ID` misses nothing
    /// for ten minutes; after that the first event is `reset`. The stream ends after half an hour; clients come back by themselves.
    #[oai(path = "/v1/events", method = "get", operation_id = "stream_events")]
    #[allow(clippy::too_many_arguments, reason = "they are the parameters of one request")]
    async fn stream(
        &self,
        shared: Data<&Arc<Shared>>,
        listener: Listener,
        /// Only these kinds, separated by commas: run, step, forecast, pause.
        kind: Query<Option<String>>,
        /// Only this exchange: NASDAQ or NEPSE.
        exchange: Query<Option<String>>,
        /// Only this symbol.
        ticker: Query<Option<String>>,
        /// Only this run.
        run: Query<Option<Uuid>>,
        /// The `id` of the last event that was seen.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<String>>,
    ) -> Result<EventStream<BoxStream<'static, EventView>>, Problem> {
        let wanted = Wanted {
            kinds: kinds(kind.as_deref())?,
            exchange: exchange_in_query(exchange.as_deref())?,
            ticker: ticker.0.map(|symbol| symbol.to_ascii_uppercase()),
            run: run.0,
        };
        let seen = last_event_id.as_deref().map(place).transpose()?;
        let Joined { head, since, moved } = shared.feed.join(&shared.stores().db).await?;
        let now = shared.engine().ledger.now();
        // What was written before the last pause, or is forgotten, cannot be told; nor can what another installation wrote.
        let (after, lost) = match seen {
            Some((place, at)) if at >= since && at <= now + CLOCKS_APART => (place, false),
            Some(_) => (head, true),
            None => (head, false),
        };
        let reader = Reader {
            feed: shared.feed.clone(),
            moved,
            shared: Arc::clone(&shared),
            caller: listener.0,
            ends: Instant::now() + LASTS,
            asked: Instant::now(),
            after,
            wanted,
        };
        let first = lost.then(|| reset(head, now));
        let events = stream::iter(first).chain(stream::unfold(reader, Reader::next).flat_map(stream::iter));
        Ok(EventStream::new(events.boxed()).keep_alive(KEEP_ALIVE).to_event(|event: EventView| {
            poem::web::sse::Event::message(event.to_json_string()).id(event.id).event_type(event.kind.word())
        }))
    }
}

/// One stream's place.
struct Reader {
    feed: Arc<Feed>,
    moved: watch::Receiver<u64>,
    shared: Arc<Shared>,
    caller: Option<Caller>,
    ends: Instant,
    /// When it was last looked whether the caller may still listen.
    asked: Instant,
    after: Place,
    wanted: Wanted,
}

impl Reader {
    /// The next changes that are wanted; `None` at the end of the stream.
    async fn next(mut self) -> Option<(Vec<EventView>, Self)> {
        loop {
            if Instant::now() >= self.ends || !self.may_go_on().await {
                return None;
            }
            self.moved.mark_unchanged();
            let rows = match self.feed.remembered(self.after).await {
                Some(rows) => rows,
                None => match events::after(&self.shared.stores().db, self.after, PAGE).await {
                    Ok(rows) => rows.into_iter().map(Arc::new).collect(),
                    // The client comes back, and goes on after the last that it got.
                    Err(_) => return None,
                },
            };
            if let Some(last) = rows.last() {
                self.after = last.place();
                let views: Vec<EventView> =
                    rows.iter().filter(|row| self.wanted.has(row)).filter_map(|row| EventView::of(row)).collect();
                if !views.is_empty() {
                    return Some((views, self));
                }
                continue;
            }
            tokio::select! {
                moved = self.moved.changed() => if moved.is_err() { return None },
                () = self.shared.state.stop.cancelled() => return None,
                () = tokio::time::sleep_until(self.ends.min(self.asked + ASK_EVERY)) => {}
            }
        }
    }
}

impl Reader {
    /// Whether the server goes on and the caller may still listen: a key that is revoked ends what it opened.
    async fn may_go_on(&mut self) -> bool {
        if self.shared.state.stop.is_cancelled() {
            return false;
        }
        let Some(caller) = self.caller.as_ref().filter(|_| self.asked.elapsed() >= ASK_EVERY) else { return true };
        self.asked = Instant::now();
        auth::holds(self.shared.stores(), caller, self.shared.engine().ledger.now()).await.unwrap_or(false)
    }
}

impl Wanted {
    fn has(&self, row: &EventRow) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.word() == row.kind);
        kind && self.exchange.is_none_or(|exchange| row.exchange.as_deref() == Some(exchange.as_str()))
            && self.ticker.as_ref().is_none_or(|ticker| row.ticker.as_ref() == Some(ticker))
            && self.run.is_none_or(|run| row.run_id == Some(run))
    }
}

impl EventKind {
    const ALL: [Self; 4] = [Self::Run, Self::Step, Self::Forecast, Self::Pause];

    fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Step => "step",
            Self::Forecast => "forecast",
            Self::Pause => "pause",
            Self::Reset => "reset",
        }
    }
}

impl EventView {
    /// `None` for a kind that this version does not know.
    fn of(row: &EventRow) -> Option<Self> {
        let kind = EventKind::ALL.into_iter().find(|kind| kind.word() == row.kind)?;
        Some(Self {
            id: id(row.place(), row.at.0),
            kind,
            at: row.at.0,
            run: row.run_id,
            plan: row.plan.clone(),
            exchange: row.exchange.as_deref().and_then(|exchange| word(exchange).ok()),
            ticker: row.ticker.clone(),
            subject: row.subject.clone(),
            state: row.state.clone(),
        })
    }
}

fn reset(head: Place, now: DateTime<Utc>) -> EventView {
    EventView {
        id: id(head, now),
        kind: EventKind::Reset,
        at: now,
        run: None,
        plan: None,
        exchange: None,
        ticker: None,
        subject: None,
        state: None,
    }
}

fn id(place: Place, at: DateTime<Utc>) -> String {
    format!("{}-{}-{}", place.tx, place.id, at.timestamp_micros())
}

fn place(text: &str) -> Result<(Place, DateTime<Utc>), Problem> {
    let read = || {
        let mut parts = text.split('-').map(str::parse::<i64>);
        let (tx, id, at) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        let at = DateTime::from_timestamp_micros(at)?;
        parts.next().is_none().then_some((Place { tx, id }, at))
    };
    read().ok_or_else(|| Problem::bad_parameter("Last-Event-ID", "send the `id` of an event as it came"))
}

fn kinds(text: Option<&str>) -> Result<Vec<EventKind>, Problem> {
    let one = |name: &str| EventKind::ALL.into_iter().find(|kind| kind.word() == name.trim());
    let unknown = || Problem::bad_parameter("kind", "use run, step, forecast or pause, separated by commas");
    text.map(|text| text.split(',').map(|name| one(name).ok_or_else(unknown)).collect())
        .transpose()
        .map(Option::unwrap_or_default)
}
