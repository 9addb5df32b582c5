//! What is announced of a day years ahead: a hint, never a fact. In comes a day, out comes its holiday, or that it has none; nothing where no list
//! reaches.

use crate::Exchange;
use chrono::NaiveDate;
use nyse_holiday_cal::{Holiday, HolidayCal};

/// What a list of holidays says of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    /// It is this holiday.
    Holiday(&'static str),
    /// It is none.
    WorkingDay,
}

/// NASDAQ keeps New York's holidays; the list of them reaches from 2020 to 2028 and lacks days that nobody announced that early (a day of mourning).
/// Nepal announces its holidays year by year, and moves them: there is no list of them.
pub(super) fn hint(exchange: Exchange, day: NaiveDate) -> Option<Hint> {
    match exchange {
        Exchange::Nasdaq if day.is_weekend() => None,
        Exchange::Nasdaq => day.holiday().ok().map(|found| found.map_or(Hint::WorkingDay, |h| Hint::Holiday(name(h)))),
        Exchange::Nepse => None,
    }
}

fn name(holiday: Holiday) -> &'static str {
    match holiday {
        Holiday::NewYearsDay => "New Year's Day",
        Holiday::MartinLutherKingJrDay => "Martin Luther King Day",
        Holiday::WashingtonsBirthday => "Washington's Birthday",
        Holiday::GoodFriday => "Good Friday",
        Holiday::MemorialDay => "Memorial Day",
        Holiday::Juneteenth => "Juneteenth",
        Holiday::IndependenceDay => "Independence Day",
        Holiday::LaborDay => "Labor Day",
        Holiday::ThanksgivingDay => "Thanksgiving Day",
        Holiday::ChristmasDay => "Christmas Day",
        _ => "a holiday of the exchange",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(exchange: Exchange, day: &str) -> Option<Hint> {
        hint(exchange, day.parse().unwrap())
    }

    #[test]
    fn the_list_reaches_from_2020_to_2028_and_knows_new_york_only() {
        assert_eq!(of(Exchange::Nasdaq, "2026-11-26"), Some(Hint::Holiday("Thanksgiving Day")));
        assert_eq!(of(Exchange::Nasdaq, "2026-11-27"), Some(Hint::WorkingDay), "a half day is a session");
        assert_eq!(of(Exchange::Nasdaq, "2026-11-28"), None, "the week says enough of a Saturday");
        for outside in ["2019-12-25", "2029-12-25"] {
            assert_eq!(of(Exchange::Nasdaq, outside), None);
        }
        assert_eq!(of(Exchange::Nepse, "2026-12-25"), None);
    }
}
