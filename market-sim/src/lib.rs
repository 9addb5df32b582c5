//! Stand-in exchange web sites: real NASDAQ bars, an invented NEPSE, a virtual clock and faults to order.
//!
//! Tests start it in their own process with [`Sim::start`]; the binary serves it by itself or drives the demo.

mod clock;
pub mod demo;
mod fault;
mod merolagani;
mod nasdaq;
mod nepse;
mod pages;
mod server;
mod sharesansar;
mod tiingo;
mod world;
mod yahoo;

pub use clock::{ClockView, Move};
pub use fault::{Absence, Fault, FaultKind, Page, Requests, Site};
pub use nepse::DAILY_LIMIT;
pub use pages::{SavedPage, saved_pages};
pub use tiingo::TIINGO_KEY;
pub use world::{Listing, Row, Split, World};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use market::Ticker;
use server::Sites;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Sixty sessions before the data ends.
pub const DEFAULT_START: &str = "2012-11-30T23:30:00Z";

/// The seed of the invented exchange when none is given.
pub const DEFAULT_SEED: u64 = 7;

/// How to start it. The default: any free loopback port, the clock at [`DEFAULT_START`], nothing kept on disk.
#[derive(Debug, Clone)]
pub struct SimOptions {
    /// Where to listen; port 0 takes a free one. Only loopback addresses are allowed.
    pub listen: SocketAddr,
    /// Seed of the invented exchange.
    pub seed: u64,
    /// Where the clock begins, unless the state file knows better.
    pub start: DateTime<Utc>,
    /// File that keeps the virtual time over restarts.
    pub state: Option<PathBuf>,
    /// Moves the clock on by one session this often.
    pub advance_every: Option<Duration>,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: DEFAULT_SEED,
            start: DEFAULT_START.parse().expect("a valid instant"),
            state: None,
            advance_every: None,
        }
    }
}

/// A running market. Dropping it stops it.
#[derive(Debug)]
pub struct Sim {
    sites: Arc<Sites>,
    base_url: String,
    stop: CancellationToken,
    server: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
}

impl Sim {
    /// Starts serving; when this returns, requests are answered.
    pub async fn start(options: SimOptions) -> anyhow::Result<Self> {
        ensure!(
            options.listen.ip().is_loopback(),
            "market-sim pretends to be other people's sites: it listens on loopback addresses only, not on {}",
            options.listen
        );
        let world = World::new(options.seed)?;
        let clock = clock::Clock::open(&world, options.start, options.seed, options.state.clone())?;
        let sites = Arc::new(Sites::new(world, options.seed, clock));
        let listener = tokio::net::TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("listening on {}: is another program using the port?", options.listen))?;
        let base_url = format!("http://{}", listener.local_addr()?);
        let acceptor = poem::listener::TcpAcceptor::from_tokio(listener)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let app = server::routes(Arc::clone(&sites));
        let server = tokio::spawn(poem::Server::new_with_acceptor(acceptor).run_with_graceful_shutdown(
            app,
            stopped,
            Some(Duration::from_millis(500)),
        ));
        if let Some(every) = options.advance_every {
            tokio::spawn(keep_moving(Arc::clone(&sites), every, stop.clone()));
        }
        Ok(Self { sites, base_url, stop, server: Some(server) })
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end: the base URL of every site.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Where the virtual clock is asked and moved.
    pub fn clock_url(&self) -> String {
        format!("{}/sim/clock", self.base_url)
    }

    /// Every ticker and every session, also those that are still to come.
    pub fn world(&self) -> &World {
        &self.sites.world
    }

    /// Every ticker there is, NASDAQ first.
    pub fn tickers(&self) -> Vec<Ticker> {
        self.world().listings().iter().map(|listing| listing.ticker.clone()).collect()
    }

    /// What the clock shows.
    pub fn clock(&self) -> ClockView {
        self.sites.clock()
    }

    /// Moves the clock to the evening of the next session day; at the end of the data it stays.
    pub fn advance(&self) -> anyhow::Result<ClockView> {
        self.sites.shift(&Move { advance: Some("session".to_owned()), ..Move::default() })
    }

    /// Moves the clock to an instant, forwards or back.
    pub fn set(&self, to: DateTime<Utc>) -> anyhow::Result<ClockView> {
        self.sites.shift(&Move { set: Some(to), ..Move::default() })
    }

    /// Switches a fault on or off.
    pub fn fault(&self, fault: Fault) {
        self.sites.set_fault(fault);
    }

    /// How often each page was asked for so far.
    pub fn requests(&self) -> Requests {
        self.sites.requests()
    }

    /// Stops serving and waits until the port is free.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(server) = self.server.take()
            && let Err(error) = server.await
        {
            tracing::warn!(%error, "the market's server did not end well");
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn keep_moving(sites: Arc<Sites>, every: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        match sites.shift(&Move { advance: Some("session".to_owned()), ..Move::default() }) {
            Ok(view) if view.ended => {
                tracing::info!(now = %view.now, "the data ends here: the clock stays");
                return;
            }
            Ok(view) => tracing::info!(now = %view.now, "one session on"),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the clock could not be moved"),
        }
    }
}
