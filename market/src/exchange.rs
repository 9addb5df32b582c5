//! The exchanges we know, and the few facts about each that never come from a page: zone, currency, hours.

use chrono::{NaiveTime, TimeDelta, Weekday};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// An exchange whose equities we forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Exchange {
    /// The NASDAQ Stock Market, New York.
    Nasdaq,
    /// The Nepal Stock Exchange, Kathmandu.
    Nepse,
}

/// The text names no exchange that we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown exchange `{0}`: use NASDAQ or NEPSE")]
pub struct UnknownExchange(pub String);

impl Exchange {
    /// Every exchange, in the order in which lists show them.
    pub const ALL: [Exchange; 2] = [Exchange::Nasdaq, Exchange::Nepse];

    /// The name used in tables, API and chat: `NASDAQ` or `NEPSE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Exchange::Nasdaq => "NASDAQ",
            Exchange::Nepse => "NEPSE",
        }
    }

    /// The zone in which the exchange's dates and hours are meant.
    pub fn zone(self) -> chrono_tz::Tz {
        match self {
            Exchange::Nasdaq => chrono_tz::America::New_York,
            Exchange::Nepse => chrono_tz::Asia::Kathmandu,
        }
    }

    /// ISO 4217 code of the prices.
    pub fn currency(self) -> &'static str {
        match self {
            Exchange::Nasdaq => "USD",
            Exchange::Nepse => "NPR",
        }
    }

    /// When the regular session opens, in the exchange's zone.
    pub fn opens(self) -> NaiveTime {
        match self {
            Exchange::Nasdaq => NaiveTime::from_hms_opt(9, 30, 0).expect("a valid time"),
            Exchange::Nepse => NaiveTime::from_hms_opt(11, 0, 0).expect("a valid time"),
        }
    }

    /// When the regular session closes, in the exchange's zone. Half days close earlier; a later close is never wrong here,
    /// because it only delays the moment from which a bar counts as final.
    pub fn closes(self) -> NaiveTime {
        match self {
            Exchange::Nasdaq => NaiveTime::from_hms_opt(16, 0, 0).expect("a valid time"),
            Exchange::Nepse => NaiveTime::from_hms_opt(15, 0, 0).expect("a valid time"),
        }
    }

    /// How long after the close a bar may still change.
    pub fn settles_after(self) -> TimeDelta {
        TimeDelta::minutes(30)
    }

    /// When the evening is over in which its sources publish a session: what shows an earlier one by then shows that there was none.
    pub fn evening_ends(self) -> NaiveTime {
        match self {
            Exchange::Nasdaq => NaiveTime::from_hms_opt(22, 0, 0).expect("a valid time"),
            Exchange::Nepse => NaiveTime::from_hms_opt(22, 30, 0).expect("a valid time"),
        }
    }

    /// Whether the exchange may trade on this weekday: a hint only, observed sessions overrule it.
    /// NEPSE has moved its week three times since 2022 (Sun–Thu, Sun–Fri, Mon–Fri), so only Saturday is surely closed.
    pub fn may_trade_on(self, day: Weekday) -> bool {
        match self {
            Exchange::Nasdaq => !matches!(day, Weekday::Sat | Weekday::Sun),
            Exchange::Nepse => day != Weekday::Sat,
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Exchange {
    type Err = UnknownExchange;

    /// Case does not matter; the predecessor's `NAS` and `NPS` are understood too.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_uppercase().as_str() {
            "NASDAQ" | "NAS" => Ok(Exchange::Nasdaq),
            "NEPSE" | "NPS" => Ok(Exchange::Nepse),
            _ => Err(UnknownExchange(text.to_owned())),
        }
    }
}
