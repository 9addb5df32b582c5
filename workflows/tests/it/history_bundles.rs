//! Bundles on disk: the same text from both databases, every column in it, and nothing taken from one that is not as it was written.

use crate::both::{Fresh, on_both_fresh};
use crate::history::{TABLES, closed, days_ago, done, ended, entry, fails, history, ids, old_runs, run_at};
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::Path;
use tempfile::TempDir;
use uuid::Uuid;
use workflows::Outcome;
use workflows::history::HistoryError;
use workflows::ledger::NewRun;
use workflows::plan::Step;

on_both_fresh!(every_column_is_put_away, a_damaged_bundle_is_refused);

fn unpacked(file: &Path) -> String {
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_databases_write_the_same_text() {
    let (Some(sqlite), Some(postgres)) = (crate::both::sqlite().await, crate::both::postgres().await) else { return };
    let (at, mut written) = (days_ago(&sqlite.db, 400), Vec::new());
    let runs: Vec<NewRun> = ["B", "A", "D", "C"].map(|symbol| run_at(symbol, at)).to_vec();
    for fresh in [&sqlite, &postgres] {
        for (run, outcome) in runs.iter().zip([done as fn(Step) -> Outcome, fails, closed, done]) {
            ended(&fresh.ledger(), run.clone(), at, outcome).await;
        }
        let folder = TempDir::new().unwrap();
        let bundle = history(fresh, folder.path()).sweep().await.unwrap().bundle.unwrap();
        written.push(TABLES.map(|table| unpacked(&folder.path().join(&bundle.name).join(format!("{table}.csv.gz")))));
    }
    assert_eq!(written[0], written[1]);
    sqlite.db.close().await;
    postgres.db.close().await;
}

async fn every_column_is_put_away(fresh: &Fresh) {
    let folder = TempDir::new().unwrap();
    old_runs(fresh).await;
    let bundle = history(fresh, folder.path()).sweep().await.unwrap().bundle.unwrap();
    for table in TABLES {
        let text = unpacked(&folder.path().join(&bundle.name).join(format!("{table}.csv.gz")));
        let mut columns: Vec<&str> = text.lines().next().unwrap().split(',').collect();
        columns.sort_unstable();
        assert_eq!(columns, fresh.columns(table).await, "a column came or went: it is another format of bundles");
    }
}

async fn a_damaged_bundle_is_refused(fresh: &Fresh) {
    let (db, folder) = (&fresh.db, TempDir::new().unwrap());
    let history = history(fresh, folder.path());
    old_runs(fresh).await;
    let name = history.sweep().await.unwrap().bundle.unwrap().name;
    let at = folder.path().join(&name);
    let refused = async |what: &str| {
        let error = history.restore(&name, &entry).await.unwrap_err();
        assert!(ids(db).await.is_empty(), "{what}: nothing came back");
        eprintln!("{what}: {error}");
        error
    };
    for file in ["run.csv.gz", "step.csv.gz", "attempt.csv.gz", "effect.csv.gz", "manifest.json"] {
        let path = at.join(file);
        let sound = std::fs::read(&path).unwrap();
        let mut flipped = sound.clone();
        flipped[sound.len() / 2] ^= 1;
        let longer = [sound.as_slice(), b"x"].concat();
        for (what, bytes) in [("flipped", flipped), ("cut", sound[..sound.len() - 9].to_vec()), ("longer", longer)] {
            std::fs::write(&path, bytes).unwrap();
            let error = refused(&format!("{file} {what}")).await;
            assert!(
                matches!(error, HistoryError::Damaged { .. } | HistoryError::Foreign { .. }),
                "{file} {what}: {error}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(refused(file).await, HistoryError::Missing { .. }));
        std::fs::write(&path, &sound).unwrap();
    }
    let manifest = at.join("manifest.json");
    let sound = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, sound.replace("\"format\": 1", "\"format\": 7")).unwrap();
    assert!(matches!(refused("another format").await, HistoryError::Format { format: 7, .. }));
    let ours = db.installation().await.unwrap().to_string();
    std::fs::write(&manifest, sound.replace(&ours, &Uuid::new_v4().to_string())).unwrap();
    assert!(matches!(refused("another installation").await, HistoryError::Foreign { .. }));
    std::fs::write(&manifest, sound).unwrap();
    let away = folder.path().join("away");
    std::fs::rename(&at, &away).unwrap();
    assert!(matches!(refused("no folder").await, HistoryError::Missing { .. }));
    std::fs::rename(&away, &at).unwrap();
    for unknown in ["", "..", "../../etc", "away"] {
        assert!(matches!(history.restore(unknown, &entry).await, Err(HistoryError::Unknown { .. })), "{unknown}");
    }
    assert_eq!(history.restore(&name, &entry).await.unwrap().runs, 5);
}
