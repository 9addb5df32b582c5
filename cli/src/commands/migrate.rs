//! `retainai migrate`: brings the schema up to date, or says whether it is.

use crate::data_folder::{DataFolder, Taken};
use crate::output::print_json;
use crate::settings::Settings;
use serde_json::json;
use std::time::Duration;
use workflows::Db;
use workflows::db::StoreResult;

/// Applies what is missing; with `check` only counts it. Exit 1 when something is missing after all.
pub async fn run(settings: &Settings, check: bool, wait: bool, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let (db, _folder) = open(settings).await?;
    let missing = loop {
        let tried = missing_after(&db, check).await;
        match tried {
            Ok(0) => break 0,
            Ok(missing) if !wait => break missing,
            Err(error) if !(wait && error.is_transient()) => return Err(error.into()),
            Ok(missing) => eprintln!("retainai: waiting for {missing} migrations"),
            Err(error) => eprintln!("retainai: waiting: {error}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    db.close().await;
    if as_json {
        print_json(&json!({ "missing_migrations": missing }))?;
    } else if missing == 0 {
        crate::output::outln!("the database schema is up to date");
    } else {
        crate::output::outln!("{missing} migrations are missing: run `retainai migrate`");
    }
    Ok(u8::from(missing > 0))
}

async fn missing_after(db: &Db, check: bool) -> StoreResult<usize> {
    if !check {
        db.migrate().await?;
        workflows::ledger::ensure_partitions(db, db.now()).await?;
    }
    db.missing_migrations().await
}

async fn open(settings: &Settings) -> anyhow::Result<(Db, Option<DataFolder>)> {
    if let Some(url) = &settings.database_url {
        return Ok((Db::postgres(url, 2)?, None));
    }
    match DataFolder::take(&settings.data_dir, None)? {
        Taken::Ours(folder) => Ok((Db::sqlite(&folder.database()).await?, Some(folder))),
        Taken::Theirs(owner) => anyhow::bail!(
            "process {} uses this data folder; `retainai up` brings its schema up to date by itself",
            owner.pid
        ),
    }
}
