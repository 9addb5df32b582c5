//! `retainai backtest --report DIR`: the rows of a backtest as a page with plots: how good every ticker's forecasts were, where the baseline wins,
//! whether the intervals hold what they say, and how the gain came about over time.

use anyhow::{Context, anyhow};
use forecast::{Sureness, backtest::Row, scored_at, sureness};
use market::{Exchange, Scored, Sums};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Width of every plot, and height of a ticker's line, in pixels.
const WIDTH: u32 = 860;
const LINE: u32 = 22;

/// What is plotted of one ticker.
struct OfTicker {
    name: String,
    sums: Sums,
    sure: Option<Sureness>,
}

/// Writes `report.md` and its plots into `folder`, which is made. Only what was served is told.
pub fn write(folder: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let attempt = || -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut page = String::from(
            "# Backtest\n\nMade by `retainai backtest --report`. Ratios below 1 are better than the naive forecast.\n",
        );
        let mut exchanges: BTreeMap<Exchange, Vec<&Row>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.model == "served") {
            exchanges.entry(row.forecast.ticker.exchange()).or_default().push(row);
        }
        for (exchange, rows) in exchanges {
            tell(&mut page, folder, exchange, &rows)?;
        }
        Ok(std::fs::write(folder.join("report.md"), page)?)
    };
    attempt().with_context(|| format!("the report in {} could not be written", folder.display()))
}

fn tell(page: &mut String, folder: &Path, exchange: Exchange, rows: &[&Row]) -> anyhow::Result<()> {
    let scored: Vec<(String, Scored)> = rows
        .iter()
        .map(|row| {
            (row.forecast.ticker.symbol().to_owned(), scored_at(&row.forecast, row.forecast.target, row.close, 1.0))
        })
        .collect();
    let mut by_ticker: BTreeMap<&str, Vec<&Scored>> = BTreeMap::new();
    let mut by_session: BTreeMap<chrono::NaiveDate, Sums> = BTreeMap::new();
    for (symbol, row) in &scored {
        by_ticker.entry(symbol).or_default().push(row);
        by_session.entry(row.session).or_default().add(row);
    }
    let tickers: Vec<OfTicker> = by_ticker
        .into_iter()
        .map(|(name, rows)| {
            let sessions: Vec<Sums> = rows.iter().map(|row| Sums::of(row)).collect();
            let mut sums = Sums::default();
            sessions.iter().for_each(|session| sums.plus(session));
            OfTicker { name: name.to_owned(), sums, sure: sureness(&sessions) }
        })
        .collect();
    let sessions: Vec<Sums> = by_session.values().copied().collect();
    table(page, exchange, &tickers, &sessions)?;
    let name = exchange.as_str().to_lowercase();
    let wis = |of: &OfTicker| (of.sums.wis_ratio(), of.sure.map(|sure| sure.wis_ratio));
    let rmse = |of: &OfTicker| (of.sums.rmse_ratio(), of.sure.map(|sure| sure.rmse_ratio));
    let plots = [
        ("wis", "interval score ÷ that of P-EWMA, with 95 % ranges"),
        ("rmse", "RMSE ÷ persistence, with 95 % ranges"),
        ("coverage", "closes inside the 80 % and the 95 % interval"),
        ("gain", "gain in interval score on P-EWMA, added up over sessions (% of price)"),
        ("pit", "where the closes lay in the forecasts: flat is right"),
    ];
    for (plot, about) in plots {
        let file = format!("{name}-{plot}.svg");
        let path = folder.join(&file);
        let drawn = match plot {
            "wis" => ratios(&path, about, &tickers, wis),
            "rmse" => ratios(&path, about, &tickers, rmse),
            "coverage" => coverage(&path, about, &tickers),
            "gain" => gain(&path, about, &by_session),
            _ => places(&path, about, &scored),
        };
        drawn.with_context(|| file.clone())?;
        write!(page, "\n![{exchange}: {about}]({file})\n")?;
    }
    Ok(())
}

fn table(page: &mut String, exchange: Exchange, tickers: &[OfTicker], sessions: &[Sums]) -> anyhow::Result<()> {
    let mut all = Sums::default();
    sessions.iter().for_each(|session| all.plus(session));
    writeln!(
        page,
        "\n## {exchange}\n\n| | forecasts | RMSE ÷ persistence | WIS ÷ P-EWMA | WIS ÷ P-EQ | in 80 % | in 95 % | direction |"
    )?;
    writeln!(page, "|---|---|---|---|---|---|---|---|")?;
    let mut line = |name: &str, sums: &Sums, sure: Option<Sureness>| {
        let range =
            |of: Option<forecast::Range>| of.map_or(String::new(), |of| format!(" [{:.4}, {:.4}]", of.lo, of.hi));
        let eq = sums.wis_ratio_eq().map_or("-".to_owned(), |ratio| format!("{ratio:.4}"));
        let direction = sums.direction_excess().map_or("not claimed".to_owned(), |excess| {
            let range = sure
                .and_then(|sure| sure.direction_excess)
                .map_or(String::new(), |of| format!(" [{:+.1}, {:+.1}]", of.lo, of.hi));
            format!("{excess:+.1}{range}")
        });
        writeln!(
            page,
            "| {name} | {} | {:.4}{} | {:.4}{} | {eq} | {:.1} % | {:.1} % | {direction} |",
            sums.n,
            sums.rmse_ratio(),
            range(sure.map(|sure| sure.rmse_ratio)),
            sums.wis_ratio(),
            range(sure.map(|sure| sure.wis_ratio)),
            100.0 * sums.cov80(),
            100.0 * sums.cov95(),
        )
    };
    line("all", &all, sureness(sessions))?;
    tickers.iter().try_for_each(|of| line(&of.name, &of.sums, of.sure))?;
    let worse: Vec<&str> = tickers.iter().filter(|of| of.sums.wis_ratio() > 1.0).map(|of| of.name.as_str()).collect();
    let said = if worse.is_empty() { "nowhere".to_owned() } else { worse.join(", ") };
    writeln!(page, "\nThe baseline's intervals were better: {said}.")?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A white sheet.
fn sheet<'a>(path: &'a Path, height: u32) -> anyhow::Result<Area<'a>> {
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE).map_err(unwritten)?;
    Ok(area)
}

fn unwritten(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a plot could not be drawn: {error}")
}

fn height(tickers: &[OfTicker]) -> u32 {
    90 + LINE * u32::try_from(tickers.len()).unwrap_or(u32::MAX / LINE / 2)
}

/// One line for each ticker: a ratio with its range, beside the line at 1.
fn ratios(
    path: &Path,
    about: &str,
    tickers: &[OfTicker],
    of: impl Fn(&OfTicker) -> (f64, Option<forecast::Range>),
) -> anyhow::Result<()> {
    let ends = tickers.iter().flat_map(|ticker| {
        let (ratio, range) = of(ticker);
        [ratio, range.map_or(ratio, |range| range.lo), range.map_or(ratio, |range| range.hi)]
    });
    let (low, high) = ends.fold((0.995f64, 1.005f64), |(low, high), end| (low.min(end), high.max(end)));
    let room = 0.12 * (high - low);
    let area = sheet(path, height(tickers))?;
    let mut chart = lines(&area, about, tickers, low - room..high + room / 4.0)?;
    let top = tickers.len() as f64;
    chart.draw_series(LineSeries::new([(1.0, 0.0), (1.0, top)], BLACK.mix(0.6))).map_err(unwritten)?;
    for (at, ticker) in tickers.iter().enumerate() {
        let y = top - at as f64 - 0.5;
        let (ratio, range) = of(ticker);
        let (low, high) = range.map_or((ratio, ratio), |range| (range.lo, range.hi));
        chart.draw_series([ErrorBar::new_horizontal(y, low, ratio, high, BLUE.filled(), 8)]).map_err(unwritten)?;
    }
    area.present().map_err(unwritten)
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

/// An empty chart with a line for each ticker, its name at the left end.
fn lines<'a, 'b>(
    area: &'a Area<'b>,
    about: &str,
    tickers: &[OfTicker],
    across: std::ops::Range<f64>,
) -> anyhow::Result<Chart<'a, 'b>> {
    let (left, top) = (across.start, tickers.len() as f64);
    let mut chart = ChartBuilder::on(area)
        .caption(about, ("sans-serif", 16))
        .margin(14)
        .x_label_area_size(28)
        .build_cartesian_2d(across, 0.0..top)
        .map_err(unwritten)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_y_mesh().disable_y_axis().x_labels(8).light_line_style(WHITE).draw().map_err(unwritten)?;
    let name = |(at, ticker): (usize, &OfTicker)| {
        Text::new(ticker.name.clone(), (left, top - at as f64 - 0.25), ("sans-serif", 13))
    };
    chart.draw_series(tickers.iter().enumerate().map(name)).map_err(unwritten)?;
    Ok(chart)
}

/// One line for each ticker: the shares that its intervals held, beside what they promise.
fn coverage(path: &Path, about: &str, tickers: &[OfTicker]) -> anyhow::Result<()> {
    let area = sheet(path, height(tickers))?;
    let mut chart = lines(&area, about, tickers, 0.62..1.0)?;
    let top = tickers.len() as f64;
    for (level, colour) in [(0.8, BLUE), (0.95, RED)] {
        chart.draw_series(LineSeries::new([(level, 0.0), (level, top)], colour.mix(0.6))).map_err(unwritten)?;
        for (at, ticker) in tickers.iter().enumerate() {
            let held = if level < 0.9 { ticker.sums.cov80() } else { ticker.sums.cov95() };
            let place = (held, top - at as f64 - 0.5);
            chart.draw_series([Circle::new(place, 4, colour.filled())]).map_err(unwritten)?;
        }
    }
    area.present().map_err(unwritten)
}

/// The gain added up over the sessions: a line that rises steadily was not made by a few days.
fn gain(path: &Path, about: &str, sessions: &BTreeMap<chrono::NaiveDate, Sums>) -> anyhow::Result<()> {
    let mut sum = 0.0;
    let line: Vec<(f64, f64)> = sessions
        .values()
        .enumerate()
        .map(|(at, of)| {
            sum += 100.0 * (of.wis_ewma - of.wis) / of.n.max(1) as f64;
            (at as f64, sum)
        })
        .collect();
    let (low, high) = line.iter().fold((0.0f64, 0.01f64), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    let days: Vec<String> = sessions.keys().map(ToString::to_string).collect();
    let area = sheet(path, 320)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(about, ("sans-serif", 16))
        .margin(14)
        .x_label_area_size(28)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..line.len().max(2) as f64, low..1.05 * high)
        .map_err(unwritten)?;
    let day = |at: &f64| days.get(at.round() as usize).cloned().unwrap_or_default();
    chart.configure_mesh().x_labels(6).light_line_style(WHITE).x_label_formatter(&day).draw().map_err(unwritten)?;
    chart.draw_series(LineSeries::new(line, BLUE.stroke_width(2))).map_err(unwritten)?;
    area.present().map_err(unwritten)
}

/// How often the closes lay in each tenth of the forecasts' distributions.
fn places(path: &Path, about: &str, scored: &[(String, Scored)]) -> anyhow::Result<()> {
    let mut tenths = [0usize; 10];
    for (_, row) in scored {
        tenths[((row.pit * 10.0) as usize).min(9)] += 1;
    }
    let share = |count: usize| 10.0 * count as f64 / scored.len().max(1) as f64;
    let most = tenths.iter().map(|count| share(*count)).fold(1.5, f64::max);
    let area = sheet(path, 280)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(about, ("sans-serif", 16))
        .margin(14)
        .x_label_area_size(28)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..1.0, 0.0..most)
        .map_err(unwritten)?;
    chart.configure_mesh().disable_x_mesh().x_labels(11).light_line_style(WHITE).draw().map_err(unwritten)?;
    let bars = tenths.iter().enumerate().map(|(at, count)| {
        let from = at as f64 / 10.0;
        Rectangle::new([(from + 0.005, 0.0), (from + 0.095, share(*count))], BLUE.mix(0.5).filled())
    });
    chart.draw_series(bars).map_err(unwritten)?;
    chart.draw_series(LineSeries::new([(0.0, 1.0), (1.0, 1.0)], BLACK.mix(0.6))).map_err(unwritten)?;
    area.present().map_err(unwritten)
}
