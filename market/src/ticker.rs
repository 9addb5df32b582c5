//! A ticker: an exchange and a symbol on it, written `NASDAQ:AAPL`. The parser is the only door.

use crate::{Exchange, UnknownExchange};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// One equity on one exchange. Equal symbols on two exchanges are two tickers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ticker {
    exchange: Exchange,
    symbol: String,
}

/// Why a text is no ticker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TickerFault {
    /// The part before the colon names no exchange.
    #[error(transparent)]
    Exchange(#[from] UnknownExchange),
    /// There is no colon.
    #[error("`{0}` is not EXCHANGE:TICKER, for example NASDAQ:AAPL")]
    Shape(String),
    /// The symbol has a character that no exchange uses, or is too long.
    #[error("`{0}` is not a symbol: 1 to 16 letters, digits, `.` or `-`, beginning with a letter or digit")]
    Symbol(String),
}

impl Ticker {
    /// A ticker from its two parts; the symbol is upper-cased.
    pub fn new(exchange: Exchange, symbol: &str) -> Result<Self, TickerFault> {
        let symbol = symbol.trim().to_ascii_uppercase();
        let fits = (1..=16).contains(&symbol.len())
            && symbol.starts_with(|c: char| c.is_ascii_alphanumeric())
            && symbol.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
            && !symbol.contains("..");
        if fits { Ok(Self { exchange, symbol }) } else { Err(TickerFault::Symbol(symbol)) }
    }

    /// Reads `NASDAQ:AAPL`; case does not matter.
    pub fn parse(text: &str) -> Result<Self, TickerFault> {
        let (exchange, symbol) = text.split_once(':').ok_or_else(|| TickerFault::Shape(text.to_owned()))?;
        Self::new(exchange.parse()?, symbol)
    }

    /// The exchange on which it trades.
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// The symbol alone, upper case.
    pub fn symbol(&self) -> &str {
        &self.symbol
    }
}

impl fmt::Display for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.exchange, self.symbol)
    }
}

impl FromStr for Ticker {
    type Err = TickerFault;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Ticker {
    type Error = TickerFault;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Ticker> for String {
    fn from(ticker: Ticker) -> String {
        ticker.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_type() {
        for text in ["NASDAQ:AAPL", "nasdaq:aapl", "NAS:AAPL", " nasdaq : aapl "] {
            assert_eq!(Ticker::parse(text).unwrap().to_string(), "NASDAQ:AAPL", "{text}");
        }
        assert_eq!(Ticker::parse("NEPSE:brk.b").unwrap().symbol(), "BRK.B");
    }

    #[test]
    fn refuses_what_is_no_ticker() {
        assert!(matches!(Ticker::parse("AAPL"), Err(TickerFault::Shape(_))));
        assert!(matches!(Ticker::parse("NYSE:IBM"), Err(TickerFault::Exchange(_))));
        for symbol in ["", " ", "../etc", "A/B", "A'B", "-A", "A..B", "ABCDEFGHIJKLMNOPQ", "ÄB"] {
            assert!(matches!(Ticker::new(Exchange::Nasdaq, symbol), Err(TickerFault::Symbol(_))), "{symbol}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(symbol in "[A-Z0-9][A-Z0-9-]{0,15}") {
            let ticker = Ticker::new(Exchange::Nepse, &symbol).unwrap();
            prop_assert_eq!(Ticker::parse(&ticker.to_string()).unwrap(), ticker);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = Ticker::parse(&text);
        }
    }
}
