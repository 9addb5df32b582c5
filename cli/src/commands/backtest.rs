//! `retainai backtest`: daily operation over the past, from a folder of CSV files, with nothing installed and nothing stored. Every forecast is made
//! from what was known before its session; out go a CSV for a scorer and the scores in short.

mod report;

use super::import::{Found, look};
use crate::output::{print_json, table};
use anyhow::Context;
use forecast::{
    Kernel, PREDECESSOR, Recipe,
    backtest::{Backtest, Row},
    evaluate::{Realised, score},
};
use indicatif::ProgressBar;
use market::{Exchange, Factor, FactorRow, Series, Ticker, parse_bars_csv, parse_factors_csv};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What was asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Asked {
    /// Folder with EXCHANGE/TICKER.csv, and *reference_price_factors.csv beside the exchanges.
    #[arg(long = "data", value_name = "DIR")]
    data: PathBuf,
    /// The last so many sessions of each ticker.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=5000))]
    sessions: u32,
    /// Only these get rows; the others still make up the market and the global model.
    #[arg(long, value_delimiter = ',', value_name = "EXCHANGE:TICKER")]
    tickers: Vec<Ticker>,
    /// Where the forecasts go.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Where a page with tables and plots goes, `report.md`; the folder is made.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Also go through this recipe: `poisoned`, a training that ruins models, to see the gate stand up to it; `predecessor`, one scaled
    /// close per session and an LSTM trained on squared error, as the program before this one had it.
    #[arg(long, value_name = "RECIPE", value_parser = ["poisoned", PREDECESSOR])]
    recipe: Vec<String>,
    /// Who does the arithmetic: `fast`, `portable` (the same in plain Rust) or `reference` (candle's LSTM, to compare with).
    #[arg(long, value_name = "KERNEL", default_value = "fast")]
    kernel: Kernel,
    /// Threads; as many as there are processors by default.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Goes through the folder.
pub fn run(asked: &Asked, as_json: bool) -> anyhow::Result<u8> {
    let folder = read(&asked.data)?;
    for note in &folder.notes {
        eprintln!("retainai: {note}");
    }
    let known: BTreeSet<&Ticker> = folder.series.values().flatten().map(Series::ticker).collect();
    if let Some(missing) = asked.tickers.iter().find(|ticker| !known.contains(ticker)) {
        anyhow::bail!("{} has no file {}/{}.csv", asked.data.display(), missing.exchange(), missing.symbol());
    }
    anyhow::ensure!(!known.is_empty(), "{} holds no EXCHANGE/TICKER.csv", asked.data.display());
    let rows = walk(asked, &folder)?;
    if let Some(path) = &asked.csv {
        write(path, &rows)?;
    }
    if let Some(folder) = &asked.report {
        report::write(folder, &rows)?;
    }
    let scores = scores(&rows);
    if as_json {
        print_json(&json!({ "rows": rows.len(), "scores": scores }))?;
    } else {
        say(&scores);
    }
    Ok(0)
}

fn walk(asked: &Asked, folder: &Folder) -> anyhow::Result<Vec<Row>> {
    let threads = asked.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let backtest = Backtest { sessions: asked.sessions as usize, threads, kernel: asked.kernel, ..Backtest::default() };
    let mut rows = vec![];
    for (exchange, series) in &folder.series {
        let only: Vec<Ticker> = asked.tickers.iter().filter(|ticker| ticker.exchange() == *exchange).cloned().collect();
        if only.is_empty() && !asked.tickers.is_empty() {
            continue;
        }
        for contender in std::iter::once("served").chain(asked.recipe.iter().map(String::as_str)) {
            let bar = ProgressBar::new(series.len() as u64).with_message(format!("{exchange} {contender}"));
            let progress = |done: usize, of: usize| {
                bar.set_length(of as u64);
                bar.set_position(done as u64);
            };
            let walked = match contender {
                PREDECESSOR => backtest.walk_predecessor(series, &only, &progress),
                "poisoned" => backtest.walk(*exchange, series, &only, &Recipe::poisoned(*exchange), &progress),
                _ => backtest.walk(*exchange, series, &only, &Recipe::of(*exchange), &progress),
            };
            bar.finish_and_clear();
            rows.extend(walked.with_context(|| format!("{exchange} could not be gone through"))?);
        }
    }
    Ok(rows)
}

/// Sound series by exchange, and what a reader should know about the rest.
struct Folder {
    series: BTreeMap<Exchange, Vec<Series>>,
    notes: Vec<String>,
}

fn read(folder: &Path) -> anyhow::Result<Folder> {
    let (mut bars, mut factors, mut notes) = (vec![], Vec::<FactorRow>::new(), vec![]);
    let text = |path: &Path| {
        let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    for found in look(folder)? {
        match found {
            Found::Bars(path, ticker) => match parse_bars_csv(&text(&path)?) {
                Ok(parsed) => {
                    if let Some(first) = parsed.refused.first() {
                        notes.push(format!(
                            "{}: {} rows refused, first: {first}",
                            path.display(),
                            parsed.refused.len()
                        ));
                    }
                    bars.push((ticker, parsed.bars));
                }
                Err(fault) => notes.push(format!("{}: left out, {fault}", path.display())),
            },
            Found::Factors(path, exchange) => match parse_factors_csv(exchange, &text(&path)?) {
                Ok((rows, _)) => factors.extend(rows),
                Err(fault) => notes.push(format!("{}: left out, {fault}", path.display())),
            },
            Found::Ignored(path, why) => notes.push(format!("{} ignored: {why}", path.display())),
        }
    }
    let mut series: BTreeMap<Exchange, Vec<Series>> = BTreeMap::new();
    for (ticker, bars) in bars {
        let own: Vec<Factor> = factors.iter().filter(|row| row.ticker == ticker).map(|row| row.factor).collect();
        let exchange = ticker.exchange();
        match Series::new(ticker, bars, own) {
            Ok(one) => series.entry(exchange).or_default().push(one),
            Err(fault) => notes.push(format!("left out: {fault}")),
        }
    }
    Ok(Folder { series, notes })
}

fn write(path: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let attempt = || -> anyhow::Result<()> {
        let mut file = csv::Writer::from_path(path)?;
        file.write_record(super::accuracy::FORECAST_COLUMNS)?;
        for Row { model, forecast: f, .. } in rows {
            file.write_record([
                f.ticker.exchange().as_str().to_owned(),
                f.ticker.symbol().to_owned(),
                f.as_of.to_string(),
                f.target.to_string(),
                f.point.to_string(),
                f.interval80.lo.to_string(),
                f.interval80.hi.to_string(),
                f.interval95.lo.to_string(),
                f.interval95.hi.to_string(),
                f.p_up.map(|p| p.to_string()).unwrap_or_default(),
                f.last_close.to_string(),
                model.clone(),
            ])?;
        }
        Ok(file.flush()?)
    };
    attempt().with_context(|| format!("{} could not be written", path.display()))
}

/// One object per exchange and contender.
fn scores(rows: &[Row]) -> Vec<Value> {
    let mut groups: BTreeMap<(Exchange, &str), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        groups.entry((row.forecast.ticker.exchange(), row.model.as_str())).or_default().push(row);
    }
    let one = |((exchange, model), rows): ((Exchange, &str), Vec<&Row>)| {
        let nll = rows.iter().map(|row| row.nll).sum::<f64>() / rows.len() as f64;
        let realised: Vec<Realised> = rows.iter().map(|row| Realised::of(&row.forecast, row.close)).collect();
        let score = score(&realised)?;
        Some(json!({
            "exchange": exchange.as_str(), "model": model, "n": score.n, "rmse_ratio": score.rmse_ratio, "mae_ratio": score.mae_ratio,
            "wis_ratio": score.wis_ratio, "cov80": score.cov80, "cov95": score.cov95, "nll": nll,
        }))
    };
    groups.into_iter().filter_map(one).collect()
}

fn say(scores: &[Value]) {
    let ratio = |value: &Value| value.as_f64().map_or("-".to_owned(), |v| format!("{v:.4}"));
    let share = |value: &Value| value.as_f64().map_or("-".to_owned(), |v| format!("{:.1}%", 100.0 * v));
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let rows: Vec<Vec<String>> = scores
        .iter()
        .map(|s| {
            let ratios = [&s["rmse_ratio"], &s["mae_ratio"], &s["wis_ratio"]].map(ratio);
            let [rmse, mae, wis] = ratios;
            vec![
                text(&s["exchange"]),
                text(&s["model"]),
                s["n"].to_string(),
                rmse,
                mae,
                wis,
                share(&s["cov80"]),
                share(&s["cov95"]),
                ratio(&s["nll"]),
            ]
        })
        .collect();
    let header =
        ["exchange", "model", "n", "RMSE/persistence", "MAE/persistence", "WIS/P-EWMA", "in 80%", "in 95%", "NLL"];
    crate::output::outln!("{}", table(&header, &rows));
}
