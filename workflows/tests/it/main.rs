//! The engine against real stores: one conformance suite for both databases and both queues.

mod both;
mod conformance;
mod differential;
mod disposable;
mod encrypted;
mod engine;
mod fan_out;
mod flow;
mod full_disk;
mod history;
mod history_bundles;
mod history_months;
mod listing;
mod market_days;
mod operating;
mod overlap;
mod poison;
mod queues;
mod rig;
mod schedules;
mod server_check;
mod simulation;
mod steering;
mod stores;
mod upgrade;
mod versions;
