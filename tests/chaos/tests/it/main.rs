//! What the fault run cannot show of itself: that it leaves nothing behind when it is killed, and that a starved worker is left alone.
#![allow(clippy::disallowed_methods, reason = "the tests stand outside: they read the environment and the wall clock")]

mod driver;
mod processes;
mod starved;
