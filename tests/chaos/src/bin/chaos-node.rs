//! One process of a fault run: see `chaos::node`.

use chaos::node::{Arguments, run};
use clap::Parser;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::new(format!("{},poem=warn,sqlx=error,warn", workflows::queue::QUIET));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    run(Arguments::parse()).await
}
