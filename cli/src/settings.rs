//! Every setting, once: key, default, meaning. In come a file, the environment and flags (each wins over the one before), out goes a
//! typed `Settings`, or an error that names the key and where its value came from. The only reader of the environment.

mod specs;
mod universes;

use crate::args::Overrides;
use market::{Exchange, Ticker};
pub use specs::SPECS;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use universes::universes;
use workers::sources::Key;
use workflows::Keep;
use workflows::flow::{Breaker, Limit};
use workflows::listing_duties::Universes;
use workflows::plan::Step;
use workflows::queue::RedisServer;

/// A hundred years.
const MOST_DAYS: u32 = 36_500;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The named file cannot be read.
    #[error("the settings file {file} cannot be read: {why}")]
    File {
        /// Which.
        file: String,
        /// Why.
        why: String,
    },
    /// A key that no setting has.
    #[error("{origin} sets `{key}`, which is no setting; `retainai config` lists them all")]
    Unknown {
        /// Where it stands.
        origin: String,
        /// The key.
        key: String,
    },
    /// A value that its setting does not take.
    #[error("`{key}` = `{value}` ({origin}): {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value, masked when secret.
        value: String,
        /// Where it stands.
        origin: String,
        /// Why not.
        why: String,
    },
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub struct Value {
    /// As text.
    pub text: String,
    /// `default`, the file's name, the variable's name, or `flag`.
    pub origin: String,
}

/// The settings in force.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each is described in SPECS, once")]
pub struct Settings {
    pub values: BTreeMap<&'static str, Value>,
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub access: api::Access,
    pub api_url: Option<String>,
    pub api_key: Option<String>,
    pub database_url: Option<String>,
    pub redis_url: Option<String>,
    pub cache_redis_url: Option<String>,
    pub redis_ca_file: Option<PathBuf>,
    pub redis_prefix: String,
    pub database_connections: u32,
    pub tickers: Vec<Ticker>,
    pub universes: Universes,
    pub offline: bool,
    pub market_clock_url: Option<String>,
    pub sources: workers::sources::SourceSettings,
    pub schedule_jitter: Duration,
    pub history_days: u64,
    pub history_dir: Option<PathBuf>,
    pub keep: Keep,
    pub finetune_every: usize,
    pub slots: usize,
    pub kernel: forecast::Kernel,
    pub cores: usize,
    pub lease: Duration,
    pub reconcile_every: Duration,
    pub resend_after: Duration,
    pub grace: Duration,
    pub log: String,
    pub log_json: bool,
    pub hold: Option<(Step, Duration)>,
}

impl Settings {
    /// Reads file, environment and flags.
    pub fn read(overrides: &Overrides) -> Result<Self, SettingsError> {
        let mut values: BTreeMap<&'static str, Value> =
            SPECS.iter().map(|s| (s.key, Value { text: s.default.to_owned(), origin: "default".to_owned() })).collect();
        read_file(&mut values, overrides.file.as_deref())?;
        read_environment(&mut values)?;
        for (key, text) in &overrides.values {
            values.insert(key, Value { text: text.clone(), origin: "flag".to_owned() });
        }
        build(values)
    }

    /// The Redis that carries the queues, where one is set.
    pub fn redis(&self) -> Option<RedisServer<'_>> {
        self.redis_url.as_deref().map(|url| RedisServer { url, ca_file: self.redis_ca_file.as_deref() })
    }

    /// The Redis that keeps copies, where one is set.
    pub fn cache_redis(&self) -> Option<RedisServer<'_>> {
        self.cache_redis_url.as_deref().map(|url| RedisServer { url, ca_file: self.redis_ca_file.as_deref() })
    }

    /// Whether everything lives in one process and one folder.
    pub fn is_embedded(&self) -> bool {
        self.database_url.is_none()
    }
}

fn read_file(values: &mut BTreeMap<&'static str, Value>, named: Option<&Path>) -> Result<(), SettingsError> {
    let usual = Path::new("retainai.toml");
    let Some(file) = named.or_else(|| usual.exists().then_some(usual)) else { return Ok(()) };
    let origin = file.display().to_string();
    let failed = |why: String| SettingsError::File { file: origin.clone(), why };
    let text = std::fs::read_to_string(file).map_err(|e| failed(e.to_string()))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| failed(e.to_string()))?;
    for (key, value) in table {
        let spec = SPECS
            .iter()
            .find(|s| s.key == key)
            .ok_or_else(|| SettingsError::Unknown { origin: origin.clone(), key: key.clone() })?;
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Array(items) => items
                .iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join(","),
            other => other.to_string(),
        };
        values.insert(spec.key, Value { text, origin: origin.clone() });
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn read_environment(values: &mut BTreeMap<&'static str, Value>) -> Result<(), SettingsError> {
    for (name, text) in std::env::vars() {
        let Some(key) = name.strip_prefix("RETAINAI_") else { continue };
        // Variables of the project's own tests are not settings.
        if ["TEST_", "BIN_DIR", "SHARED"].iter().any(|other| key.starts_with(other)) {
            continue;
        }
        let key = key.to_ascii_lowercase();
        let spec = SPECS
            .iter()
            .find(|s| s.key == key)
            .ok_or_else(|| SettingsError::Unknown { origin: format!("the variable {name}"), key: key.clone() })?;
        values.insert(spec.key, Value { text, origin: name });
    }
    Ok(())
}

/// Takes typed values out of the table, each with an error that says where it stood.
struct Reader<'a>(&'a BTreeMap<&'static str, Value>);

impl Reader<'_> {
    fn text(&self, key: &'static str) -> &str {
        self.0[key].text.trim()
    }

    fn optional(&self, key: &'static str) -> Option<String> {
        Some(self.text(key)).filter(|t| !t.is_empty()).map(str::to_owned)
    }

    fn parse<T: FromStr<Err: std::fmt::Display>>(&self, key: &'static str) -> Result<T, SettingsError> {
        self.text(key).parse().map_err(|e: T::Err| self.wrong(key, &e))
    }

    fn list<T: FromStr<Err: std::fmt::Display>>(&self, key: &'static str) -> Result<Vec<T>, SettingsError> {
        self.text(key)
            .split(',')
            .map(str::trim)
            .filter(|t| !t.is_empty())
            .map(|t| t.parse().map_err(|e: T::Err| self.wrong(key, &e)))
            .collect()
    }

    fn at_least<T: FromStr<Err: std::fmt::Display> + PartialOrd + std::fmt::Display>(
        &self,
        key: &'static str,
        least: T,
    ) -> Result<T, SettingsError> {
        let value: T = self.parse(key)?;
        if value < least { Err(self.wrong(key, &format!("it must be at least {least}"))) } else { Ok(value) }
    }

    fn millis(&self, key: &'static str, least: u64) -> Result<Duration, SettingsError> {
        self.at_least(key, least).map(Duration::from_millis)
    }

    fn wrong(&self, key: &'static str, why: &dyn std::fmt::Display) -> SettingsError {
        let value = &self.0[key];
        SettingsError::Value {
            key,
            value: masked(key, &value.text),
            origin: value.origin.clone(),
            why: why.to_string(),
        }
    }
}

fn build(values: BTreeMap<&'static str, Value>) -> Result<Settings, SettingsError> {
    let r = Reader(&values);
    let redis_url = r.optional("redis_url");
    let database_url = r.optional("database_url");
    if database_url.is_some() != redis_url.is_some() {
        let missing = if redis_url.is_some() { "database_url" } else { "redis_url" };
        return Err(r.wrong(
            missing,
            &"PostgreSQL and Redis go together: set both database_url and redis_url, or neither for the embedded store",
        ));
    }
    let redis_ca_file = r.optional("redis_ca_file").map(PathBuf::from);
    let cache_redis_url = r.optional("cache_redis_url").or_else(|| redis_url.clone());
    let has_tls = [&redis_url, &cache_redis_url].into_iter().flatten().any(|url| url.starts_with("rediss://"));
    if redis_ca_file.is_some() && !has_tls {
        return Err(
            r.wrong("redis_ca_file", &"it has no use unless redis_url or cache_redis_url begins with rediss://")
        );
    }
    let log_format = r.text("log_format");
    if !matches!(log_format, "pretty" | "json") {
        return Err(r.wrong("log_format", &"use pretty or json"));
    }
    let hold_ms: u64 = r.parse("hold_ms")?;
    let hold = match r.optional("hold_step") {
        Some(_) => Some((r.parse::<Step>("hold_step")?, Duration::from_millis(hold_ms))),
        None => None,
    };
    let cores: usize = r.parse("cores")?;
    let tickers: Vec<Ticker> = r.list("tickers")?;
    let data_dir = PathBuf::from(r.text("data_dir"));
    let beside_the_store = database_url.is_none().then(|| data_dir.join("history"));
    let history_dir = r.optional("history_dir").map(PathBuf::from).or(beside_the_store);
    let settings = Settings {
        data_dir,
        listen: r.parse("listen")?,
        access: access(&r)?,
        api_url: api_url(&r)?,
        api_key: r.optional("api_key"),
        cache_redis_url,
        redis_url,
        redis_ca_file,
        database_url,
        redis_prefix: r.text("redis_prefix").to_owned(),
        database_connections: r.at_least("database_connections", 2)?,
        universes: universes(&r, &tickers)?,
        tickers,
        offline: r.parse("offline")?,
        market_clock_url: r.optional("market_clock_url"),
        sources: sources(&r)?,
        schedule_jitter: Duration::from_secs(r.parse("schedule_jitter_s")?),
        history_days: r.at_least("history_days", 1)?,
        history_dir,
        keep: keep(&r)?,
        finetune_every: r.at_least("finetune_every", 1)?,
        slots: r.at_least("slots", 1)?,
        kernel: r.parse("kernel")?,
        cores: if cores == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { cores },
        lease: r.millis("lease_ms", 200)?,
        reconcile_every: r.millis("reconcile_ms", 10)?,
        resend_after: r.millis("resend_ms", 50)?,
        grace: Duration::from_secs(r.parse("grace_s")?),
        log: r.text("log").to_owned(),
        log_json: log_format == "json",
        hold,
        values: BTreeMap::new(),
    };
    Ok(Settings { values, ..settings })
}

/// Who may ask for what. Nobody needs a key where only this machine can ask.
fn access(r: &Reader<'_>) -> Result<api::Access, SettingsError> {
    let always = match r.text("keys") {
        "auto" => false,
        "always" => true,
        _ => return Err(r.wrong("keys", &"use auto or always")),
    };
    let cors_origins: Vec<String> = r.list("cors_origins")?;
    let is_origin = |origin: &&String| {
        let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        authority.is_some_and(|authority| !authority.is_empty() && !authority.contains(['/', '*', '?', '#', '@']))
    };
    if let Some(other) = cors_origins.iter().find(|origin| !is_origin(origin)) {
        return Err(r.wrong("cors_origins", &format!("`{other}` is no origin like https://app.example.org")));
    }
    Ok(api::Access {
        keys: always || !api::is_loopback(r.parse("listen")?),
        anonymous_reads: r.parse("anonymous_reads")?,
        publish_bars: r.parse("publish_bars")?,
        requests_per_minute: r.parse("requests_per_minute")?,
        anonymous_requests_per_minute: r.parse("anonymous_requests_per_minute")?,
        cors_origins,
        https: r.parse("https")?,
        behind_proxy: r.parse("behind_proxy")?,
        local_token: None,
    })
}

fn api_url(r: &Reader<'_>) -> Result<Option<String>, SettingsError> {
    let url = r.optional("api_url").map(|url| url.trim_end_matches('/').to_owned());
    match &url {
        Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
            Err(r.wrong("api_url", &"it begins with http:// or https://"))
        }
        _ => Ok(url),
    }
}

/// How long runs stay, by outcome.
fn keep(r: &Reader<'_>) -> Result<Keep, SettingsError> {
    let days = |key| {
        let days: u32 = r.at_least(key, 1)?;
        // As good as for ever, and a date all the same.
        if days > MOST_DAYS { Err(r.wrong(key, &format!("it must be at most {MOST_DAYS}"))) } else { Ok(days) }
    };
    Ok(Keep {
        succeeded_days: days("keep_succeeded_days")?,
        no_new_session_days: days("keep_no_new_session_days")?,
        cancelled_days: days("keep_cancelled_days")?,
        failed_days: days("keep_failed_days")?,
    })
}

fn sources(r: &Reader<'_>) -> Result<workers::sources::SourceSettings, SettingsError> {
    let csv_dir = r.optional("csv_dir").map(PathBuf::from);
    let mut settings = workers::sources::SourceSettings {
        yahoo_url: r.text("yahoo_url").to_owned(),
        nasdaq_url: r.text("nasdaq_url").to_owned(),
        sharesansar_url: r.text("sharesansar_url").to_owned(),
        merolagani_url: r.text("merolagani_url").to_owned(),
        tiingo_url: r.text("tiingo_url").to_owned(),
        tiingo_key: r.optional("tiingo_key").map(Key::new),
        user_agent_contact: r.optional("contact"),
        limit: source_limit(r)?,
        csv_dir,
        ..workers::sources::SourceSettings::default()
    };
    for (key, exchange) in [("nasdaq_sources", Exchange::Nasdaq), ("nepse_sources", Exchange::Nepse)] {
        let named: Vec<String> = r.list(key)?;
        let known: &[&str] = match exchange {
            Exchange::Nasdaq => &["yahoo", "nasdaq", "tiingo", "csv"],
            Exchange::Nepse => &["sharesansar", "merolagani", "csv"],
        };
        if let Some(unknown) = named.iter().find(|n| !known.contains(&n.as_str())) {
            return Err(r.wrong(key, &format!("`{unknown}` is no source for {exchange}; use {}", known.join(", "))));
        }
        match exchange {
            Exchange::Nasdaq => settings.nasdaq = named,
            Exchange::Nepse => settings.nepse = named,
        }
    }
    Ok(settings)
}

/// What each host bears.
fn source_limit(r: &Reader<'_>) -> Result<Limit, SettingsError> {
    let paced = Limit::paced(r.millis("scrape_pause_ms", 0)?);
    let concurrency: u32 = r.at_least("source_concurrency", 1)?;
    let daily_budget: u64 = r.parse("source_daily_budget")?;
    let breaker = Breaker {
        failures: r.parse("source_breaker_failures")?,
        cool_down: Duration::from_secs(r.at_least("source_breaker_cool_down_s", 1)?),
        cool_down_cap: Duration::from_secs(r.at_least("source_breaker_cool_down_cap_s", 1)?),
    };
    Ok(Limit {
        concurrency: paced.concurrency.map(|_| concurrency),
        daily_budget: (daily_budget > 0).then_some(daily_budget),
        breaker: (breaker.failures > 0).then_some(breaker),
        ..paced
    })
}

/// The value as it may be shown.
pub fn masked(key: &str, text: &str) -> String {
    let secret = SPECS.iter().any(|s| s.key == key && s.secret);
    match secret && !text.is_empty() {
        false => text.to_owned(),
        // Of an address the password, of anything else all of it.
        true if text.contains("://") => workflows::db::without_password(text),
        true => "***".to_owned(),
    }
}
