//! The body of every step in the fault run: it tells the effect ledger that it begins, sleeps a little, writes a file into its own folder,
//! tells that it ends, and asks for one effect. Each of the five steps asks for another, so that the database can count them.

use crate::now_us;
use crate::wire::{Teller, Word, Work};
use async_trait::async_trait;
use chrono::DateTime;
use market::{Batch, RawBar};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use workflows::ledger::Claim;
use workflows::plan::Step;
use workflows::{Attempt, Effect, Report, StepBody};

/// The longest that a body sleeps.
const LONGEST_MS: u64 = 20;
/// What a body leaves on its disk while it works.
const SCRATCH: [u8; 512] = [b'.'; 512];
/// A full disk is not empty a moment later, so the step asks for this much patience.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// The body.
pub struct Toy {
    /// Who is told.
    pub teller: Arc<Teller>,
    /// Its own folder.
    pub folder: PathBuf,
    /// What the sleeps depend on.
    pub seed: u64,
}

#[async_trait]
impl StepBody for Toy {
    async fn run(&self, attempt: &Attempt) -> Report {
        let Claim { run, step, epoch, .. } = attempt.claim;
        let work = |at_us| Work { run, step, epoch, at_us };
        self.teller.tell(&Word::Began(work(now_us())));
        let report = self.work(attempt).await;
        self.teller.tell(&Word::Ended(work(now_us())));
        report
    }
}

impl Toy {
    async fn work(&self, attempt: &Attempt) -> Report {
        let claim = &attempt.claim;
        tokio::time::sleep(self.pause(claim)).await;
        let scratch = self.folder.join(format!("{}.{}.{}", claim.run.simple(), claim.step, claim.epoch));
        let written = tokio::fs::write(&scratch, SCRATCH).await;
        let _ = tokio::fs::remove_file(&scratch).await;
        if let Err(error) = written {
            return Report::retry("disk", format!("the scratch file: {error}"), Some(DISK_PATIENCE));
        }
        if attempt.cancel.is_cancelled() {
            return Report::interrupted();
        }
        match effect(claim) {
            Ok(effect) => Report::done("done", vec![effect]),
            Err(why) => Report::give_up(why),
        }
    }

    fn pause(&self, claim: &Claim) -> Duration {
        // Scrambled by a large odd number, so that neighbours differ.
        let (high, low) = claim.run.as_u64_pair();
        let mixed = (high ^ low ^ self.seed ^ (claim.step as u64) << 7 ^ claim.epoch.unsigned_abs())
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Duration::from_micros((mixed >> 32) % (LONGEST_MS * 1_000))
    }
}

fn effect(claim: &Claim) -> Result<Effect, String> {
    Ok(match claim.step {
        Step::Scrape => Effect::Stage(batch(claim)?),
        Step::Finetune => Effect::RunSession(claim.session),
        Step::Cache => Effect::Remark(format!("written under epoch {}", claim.epoch)),
        Step::Archive => Effect::ArchiveStaged,
        Step::Cleanup => Effect::DropStaging,
        other => return Err(format!("no toy does {other}")),
    })
}

/// One bar, which names its run.
fn batch(claim: &Claim) -> Result<Batch, String> {
    let bar = RawBar { session: Some(claim.session), close: Some(100.0), ..RawBar::default() };
    Ok(Batch {
        ticker: claim.ticker().clone(),
        source: "csv".to_owned(),
        bars: vec![bar.check().map_err(|fault| fault.to_string())?],
        factors: Vec::new(),
        splits: Vec::new(),
        page_session: Some(claim.session),
        refused: Vec::new(),
        fetched_at: DateTime::UNIX_EPOCH,
        body_sha256: claim.run.to_string(),
    })
}
