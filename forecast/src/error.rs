//! What can go wrong between a series and a forecast: what was attempted, on which ticker, and what to do about it.

use chrono::NaiveDate;
use market::{Exchange, Ticker};

/// Why there is no model or no forecast.
#[derive(Debug, thiserror::Error)]
pub enum ForecastError {
    /// The series is shorter than one window.
    #[error("{ticker}: {have} closes are too few, {need} are needed; import more history or wait for more sessions")]
    TooFewCloses {
        /// Whose series.
        ticker: Ticker,
        /// Closes given.
        have: usize,
        /// Closes needed.
        need: usize,
    },
    /// A number that must be finite is not; arithmetic with it would spread.
    #[error("{ticker}: {what} is not a finite number{}; check the stored prices and factors of that session",
        session.map(|s| format!(" at {s}")).unwrap_or_default())]
    NotFinite {
        /// Whose number.
        ticker: Ticker,
        /// Which number.
        what: &'static str,
        /// At which session, where it belongs to one.
        session: Option<NaiveDate>,
    },
    /// The bytes are no model of ours.
    #[error("these bytes are no sound model: {what}; load the model from the registry again, or create it anew")]
    Corrupt {
        /// What is wrong with them.
        what: String,
    },
    /// The bytes were written by a newer program.
    #[error(
        "this model has format {format}, this program reads up to {known}; update the program, or serve an older model"
    )]
    NewerModel {
        /// Its format.
        format: u32,
        /// The newest that we read.
        known: u32,
    },
    /// The parent was made by another recipe; its weights mean something else.
    #[error("{ticker}: the model was made by {model}, asked for was {asked}; create a new model for the new recipe")]
    WrongRecipe {
        /// Whose model.
        ticker: Ticker,
        /// The recipe that made the model.
        model: String,
        /// The recipe asked for.
        asked: String,
    },
    /// The recipe's own numbers make no sense together.
    #[error("the recipe {recipe} cannot be used: {what}")]
    BadRecipe {
        /// Its id.
        recipe: String,
        /// Which number is wrong.
        what: String,
    },
    /// A model was laid beside another ticker's series.
    #[error("the model of {model} was given the series of {series}; load the model of {series}")]
    WrongTicker {
        /// Whose model.
        model: Ticker,
        /// Whose series.
        series: Ticker,
    },
    /// The model was trained on sessions after the end of the series; to go on would be to look ahead.
    #[error(
        "{ticker}: the model has seen {as_of}, the series ends at {last}; use the series up to {as_of} or an older model"
    )]
    SeenFuture {
        /// Whose model.
        ticker: Ticker,
        /// The newest session trained on.
        as_of: NaiveDate,
        /// The newest session in the series.
        last: NaiveDate,
    },
    /// The session asked for is not after the last close.
    #[error("{ticker}: the target {target} is not after the last close of {last}; ask for a later session")]
    TargetPassed {
        /// Whose series.
        ticker: Ticker,
        /// The session asked for.
        target: NaiveDate,
        /// The newest session in the series.
        last: NaiveDate,
    },
    /// A global model was laid beside a series of another exchange.
    #[error("the global model of {exchange} was given the series of {ticker}; load the global model of {}", ticker.exchange())]
    WrongExchange {
        /// The model's exchange.
        exchange: Exchange,
        /// Whose series.
        ticker: Ticker,
    },
    /// Training ended in numbers that are not finite.
    #[error("training {what} diverged; look for prices that cannot be, or lower the recipe's learning rate")]
    Diverged {
        /// What was trained.
        what: String,
    },
    /// The reference kernel could not compute.
    #[error("the reference kernel failed; the fast one does not need it")]
    Reference(#[source] Box<candle_core::Error>),
}

impl ForecastError {
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    pub(crate) fn reference(source: candle_core::Error) -> Self {
        Self::Reference(Box::new(source))
    }
}
