//! Real prices of the developers' machine, imported whole: what is sound comes in, what is not waits for the right reason. Skipped, saying so,
//! where they are absent.

use crate::World;
use market::validate::{Known, Row, judge};
use market::{Exchange, Factor, RawBar, parse_bars_csv, parse_factors_csv};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[allow(clippy::disallowed_methods)] // A test has no `cli` that could read the setting for it.
pub(crate) fn shared(what: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("RETAINAI_SHARED").map_or_else(beside, PathBuf::from).join("data").join(what);
    if !folder.is_dir() {
        println!("skipped: no {what} at RETAINAI_SHARED or ../../shared");
        return None;
    }
    Some(folder)
}

async fn later() -> World {
    let world = World::new().await;
    world.clock.set("2026-11-20T23:00:00Z".parse().unwrap());
    world
}

async fn put(world: &World, folder: &Path, exchange: &str, ticker: &str) -> Value {
    let text = std::fs::read_to_string(folder.join(exchange).join(format!("{ticker}.csv"))).unwrap();
    world.put_csv(&format!("/v1/tickers/{exchange}/{ticker}/bars"), text).await.ok()
}

fn set_aside(done: &Value) -> Vec<String> {
    let rows = done["quarantined"].as_array().unwrap().iter();
    rows.map(|row| format!("{} {}", row["session"].as_str().unwrap_or("whole"), row["rule"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn the_shared_prices_come_in_whole() {
    let Some(folder) = shared("prices") else { return };
    let world = later().await;
    let mut waits = Vec::new();
    for exchange in ["NASDAQ", "NEPSE"] {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder.join(exchange)).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for file in files {
            let ticker = file.file_stem().unwrap().to_str().unwrap().to_owned();
            let done = put(&world, &folder, exchange, &ticker).await;
            assert!(done["new"].as_u64().unwrap() > 100, "{ticker}: {done}");
            assert_eq!(done["refused"].as_array().unwrap().len(), 0, "{ticker}: {done}");
            waits.extend(set_aside(&done).into_iter().map(|row| format!("{ticker} {row}")));
        }
    }
    assert_eq!(waits, ["NABIL 2018-11-06 range", "NLIC 2020-01-15 crossed"]);
    let factors = std::fs::read_to_string(folder.join("NEPSE_reference_price_factors.csv")).unwrap();
    let done = world.put_csv("/v1/exchanges/NEPSE/factors", factors).await.ok();
    assert_eq!((&done["archived"], done["refused"].as_array().unwrap().len()), (&46.into(), 0), "{done}");
    let doubted: Vec<&str> =
        done["doubted"].as_array().unwrap().iter().map(|row| row["ticker"].as_str().unwrap()).collect();
    assert_eq!(doubted, ["CIT", "EBL", "GBIME", "GBIME", "HIDCL", "NLIC"], "after missing sessions: {done}");
}

#[tokio::test]
async fn dirty_prices_wait_for_the_right_reasons() {
    let Some(folder) = shared("prices/dirty") else { return };
    let world = later().await;
    let closed_bank = put(&world, &folder, "NEPSE", "CMB").await;
    assert_eq!(closed_bank["refused"][0]["reason"], "the close 0 is not a price", "{closed_bank}");
    let company = put(&world, &folder, "NEPSE", "CFCL").await;
    let found = set_aside(&company);
    assert!(found.iter().all(|row| row.ends_with(" jump")), "{found:?}");
    assert!(found.contains(&"2007-12-27 jump".to_owned()), "{found:?}");
    assert!(company["noted"].as_array().unwrap().iter().any(|row| row["rule"] == "duplicate"), "{company}");
}

#[tokio::test]
async fn the_predecessors_mistake_is_caught() {
    let (Some(prices), Some(seed)) = (shared("prices"), shared("seed")) else { return };
    let world = later().await;
    put(&world, &prices, "NEPSE", "CIT").await;
    let before = world.get("/v1/tickers/NEPSE/CIT/bars?limit=5000").await.ok();
    let done = put(&world, &seed, "NEPSE", "CIT").await;
    assert_eq!(set_aside(&done), ["whole disagrees"], "{done}");
    assert_eq!(world.get("/v1/tickers/NEPSE/CIT/bars?limit=5000").await.ok(), before);
    // Its other files are what they say.
    put(&world, &prices, "NEPSE", "NABIL").await;
    let right = put(&world, &seed, "NEPSE", "NABIL").await;
    assert_eq!(set_aside(&right), [""; 0], "{right}");
}

/// Pages that publish the previous close, made from the files: the factors are found again, but for those after missing sessions.
#[test]
fn the_factors_are_found_from_published_previous_closes() {
    let Some(folder) = shared("prices") else { return };
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (rows, _) = parse_factors_csv(Exchange::Nepse, &read("NEPSE_reference_price_factors.csv")).unwrap();
    let mut given: BTreeMap<String, Vec<Factor>> = BTreeMap::new();
    for row in rows {
        given.entry(row.ticker.symbol().to_owned()).or_default().push(row.factor);
    }
    let bars = |ticker: &String| parse_bars_csv(&read(&format!("NEPSE/{ticker}.csv"))).unwrap().bars;
    let sessions: BTreeSet<_> = given.keys().flat_map(bars).map(|bar| bar.session).collect();
    let sessions: Vec<_> = sessions.into_iter().collect();
    let (mut found, mut unsure) = (0, Vec::new());
    for (ticker, factors) in &given {
        let known = Known {
            exchange: Exchange::Nepse,
            source: "sharesansar",
            now: "2026-11-20T23:00:00Z".parse().unwrap(),
            bars: &[],
            factors: &[],
            sessions: &sessions,
            pending: &[],
            dismissed: &[],
            compared: true,
        };
        let mut before: Option<f64> = None;
        let page = |bar: &market::Bar| {
            let factor = factors.iter().find(|f| f.session == bar.session).map_or(1.0, |f| f.factor);
            let prev_close = before.replace(bar.close).map(|close| close * factor);
            // Before 2018-06 no previous close was published, and actions of that time are not in the file.
            let prev_close = prev_close.filter(|_| bar.session >= "2018-06-01".parse().unwrap());
            Row { line: 0, raw: RawBar { prev_close, ..RawBar::from(bar) } }
        };
        let rows: Vec<Row> = bars(ticker).iter().map(page).collect();
        let judged = judge(&known, &rows);
        for factor in &judged.factors {
            let same = factors.iter().any(|f| f.session == factor.session && (f.factor - factor.factor).abs() < 2e-4);
            assert!(same, "{ticker}: nobody announced {factor:?}");
        }
        found += judged.factors.len();
        let doubts = judged.findings.iter().filter(|finding| finding.rule.as_str() == "unsure_action");
        let of_file = |session| factors.iter().any(|f| f.session == session);
        unsure
            .extend(doubts.filter_map(|f| f.row.raw.session).filter(|s| of_file(*s)).map(|s| format!("{ticker} {s}")));
    }
    assert_eq!(
        unsure,
        [
            "CIT 2020-06-29",
            "EBL 2020-06-29",
            "GBIME 2020-01-20",
            "GBIME 2022-12-07",
            "HIDCL 2020-06-29",
            "NLIC 2020-06-29"
        ]
    );
    assert_eq!(found, 40, "all others");
}
