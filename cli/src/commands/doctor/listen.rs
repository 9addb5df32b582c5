//! The address of the API: free, or held by our own process.

use super::item::Item;
use crate::client::http_client;
use crate::data_folder::DataFolder;
use crate::settings::Settings;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

/// Looks whether the API can listen there.
pub async fn look(settings: &Settings) -> Vec<Item> {
    vec![address(settings).await].into_iter().chain(open_to_others(settings)).collect()
}

/// What to think of when other machines can ask.
fn open_to_others(settings: &Settings) -> Option<Item> {
    let (listen, access) = (settings.listen, &settings.access);
    if api::is_loopback(listen) {
        return None;
    }
    if !access.https {
        let said = format!("{listen} can be reached from other machines, and keys travel unencrypted");
        return Some(Item::warning("keys", said, "put a proxy with TLS in front of it and set https = true"));
    }
    Some(Item::ok("keys", format!("{listen} can be reached from other machines, which need a key")))
}

async fn address(settings: &Settings) -> Item {
    let listen = settings.listen;
    // Closed again at once.
    let error = match TcpListener::bind(listen).map(drop) {
        Ok(()) => return Item::ok("listen", format!("{listen} is free")),
        Err(error) => error,
    };
    if error.kind() != ErrorKind::AddrInUse {
        return Item::problem(
            "listen",
            format!("{listen} cannot be taken: {error}"),
            "choose another address with --listen; ports below 1024 need special rights",
        );
    }
    let owner = settings.is_embedded().then(|| DataFolder::owner(&settings.data_dir).ok().flatten()).flatten();
    if let Some(owner) = owner.filter(|owner| owner.listen == Some(listen)) {
        return Item::ok("listen", format!("{listen} is held by our own process {}", owner.pid));
    }
    if answers_as_we_do(settings).await {
        return Item::ok("listen", format!("{listen} is held by a RetainAI that runs already"));
    }
    Item::problem(
        "listen",
        format!("{listen} is held by another program"),
        format!("end it (`ss -ltnp 'sport = :{}'` names it), or choose another address with --listen", listen.port()),
    )
}

/// Whether what answers there is an API of ours.
async fn answers_as_we_do(settings: &Settings) -> bool {
    let asked = async {
        let client = http_client(Duration::from_secs(1)).ok()?;
        let answer = client.get(format!("http://{}/health/live", settings.listen)).send().await.ok()?;
        answer.json::<serde_json::Value>().await.ok()
    };
    asked.await.is_some_and(|document| document["status"] == "live" && document["version"].is_string())
}
