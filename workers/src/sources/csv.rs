//! The csv source: a folder of EXCHANGE/TICKER.csv that someone else keeps up to date.

use super::error::SourceErrorKind as Kind;
use super::overlap::{self, Overlap};
use super::{Ask, PriceSource, SourceError, http};
use async_trait::async_trait;
use market::{Batch, Exchange, is_final, parse_bars_csv};
use std::path::PathBuf;

/// No daily file that we know is larger than a tenth of this.
const FILE_LIMIT: u64 = 64 * 1024 * 1024;

pub(super) struct CsvFolder {
    folder: PathBuf,
}

impl CsvFolder {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    async fn read(&self, file: &std::path::Path) -> Result<String, Kind> {
        let failed = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            _ => Kind::Transport(e.to_string()),
        };
        let length = tokio::fs::metadata(file).await.map_err(failed)?.len();
        if length > FILE_LIMIT {
            return Err(Kind::layout("a file of at most 64 MiB", format!("{length} bytes")));
        }
        tokio::fs::read_to_string(file).await.map_err(failed)
    }

    fn batch(ask: &Ask, text: &str) -> Result<Batch, Kind> {
        let exchange = ask.ticker.exchange();
        let parsed = parse_bars_csv(text).map_err(|fault| Kind::layout("date,open,high,low,close,volume", fault))?;
        let page_session = parsed.bars.last().map(|bar| bar.session);
        let bars: Vec<_> = parsed.bars.into_iter().filter(|bar| is_final(exchange, bar.session, ask.now)).collect();
        // A folder is kept by the operator: a restated file is taken as a whole.
        let bars = match overlap::compare(&bars, &ask.known) {
            Overlap::Restated(_) => bars,
            Overlap::Mismatch(how) => return Err(Kind::Identity { asked: ask.ticker.to_string(), got: how }),
            Overlap::Apart | Overlap::Agrees => overlap::news(bars, &ask.known),
        };
        Ok(Batch {
            ticker: ask.ticker.clone(),
            source: "csv".to_owned(),
            bars,
            factors: Vec::new(),
            splits: Vec::new(),
            page_session,
            refused: parsed.refused.iter().map(ToString::to_string).collect(),
            fetched_at: ask.now,
            body_sha256: http::hash([text]),
        })
    }
}

#[async_trait]
impl PriceSource for CsvFolder {
    fn id(&self) -> &'static str {
        "csv"
    }

    fn exchanges(&self) -> &'static [Exchange] {
        &Exchange::ALL
    }

    async fn fetch(&self, ask: &Ask) -> Result<Batch, SourceError> {
        let file = self.folder.join(ask.ticker.exchange().as_str()).join(format!("{}.csv", ask.ticker.symbol()));
        let doing = || format!("reading {} for {}", file.display(), ask.ticker);
        let text = self.read(&file).await.map_err(|kind| kind.while_doing(doing()))?;
        Self::batch(ask, &text).map_err(|kind| kind.while_doing(doing()))
    }
}
