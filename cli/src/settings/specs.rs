//! The table of settings: each key once, with its default and what it means. `retainai config` shows it; nothing else describes a setting.

/// One setting as `retainai config` shows it.
#[derive(Debug)]
pub struct Spec {
    /// Key in the file; `RETAINAI_` and upper case in the environment.
    pub key: &'static str,
    /// Its default.
    pub default: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Whether it is a key, or an address that may hold a password.
    pub secret: bool,
}

const fn spec(key: &'static str, default: &'static str, help: &'static str) -> Spec {
    Spec { key, default, help, secret: false }
}

const fn secret(key: &'static str, default: &'static str, help: &'static str) -> Spec {
    Spec { key, default, help, secret: true }
}

/// The table.
pub const SPECS: &[Spec] = &[
    spec("data_dir", "./retainai-data", "folder of the embedded store"),
    spec("listen", "127.0.0.1:8080", "address of the API; on any but a loopback address everyone needs a key"),
    spec("keys", "auto", "who needs an API key: auto (nobody on a loopback address, else everyone) or always"),
    spec(
        "anonymous_reads",
        "false",
        "where keys are needed: forecasts, their record and the tickers may be read without one",
    ),
    spec(
        "publish_bars",
        "false",
        "with anonymous_reads: archived prices may be, too; only if you have the right to pass them on",
    ),
    spec("requests_per_minute", "600", "requests a minute answered to one key, by each process; 0: no limit"),
    spec(
        "anonymous_requests_per_minute",
        "60",
        "requests a minute answered to one address without a key, by each process; 0: no limit",
    ),
    spec("cors_origins", "", "origins whose pages may use the API with a key, such as https://app.example.org"),
    spec(
        "https",
        "false",
        "whether browsers reach the API by https (a proxy in front of it): cookies then go no other way",
    ),
    spec(
        "behind_proxy",
        "false",
        "whether a proxy of yours adds X-Forwarded-For: its last address is then the caller's",
    ),
    spec(
        "api_url",
        "",
        "address of a RetainAI that operator commands talk to; empty: the owner of data_dir, or the servers that are set",
    ),
    secret("api_key", "", "the key that operator commands show to api_url"),
    secret("database_url", "", "PostgreSQL, postgres://user:password@host/name; empty: the embedded store"),
    secret("redis_url", "", "Redis that carries the queues; empty: a queue inside the process (embedded store only)"),
    secret("cache_redis_url", "", "Redis that keeps copies; empty: the same as redis_url"),
    spec(
        "redis_ca_file",
        "",
        "certificate (PEM) of the private authority behind rediss:// addresses; empty: the public authorities",
    ),
    spec("redis_prefix", "retainai", "prefix of every key in Redis"),
    spec("database_connections", "16", "most connections to PostgreSQL per process"),
    spec(
        "tickers",
        "NASDAQ:NVDA,NASDAQ:MSFT,NASDAQ:AAPL,NASDAQ:AMZN,NASDAQ:TSLA,NEPSE:GBIME,NEPSE:NABIL,NEPSE:CIT,NEPSE:EBL,NEPSE:HIDCL",
        "tickers that are made known at start, EXCHANGE:TICKER separated by commas; more with `retainai tickers add`",
    ),
    spec(
        "nasdaq_universe",
        "",
        "file with the symbols of NASDAQ to follow, one a line, # begins a comment; read again when it changes; empty: only what is known or added",
    ),
    spec(
        "nepse_universe",
        "listed",
        "listed: of NEPSE only what is known or added; page: also every symbol that stands on its market page",
    ),
    spec("nasdaq_include", "", "symbols of NASDAQ that are followed in any case, a * at the end for all that begin so"),
    spec(
        "nasdaq_exclude",
        "",
        "symbols of NASDAQ that are not followed unless they are included, a * at the end for all that begin so",
    ),
    spec("nepse_include", "", "the same as nasdaq_include for NEPSE"),
    spec("nepse_exclude", "", "the same as nasdaq_exclude for NEPSE"),
    spec("offline", "false", "send no request at all"),
    spec("market_clock_url", "", "take the market's time from this address (the demo); empty: the real time"),
    spec(
        "nasdaq_sources",
        "yahoo,nasdaq",
        "sources for NASDAQ in order, the next when one fails: yahoo, nasdaq (api.nasdaq.com), tiingo (needs tiingo_key), csv",
    ),
    spec(
        "nepse_sources",
        "sharesansar,merolagani",
        "sources for NEPSE in order, the next when one fails: sharesansar, merolagani, csv",
    ),
    spec("yahoo_url", "https://query1.finance.yahoo.com", "base address of the Yahoo chart source"),
    spec("nasdaq_url", "https://api.nasdaq.com", "base address of the source nasdaq"),
    spec("sharesansar_url", "https://www.sharesansar.com", "base address of the ShareSansar source"),
    spec("merolagani_url", "https://merolagani.com", "base address of the merolagani source"),
    spec("tiingo_url", "https://api.tiingo.com", "base address of the Tiingo source"),
    secret("tiingo_key", "", "key of your account with Tiingo, for the source tiingo"),
    spec("csv_dir", "", "folder of the csv source, holding EXCHANGE/TICKER.csv"),
    spec("contact", "", "address put into the User-Agent, so that a site's owner can reach you"),
    spec(
        "scrape_pause_ms",
        "1000",
        "least time from one request to a host to the next, by all processes together, milliseconds; 0: none, and any number at a time",
    ),
    spec("source_concurrency", "1", "requests to one host under way at a time, by all processes together"),
    spec(
        "source_daily_budget",
        "20000",
        "most requests to one host per UTC day, by all processes together; 0: no limit",
    ),
    spec("source_breaker_failures", "5", "a host is left alone after so many failures in a row; 0: never"),
    spec(
        "source_breaker_cool_down_s",
        "30",
        "for so long the first time, twice as long after each failed probe, seconds",
    ),
    spec("source_breaker_cool_down_cap_s", "900", "but never longer than this, seconds"),
    spec(
        "schedule_jitter_s",
        "600",
        "schedules fire up to so many seconds late, another bit each day and in each installation, so that not all of them come at once; 0: on time",
    ),
    spec("history_days", "1500", "how many days of history a new ticker asks for"),
    spec(
        "history_dir",
        "",
        "folder in which old runs are put away; empty: DATA_DIR/history with the embedded store, and on PostgreSQL every run is kept for ever",
    ),
    spec("keep_succeeded_days", "90", "a run that succeeded stays in the ledger for so long, days"),
    spec("keep_no_new_session_days", "90", "the same for one that found no new session, days"),
    spec("keep_cancelled_days", "90", "the same for one that was cancelled, days"),
    spec("keep_failed_days", "365", "the same for one that failed, days"),
    spec("finetune_every", "5", "a ticker's model is continued every so many sessions"),
    spec("slots", "4", "steps of one kind carried out at a time, per process"),
    spec(
        "kernel",
        "fast",
        "who does the workers' arithmetic: fast, portable (the same in plain Rust), reference (candle's LSTM, to compare with)",
    ),
    spec("cores", "0", "pieces of arithmetic done at a time; 0: as many as the machine has cores"),
    spec("lease_ms", "20000", "how long a claimed step is held without a sign of life, milliseconds"),
    spec("reconcile_ms", "500", "how often the reconciler looks, milliseconds"),
    spec("resend_ms", "5000", "a message older than this is pushed again, milliseconds"),
    spec("grace_s", "25", "how long steps may go on after SIGTERM before they are handed back, seconds"),
    spec("log", "info", "what is logged, as a tracing filter such as info,workflows=debug"),
    spec("log_format", "pretty", "pretty or json"),
    spec("hold_step", "", "a test aid: attempts of this step hold still before they complete"),
    spec("hold_ms", "0", "for so long, milliseconds"),
];
