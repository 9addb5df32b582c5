//! The engine against real stores: one conformance suite for both databases and both queues.

mod both;
mod conformance;
mod engine;
mod queues;
mod stores;
