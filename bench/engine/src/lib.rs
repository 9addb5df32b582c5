//! What both measured programs share: counting over a window, the processor time of the servers meanwhile, and the one JSON line they print.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long to measure, and which processes to watch meanwhile.
#[derive(Debug, Clone, clap::Args)]
pub struct Window {
    /// Seconds before the count begins.
    #[arg(long, default_value_t = 1.0)]
    pub warm_s: f64,
    /// Seconds of the count, at most; less when the work runs out.
    #[arg(long, default_value_t = 5.0)]
    pub window_s: f64,
    /// Processes whose time is noted, with their children: NAME=PID.
    #[arg(long = "watch", value_parser = watched)]
    pub watch: Vec<(String, u32)>,
}

fn watched(text: &str) -> Result<(String, u32), String> {
    let (name, pid) = text.split_once('=').ok_or("want NAME=PID")?;
    Ok((name.to_owned(), pid.parse().map_err(|e| format!("{e}"))?))
}

/// What a window saw.
#[derive(Debug, Serialize)]
pub struct Rate {
    /// Counted inside the window.
    pub count: u64,
    /// Its length.
    pub seconds: f64,
    /// Count by length.
    pub per_s: f64,
    /// Processor seconds used inside the window, by process (`self` is the measured program).
    pub cpu_s: BTreeMap<String, f64>,
}

/// Counts what `done` gains over the window; ends early when it reaches `total`.
pub async fn rate(window: &Window, done: &AtomicU64, total: u64) -> Rate {
    let began = Instant::now();
    // When the work is nearly out before the warm-up ends, the warm-up is cut: a fifth of the work at most.
    while began.elapsed().as_secs_f64() < window.warm_s && done.load(Ordering::Relaxed) < total / 5 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (from, before, at) = (done.load(Ordering::Relaxed), cpu(window), Instant::now());
    while at.elapsed().as_secs_f64() < window.window_s && done.load(Ordering::Relaxed) < total {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (count, seconds) = (done.load(Ordering::Relaxed) - from, at.elapsed().as_secs_f64());
    let cpu_s = cpu(window).into_iter().map(|(name, s)| (name.clone(), s - before[&name])).collect();
    #[allow(clippy::cast_precision_loss, reason = "counts of a few million")]
    let per_s = count as f64 / seconds;
    Rate { count, seconds, per_s, cpu_s }
}

/// Processor seconds of each watched process and its children so far.
fn cpu(window: &Window) -> BTreeMap<String, f64> {
    let processes: Vec<(u32, u32, f64)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| stat(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .collect();
    let me = ("self".to_owned(), std::process::id());
    let sum = |pid: u32| {
        processes.iter().filter(|(own, parent, _)| *own == pid || *parent == pid).map(|(_, _, s)| s).sum::<f64>()
    };
    window.watch.iter().chain([&me]).map(|(name, pid)| (name.clone(), sum(*pid))).collect()
}

/// Pid, parent and processor seconds, those of ended children included (100 ticks a second on every Linux).
fn stat(pid: u32) -> Option<(u32, u32, f64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    Some((pid, fields.get(1)?.parse().ok()?, ticks / 100.0))
}

/// Microseconds on this process' monotonic clock.
pub fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// A gap between two starts on an idle system: 5–30 ms, so that no timer falls into step with it.
#[allow(clippy::disallowed_methods, reason = "a measurement wants gaps that no seed repeats")]
pub async fn random_gap() {
    tokio::time::sleep(Duration::from_micros(rand::random_range(5_000..30_000))).await;
}

/// Prints the result as the one line on standard output.
pub fn print(result: &impl Serialize) {
    println!("{}", serde_json::to_string(result).expect("plain values"));
}
