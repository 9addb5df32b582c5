//! How commands speak: tables for people, one JSON document for programs.

use serde_json::Value;
use std::io::Write;

/// A line on stdout. A reader who has seen enough (`| head`) ends the program quietly.
macro_rules! outln {
    ($($said:tt)*) => { $crate::output::line(format_args!($($said)*)) };
}
pub(crate) use outln;

pub(crate) fn line(said: std::fmt::Arguments<'_>) {
    if writeln!(std::io::stdout().lock(), "{said}").is_err() {
        std::process::exit(0);
    }
}

/// A table with a header; columns as wide as their widest cell, numbers to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .chain([header[column].chars().count()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let numeric: Vec<bool> = (0..header.len())
        .map(|column| {
            !rows.is_empty()
                && rows.iter().all(|row| row[column].trim_end_matches('%').parse::<f64>().is_ok() || row[column] == "-")
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .enumerate()
            .map(|(column, cell)| {
                if numeric[column] {
                    format!("{cell:>width$}", width = widths[column])
                } else {
                    format!("{cell:<width$}", width = widths[column])
                }
            })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut text = line(&mut header.iter().copied());
    for row in rows {
        text.push('\n');
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// The items of a list as a table.
pub fn items_table(columns: &[&str], body: &Value) -> String {
    let items = body["items"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = items.map(|item| columns.iter().map(|key| cell(item, key)).collect()).collect();
    table(columns, &rows)
}

/// A field as a cell; `-` when absent.
pub fn cell(item: &Value, key: &str) -> String {
    match &item[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Prints one JSON document.
pub fn print_json(document: &Value) -> anyhow::Result<()> {
    outln!("{}", serde_json::to_string_pretty(document)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let rows = vec![vec!["AAPL".to_owned(), "1.5".to_owned()], vec!["X".to_owned(), "100".to_owned()]];
        assert_eq!(table(&["ticker", "close"], &rows), "ticker  close\nAAPL      1.5\nX         100");
        assert_eq!(table(&["a"], &[]), "a");
    }
}
