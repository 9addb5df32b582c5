//! The whole program from outside, in one binary: a module for each promise.
#![allow(clippy::disallowed_methods, reason = "the tests stand outside: they read the environment and the wall clock")]

mod chain;
mod chaos;
mod commands;
mod doctor;
mod events;
mod faults;
mod harness;
mod history;
mod house;
mod installation;
mod keys;
mod kill;
mod readme;
mod record;
mod replay;
mod source_pages;
mod spoilt;
mod steering;
mod tickers;
