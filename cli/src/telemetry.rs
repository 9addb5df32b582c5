//! Logs on stderr (for people, or JSON lines) and the recorder behind `/metrics`.

use crate::settings::Settings;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Starts logging. `quiet` is for operator commands, whose stderr is for messages to a person: only warnings are logged.
pub fn start_logging(settings: &Settings, quiet: bool) -> anyhow::Result<()> {
    let level = if quiet && settings.values["log"].origin == "default" { "warn" } else { &settings.log };
    // What libraries say at level info is of no use to an operator; a filter that names them brings it back.
    let filter = EnvFilter::try_new(format!("{},poem=warn,sqlx=warn,{level}", workflows::queue::QUIET))
        .map_err(|e| anyhow::anyhow!("`log` = `{level}`: {e}"))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_span_events(FmtSpan::NONE);
    if settings.log_json {
        subscriber.json().init();
    } else {
        subscriber.with_target(false).init();
    }
    Ok(())
}

/// Starts recording metrics; the handle renders them.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new().install_recorder()?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}
