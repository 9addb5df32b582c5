//! What travels through a queue: "this step is ready", and nothing else. Everything a step needs stands in the ledger.

use crate::plan::Step;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One message. Its id is made from run, step and generation, so that pushing it twice is the same as once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The run.
    pub run: Uuid,
    /// The step that is ready.
    pub step: Step,
    /// The generation that made it ready; a message of an older one is dropped at the claim.
    pub generation: i64,
    /// The queue it goes through.
    pub queue: String,
}

impl Message {
    /// The id under which the queue knows it.
    pub fn id(&self) -> String {
        format!("{}.{}.{}", self.run.simple(), self.step, self.generation)
    }
}
