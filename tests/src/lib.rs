//! The harness of the tests from outside: real servers, real processes, plain HTTP.
//! A test asks for what it needs, and everything it was given ends with it, also when it fails.
#![allow(clippy::disallowed_methods, reason = "the tests stand outside: they read the environment and the wall clock")]

pub mod disk;
pub mod http;
pub mod ports;
pub mod postgres_server;
pub mod process;
pub mod redis_server;
pub mod servers;
pub mod tls;
pub mod waiting;

pub use ports::free_port;
pub use waiting::eventually;
