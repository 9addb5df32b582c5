//! The product as an operator runs it, over a stand-in market: embedded in one process, or as migrate, API, scheduler and workers on
//! PostgreSQL and Redis. Reads the database directly, to see what the API does not tell.

use product_tests::process::{self, Program, Running};
use product_tests::servers::{self, PgDatabase, RedisDb};
use product_tests::{eventually, free_port, http};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use std::time::Duration;
use tempfile::TempDir;

pub const LIMIT: Duration = Duration::from_secs(90);

/// Tickers of the stand-in market: four real ones, ten invented.
pub const TICKERS: [&str; 14] = [
    "NASDAQ:AAPL",
    "NASDAQ:MSFT",
    "NASDAQ:GOOG",
    "NASDAQ:FB",
    "NEPSE:DEMOBA",
    "NEPSE:DEMOBB",
    "NEPSE:DEMOFI",
    "NEPSE:DEMOHO",
    "NEPSE:DEMOHY",
    "NEPSE:DEMOIN",
    "NEPSE:DEMOMF",
    "NEPSE:DEMOMI",
    "NEPSE:DEMORE",
    "NEPSE:DEMOTR",
];

pub struct Installation {
    _market: Running,
    market_url: String,
    data: TempDir,
    pub servers: Option<(PgDatabase, RedisDb)>,
    port: u16,
    settings: Vec<(String, String)>,
}

/// Rows of tickers' runs: a pre-training may be under way beside them.
const OF_TICKERS: &str = "run_id in (select id from run where plan = 'ticker')";

impl Installation {
    pub async fn embedded(tickers: &[&str]) -> Self {
        Self::new(tickers, None).await
    }

    /// `None`, with a word, where there are no servers.
    pub async fn on_servers(tickers: &[&str]) -> Option<Self> {
        let servers = (servers::postgres().await?, servers::redis().await?);
        Some(Self::new(tickers, Some(servers)).await)
    }

    async fn new(tickers: &[&str], servers: Option<(PgDatabase, RedisDb)>) -> Self {
        let mut market =
            process::market_sim(["serve", "--listen", "127.0.0.1:0", "--start", "2012-12-03T23:30:00Z"]).spawn();
        let line = market.wait_for_line("market-sim on ", LIMIT).await;
        let market_url =
            line.split_whitespace().find(|word| word.starts_with("http://")).expect("its address").to_owned();
        let mut settings: Vec<(String, String)> = [
            ("RETAINAI_MARKET_CLOCK_URL", format!("{market_url}/sim/clock")),
            ("RETAINAI_YAHOO_URL", market_url.clone()),
            ("RETAINAI_NASDAQ_URL", market_url.clone()),
            ("RETAINAI_SHARESANSAR_URL", market_url.clone()),
            ("RETAINAI_MEROLAGANI_URL", market_url.clone()),
            ("RETAINAI_TICKERS", tickers.join(",")),
            ("RETAINAI_SCRAPE_PAUSE_MS", "0".to_owned()),
            ("RETAINAI_SCHEDULE_JITTER_S", "0".to_owned()),
            ("RETAINAI_FINETUNE_EVERY", "1".to_owned()),
            ("RETAINAI_LEASE_MS", "1500".to_owned()),
            ("RETAINAI_RECONCILE_MS", "100".to_owned()),
            ("RETAINAI_RESEND_MS", "1000".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        if let Some((postgres, redis)) = &servers {
            settings.push(("RETAINAI_DATABASE_URL".to_owned(), postgres.url().to_owned()));
            settings.push(("RETAINAI_REDIS_URL".to_owned(), redis.url()));
        }
        let data = tempfile::tempdir().expect("a data folder");
        Self { _market: market, market_url, data, servers, port: free_port(), settings }
    }

    /// The same with one setting more.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `retainai` with this installation's settings.
    pub fn retainai(&self, arguments: &[&str]) -> Program {
        let program = process::retainai(arguments.iter().copied())
            .env("RETAINAI_DATA_DIR", self.data.path().join("data"))
            .env("RETAINAI_LISTEN", format!("127.0.0.1:{}", self.port));
        self.settings.iter().fold(program, |program, (name, value)| program.env(name, value))
    }

    /// Everything that serves and schedules; with `work`, also what carries out steps.
    pub async fn start(&self, work: &[(&str, &str)]) -> Vec<Running> {
        let with = |program: Program| work.iter().fold(program, |program, (name, value)| program.env(name, *value));
        let processes = if self.servers.is_some() {
            let migrated = self.retainai(&["migrate", "--wait"]).output(LIMIT).await;
            assert_eq!(migrated.code, Some(0), "{migrated:#?}");
            vec![
                with(self.retainai(&["worker"])).spawn(),
                self.retainai(&["api"]).spawn(),
                self.retainai(&["scheduler"]).spawn(),
            ]
        } else {
            vec![with(self.retainai(&["up"])).spawn()]
        };
        eventually("the API to be ready", LIMIT, || async {
            (http::status(&self.url("/health/ready")).await? == 200).then_some(())
        })
        .await;
        processes
    }

    /// The folder of the embedded store.
    pub fn data_folder(&self) -> std::path::PathBuf {
        self.data.path().join("data")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub async fn get(&self, path: &str) -> Value {
        http::get_json(&self.url(path)).await.expect("an answer")
    }

    /// Moves the market to the evening of its next session.
    pub async fn next_session(&self) {
        http::post_json(&format!("{}/sim/clock", self.market_url), &json!({ "advance": "session" }))
            .await
            .expect("the market's clock");
    }

    /// Moves the market to an instant.
    pub async fn set_clock(&self, to: &str) {
        http::post_json(&format!("{}/sim/clock", self.market_url), &json!({ "set": to }))
            .await
            .expect("the market's clock");
    }

    pub async fn fault(&self, fault: Value) {
        http::client()
            .post(format!("{}/sim/fault", self.market_url))
            .json(&fault)
            .send()
            .await
            .expect("the market")
            .error_for_status()
            .expect("a fault");
    }

    /// A company of NEPSE is not traded from a session on, for ever or until another one.
    pub async fn take_away(&self, symbol: &str, from: &str, until: Option<&str>) {
        let mut absence = json!({ "symbol": symbol, "from": from });
        if let Some(until) = until {
            absence["until"] = until.into();
        }
        http::post_json(&format!("{}/sim/absence", self.market_url), &absence).await.expect("the market");
    }

    /// What the stand-in market says of itself.
    pub async fn market(&self, path: &str) -> Value {
        http::get_json(&format!("{}{path}", self.market_url)).await.expect("the market's answer")
    }

    /// Texts from the database.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.servers {
            Some((postgres, _)) => sqlx::query_scalar(sql).fetch_all(&postgres.pool().await).await,
            None => {
                let file = self.data.path().join("data/retainai.db");
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).read_only(true);
                let pool = sqlx::SqlitePool::connect_with(options).await.expect("the embedded store");
                sqlx::query_scalar(sql).fetch_all(&pool).await
            }
        }
        .expect("texts")
    }

    /// Waits until at least `count` runs exist and all have ended; answers them.
    pub async fn runs_ended(&self, count: usize) -> Vec<Value> {
        eventually("all runs to end", LIMIT, || async {
            let runs = http::get_json(&self.url("/v1/runs?limit=200")).await.ok()?["items"].as_array()?.clone();
            let open = runs.iter().any(|run| matches!(run["state"].as_str(), Some("queued" | "running")));
            // Those of tickers: pre-trainings come and go beside them.
            let runs: Vec<Value> = runs.into_iter().filter(|run| run["plan"] == "ticker").collect();
            (runs.len() >= count && !open).then_some(runs)
        })
        .await
    }

    /// Waits until the database answers with that number.
    pub async fn until(&self, what: &str, sql: &str, number: i64) {
        eventually(what, LIMIT, || async { (self.number(sql).await == number).then_some(()) }).await;
    }

    /// Waits until every forecast whose close has come is scored, and nothing is under way.
    pub async fn all_scored(&self) {
        let waiting = "select count(*) from forecast f where settled is null and exists
             (select 1 from price_daily p where p.exchange = f.exchange and p.ticker = f.ticker and p.session >= f.target)";
        self.until("every close to be scored", waiting, 0).await;
        self.until("no open run", "select count(*) from active", 0).await;
    }

    /// One number from the database.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.servers {
            Some((postgres, _)) => sqlx::query_scalar(sql).fetch_one(&postgres.pool().await).await,
            None => {
                let file = self.data.path().join("data/retainai.db");
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).read_only(true);
                let pool = sqlx::SqlitePool::connect_with(options).await.expect("the embedded store");
                sqlx::query_scalar(sql).fetch_one(&pool).await
            }
        }
        .expect("a number")
    }

    /// Changes the database behind the program's back; nobody may use an embedded store meanwhile.
    pub async fn change(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.servers {
            Some((postgres, _)) => drop(sqlx::query(sql).execute(&postgres.pool().await).await.expect("a change")),
            None => {
                let file =
                    sqlx::sqlite::SqliteConnectOptions::new().filename(self.data.path().join("data/retainai.db"));
                let pool = sqlx::SqlitePool::connect_with(file).await.expect("the embedded store");
                sqlx::query(sql).execute(&pool).await.expect("a change");
                pool.close().await;
            }
        }
    }

    /// What must hold whenever every run has ended, whatever happened on the way.
    pub async fn check_the_books(&self) {
        assert_eq!(self.number("select count(*) from staging").await, 0, "cleanup leaves no staging");
        assert_eq!(
            self.number(&format!(
                "select count(*) from step where state in ('waiting', 'ready', 'running') and {OF_TICKERS}"
            ))
            .await,
            0,
            "no step is stuck"
        );
        let ended =
            format!("select count(*) from step where state in ('done', 'skipped') and attempt > 0 and {OF_TICKERS}");
        let ended = self.number(&ended).await;
        let effects = self.number(&format!("select count(*) from effect where {OF_TICKERS}")).await;
        assert_eq!(effects, ended, "every step that ended well applied its effects, and applied them once");
        assert_eq!(
            self.number(&format!("select count(*) from attempt where outcome = 'running' and {OF_TICKERS}")).await,
            0,
            "no attempt is left open"
        );
        let raw = self.number("select count(*) from price_raw").await;
        assert_eq!(raw, self.number("select count(*) from price_daily").await, "no bar was archived twice");
        assert_eq!(raw, self.number("select cast(sum(bars) as bigint) from series").await, "series and archive agree");
    }
}
