//! Which tickers an exchange's installation follows: a list or the market page, and what an operator adds to it and takes from it. In come texts
//! of settings and a list file, out goes a yes, or a no with its reason.

use crate::{Exchange, Ticker, TickerFault};
use std::collections::BTreeSet;
use std::{fmt, str::FromStr};

/// How a ticker became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Somebody named it: a setting, a command, an import.
    Named,
    /// It stands in the list file.
    List,
    /// It stood on the market page.
    Page,
}

impl Origin {
    /// The word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Named => "named",
            Origin::List => "list",
            Origin::Page => "page",
        }
    }
}

impl FromStr for Origin {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Origin::Named, Origin::List, Origin::Page];
        all.into_iter().find(|origin| origin.as_str() == text).ok_or_else(|| format!("unknown origin `{text}`"))
    }
}

/// A symbol, or the beginning of one with `*` behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    begins: bool,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no pattern: use a symbol, or its beginning with `*` behind it")]
pub struct PatternFault(String);

impl FromStr for Pattern {
    type Err = PatternFault;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().to_ascii_uppercase();
        let (symbol, begins) = text.strip_suffix('*').map_or((text.as_str(), false), |begin| (begin, true));
        let fits = symbol.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
        if fits && (begins || !symbol.is_empty()) {
            Ok(Self { text: symbol.to_owned(), begins })
        } else {
            Err(PatternFault(text))
        }
    }
}

impl Pattern {
    /// Whether it means this symbol.
    pub fn means(&self, symbol: &str) -> bool {
        if self.begins { symbol.starts_with(&self.text) } else { symbol == self.text }
    }

    /// The one symbol that it means; `None` when it may mean several.
    pub fn symbol(&self) -> Option<&str> {
        (!self.begins).then_some(self.text.as_str())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.begins { "*" } else { "" })
    }
}

/// What an installation follows of one exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Universe {
    /// Followed in any case.
    pub include: Vec<Pattern>,
    /// Not followed, unless included.
    pub exclude: Vec<Pattern>,
}

impl Universe {
    /// Whether a ticker is followed, else why not. `list`: what the list file names, where there is one.
    pub fn follows(&self, symbol: &str, origin: Origin, list: Option<&BTreeSet<String>>) -> Result<(), String> {
        if self.include.iter().any(|pattern| pattern.means(symbol)) {
            return Ok(());
        }
        if let Some(pattern) = self.exclude.iter().find(|pattern| pattern.means(symbol)) {
            return Err(format!("excluded by `{pattern}`"));
        }
        match (origin, list) {
            (Origin::List, Some(list)) if !list.contains(symbol) => {
                Err("it no longer stands in the list file".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The tickers that are named in full to be included.
    pub fn named(&self, exchange: Exchange) -> Vec<Ticker> {
        self.include
            .iter()
            .filter_map(Pattern::symbol)
            .filter_map(|symbol| Ticker::new(exchange, symbol).ok())
            .collect()
    }
}

/// What a list file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListFile {
    /// Its symbols.
    pub symbols: BTreeSet<String>,
    /// Lines that are no symbol: number and what is wrong. The rest counts all the same.
    pub faults: Vec<(usize, String)>,
}

/// Reads a list file: one symbol a line, perhaps with its exchange before it; what follows a `#` is a comment.
pub fn parse_list(exchange: Exchange, text: &str) -> ListFile {
    let mut list = ListFile::default();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match read_line(exchange, line) {
            Ok(ticker) => drop(list.symbols.insert(ticker.symbol().to_owned())),
            Err(why) => list.faults.push((at + 1, why)),
        }
    }
    list
}

fn read_line(exchange: Exchange, line: &str) -> Result<Ticker, String> {
    let text = |fault: TickerFault| fault.to_string();
    if !line.contains(':') {
        return Ticker::new(exchange, line).map_err(text);
    }
    let ticker = Ticker::parse(line).map_err(text)?;
    if ticker.exchange() == exchange { Ok(ticker) } else { Err(format!("{ticker} is not of {exchange}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn universe(include: &[&str], exclude: &[&str]) -> Universe {
        let read = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect();
        Universe { include: read(include), exclude: read(exclude) }
    }

    #[test]
    fn a_list_names_its_bad_lines_and_keeps_the_rest() {
        let text = "\u{feff}# our names\r\naapl\nMSFT  # a comment\n\nNASDAQ:BRK.B\nNEPSE:NABIL\nGOO GL\nAAPL\n";
        let list = parse_list(Exchange::Nasdaq, text);
        assert_eq!(list.symbols.iter().map(String::as_str).collect::<Vec<_>>(), ["AAPL", "BRK.B", "MSFT"]);
        assert_eq!(list.faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [6, 7]);
        assert!(list.faults[0].1.contains("not of NASDAQ") && list.faults[1].1.contains("GOO GL"), "{list:?}");
    }

    #[test]
    fn exclude_takes_out_and_include_puts_in() {
        let chosen = universe(&["EBL", "NA*"], &["*"]);
        assert!(chosen.follows("EBL", Origin::Page, None).is_ok());
        assert!(chosen.follows("NABIL", Origin::Page, None).is_ok());
        assert_eq!(chosen.follows("CIT", Origin::Named, None), Err("excluded by `*`".to_owned()));
        let named: Vec<String> = chosen.named(Exchange::Nepse).iter().map(Ticker::to_string).collect();
        assert_eq!(named, ["NEPSE:EBL"]);
    }

    #[test]
    fn only_what_came_from_the_list_goes_with_it() {
        let list: BTreeSet<String> = ["AAPL".to_owned()].into();
        let all = Universe::default();
        assert!(all.follows("AAPL", Origin::List, Some(&list)).is_ok());
        assert!(all.follows("MSFT", Origin::List, Some(&list)).is_err());
        assert!(all.follows("MSFT", Origin::Named, Some(&list)).is_ok());
        assert!(all.follows("MSFT", Origin::List, None).is_ok(), "a list that cannot be read takes nothing out");
    }

    #[test]
    fn patterns_are_symbols_or_beginnings() {
        for bad in ["", "A*B", "**", "A B", "_PF", "A/"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
        assert_eq!("na*".parse::<Pattern>().unwrap().to_string(), "NA*");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".*") {
            let list = parse_list(Exchange::Nepse, &text);
            prop_assert!(list.symbols.iter().all(|symbol| Ticker::new(Exchange::Nepse, symbol).is_ok()));
            let _ = text.parse::<Pattern>();
        }
    }
}
