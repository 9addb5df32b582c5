//! The price sources and the market clock: addresses that can be read, a csv folder that is there; with --online, whether they answer.

use super::item::Item;
use crate::client::http_client;
use crate::settings::Settings;
use market::Exchange;
use std::time::Duration;

/// Looks; requests leave this machine only when `online`, and never when the settings say offline.
pub async fn look(settings: &Settings, online: bool) -> Vec<Item> {
    let sources = &settings.sources;
    let named = |id: &str| sources.nasdaq.iter().chain(&sources.nepse).any(|name| name == id);
    let mut items = Vec::new();
    let addresses = [
        ("source_yahoo", "yahoo_url", Some(&sources.yahoo_url).filter(|_| named("yahoo"))),
        ("source_nasdaq", "nasdaq_url", Some(&sources.nasdaq_url).filter(|_| named("nasdaq"))),
        ("source_tiingo", "tiingo_url", Some(&sources.tiingo_url).filter(|_| named("tiingo"))),
        ("source_merolagani", "merolagani_url", Some(&sources.merolagani_url).filter(|_| named("merolagani"))),
        ("source_sharesansar", "sharesansar_url", Some(&sources.sharesansar_url).filter(|_| named("sharesansar"))),
        ("market_clock", "market_clock_url", settings.market_clock_url.as_ref()),
    ];
    let looks = addresses
        .into_iter()
        .filter_map(|(check, key, url)| Some(address(check, key, url?, online && !settings.offline)));
    items.extend(futures::future::join_all(looks).await);
    if named("tiingo") && sources.tiingo_key.is_none() {
        items.push(Item::problem(
            "source_tiingo_key",
            "tiingo is named as a source, but tiingo_key is not set",
            "set tiingo_key to the key of your account, or take tiingo out of nasdaq_sources",
        ));
    }
    if named("csv") {
        items.push(csv_folder(settings));
    }
    for (exchange, list) in [(Exchange::Nasdaq, &sources.nasdaq), (Exchange::Nepse, &sources.nepse)] {
        if list.is_empty() && settings.tickers.iter().any(|ticker| ticker.exchange() == exchange) {
            items.push(Item::warning(
                "sources",
                format!("{exchange} has tickers and no source"),
                format!("set {}_sources, or import prices by hand", exchange.as_str().to_lowercase()),
            ));
        }
    }
    items
}

async fn address(check: &'static str, key: &str, text: &str, online: bool) -> Item {
    let correct = format!("set {key} to something like https://host.example");
    let url = match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => url,
        Ok(_) => return Item::problem(check, format!("`{text}` is no http address"), correct),
        Err(error) => return Item::problem(check, format!("`{text}` is no address: {error}"), correct),
    };
    if !online {
        return Item::ok(check, format!("{text}, not asked (--online asks)"));
    }
    let answer = match http_client(Duration::from_millis(2_500)) {
        Ok(client) => client.get(url).send().await.map_err(|e| e.without_url()),
        Err(error) => {
            return Item::problem(check, format!("{error:#}"), "see whether this machine's TLS set-up is whole");
        }
    };
    match answer {
        // Whatever it says of a request without a path, it is there.
        Ok(answer) => Item::ok(check, format!("{text} answers ({})", answer.status().as_u16())),
        Err(error) => Item::problem(
            check,
            format!("{text} does not answer: {:#}", anyhow::Error::new(error)),
            "check name resolution, firewall and proxy of this machine; runs wait and try again meanwhile",
        ),
    }
}

fn csv_folder(settings: &Settings) -> Item {
    let Some(folder) = &settings.sources.csv_dir else {
        return Item::problem(
            "source_csv",
            "csv is named as a source, but csv_dir is not set",
            "set csv_dir to the folder that holds EXCHANGE/TICKER.csv",
        );
    };
    let exchanges: Vec<&str> =
        Exchange::ALL.iter().map(|exchange| exchange.as_str()).filter(|name| folder.join(name).is_dir()).collect();
    let shown = folder.display();
    match (folder.is_dir(), exchanges.is_empty()) {
        (true, false) => Item::ok("source_csv", format!("{shown} holds {}", exchanges.join(" and "))),
        (true, true) => Item::warning(
            "source_csv",
            format!("{shown} holds neither NASDAQ nor NEPSE"),
            "put the files at EXCHANGE/TICKER.csv below it",
        ),
        (false, _) => Item::problem("source_csv", format!("{shown} is no folder"), "make it, or correct csv_dir"),
    }
}
