//! Our side of `make bench-forecast`: lines `NAME COUNT` come in, a JSON line with the processor time of each repetition goes out.
//! `bench-forecast models DIR` instead writes model files with what our kernel says of a window, for others to read.

mod gradient;
mod models;
mod ours;
mod stock;

use anyhow::Context;
use cpu_time::ProcessTime;
use std::hint::black_box;
use std::io::{BufRead, Write};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => answer(),
        ["models", folder] => models::write(folder.as_ref()),
        _ => anyhow::bail!("either nothing, or `models DIR`"),
    }
}

/// Measures whatever is asked for, until the questions end.
fn answer() -> anyhow::Result<()> {
    let mut example = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (name, count) = line.split_once(' ').context("a question is NAME COUNT")?;
        let count: usize = count.parse().with_context(|| format!("{line}: COUNT is a number"))?;
        let times_s = match name {
            "small" => ours::univariate(&ours::SMALL, count),
            "large" => ours::univariate(&ours::LARGE, count),
            "product" => ours::product(count),
            "stock_small" => stock::univariate(&ours::SMALL, count)?,
            "stock_large" => stock::univariate(&ours::LARGE, count)?,
            "load_and_predict" => models::load_and_predict(count)?,
            "load_global" => example.get_or_insert(models::Example::new()?).load_global(count),
            "ticker" => example.get_or_insert(models::Example::new()?).finetune(count),
            "gradient" => gradient::errors(),
            _ => anyhow::bail!("nothing here is called {name}"),
        };
        println!("{}", serde_json::json!({ "name": name, "values": times_s }));
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Seconds of processor time for each of `count` repetitions, each of which does the work `often` times.
pub(crate) fn timed<T>(count: usize, often: usize, mut work: impl FnMut() -> T) -> Vec<f64> {
    let one = |_| {
        let start = ProcessTime::now();
        for _ in 0..often {
            black_box(work());
        }
        start.elapsed().as_secs_f64() / often as f64
    };
    (0..count).map(one).collect()
}
