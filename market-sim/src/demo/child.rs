//! `retainai up` as the demo's child: started with the market's addresses, stopped with SIGTERM, its words kept in a log.

use super::DemoOptions;
use crate::Sim;
use anyhow::{Context, anyhow, bail};
use std::{
    fs::File,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

/// How long it may take to finish its work when asked to stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The running product.
pub(super) struct Child {
    process: tokio::process::Child,
    log: PathBuf,
}

impl Child {
    pub(super) fn start(options: &DemoOptions, sim: &Sim) -> anyhow::Result<Self> {
        let log = options.data_dir.join("retainai.log");
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening the log {}", log.display()))?;
        let tickers: Vec<String> = sim.tickers().iter().map(ToString::to_string).collect();
        let process = tokio::process::Command::new(&options.retainai)
            .arg("up")
            .arg("--data-dir")
            .arg(&options.data_dir)
            .arg("--listen")
            .arg(options.listen.to_string())
            .env("RETAINAI_MARKET_CLOCK_URL", sim.clock_url())
            .env("RETAINAI_YAHOO_URL", sim.base_url())
            .env("RETAINAI_NASDAQ_URL", sim.base_url())
            .env("RETAINAI_SHARESANSAR_URL", sim.base_url())
            .env("RETAINAI_MEROLAGANI_URL", sim.base_url())
            .env("RETAINAI_TICKERS", tickers.join(","))
            .env("RETAINAI_SCRAPE_PAUSE_MS", "0")
            .env("RETAINAI_SCHEDULE_JITTER_S", "0")
            .env("RETAINAI_SOURCE_DAILY_BUDGET", "0")
            // The demo shows every step at every session; in earnest a model is continued every five.
            .env("RETAINAI_FINETUNE_EVERY", "1")
            .stdin(Stdio::null())
            .stdout(out.try_clone().context("sharing the log")?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", options.retainai.display()))?;
        println!("retainai  process {}, log {}", process.id().unwrap_or_default(), log.display());
        Ok(Self { process, log })
    }

    /// Resolves when it ends by itself.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// What to say when it has ended although nobody asked it to: its status and its last words.
    pub(super) fn death(&self, status: std::io::Result<ExitStatus>) -> anyhow::Error {
        let status = status.map_or_else(|e| e.to_string(), |status| status.to_string());
        let words = std::fs::read(&self.log).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        let lines: Vec<&str> = words.lines().collect();
        let last = lines[lines.len().saturating_sub(15)..].join("\n  ");
        anyhow!("`retainai up` ended by itself: {status}. Its last words ({}):\n  {last}", self.log.display())
    }

    /// Asks it to stop and waits until it has. A child that has ended already is left as it is.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if self.process.try_wait().context("looking after `retainai up`")?.is_some() {
            return Ok(());
        }
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended between the two lines; then there is nobody to ask.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        match tokio::time::timeout(STOP_LIMIT, self.process.wait()).await {
            Ok(status) => {
                let status = status.context("waiting for `retainai up`")?;
                // A terminal's Ctrl-C reaches the child as well; that it then ends by the signal is no fault.
                if !status.success() {
                    tracing::warn!(%status, log = %self.log.display(), "`retainai up` did not end with 0");
                }
                Ok(())
            }
            Err(_) => {
                self.process.kill().await.context("killing `retainai up`")?;
                bail!("`retainai up` did not stop within {} s and was killed", STOP_LIMIT.as_secs())
            }
        }
    }
}
