//! Our side of `make bench-sources`. `bench-sources pages DIR` writes the pages; then lines `NAME COUNT` come in, and a JSON line with the processor time
//! of each repetition and the rows read goes out. Names are those of the pages, and `bare`: the market page through the HTML parser alone.

use anyhow::Context;
use cpu_time::ProcessTime;
use market::Ticker;
use serde_json::{Value, json};
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::Path;
use workers::sources::saved_page;

/// A trading day at NEPSE has some 330 tickers.
const TICKERS: usize = 330;
const SEED: u64 = 7;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["pages", folder] => write_pages(folder.as_ref()),
        ["measure", folder] => answer(folder.as_ref()),
        _ => anyhow::bail!("either `pages DIR` or `measure DIR`"),
    }
}

/// The pages as files, and what they are in `pages.json`.
fn write_pages(folder: &Path) -> anyhow::Result<()> {
    let mut about = serde_json::Map::new();
    for page in market_sim::saved_pages(SEED, TICKERS)? {
        std::fs::write(folder.join(page.name), &page.text)?;
        let ticker = page.ticker.as_ref().map(ToString::to_string);
        about
            .insert(page.name.to_owned(), json!({ "source": page.source, "ticker": ticker, "bytes": page.text.len() }));
    }
    Ok(std::fs::write(folder.join("pages.json"), Value::Object(about).to_string())?)
}

/// Measures whatever is asked for, until the questions end.
fn answer(folder: &Path) -> anyhow::Result<()> {
    let about: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("pages.json"))?)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (name, count) = line.split_once(' ').context("a question is NAME COUNT")?;
        let count: usize = count.parse().with_context(|| format!("{line}: COUNT is a number"))?;
        let page = if name == "bare" { "market" } else { name };
        let text = std::fs::read_to_string(folder.join(page)).with_context(|| format!("no page is called {page}"))?;
        let (times_s, rows) = if name == "bare" {
            (timed(count, || scraper::Html::parse_document(&text).tree.nodes().count()), 0)
        } else {
            let source = about[page]["source"].as_str().context("a source")?;
            let ticker = about[page]["ticker"].as_str().map(Ticker::parse).transpose()?;
            let read = || saved_page::read(source, text.as_bytes(), ticker.as_ref());
            let rows = read()?.rows.len();
            (timed(count, || read().is_ok()), rows)
        };
        println!("{}", json!({ "name": name, "values": times_s, "rows": rows }));
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Seconds of processor time for each of `count` repetitions.
fn timed<T>(count: usize, mut work: impl FnMut() -> T) -> Vec<f64> {
    let one = |_| {
        let start = ProcessTime::now();
        black_box(work());
        start.elapsed().as_secs_f64()
    };
    (0..count).map(one).collect()
}
