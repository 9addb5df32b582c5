//! Many rows in one statement, on either database: arrays through `unnest` on PostgreSQL, so that one text serves every number of rows and is
//! planned once; a VALUES list on SQLite. Both may stand after `insert into t (…)`, inside `with v (…) as (…)` and inside `in (…)`.

use crate::db::Ts;
use chrono::NaiveDate;
use sqlx::{Postgres, QueryBuilder, Sqlite};
use uuid::Uuid;

/// One value; all values of a column are of one kind.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    Id(Option<Uuid>),
    Text(Option<String>),
    Int(i64),
    Flag(bool),
    Day(NaiveDate),
    At(Option<Ts>),
}

impl From<Uuid> for Cell {
    fn from(value: Uuid) -> Self {
        Cell::Id(Some(value))
    }
}
impl From<Option<Uuid>> for Cell {
    fn from(value: Option<Uuid>) -> Self {
        Cell::Id(value)
    }
}
impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Cell::Text(Some(value.to_owned()))
    }
}
impl From<String> for Cell {
    fn from(value: String) -> Self {
        Cell::Text(Some(value))
    }
}
impl From<Option<String>> for Cell {
    fn from(value: Option<String>) -> Self {
        Cell::Text(value)
    }
}
impl From<Option<&str>> for Cell {
    fn from(value: Option<&str>) -> Self {
        Cell::Text(value.map(str::to_owned))
    }
}
impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Cell::Int(value)
    }
}
impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Cell::Flag(value)
    }
}
impl From<NaiveDate> for Cell {
    fn from(value: NaiveDate) -> Self {
        Cell::Day(value)
    }
}
impl From<Ts> for Cell {
    fn from(value: Ts) -> Self {
        Cell::At(Some(value))
    }
}
impl From<Option<Ts>> for Cell {
    fn from(value: Option<Ts>) -> Self {
        Cell::At(value)
    }
}

/// A row of cells.
macro_rules! row {
    ($($value:expr),+ $(,)?) => { vec![$($crate::rows::Cell::from($value)),+] };
}
pub(crate) use row;

/// Puts rows into a statement. There must be at least one.
pub(crate) trait PushRows {
    fn push_rows(&mut self, rows: Vec<Vec<Cell>>) -> &mut Self;
}

impl PushRows for QueryBuilder<Sqlite> {
    fn push_rows(&mut self, rows: Vec<Vec<Cell>>) -> &mut Self {
        self.push_values(rows, |mut row, cells| {
            for cell in cells {
                match cell {
                    Cell::Id(value) => row.push_bind(value),
                    Cell::Text(value) => row.push_bind(value),
                    Cell::Int(value) => row.push_bind(value),
                    Cell::Flag(value) => row.push_bind(value),
                    Cell::Day(value) => row.push_bind(value),
                    Cell::At(value) => row.push_bind(value),
                };
            }
        })
    }
}

impl PushRows for QueryBuilder<Postgres> {
    fn push_rows(&mut self, rows: Vec<Vec<Cell>>) -> &mut Self {
        let mut columns: Vec<Vec<Cell>> = Vec::new();
        for row in rows {
            columns.resize_with(row.len().max(columns.len()), Vec::new);
            for (column, cell) in columns.iter_mut().zip(row) {
                column.push(cell);
            }
        }
        self.push("select * from unnest(");
        for (at, column) in columns.into_iter().enumerate() {
            self.push(if at == 0 { "" } else { ", " });
            push_column(self, column);
        }
        self.push(")")
    }
}

fn push_column(query: &mut QueryBuilder<Postgres>, column: Vec<Cell>) {
    /// The values of one kind; a cell of another kind would be a fault of ours and is left out, which the statement then refuses.
    macro_rules! column {
        ($kind:path, $cast:literal) => {{
            let values: Vec<_> = column
                .into_iter()
                .filter_map(|cell| if let $kind(value) = cell { Some(value) } else { None })
                .collect();
            query.push_bind(values).push($cast);
        }};
    }
    match column.first() {
        Some(Cell::Id(_)) => column!(Cell::Id, "::uuid[]"),
        Some(Cell::Text(_)) | None => column!(Cell::Text, "::text[]"),
        Some(Cell::Int(_)) => column!(Cell::Int, "::bigint[]"),
        Some(Cell::Flag(_)) => column!(Cell::Flag, "::boolean[]"),
        Some(Cell::Day(_)) => column!(Cell::Day, "::date[]"),
        Some(Cell::At(_)) => column!(Cell::At, "::timestamptz[]"),
    }
}
