//! The harness keeps its own promises: what a test is given is its own, survives what it should, and ends with it.

use std::time::Duration;

use product_tests::process::Program;
use product_tests::{eventually, free_port, servers};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_database_is_new_and_gone_afterwards() {
    let Some(database) = servers::postgres().await else { return };
    let Some(other) = servers::postgres().await else { return };
    let pool = database.pool().await;
    sqlx::raw_sql("CREATE TABLE mine (id bigint)").execute(&pool).await.expect("a new table");
    let name: String = sqlx::query_scalar("SELECT current_database()::text").fetch_one(&pool).await.expect("its name");

    // The pool is still open: a drop must not be held up by connections.
    drop(database);

    let gone = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM pg_database WHERE datname = $1").bind(name);
    assert_eq!(gone.fetch_one(&other.pool().await).await.expect("a count"), 0);
    let tables = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM pg_tables WHERE tablename = 'mine'");
    assert_eq!(tables.fetch_one(&other.pool().await).await.expect("a count"), 0);
}

#[tokio::test]
async fn redis_survives_a_kill_and_forgets_on_a_flush() {
    let Some(mut server) = servers::redis().await else { return };
    let mut connection = server.connection().await;
    redis::cmd("SET").arg("key").arg("kept").exec_async(&mut connection).await.expect("SET");

    // Redis hands a write to the system before it answers, so only a power cut could lose this one.
    server.restart().await;

    let mut connection = server.connection().await;
    let kept: Option<String> = redis::cmd("GET").arg("key").query_async(&mut connection).await.expect("GET");
    assert_eq!(kept.as_deref(), Some("kept"));
    server.flush_all().await;
    let kept: Option<String> = redis::cmd("GET").arg("key").query_async(&mut connection).await.expect("GET");
    assert_eq!(kept, None);
    server.kill9();
    assert!(redis::Client::open(server.url()).expect("a URL").get_multiplexed_async_connection().await.is_err());
}

#[tokio::test]
async fn a_process_sees_only_what_it_is_given() {
    let finished =
        Program::new("sh").args(["-c", "env; echo for people >&2; exit 3"]).env("GIVEN", "yes").output(LIMIT).await;
    assert_eq!(finished.code, Some(3));
    assert_eq!(finished.stderr, "for people\n");
    assert!(finished.stdout.lines().any(|line| line == "GIVEN=yes"));
    let names = finished.stdout.lines().filter_map(|line| Some(line.split_once('=')?.0));
    let unknown: Vec<_> = names
        .filter(|name| {
            !["GIVEN", "PATH", "HOME", "TMPDIR", "TZ", "RUST_BACKTRACE", "PWD", "SHLVL", "_", "OLDPWD"].contains(name)
        })
        .collect();
    assert!(unknown.is_empty(), "leaked into the process: {unknown:?}");
}

#[tokio::test]
async fn a_process_is_read_stopped_and_killed() {
    let script = "trap 'echo leaving; exit 7' TERM; echo ready at 1; while :; do sleep 0.05; done";
    let mut running = Program::new("sh").args(["-c", script]).spawn();
    assert_eq!(running.wait_for_line("ready", LIMIT).await, "ready at 1");
    running.sigterm();
    assert_eq!(running.wait(LIMIT).await.code(), Some(7));
    assert!(running.log().ends_with("leaving\n"));

    let mut stubborn =
        Program::new("sh").args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]).spawn();
    stubborn.wait_for_line("ready", LIMIT).await;
    stubborn.sigterm();
    assert!(stubborn.is_running());
    stubborn.kill9().await;
    assert!(!stubborn.is_running());
}

#[tokio::test]
#[should_panic(expected = "waited 50ms for the impossible")]
async fn waiting_ends_also_where_a_look_hangs() {
    eventually("the impossible", Duration::from_millis(50), std::future::pending::<Option<()>>).await;
}

#[test]
fn ports_are_free_and_different() {
    let (one, two) = (free_port(), free_port());
    assert_ne!(one, two);
    std::net::TcpListener::bind(("127.0.0.1", one)).expect("a free port");
}
