//! The words of RetainAI: exchange, ticker, bar, series, session, forecast, record.
//!
//! Everything here is pure: no async, no I/O, no clock. Text and numbers from outside become these types once,
//! at the edge (`Ticker::parse`, `RawBar::check`); inside the product the types are trusted.

mod alarm;
mod bar;
mod batch;
mod calendar;
mod exchange;
mod folder;
mod forecast;
mod market_day;
mod number;
mod record;
mod series;
mod session;
mod ticker;
pub mod validate;

pub use alarm::{AlarmKind, Doubts, UnknownAlarm};
pub use bar::{Bar, BarFault, RawBar, round4};
pub use batch::Batch;
pub use calendar::{Calendar, Day, DayState, EVIDENCE_DAYS, Outlook, Week, Witness, Word, name_of_day};
pub use exchange::{Exchange, UnknownExchange};
pub use folder::{
    CsvFault, FACTOR_FILE_SUFFIX, FactorRow, ParsedCsv, column_of, parse_bars_csv, parse_factors_csv, parse_rows_csv,
    write_bars_csv,
};
pub use forecast::{Baseline, DISCLAIMER, Flag, Forecast, Interval, MadeBy};
pub use market_day::{MARKET_RETURN_CLIP, MarketDay, MarketSums, changes, market_condition, market_days};
pub use number::{NumberFault, parse_number};
pub use record::{Scored, Sums};
pub use series::{Factor, Series, SeriesFault};
pub use session::{TargetBasis, final_at, is_final, latest_evening, latest_final_session, next_session};
pub use ticker::{Ticker, TickerFault};

/// The look-back of every recipe: how many sessions one window shows the model.
pub const LOOK_BACK: usize = 15;

/// The fewest closes from which a forecast can be made: one window needs one return per step, and a return two closes.
pub const MIN_CLOSES: usize = LOOK_BACK + 1;
