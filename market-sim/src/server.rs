//! The HTTP face: one loopback port that serves all sites, the clock and the fault switches.

use crate::{
    clock::{Clock, ClockView, Move},
    fault::{Absence, Fault, FaultBook, FaultKind, Page, Requests, Shown, Site},
    merolagani::{self, DetailForm, DetailQuery},
    nasdaq::{self, HistoryQuery},
    sharesansar::{self, HistoryForm},
    tiingo::{self, PricesQuery},
    world::World,
    yahoo::{self, ChartQuery},
};
use flate2::{Compression, write::GzEncoder};
use market::Exchange;
use poem::{
    Body, EndpointExt, IntoEndpoint, IntoResponse, Request, Response, Route, get, handler,
    http::{StatusCode, header},
    post,
    web::{Data, Form, Json, Path, Query},
};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct Sites {
    pub(crate) world: World,
    pub(crate) seed: u64,
    clock: Mutex<Clock>,
    faults: Mutex<FaultBook>,
    away: Mutex<Vec<Absence>>,
    sessions: AtomicU64,
}

type Shared<'a> = Data<&'a Arc<Sites>>;

/// The name of the cookie that binds a token to its browser.
const SESSION_COOKIE: &str = "sharesansar_session";

impl Sites {
    pub(crate) fn new(world: World, seed: u64, clock: Clock) -> Self {
        let faults = Mutex::new(FaultBook::default());
        Self { world, seed, clock: Mutex::new(clock), faults, away: Mutex::default(), sessions: AtomicU64::new(0) }
    }

    pub(crate) fn clock(&self) -> ClockView {
        lock(&self.clock).view(&self.world)
    }

    pub(crate) fn shift(&self, order: &Move) -> anyhow::Result<ClockView> {
        let mut clock = lock(&self.clock);
        clock.apply(order)?;
        Ok(clock.view(&self.world))
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        lock(&self.faults).set(fault);
    }

    /// A company is away from a session on; a later word about the same one replaces an earlier one.
    pub(crate) fn set_absence(&self, absence: Absence) {
        let mut away = lock(&self.away);
        away.retain(|other| other.symbol != absence.symbol);
        away.push(absence);
    }

    fn away(&self) -> Vec<Absence> {
        lock(&self.away).clone()
    }

    pub(crate) fn requests(&self) -> Requests {
        lock(&self.faults).requests().clone()
    }

    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        lock(&self.clock).now()
    }

    /// The token of a browser session: the same for as long as its cookie lives.
    fn token(&self, session: u64) -> String {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(1_000_000 + session);
        (0..40).map(|_| char::from(b'a' + (rng.next_u32() % 26) as u8)).collect()
    }

    /// The session that the request's cookie names, if we gave it out.
    fn session_of(&self, request: &Request) -> Option<u64> {
        let cookies = request.header(header::COOKIE)?;
        let value = cookies.split(';').find_map(|c| c.trim().strip_prefix(SESSION_COOKIE)?.strip_prefix('='))?;
        let session: u64 = value.parse().ok()?;
        (session < self.sessions.load(Ordering::Relaxed)).then_some(session)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sites' routes, real addresses first.
pub(crate) fn routes(site: Arc<Sites>) -> impl IntoEndpoint {
    Route::new()
        .at("/v8/finance/chart/:symbol", get(chart))
        .at("/today-share-price", get(today))
        .at("/company/:symbol", get(company))
        .at("/company-price-history", post(history))
        .at("/api/quote/:symbol/historical", get(quote))
        .at("/CompanyDetail.aspx", get(detail).post(tab))
        .at("/tiingo/daily/:symbol", get(meta))
        .at("/tiingo/daily/:symbol/prices", get(prices))
        .at("/robots.txt", get(robots))
        .at("/sim/clock", get(read_clock).post(move_clock))
        .at("/sim/fault", post(switch_fault))
        .at("/sim/absence", post(take_away))
        .at("/sim/faults", get(count_faults))
        .at("/sim/closes/:exchange/:symbol", get(list_closes))
        .at("/sim/requests", get(count_requests))
        .at("/sim/tickers", get(list_tickers))
        .data(site)
}

#[handler]
async fn chart(Data(site): Shared<'_>, Path(symbol): Path<String>, Query(query): Query<ChartQuery>) -> Response {
    answer(site, Site::Yahoo, Page::Chart, "application/json;charset=utf-8", |fault| {
        yahoo::chart(&site.world, &symbol, &query, site.now(), fault)
    })
    .await
}

#[handler]
async fn today(Data(site): Shared<'_>) -> Response {
    answer(site, Site::Sharesansar, Page::Today, "text/html; charset=UTF-8", |fault| {
        (200, sharesansar::today(&site.world, site.now(), &site.away(), fault))
    })
    .await
}

#[handler]
async fn company(Data(site): Shared<'_>, Path(symbol): Path<String>, request: &Request) -> Response {
    let session = site.session_of(request).unwrap_or_else(|| site.sessions.fetch_add(1, Ordering::Relaxed));
    let page = answer(site, Site::Sharesansar, Page::Company, "text/html; charset=UTF-8", |fault| {
        match site.world.find(Exchange::Nepse, &symbol) {
            Some(listing) => (200, sharesansar::company(listing, &site.token(session), fault)),
            None => (404, "<!DOCTYPE html><html><title>Not Found</title><body>404</body></html>".to_owned()),
        }
    })
    .await;
    page.with_header(header::SET_COOKIE, format!("{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax"))
        .into_response()
}

#[handler]
async fn history(Data(site): Shared<'_>, request: &Request, Form(form): Form<HistoryForm>) -> Response {
    let expected = site.session_of(request).map(|session| site.token(session));
    let fits = expected.is_some() && expected.as_deref() == request.header("x-csrf-token");
    answer(site, Site::Sharesansar, Page::History, "application/json", |fault| {
        if !fits || fault == Some(FaultKind::Csrf) {
            return (200, sharesansar::csrf_mismatch());
        }
        (200, sharesansar::history(&site.world, &form, site.now(), &site.away(), fault))
    })
    .await
}

#[handler]
async fn quote(Data(site): Shared<'_>, Path(symbol): Path<String>, Query(query): Query<HistoryQuery>) -> Response {
    answer(site, Site::Nasdaq, Page::Quote, "application/json; charset=utf-8", |fault| {
        (200, nasdaq::historical(&site.world, &symbol, &query, site.now(), fault))
    })
    .await
}

#[handler]
async fn detail(Data(site): Shared<'_>, Query(query): Query<DetailQuery>) -> Response {
    answer(site, Site::Merolagani, Page::Detail, "text/html; charset=utf-8", |fault| {
        (200, merolagani::detail(&site.world, &query.symbol, &site.token(0), fault))
    })
    .await
}

#[handler]
async fn tab(
    Data(site): Shared<'_>,
    Query(query): Query<DetailQuery>,
    request: &Request,
    Form(form): Form<DetailForm>,
) -> Response {
    let partial = request.header("x-microsoftajax") == Some("Delta=true");
    let content_type = if partial { "text/plain; charset=utf-8" } else { "text/html; charset=utf-8" };
    answer(site, Site::Merolagani, Page::Tab, content_type, |fault| {
        (200, merolagani::post(&site.world, &query.symbol, &form, &site.token(0), partial, site.now(), fault))
    })
    .await
}

#[handler]
async fn meta(Data(site): Shared<'_>, Path(symbol): Path<String>, request: &Request) -> Response {
    answer(site, Site::Tiingo, Page::Meta, "application/json", |fault| {
        let refused = tiingo::refused(request.header(header::AUTHORIZATION));
        refused.unwrap_or_else(|| tiingo::meta(&site.world, &symbol, fault))
    })
    .await
}

#[handler]
async fn prices(
    Data(site): Shared<'_>,
    Path(symbol): Path<String>,
    Query(query): Query<PricesQuery>,
    request: &Request,
) -> Response {
    answer(site, Site::Tiingo, Page::Prices, "application/json", |fault| {
        let refused = tiingo::refused(request.header(header::AUTHORIZATION));
        refused.unwrap_or_else(|| tiingo::prices(&site.world, &symbol, &query, site.now(), fault))
    })
    .await
}

#[handler]
async fn robots(Data(site): Shared<'_>) -> &'static str {
    match lock(&site.faults).forbids() {
        true => "User-agent: *\nDisallow: /\n",
        false => "User-agent: *\nDisallow: /sim/\n",
    }
}

#[handler]
async fn read_clock(Data(site): Shared<'_>) -> Json<ClockView> {
    Json(site.clock())
}

#[handler]
async fn move_clock(Data(site): Shared<'_>, Json(order): Json<Move>) -> poem::Result<Json<ClockView>> {
    let moved = site.shift(&order);
    moved.map(Json).map_err(|e| poem::Error::from_string(format!("{e:#}"), StatusCode::BAD_REQUEST))
}

#[handler]
async fn switch_fault(Data(site): Shared<'_>, Json(fault): Json<Fault>) -> Json<Fault> {
    site.set_fault(fault);
    Json(fault)
}

#[handler]
async fn take_away(Data(site): Shared<'_>, Json(absence): Json<Absence>) -> Json<Absence> {
    site.set_absence(absence.clone());
    Json(absence)
}

#[handler]
async fn count_requests(Data(site): Shared<'_>) -> Json<Requests> {
    Json(site.requests())
}

#[handler]
async fn count_faults(Data(site): Shared<'_>) -> Json<Shown> {
    Json(lock(&site.faults).shown().clone())
}

/// The closes that a ticker has had so far, by session: what is true, whatever the pages say.
#[handler]
async fn list_closes(Data(site): Shared<'_>, Path((exchange, symbol)): Path<(String, String)>) -> Response {
    let exchange = exchange.parse::<Exchange>().ok();
    let Some(listing) = exchange.and_then(|exchange| site.world.find(exchange, &symbol)) else {
        return StatusCode::NOT_FOUND.into();
    };
    let last = site.world.last_closed_session(listing.ticker.exchange(), site.now());
    let past = listing.rows.iter().filter(|row| Some(row.session) <= last);
    let closes: BTreeMap<String, f64> = past.map(|row| (row.session.to_string(), row.close)).collect();
    Json(closes).into_response()
}

#[handler]
async fn list_tickers(Data(site): Shared<'_>) -> Json<Vec<String>> {
    Json(site.world.listings().iter().map(|listing| listing.ticker.to_string()).collect())
}

/// Counts the request, lets a fault have its way, and writes the page.
async fn answer(
    site: &Sites,
    of: Site,
    page: Page,
    content_type: &str,
    write: impl FnOnce(Option<FaultKind>) -> (u16, String),
) -> Response {
    let fault = lock(&site.faults).take(of, page);
    let kind = fault.map(|fault| fault.kind);
    match kind {
        Some(FaultKind::TooMany) => {
            return Response::builder()
                .status(StatusCode::TOO_MANY_REQUESTS)
                .header(header::RETRY_AFTER, "1")
                .body("Too Many Requests\r\n");
        }
        Some(FaultKind::Broken) => {
            return Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).body("Server Error");
        }
        Some(FaultKind::GzipBomb) => return gzip_bomb(content_type),
        Some(FaultKind::Endless) => {
            let spaces = || futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]));
            return Response::builder().content_type(content_type).body(Body::from_bytes_stream(spaces()));
        }
        Some(FaultKind::Challenge) => {
            return Response::builder().content_type("text/html").body("<html><title>Just a moment...</title></html>");
        }
        Some(FaultKind::Slow) => {
            let delay_ms = fault.and_then(|fault| fault.delay_ms).unwrap_or(30_000);
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        _ => {}
    }
    let (status, mut body) = write(kind);
    if kind == Some(FaultKind::Truncate) {
        let half = (0..=body.len() / 2).rev().find(|at| body.is_char_boundary(*at)).unwrap_or(0);
        body.truncate(half);
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Response::builder().status(status).content_type(content_type).body(body)
}

/// 64 MiB of spaces in some 64 KiB.
fn gzip_bomb(content_type: &str) -> Response {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    let spaces = [b' '; 64 * 1024];
    let written = (0..1024).try_for_each(|_| packed.write_all(&spaces)).and_then(|()| packed.finish());
    Response::builder()
        .content_type(content_type)
        .header(header::CONTENT_ENCODING, "gzip")
        .body(written.unwrap_or_default())
}
