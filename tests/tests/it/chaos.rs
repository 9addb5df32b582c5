//! The fault run of `make chaos`, for a minute: nothing is lost, done twice or left lying, and the last line has the shape that others read.

use product_tests::process::{Program, path_of};
use product_tests::servers::RedisDb;
use std::time::Duration;

/// A minute of faults, one lease before it, and the time until every run has ended: at most one lease and a minute more.
const LIMIT: Duration = Duration::from_secs(300);

#[tokio::test]
async fn nothing_is_lost_or_done_twice_while_processes_and_servers_are_killed() {
    if std::env::var_os("RETAINAI_TEST_POSTGRES_URL").is_none() || !RedisDb::is_installed() {
        // `make test` brings both servers; the run starts its own.
        println!("skipped: run make test (needs PostgreSQL and Redis)");
        return;
    }
    let logs = tempfile::tempdir().expect("a folder for logs");
    let finished = Program::new(path_of("chaos"))
        .args(["--duration", "60", "--seed", "1", "--logs"])
        .arg(logs.path())
        // PostgreSQL runs as a user of its own, who may not look into this test's folder.
        .env("TMPDIR", std::env::temp_dir())
        .output(LIMIT)
        .await;
    let said = &finished.stderr;
    assert_eq!(finished.code, Some(0), "{}\n{said}", finished.stdout);
    let last = finished.stdout.lines().last().unwrap_or_default();
    let figures: Vec<(&str, u64)> = last
        .split(' ')
        .map(|word| {
            let (name, figure) = word.split_once('=').unwrap_or_else(|| panic!("`{word}` in `{last}`"));
            (name, figure.parse().unwrap_or_else(|_| panic!("`{word}` in `{last}`")))
        })
        .collect();
    let names: Vec<&str> = figures.iter().map(|(name, _)| *name).collect();
    let expected = ["lost", "duplicated", "stuck", "fenced", "recovery_p50_ms", "recovery_p99_ms", "steps_per_s"];
    assert_eq!(names, expected, "{last}");
    assert_eq!(figures[..3], [("lost", 0), ("duplicated", 0), ("stuck", 0)]);
    let (recovered, steps_per_s) = (figures[4].1, figures[6].1);
    assert!(recovered > 0, "a worker that held steps was killed, and they began elsewhere\n{said}");
    assert!(steps_per_s > 0, "{last}\n{said}");
}
