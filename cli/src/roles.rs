//! The roles: which work a process does, and how it stops. SIGTERM or ctrl-c: finish or hand back the steps, then exit 0.

use crate::assemble::{Assembled, Work, assemble, history, politeness, work};
use crate::data_folder::{DataFolder, Taken};
use crate::settings::Settings;
use crate::telemetry;
use anyhow::Context;
use api::{ApiState, Bootstrap};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use workflows::plan::Step;
use workflows::{Engine, Stores};

/// Everything in one process.
pub async fn up(settings: Settings) -> anyhow::Result<u8> {
    let everything = Work { steps: workers::steps::CARRIED_OUT.to_vec(), schedules: true, migrates: true };
    serve(settings, everything, true).await
}

/// The API alone.
pub async fn api(settings: Settings) -> anyhow::Result<u8> {
    needs_servers(&settings, "api")?;
    serve(settings, Work::default(), true).await
}

/// Steps alone.
pub async fn worker(settings: Settings, steps: &[Step]) -> anyhow::Result<u8> {
    let steps = if steps.is_empty() { workers::steps::CARRIED_OUT.to_vec() } else { steps.to_vec() };
    if let Some(step) = steps.iter().find(|step| !workers::steps::CARRIED_OUT.contains(step)) {
        let known: Vec<&str> = workers::steps::CARRIED_OUT.iter().map(|step| step.as_str()).collect();
        eprintln!("retainai: this version does not carry out `{step}`; --steps takes {}", known.join(", "));
        return Ok(2);
    }
    needs_servers(&settings, "worker")?;
    serve(settings, Work { steps, ..Work::default() }, false).await
}

/// Schedules alone.
pub async fn scheduler(settings: Settings) -> anyhow::Result<u8> {
    needs_servers(&settings, "scheduler")?;
    serve(settings, Work { schedules: true, ..Work::default() }, false).await
}

/// A role of its own shares its stores with others, so they cannot live inside one process.
fn needs_servers(settings: &Settings, role: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        !settings.is_embedded(),
        "`retainai {role}` works beside other processes and needs PostgreSQL and Redis: set RETAINAI_DATABASE_URL and RETAINAI_REDIS_URL, or use `retainai up`"
    );
    Ok(())
}

async fn serve(settings: Settings, what: Work, with_api: bool) -> anyhow::Result<u8> {
    telemetry::start_logging(&settings, false)?;
    let stop = stop_on_signal()?;
    let mut folder = match settings.is_embedded() {
        true => match DataFolder::take(&settings.data_dir, None)? {
            Taken::Ours(folder) => Some(folder),
            Taken::Theirs(owner) => anyhow::bail!(
                "the data folder {} belongs to process {}{}; use that one, end it, or choose another --data-dir",
                settings.data_dir.display(),
                owner.pid,
                owner.listen.map(|l| format!(", which answers on http://{l}")).unwrap_or_default()
            ),
        },
        false => None,
    };
    let listener = match with_api {
        true => Some(
            TcpListener::bind(settings.listen)
                .await
                .with_context(|| format!("the address {} could not be taken", settings.listen))?,
        ),
        false => None,
    };
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let metrics = telemetry::start_metrics()?;
    let Assembled { engine, stores, flow, metrics, mut folder } =
        assemble(&settings, folder.take(), Some(metrics), &stop).await?;
    let history = history(&settings, &engine);
    let mut access = settings.access.clone();
    if with_api && access.keys {
        access.local_token = folder.as_ref().map(|_| api::local_token()).transpose()?;
    }
    let politeness = politeness(&settings, &flow);
    let working = {
        let (engine, stores, stop) = (engine.clone(), stores.clone(), stop.clone());
        tokio::spawn(async move {
            let worked = work(engine, stores, flow, settings, what, stop.clone()).await;
            // A role that cannot work must not go on answering as if it did.
            stop.cancel();
            worked
        })
    };
    if let (Some(listener), Some(address)) = (listener, address) {
        if let Some(folder) = &mut folder {
            folder.announce(Some(address), access.local_token.clone())?;
        }
        if access.keys {
            tokio::spawn(first_key(engine.clone(), stores.clone()));
        }
        tracing::info!(address = format!("http://{address}"), "listening");
        let state = ApiState::new(engine.clone(), stores.clone(), env!("CARGO_PKG_VERSION"));
        let app = api::app(ApiState { metrics, history, politeness, access, stop: stop.clone(), ..state });
        api::serve(app, listener, stop.clone()).await?;
    }
    let worked = working.await?;
    stores.db.close().await;
    worked?;
    tracing::info!("stopped");
    Ok(0)
}

/// Makes the first key where there was never one, and shows it on stderr, never in the log. The database may have to be waited for.
async fn first_key(engine: Arc<Engine>, stores: Stores) {
    loop {
        match api::bootstrap(&engine, &stores).await {
            Ok(Bootstrap::Made(key)) => {
                eprintln!("retainai: the first API key opens everything and is shown only now:\n\n    {key}\n");
                eprintln!("retainai: make narrower ones with `retainai keys create`, then revoke it");
                return;
            }
            Ok(Bootstrap::There) => return,
            Err(error) => {
                tracing::debug!(%error, "the first API key waits for the database");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Cancelled at the first SIGTERM or SIGINT; a second one ends the process at once.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                std::process::exit(130);
            }
            tracing::info!("stopping: steps that run are finished or handed back; once more to stop at once");
            told.cancel();
        }
    });
    Ok(stop)
}
