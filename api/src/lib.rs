//! Those who answer: HTTP in, the stores' words out. One resource per file; the shell around all of them is put together here.
//!
//! Read in this order: [`app`] below (who stands before whom), `problem` (how anything that goes wrong is said), `serving` (how a
//! forecast is found or made), then the resource you came for. No handler reads a clock, a variable or a file.

mod accuracy;
mod audit;
mod backfills;
mod bars;
mod compress;
mod dead_letters;
mod door;
mod exchanges;
mod factors;
mod forecasts;
mod guard;
mod health;
mod history;
mod limits;
mod observe;
mod openapi;
mod pages;
mod paging;
mod pauses;
mod payload;
mod problem;
mod quarantine;
mod queues;
mod replay;
mod replays;
mod routes;
mod run_view;
mod runs;
mod schedule_view;
mod schedules;
mod serving;
mod sessions;
mod tickers;
mod words;
mod workers;

pub use guard::is_loopback;
pub use observe::{REQUEST_SECONDS, REQUESTS_TOTAL};
pub use openapi::document as openapi_document;

use poem::endpoint::BoxEndpoint;
use poem::listener::TcpAcceptor;
use poem::{EndpointExt, Response, Server};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use workflows::{Engine, History, Keep, Stores};

/// What the API needs to answer.
#[derive(Clone)]
pub struct ApiState {
    /// The ledger and the queue. Other roles of the same process share it.
    pub engine: Arc<Engine>,
    /// Archive, registry and cache.
    pub stores: Stores,
    /// Where old runs are put away; without a folder nothing goes.
    pub history: History,
    /// Where `/metrics` reads; without it the page answers 404.
    pub metrics: Option<metrics_exporter_prometheus::PrometheusHandle>,
    /// The program's version, shown in `/health/live`.
    pub version: &'static str,
    /// `Host` values accepted besides loopback names, exactly as clients send them: `192.168.1.5:8080`, `retainai.example.org`.
    pub hosts: Vec<String>,
    /// After this long a request is answered with a problem; imports may take four times as long.
    pub time_limit: Duration,
}

impl ApiState {
    /// A state with the product's defaults: no history folder, no metrics, loopback hosts only, 30 seconds.
    pub fn new(engine: Arc<Engine>, stores: Stores, version: &'static str) -> Self {
        let history = History::new(engine.ledger.clone(), None, Keep::default(), engine.settings.chance.clone());
        let time_limit = Duration::from_secs(30);
        Self { engine, stores, history, metrics: None, version, hosts: Vec::new(), time_limit }
    }
}

/// The whole API as one endpoint. Cheap to clone; needs no socket, so the command line calls it directly (`Host: localhost`).
/// It never answers `Err`.
pub type App = Arc<BoxEndpoint<'static, Response>>;

/// What handlers see.
pub(crate) struct Shared {
    pub(crate) state: ApiState,
    pub(crate) flights: serving::Flights,
    pub(crate) replays: replays::Flights,
    pub(crate) openapi: String,
    pub(crate) docs: String,
}

impl Shared {
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.state.engine
    }

    pub(crate) fn stores(&self) -> &Stores {
        &self.state.stores
    }
}

/// Puts the API together. A request passes, from the outside in: observe (id, log, metrics), harden, problems (every error
/// becomes `application/problem+json`), compress, guard (who may ask), limits (how much, how long), and then its resource.
pub fn app(state: ApiState) -> App {
    let openapi = openapi::document();
    let docs = pages::docs(&openapi);
    let known = Arc::new(routes::Routes::of(&openapi));
    let (hosts, time_limit) = (Arc::new(state.hosts.clone()), state.time_limit);
    let (flights, replays) = (serving::Flights::default(), replays::Flights::default());
    let shared = Arc::new(Shared { state, flights, replays, openapi, docs });
    let (said, seen) = (known.clone(), known);
    let app = openapi::service()
        .data(shared)
        .around(move |next, request| limits::limit(next, request, time_limit))
        .around(move |next, request| guard::guard(next, request, hosts.clone()))
        .around(compress::compress)
        .around(move |next, request| problem::say(next, request, said.clone()))
        .around(guard::harden)
        .around(move |next, request| observe::observe(next, request, seen.clone()));
    Arc::new(app.boxed())
}

/// Answers on `listener` until `stop`; then takes no new connection and gives open requests ten seconds.
pub async fn serve(app: App, listener: tokio::net::TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    // Longer than any request may take, so that only connections that are really idle are closed.
    let idle = Duration::from_secs(180);
    Server::new_with_acceptor(TcpAcceptor::from_tokio(listener)?)
        .name("api")
        .idle_timeout(idle)
        .run_with_graceful_shutdown(app, stop.cancelled_owned(), Some(Duration::from_secs(10)))
        .await
}
