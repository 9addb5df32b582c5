//! `retainai doctor`: a sound set-up has no problem, every unsound one is named with what to do, and no secret is ever printed. Also that
//! the roles refuse a Redis that would lose or mix their keys, and work over TLS with passwords.

use product_tests::process::{self, Program};
use product_tests::servers::{self, RedisOptions, TlsPostgres};
use product_tests::tls::Authority;
use product_tests::{eventually, free_port, http};
use serde_json::Value;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const SECRET: &str = "never-to-be-seen-83";

/// A set-up by its settings.
#[derive(Clone)]
struct SetUp(Vec<(&'static str, String)>);

impl SetUp {
    fn new() -> Self {
        Self(vec![("RETAINAI_LISTEN", format!("127.0.0.1:{}", free_port())), ("RETAINAI_TICKERS", String::new())])
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    fn on(self, database: &str, redis: &str) -> Self {
        self.with("RETAINAI_DATABASE_URL", database).with("RETAINAI_REDIS_URL", redis)
    }

    fn program(&self, arguments: &[&str]) -> Program {
        let program = process::retainai(arguments.iter().copied());
        self.0.iter().fold(program, |program, (name, value)| program.env(name, value))
    }

    /// What the doctor says; the words for people say the same, and nothing of either holds a password.
    async fn doctor(&self) -> Report {
        let began = tokio::time::Instant::now();
        let finished = self.program(&["doctor", "--json"]).output(LIMIT).await;
        assert!(began.elapsed() < Duration::from_secs(12), "every look has its time limit: {:?}", began.elapsed());
        let report = Report { document: finished.json(), code: finished.code };
        let words = self.program(&["doctor"]).output(LIMIT).await;
        assert_eq!(words.code, report.code, "{words:#?}");
        for item in report.items() {
            let line = format!("{:<7}  {}", item["state"].as_str().unwrap(), item["check"].as_str().unwrap());
            assert!(words.stdout.contains(&line), "{line}: {}", words.stdout);
        }
        for text in [&finished.stdout, &finished.stderr, &words.stdout, &words.stderr] {
            assert!(!text.contains(SECRET) && !text.contains(TlsPostgres::PASSWORD), "{text}");
        }
        assert_eq!(report.document["problems"], report.problems().len(), "{:#}", report.document);
        assert_eq!(report.code, Some(i32::from(!report.problems().is_empty())));
        report
    }
}

struct Report {
    document: Value,
    code: Option<i32>,
}

impl Report {
    fn items(&self) -> &[Value] {
        self.document["items"].as_array().unwrap()
    }

    fn checks(&self, state: &str) -> Vec<&str> {
        self.items().iter().filter(|item| item["state"] == state).map(|item| item["check"].as_str().unwrap()).collect()
    }

    fn problems(&self) -> Vec<&str> {
        self.checks("problem")
    }

    /// State, what was found and what to do, as one text.
    fn of(&self, check: &str) -> String {
        let item = self.items().iter().find(|item| item["check"] == check);
        let item = item.unwrap_or_else(|| panic!("no {check}: {:#}", self.document));
        ["state", "found", "advice"].map(|key| item[key].as_str().unwrap()).join(" | ")
    }

    #[track_caller]
    fn says(&self, check: &str, words: &[&str]) {
        let text = self.of(check);
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_embedded_set_up_alone_and_beside_up() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data");
    let set_up = SetUp::new().with("RETAINAI_DATA_DIR", folder.display().to_string()).with("RETAINAI_OFFLINE", "true");
    let report = set_up.doctor().await;
    assert_eq!(report.problems(), Vec::<&str>::new(), "{:#}", report.document);
    report.says("data_folder", &["ok", "does not exist yet"]);
    report.says("listen", &["ok", "is free"]);
    report.says("source_yahoo", &["ok", "not asked"]);
    report.says("history", &["ok", "90 days (succeeded)", "365 (failed)", "data/history"]);
    for check in ["settings", "clock_and_zones", "cores", "memory", "open_files", "disk_space"] {
        report.of(check);
    }
    assert!(!folder.exists(), "looking changes nothing");

    let mut up = set_up.program(&["up"]).spawn();
    up.wait_for_line("listening", LIMIT).await;
    let report = set_up.doctor().await;
    assert_eq!(report.problems(), Vec::<&str>::new(), "{:#}", report.document);
    report.says("data_folder_owner", &["ok", &format!("process {}", up.id())]);
    report.says("listen", &["ok", "our own process"]);
    report.says("store_schema", &["ok", "up to date"]);
    assert!(up.is_running(), "and disturbs nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_set_up_on_postgres_and_redis() {
    let (Some(postgres), Some(redis)) = (servers::postgres().await, servers::redis().await) else { return };
    let set_up = SetUp::new().on(postgres.url(), &redis.url()).with("RETAINAI_OFFLINE", "true");
    let before = set_up.doctor().await;
    assert_eq!(before.problems(), ["postgres_schema"]);
    before.says("postgres_schema", &["retainai migrate"]);
    assert_eq!(set_up.program(&["migrate"]).output(LIMIT).await.code, Some(0));
    let report = set_up.doctor().await;
    assert_eq!(report.problems(), Vec::<&str>::new(), "{:#}", report.document);
    report.says("redis_namespace", &["ok", "is free"]);
    report.says("history", &["ok", "history_dir is not set"]);
    let _worker = set_up.program(&["worker"]).spawn();
    eventually("the worker to take the prefix", LIMIT, || async {
        set_up.doctor().await.of("redis_namespace").contains("is ours").then_some(())
    })
    .await;
    let checks = ["postgres", "postgres_tls", "postgres_version", "postgres_rights", "postgres_clock"];
    let more = ["postgres_connections", "postgres_durability", "redis", "redis_version", "redis_policy"];
    for check in checks.into_iter().chain(more).chain(["redis_persistence", "redis_memory", "cache"]) {
        report.says(check, &["ok"]);
    }
    // A schema that a newer version has left.
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9999, 'later', true, '', 0)";
    sqlx::raw_sql(newer).execute(&postgres.pool().await).await.unwrap();
    set_up.doctor().await.says("postgres_schema", &["problem", "newer version", "9999"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_away_are_named() {
    let (Some(postgres), Some(redis)) = (servers::postgres().await, servers::redis().await) else { return };
    let nobody = format!("redis://me:{SECRET}@127.0.0.1:{}", free_port());
    let report = SetUp::new().on(postgres.url(), &nobody).doctor().await;
    report.says("redis", &["problem", "127.0.0.1", "check host and port"]);
    report.says("cache", &["problem"]);
    report.says("postgres", &["ok"]);
    let nobody = format!("postgres://me:{SECRET}@127.0.0.1:{}/x", free_port());
    let report = SetUp::new().on(&nobody, &redis.url()).doctor().await;
    report.says("postgres", &["problem", "/x", "check host and port"]);
    report.says("redis", &["ok"]);
    // A user who may do too little.
    let mut admin = redis.connection().await;
    let rules = ["SETUSER", "poor", "on", &format!(">{SECRET}"), "+ping", "+info"];
    redis::cmd("ACL").arg(&rules).exec_async(&mut admin).await.unwrap();
    let poor = format!("redis://poor:{SECRET}@127.0.0.1:{}", redis.port());
    let report = SetUp::new().on(postgres.url(), &poor).doctor().await;
    report.says("redis", &["problem", "ACL SETUSER", "~retainai*"]);
    // Somebody who takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let report = SetUp::new()
        .on(&format!("postgres://me:{SECRET}@127.0.0.1:{port}/x"), &format!("redis://me:{SECRET}@127.0.0.1:{port}"))
        .doctor()
        .await;
    assert!(
        ["postgres", "redis", "cache"].iter().all(|check| report.problems().contains(check)),
        "{:#}",
        report.document
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_with_passwords_it_works_and_each_mistake_is_named() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let names: &[&str] = &["localhost"];
    let options =
        RedisOptions { tls: Some((&authority, names)), user: Some(("carrier", SECRET)), arguments: &[], group: None };
    let Some(redis) = servers::redis_with(&options).await else { return };
    let Some(postgres) = servers::tls_postgres(&authority, names).await else { return };
    let (ca, other) = (authority.file().display().to_string(), stranger.file().display().to_string());
    let database = postgres.url("localhost", TlsPostgres::PASSWORD, &authority.file());
    let with_ca = |file: &str| SetUp::new().with("RETAINAI_REDIS_CA_FILE", file).with("RETAINAI_OFFLINE", "true");
    let sound = with_ca(&ca).on(&database, &redis.url());
    assert_eq!(sound.program(&["migrate"]).output(LIMIT).await.code, Some(0));
    let report = sound.doctor().await;
    assert_eq!(report.problems(), Vec::<&str>::new(), "{:#}", report.document);
    report.says("postgres_tls", &["ok", "TLSv1.3", "server checked"]);
    report.says("redis", &["ok", "encrypted"]);
    let mut up = sound.program(&["up"]).spawn();
    up.wait_for_line("listening", LIMIT).await;
    let ready = format!("http://{}/health/ready", sound.0[0].1);
    eventually("all three to be ready", LIMIT, || async { (http::status(&ready).await? == 200).then_some(()) }).await;
    assert!(!up.log().contains(SECRET) && !up.log().contains(TlsPostgres::PASSWORD), "no password in the log");
    up.sigterm();
    assert_eq!(up.wait(LIMIT).await.code(), Some(0), "{}", up.log());

    let report = with_ca(&other).on(&database.replace(&ca, &other), &redis.url()).doctor().await;
    report.says("postgres", &["problem", "certificate", "sslrootcert"]);
    report.says("redis", &["problem", "certificate", "redis_ca_file"]);
    let by_number = with_ca(&ca).on(
        &postgres.url("127.0.0.1", TlsPostgres::PASSWORD, &authority.file()),
        &redis.url().replace("localhost", "127.0.0.1"),
    );
    let report = by_number.doctor().await;
    report.says("postgres", &["problem", "for another name"]);
    report.says("redis", &["problem", "for another name"]);
    let wrong = with_ca(&ca)
        .on(&postgres.url("localhost", SECRET, &authority.file()), &redis.url().replace(SECRET, TlsPostgres::PASSWORD));
    let report = wrong.doctor().await;
    report.says("postgres", &["problem", "check user and password"]);
    report.says("redis", &["problem", "check user and password"]);
    let worker = wrong.program(&["worker"]).spawn();
    eventually("the worker to say what is wrong", LIMIT, || async {
        worker.log().contains("check user and password").then_some(())
    })
    .await;
    assert!(!worker.log().contains(SECRET) && !worker.log().contains(TlsPostgres::PASSWORD), "{}", worker.log());
    let useless = SetUp::new().on(&database, "redis://localhost").with("RETAINAI_REDIS_CA_FILE", ca).doctor().await;
    useless.says("settings", &["problem", "redis_ca_file", "rediss://"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_throws_keys_away_is_refused() {
    let Some(postgres) = servers::postgres().await else { return };
    let arguments: &[&str] = &["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "no"];
    let Some(redis) = servers::redis_with(&RedisOptions { arguments, ..RedisOptions::default() }).await else { return };
    let set_up = SetUp::new().on(postgres.url(), &redis.url());
    assert_eq!(set_up.program(&["migrate"]).output(LIMIT).await.code, Some(0));
    let report = set_up.doctor().await;
    assert_eq!(report.problems(), ["redis_policy"]);
    report.says("redis_policy", &["allkeys-lru", "CONFIG SET maxmemory-policy noeviction"]);
    report.says("redis_persistence", &["warning", "nothing is lost"]);
    report.says("cache", &["warning", "carries the queues too", "cache_redis_url"]);
    for role in ["api", "worker", "scheduler", "up"] {
        let refused = set_up.program(&[role]).output(LIMIT).await;
        assert_eq!(refused.code, Some(1), "{role}: {refused:#?}");
        assert!(refused.stderr.contains("maxmemory-policy"), "{role}: {}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prefix_of_another_installation_is_refused() {
    let (Some(ours), Some(theirs), Some(redis)) =
        (servers::postgres().await, servers::postgres().await, servers::redis().await)
    else {
        return;
    };
    let first = SetUp::new().on(theirs.url(), &redis.url()).with("RETAINAI_OFFLINE", "true");
    assert_eq!(first.program(&["migrate"]).output(LIMIT).await.code, Some(0));
    let _first = first.program(&["api"]).spawn();
    let standing = eventually("the first to take the prefix", LIMIT, || async {
        let mut connection = redis.connection().await;
        redis::cmd("GET").arg("retainai:installation").query_async::<Option<String>>(&mut connection).await.ok()?
    })
    .await;
    let second = SetUp::new().on(ours.url(), &redis.url()).with("RETAINAI_OFFLINE", "true");
    assert_eq!(second.program(&["migrate"]).output(LIMIT).await.code, Some(0));
    let report = second.doctor().await;
    assert_eq!(report.problems(), ["redis_namespace"]);
    report.says("redis_namespace", &[&standing, "RETAINAI_REDIS_PREFIX"]);
    let refused = second.program(&["worker"]).output(LIMIT).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("RETAINAI_REDIS_PREFIX"), "{refused:#?}");
    let beside = second.with("RETAINAI_REDIS_PREFIX", "second");
    assert_eq!(beside.doctor().await.problems(), Vec::<&str>::new(), "under a prefix of its own it is at home");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_an_address_and_sources_that_cannot_be_used() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let below = file.join("data").display().to_string();
    // Below a file nobody can make a folder, not even root.
    let report = SetUp::new().with("RETAINAI_DATA_DIR", below).doctor().await;
    report.says("data_folder", &["problem", "file", "--data-dir"]);
    report.says("history", &["problem", "file", "history_dir"]);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let report = SetUp::new()
        .with("RETAINAI_LISTEN", taken.local_addr().unwrap().to_string())
        .with("RETAINAI_YAHOO_URL", "not an address")
        .with("RETAINAI_NEPSE_SOURCES", "csv")
        .with("RETAINAI_CSV_DIR", file.display().to_string())
        .doctor()
        .await;
    assert_eq!(report.problems(), ["listen", "source_yahoo", "source_csv"]);
    report.says("listen", &["held by another program", "ss -ltnp"]);
    report.says("source_yahoo", &["yahoo_url", "not an address"]);
    report.says("source_csv", &["is no folder"]);
    let open = SetUp::new().with("RETAINAI_LISTEN", format!("0.0.0.0:{}", free_port())).doctor().await;
    assert_eq!(open.problems(), Vec::<&str>::new());
    open.says("keys", &["warning", "unencrypted", "https = true"]);
    // Only when it is told to does it ask a source.
    let asked = SetUp::new().with("RETAINAI_YAHOO_URL", format!("http://127.0.0.1:{}", free_port()));
    let asked = asked.with("RETAINAI_NEPSE_SOURCES", "").with("RETAINAI_NASDAQ_SOURCES", "yahoo");
    assert_eq!(asked.doctor().await.problems(), Vec::<&str>::new());
    let online = asked.program(&["doctor", "--online", "--json"]).output(LIMIT).await;
    let online = Report { document: online.json(), code: online.code };
    online.says("source_yahoo", &["problem", "does not answer"]);
    assert_eq!(online.code, Some(1));
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_explained() {
    let slip = SetUp::new().with("RETAINAI_REDIS_ULR", format!("redis://:{SECRET}@x")).doctor().await;
    assert_eq!(slip.problems(), ["settings"]);
    slip.says("settings", &["RETAINAI_REDIS_ULR", "`redis_url`"]);
    slip.of("open_files");
    let value = SetUp::new().with("RETAINAI_SLOTS", "many").doctor().await;
    value.says("settings", &["problem", "slots", "many", "steps of one kind"]);

    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("retainai.toml");
    let of_file = |text: &str| {
        std::fs::write(&file, text).unwrap();
        process::retainai(["doctor", "--json"]).current_dir(home.path()).output(LIMIT)
    };
    let finished = of_file("data_dri = \"x\"\n").await;
    let report = Report { document: finished.json(), code: finished.code };
    report.says("settings", &["problem", "retainai.toml", "`data_dir`"]);
    let finished = of_file("listen = \n").await;
    assert!(finished.code == Some(1) && finished.stdout.contains("cannot be read"), "{finished:#?}");
    let text = format!("database_url = \"postgres://a:{SECRET}@127.0.0.1:1/x\"\nredis_url = \"redis://127.0.0.1:1\"\n");
    let finished = of_file(&text).await;
    let report = Report { document: finished.json(), code: finished.code };
    report.says("settings_secrets", &["warning", "chmod 600"]);
    assert!(!finished.stdout.contains(SECRET) && !finished.stderr.contains(SECRET), "{finished:#?}");
}
