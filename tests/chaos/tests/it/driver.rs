//! A fault run that is killed, as by the kernel for its memory, leaves none of its processes behind.

use crate::processes::descendants;
use product_tests::eventually;
use product_tests::process::Program;
use product_tests::servers::RedisDb;
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

/// A lease passes before the nodes are started.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_driver_that_is_killed_leaves_no_process_behind() {
    if std::env::var_os("RETAINAI_TEST_POSTGRES_URL").is_none() || !RedisDb::is_installed() {
        // `make test` brings both servers; the run starts its own.
        println!("skipped: run make test (needs PostgreSQL and Redis)");
        return;
    }
    if !std::path::Path::new("/proc/self/stat").exists() {
        println!("skipped: needs a /proc");
        return;
    }
    let logs = tempfile::tempdir().expect("a folder for logs");
    let mut driver = Program::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["--calm", "--duration", "600", "--rate", "20", "--logs"])
        .arg(logs.path())
        // PostgreSQL runs as a user of its own, who may not look into this test's folder.
        .env("TMPDIR", std::env::temp_dir())
        .spawn();
    driver.wait_for_line("runs started", LIMIT).await;
    let id = driver.id();
    let all = eventually("every process of the run", LIMIT, || async move {
        let all = descendants(id);
        let of = |name: &str| all.iter().filter(|process| process.command.contains(name)).count();
        (of("chaos-node") == 6 && of("redis-server") == 1 && of("postgres") > 5).then_some(all)
    })
    .await;
    // A process that is stopped cannot notice anything by itself.
    let node = all.iter().find(|process| process.command.contains("--role worker")).expect("a worker");
    let pid = Pid::from_raw(i32::try_from(node.pid).expect("a number")).expect("not 0");
    kill_process(pid, Signal::STOP).expect("the worker stops");

    driver.kill9().await;
    eventually("the end of everything", Duration::from_secs(60), || async {
        let left: Vec<_> = all.iter().filter(|process| process.lives()).collect();
        left.is_empty().then_some(())
    })
    .await;
}
