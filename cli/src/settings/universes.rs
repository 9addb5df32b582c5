//! The settings that say which tickers are followed. In comes the table of values, out go the universes of both exchanges.

use super::{Reader, SettingsError};
use market::universe::Universe;
use market::{Exchange, Ticker};
use std::path::PathBuf;
use workflows::listing_duties::Universes;

/// Reads them; `named` are those of the setting `tickers`.
pub(super) fn universes(r: &Reader<'_>, named: &[Ticker]) -> Result<Universes, SettingsError> {
    let of =
        |include, exclude| Ok::<_, SettingsError>(Universe { include: r.list(include)?, exclude: r.list(exclude)? });
    let universes = Universes {
        nasdaq: of("nasdaq_include", "nasdaq_exclude")?,
        nepse: of("nepse_include", "nepse_exclude")?,
        nasdaq_list: r.optional("nasdaq_universe").map(PathBuf::from),
        nepse_page: match r.text("nepse_universe") {
            "listed" => false,
            "page" => true,
            _ => return Err(r.wrong("nepse_universe", &"use listed or page")),
        },
    };
    let on_nepse = |ticker: &Ticker| ticker.exchange() == Exchange::Nepse;
    if universes.nepse_page && !named.iter().any(on_nepse) && universes.nepse.named(Exchange::Nepse).is_empty() {
        let why = "the page is read by the runs of NEPSE's tickers, so name one at least in tickers or nepse_include";
        return Err(r.wrong("nepse_universe", &why));
    }
    Ok(universes)
}
