//! Invented companies on an exchange like NEPSE, generated from a seed: Sunday to Thursday, a daily limit of ten per cent
//! against the published previous close, thin tickers, bonus shares, calm and wild times. None is a real company.

use crate::world::{Listing, Row};
use chrono::{Datelike, Days, NaiveDate, Weekday};
use market::{Exchange, Ticker};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How far a price may stand from the published previous close.
pub const DAILY_LIMIT: f64 = 0.10;

/// What makes one invented company different from the next.
struct Profile {
    symbol: &'static str,
    name: &'static str,
    first_price: f64,
    /// Usual size of a day's own move.
    volatility: f64,
    /// Share of the sessions on which it trades.
    trades_on: f64,
    /// Ex-date and bonus: 0.2 gives one new share for five.
    bonuses: &'static [(&'static str, f64)],
}

const fn profile(
    symbol: &'static str,
    name: &'static str,
    first_price: f64,
    volatility: f64,
    trades_on: f64,
    bonuses: &'static [(&'static str, f64)],
) -> Profile {
    Profile { symbol, name, first_price, volatility, trades_on, bonuses }
}

const PROFILES: &[Profile] = &[
    profile("DEMOBA", "Demo Bank A", 420.0, 0.012, 1.0, &[("2009-09-06", 0.12), ("2012-01-08", 0.15)]),
    profile("DEMOBB", "Demo Bank B", 610.0, 0.014, 1.0, &[("2010-11-21", 0.25), ("2012-12-18", 0.20)]),
    profile("DEMOFI", "Demo Finance", 240.0, 0.018, 0.97, &[("2011-02-13", 0.10)]),
    profile("DEMOHO", "Demo Hotel", 310.0, 0.016, 0.95, &[]),
    profile("DEMOHY", "Demo Hydropower", 190.0, 0.022, 1.0, &[("2011-06-05", 0.335)]),
    profile("DEMOIN", "Demo Insurance", 1_450.0, 0.017, 0.98, &[("2010-03-07", 0.185)]),
    profile("DEMOMF", "Demo Microfinance", 2_900.0, 0.021, 0.96, &[("2012-07-10", 0.40)]),
    profile("DEMOMI", "Demo Mill", 780.0, 0.020, 0.35, &[]),
    profile("DEMORE", "Demo Reinsurance", 12_400.0, 0.015, 0.99, &[]),
    profile("DEMOTR", "Demo Trading", 95.0, 0.024, 0.75, &[("2009-04-19", 0.08)]),
];

fn first_day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2008, 1, 1).expect("a valid date")
}

fn last_day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2013, 3, 1).expect("a valid date")
}

/// The days on which the invented exchange is open: Sunday to Thursday but for some single days and a week each October.
pub fn calendar(seed: u64) -> Vec<NaiveDate> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut closed = std::collections::BTreeSet::new();
    for year in first_day().year()..=last_day().year() {
        let feast = NaiveDate::from_ymd_opt(year, 10, rng.random_range(3..=14)).expect("a valid date");
        closed.extend((0..7).map(|n| feast + Days::new(n)));
        let new_year = NaiveDate::from_ymd_opt(year, 1, 1).expect("a valid date");
        closed.extend((0..11).map(|_| new_year + Days::new(rng.random_range(0..365))));
    }
    first_day()
        .iter_days()
        .take_while(|day| *day <= last_day())
        .filter(|day| !matches!(day.weekday(), Weekday::Fri | Weekday::Sat) && !closed.contains(day))
        .collect()
}

/// Every invented company with all its sessions. The same seed gives the same numbers.
pub fn generate(seed: u64) -> Vec<Listing> {
    let calendar = calendar(seed);
    let mut market_rng = ChaCha8Rng::seed_from_u64(seed);
    market_rng.set_stream(1);
    let mut weather = Weather::default();
    let market: Vec<f64> = calendar.iter().map(|_| weather.next(&mut market_rng) * 0.008).collect();
    PROFILES.iter().enumerate().map(|(at, profile)| listing(seed, at, profile, &calendar, &market)).collect()
}

fn listing(seed: u64, at: usize, profile: &Profile, calendar: &[NaiveDate], market: &[f64]) -> Listing {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(100 + at as u64);
    let mut weather = Weather::default();
    let mut bonuses: Vec<(NaiveDate, f64)> =
        profile.bonuses.iter().map(|(day, share)| (day.parse().expect("a valid date"), *share)).collect();
    let mut last_close = profile.first_price;
    let mut rows = Vec::with_capacity(calendar.len());
    for (session, market) in calendar.iter().zip(market) {
        // Every draw happens on every day, so that one ticker's silence does not change its later prices.
        let own = weather.next(&mut rng) * profile.volatility;
        let draws = Draws::new(&mut rng);
        if draws.silence >= profile.trades_on {
            continue;
        }
        let bonus: f64 = bonuses.iter().filter(|(day, _)| day <= session).map(|(_, share)| 1.0 + share).product();
        bonuses.retain(|(day, _)| day > session);
        let reference = round2(last_close / bonus);
        let row = draws.row(*session, reference, market + own, profile.first_price);
        last_close = row.close;
        rows.push(row);
    }
    Listing {
        ticker: Ticker::new(Exchange::Nepse, profile.symbol).expect("a valid symbol"),
        name: profile.name.to_owned(),
        company_id: 9_001 + at as u32,
        rows,
        splits: Vec::new(),
    }
}

/// Calm follows calm and storm follows storm: a variance that remembers yesterday's move. Long-run standard deviation 1.
struct Weather {
    variance: f64,
    last: f64,
}

impl Default for Weather {
    fn default() -> Self {
        Self { variance: 1.0, last: 0.0 }
    }
}

impl Weather {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> f64 {
        self.variance = 0.05 + 0.15 * self.last * self.last + 0.80 * self.variance;
        self.last = self.variance.sqrt() * bell(rng);
        self.last
    }
}

/// A standard normal draw, near enough: twelve uniform ones added. No logarithm, so every machine draws the same bits.
fn bell(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// What chance decides about one session of one ticker, beside its return.
struct Draws {
    silence: f64,
    open: f64,
    above: f64,
    below: f64,
    apart: f64,
    ltp: f64,
    size: f64,
}

impl Draws {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        Self {
            silence: rng.random(),
            open: bell(rng),
            above: rng.random(),
            below: rng.random(),
            apart: rng.random(),
            ltp: bell(rng),
            size: rng.random(),
        }
    }

    fn row(&self, session: NaiveDate, reference: f64, change: f64, usual_price: f64) -> Row {
        // A faint pull towards the first price keeps five years of chance from ending in pennies or millions.
        let pull = 0.002 * (usual_price / reference - 1.0).clamp(-1.0, 1.0);
        let within = |price: f64| limit(price, reference);
        let close = within(reference * (1.0 + change + pull));
        let open = within(reference * (1.0 + 0.003 * self.open));
        // On about one day in eight the close is a weighted price and not that of the last trade.
        let ltp = if self.apart < 0.12 { within(close * (1.0 + 0.004 * self.ltp)) } else { close };
        let high = within(open.max(close).max(ltp) * (1.0 + 0.012 * self.above * self.above));
        let low = within(open.min(close).min(ltp) * (1.0 - 0.012 * self.below * self.below));
        let volume = ((400_000.0 / reference) * (0.2 + 4.0 * self.size * self.size)).ceil().max(10.0);
        let trades = (volume / 90.0).ceil() as u32 + 1;
        Row { session, open, high, low, close, ltp, prev_close: Some(reference), volume, trades }
    }
}

/// The nearest price of two decimals inside the daily limit.
fn limit(price: f64, reference: f64) -> f64 {
    let lowest = (reference * (1.0 - DAILY_LIMIT) * 100.0 - 1e-6).ceil() / 100.0;
    let highest = (reference * (1.0 + DAILY_LIMIT) * 100.0 + 1e-6).floor() / 100.0;
    round2(price).clamp(lowest, highest)
}

fn round2(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_world_and_another_seed_another() {
        assert_eq!(generate(7), generate(7));
        assert_ne!(generate(7), generate(8));
    }

    #[test]
    fn no_price_leaves_the_daily_limit() {
        for listing in generate(7).iter().chain(&generate(8)) {
            for row in &listing.rows {
                let reference = row.prev_close.unwrap();
                for price in [row.open, row.high, row.low, row.close, row.ltp] {
                    let move_ = price / reference - 1.0;
                    assert!(move_.abs() <= DAILY_LIMIT + 1e-9, "{} {row:?}", listing.ticker);
                    assert!((price * 100.0 - (price * 100.0).round()).abs() < 1e-6, "{price}");
                }
                assert!(row.low <= row.close.min(row.ltp).min(row.open));
                assert!(row.high >= row.close.max(row.ltp).max(row.open));
            }
        }
    }

    #[test]
    fn bonuses_show_in_the_published_previous_close_and_nowhere_else() {
        for (listing, profile) in generate(7).iter().zip(PROFILES) {
            let events: Vec<f64> = listing
                .rows
                .windows(2)
                .map(|pair| pair[1].prev_close.unwrap() / pair[0].close)
                .filter(|factor| (factor - 1.0).abs() > 1e-9)
                .collect();
            assert_eq!(events.len(), profile.bonuses.len(), "{}", profile.symbol);
            for (found, (_, share)) in events.iter().zip(profile.bonuses) {
                assert!((found - 1.0 / (1.0 + share)).abs() < 1e-3, "{found} {share}");
            }
        }
    }

    #[test]
    fn it_looks_like_the_exchange_it_stands_in_for() {
        let (calendar, listings) = (calendar(7), generate(7));
        assert!(calendar.iter().all(|day| !matches!(day.weekday(), Weekday::Fri | Weekday::Sat)));
        assert!(calendar.windows(2).any(|pair| (pair[1] - pair[0]).num_days() >= 8), "a week's feast");
        assert_eq!(listings.len(), 10);
        let thin = listings.iter().find(|l| l.ticker.symbol() == "DEMOMI").unwrap();
        assert!(thin.rows.len() * 2 < calendar.len());
        assert!(listings.iter().any(|l| l.rows.iter().any(|row| row.close > 10_000.0)), "five digits");
        let apart = listings[0].rows.iter().filter(|row| row.close != row.ltp).count();
        assert!(apart * 20 > listings[0].rows.len() && apart * 5 < listings[0].rows.len(), "{apart}");
        // Volatility clusters: big moves stand beside big moves.
        let moves: Vec<f64> =
            listings[0].rows.iter().map(|r| (r.close / r.prev_close.unwrap() - 1.0).powi(2)).collect();
        let mean = moves.iter().sum::<f64>() / moves.len() as f64;
        let beside: f64 = moves.windows(2).map(|m| (m[0] - mean) * (m[1] - mean)).sum();
        assert!(beside > 0.0);
    }
}
