//! Who is on stage: PostgreSQL, Redis, three workers each behind a network of its own, two schedulers, one API, and the books.

use crate::books::Books;
use crate::faults::{SCHEDULERS, WORKERS};
use crate::guard::Guard;
use crate::postgres::Postgres;
use crate::process::{Arguments, Place};
use crate::proxy::Proxy;
use crate::{calendar, node, people, triggers};
use anyhow::Context;
use market::Exchange;
use product_tests::disk::Disk;
use product_tests::servers::{RedisDb, RedisOptions};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::Mutex;
use workflows::{Db, Ledger};

/// What is offered, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Steps per second, of all schedulers together.
    pub steps_per_s: u32,
    /// From then on, in microseconds since 1970.
    pub from_us: i64,
    /// Until then.
    pub until_us: i64,
    /// The seed of the run.
    pub seed: u64,
}

/// A worker and what surrounds it.
pub struct Worker {
    /// Its process.
    pub place: Place,
    /// Its network towards PostgreSQL.
    pub to_postgres: Proxy,
    /// Its network towards Redis.
    pub to_redis: Proxy,
    /// Its temporary folder.
    pub disk: Disk,
}

/// Everything. Dropping it ends every process, those of the nodes first.
pub struct Stage {
    /// Carry out steps.
    pub workers: Vec<Worker>,
    /// Start runs.
    pub schedulers: Vec<Place>,
    /// Answers over HTTP.
    pub api: Place,
    /// Where it answers.
    pub api_address: SocketAddr,
    /// What the nodes tell.
    pub books: Books,
    /// Connections of the driver itself, past every proxy.
    pub pool: PgPool,
    /// The server that remembers.
    pub postgres: Mutex<Postgres>,
    /// The server that carries.
    pub redis: Mutex<RedisDb>,
    _guard: Guard,
    _folders: TempDir,
}

impl Stage {
    /// The servers, the schema, and every place still empty.
    pub async fn build(logs: &Path, program: &Path) -> anyhow::Result<Building> {
        let folders = tempfile::Builder::new().prefix("retainai-chaos-").tempdir()?;
        let guard = Guard::start(folders.path())?;
        let postgres = Postgres::start(logs.join("postgres.log"), guard.group()).await?;
        let up_since = tokio::time::Instant::now();
        let redis = RedisDb::start_with(&RedisOptions { group: Some(guard.group()), ..RedisOptions::default() })
            .await
            .context("a Redis of our own")?;
        let db = Db::postgres(&postgres.url(), 2)?;
        db.migrate().await?;
        let mut tickers: Vec<_> =
            (0..people::TICKERS).map(|nth| node::ticker(Exchange::Nasdaq, people::PLACE, nth)).collect();
        tickers.extend(calendar::tickers());
        workflows::stores::tickers::add(&db, &tickers, db.now()).await?;
        Ledger::Sql(db.clone()).add_schedule(&calendar::schedule()).await?;
        db.close().await;
        let pool = PgPoolOptions::new().max_connections(4).connect(&postgres.url()).await?;
        triggers::make(&pool).await?;
        let (books, ledger) = Books::open().await?;
        Ok(Building {
            postgres,
            up_since,
            redis,
            pool,
            books,
            ledger,
            guard,
            folders,
            logs: logs.to_owned(),
            program: program.to_owned(),
        })
    }
}

/// A stage without nodes.
pub struct Building {
    postgres: Postgres,
    /// When PostgreSQL was started: for one lease from then on nobody is taken back.
    pub up_since: tokio::time::Instant,
    redis: RedisDb,
    pool: PgPool,
    books: Books,
    ledger: SocketAddr,
    guard: Guard,
    folders: TempDir,
    logs: PathBuf,
    program: PathBuf,
}

impl Building {
    /// Starts every node.
    pub async fn open(self, offer: Offer) -> anyhow::Result<Arc<Stage>> {
        let redis_url = self.redis.url();
        let redis_port: u16 = redis_url.rsplit(':').next().unwrap_or_default().parse().context("a port of Redis")?;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut workers = Vec::new();
        for n in 1..=WORKERS {
            let to_postgres = Proxy::start(local(self.postgres.port())).await?;
            let to_redis = Proxy::start(local(redis_port)).await?;
            let disk = Disk::make(self.folders.path(), &format!("w{n}"))?;
            let mut arguments = self.arguments(
                "worker",
                &Postgres::url_at(to_postgres.address.port()),
                &format!("redis://127.0.0.1:{}", to_redis.address.port()),
                offer,
            );
            arguments.extend(["--seed".to_owned(), offer.seed.to_string()]);
            arguments.extend(["--folder".to_owned(), disk.path().display().to_string()]);
            let place = self.place(format!("w{n}"), Box::new(move || arguments.clone()));
            workers.push(Worker { place, to_postgres, to_redis, disk });
        }
        #[allow(clippy::cast_precision_loss, reason = "there are two")]
        let rate = f64::from(offer.steps_per_s) / 5.0 / SCHEDULERS as f64;
        let schedulers: Vec<Place> = (1..=SCHEDULERS)
            .map(|n| {
                let name = format!("s{n}");
                let mut fixed = self.arguments("scheduler", &self.postgres.url(), &redis_url, offer);
                fixed.extend(["--rate".to_owned(), rate.to_string()]);
                let (books, own) = (self.books.clone(), name.clone());
                let arguments = move || {
                    let first = books.pages().next.get(&own).copied().unwrap_or(0);
                    fixed.iter().cloned().chain(["--first".to_owned(), first.to_string()]).collect()
                };
                self.place(name, Box::new(arguments))
            })
            .collect();
        let api_address = local(product_tests::free_port());
        let mut arguments = self.arguments("api", &self.postgres.url(), &redis_url, offer);
        arguments.extend(["--listen".to_owned(), api_address.to_string()]);
        let api = self.place("api".to_owned(), Box::new(move || arguments.clone()));
        let Self { postgres, redis, pool, books, guard, folders, .. } = self;
        let (postgres, redis) = (Mutex::new(postgres), Mutex::new(redis));
        let (_guard, _folders) = (guard, folders);
        let stage = Stage { workers, schedulers, api, api_address, books, pool, postgres, redis, _guard, _folders };
        for place in stage.places() {
            place.start()?;
        }
        Ok(Arc::new(stage))
    }

    fn arguments(&self, role: &str, database_url: &str, redis_url: &str, offer: Offer) -> Vec<String> {
        let ledger = self.ledger.to_string();
        let words = ["--role", role, "--database-url", database_url, "--redis-url", redis_url, "--ledger", &ledger];
        let times =
            ["--from-us".to_owned(), offer.from_us.to_string(), "--until-us".to_owned(), offer.until_us.to_string()];
        words.into_iter().map(str::to_owned).chain(times).collect()
    }

    fn place(&self, name: String, arguments: Arguments) -> Place {
        Place::new(name, self.program.clone(), self.logs.clone(), self.guard.group(), arguments)
    }
}

impl Stage {
    /// Every place.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.workers.iter().map(|worker| &worker.place).chain(&self.schedulers).chain([&self.api])
    }
}
