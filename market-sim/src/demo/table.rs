//! Forecasts as a table for the terminal. In come the API's forecasts, out goes text.

use super::api::Forecast;
use std::collections::BTreeMap;

const HEADERS: [&str; 9] =
    ["ticker", "as of", "target", "last close", "forecast", "change", "80 % interval", "baseline", "origin"];

/// The newest forecast of each ticker, one line each.
pub(super) fn of_forecasts(forecasts: &[Forecast]) -> String {
    if forecasts.is_empty() {
        return "no forecasts yet".to_owned();
    }
    let mut newest = BTreeMap::<String, &Forecast>::new();
    for forecast in forecasts {
        let held = newest.entry(forecast.ticker()).or_insert(forecast);
        // Dates are ISO 8601, so their order as text is their order in time.
        if forecast.as_of > held.as_of {
            *held = forecast;
        }
    }
    let rows: Vec<[String; 9]> = newest.iter().map(|(ticker, forecast)| cells(ticker, forecast)).collect();
    draw(&rows)
}

fn cells(ticker: &str, forecast: &Forecast) -> [String; 9] {
    let price = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let interval = forecast.intervals.iter().find(|of| of.level == 80).map(|i| format!("{:.2} – {:.2}", i.lo, i.hi));
    let weight = forecast.mean_weight.map(|weight| format!(", mean weight {weight:.2}")).unwrap_or_default();
    [
        ticker.to_owned(),
        forecast.as_of.clone(),
        forecast.target.clone(),
        price(forecast.last_close),
        price(Some(forecast.point)),
        forecast.change_pct.map_or_else(|| "-".to_owned(), |change| format!("{change:+.2} %")),
        interval.unwrap_or_else(|| "-".to_owned()),
        price(forecast.baseline.as_ref().map(|baseline| baseline.point)),
        format!("{}{weight}", if forecast.made_by.is_empty() { "-" } else { &forecast.made_by }),
    ]
}

fn draw(rows: &[[String; 9]]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([HEADERS[at].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEADERS.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let mut text = String::new();
        for (at, cell) in cells.iter().enumerate() {
            let space = " ".repeat(widths[at].saturating_sub(cell.chars().count()));
            // Numbers stand on the right of their column, words on the left.
            let cell = if (3..=7).contains(&at) { format!("{space}{cell}") } else { format!("{cell}{space}") };
            text.push_str(&cell);
            text.push_str("  ");
        }
        text.trim_end().to_owned() + "\n"
    };
    let mut table = line(&HEADERS);
    table.push_str(&line(
        &widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>(),
    ));
    for row in rows {
        table.push_str(&line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn forecast(ticker: &str, as_of: &str, point: f64) -> Forecast {
        serde_json::from_value(json!({
            "exchange": "NASDAQ", "ticker": ticker, "as_of": as_of, "target": "2012-12-06", "last_close": 538.79,
            "point": point, "change_pct": 0.05, "intervals": [{ "level": 80, "lo": 520.0, "hi": 557.5 }],
            "baseline": { "point": 538.79 }, "made_by": "global", "mean_weight": 0.1,
        }))
        .unwrap()
    }

    #[test]
    fn each_ticker_once_and_its_newest_forecast() {
        let table = of_forecasts(&[
            forecast("AAPL", "2012-12-04", 1.0),
            forecast("AAPL", "2012-12-05", 539.06),
            forecast("AAPL", "2012-12-03", 2.0),
            forecast("NASDAQ:MSFT", "2012-12-05", 26.7),
        ]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[2].starts_with("NASDAQ:AAPL  2012-12-05  2012-12-06      538.79    539.06  +0.05 %"), "{table}");
        assert!(lines[2].ends_with("520.00 – 557.50    538.79  global, mean weight 0.10"), "{table}");
        assert!(lines[3].starts_with("NASDAQ:MSFT"));
        assert_eq!(of_forecasts(&[]), "no forecasts yet");
    }
}
