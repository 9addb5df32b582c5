//! The machine: its clock and zones, cores, memory, open files.

use super::item::{Item, size};
use chrono::{Datelike, Offset, TimeZone};
use market::Exchange;
use workflows::clock::{MarketClock, SystemClock};

/// What a process with the default settings uses at its peak, bytes; with little more than that, training may be killed.
const LITTLE_MEMORY: u64 = 512 << 20;
/// Connections, sockets and files of a busy process; the usual limit is 1,024.
const FEW_FILES: u64 = 256;

/// Looks; `cores` is how many are used.
pub fn look(cores: usize) -> Vec<Item> {
    vec![clock(), core_count(cores), memory(), open_files()]
}

/// The zones are built in, so only the machine's own clock can be wrong.
fn clock() -> Item {
    let now = SystemClock.now();
    let zones: Vec<String> = Exchange::ALL
        .iter()
        .map(|exchange| {
            let zone = exchange.zone();
            format!(
                "{exchange} {} ({zone}, UTC{})",
                now.with_timezone(&zone).format("%a %H:%M"),
                zone.offset_from_utc_datetime(&now.naive_utc()).fix()
            )
        })
        .collect();
    let found = format!("{} UTC; zones are built in: {}", now.format("%Y-%m-%d %H:%M:%S"), zones.join(", "));
    if (2026..2100).contains(&now.year()) {
        Item::ok("clock_and_zones", found)
    } else {
        Item::problem("clock_and_zones", found, "set this machine's clock, and keep it right with NTP")
    }
}

fn core_count(used: usize) -> Item {
    let there = std::thread::available_parallelism().map_or(1, usize::from);
    let found = format!("{used} used for arithmetic, {there} there");
    if used > there {
        Item::warning(
            "cores",
            found,
            "set `cores` to 0: more pieces of arithmetic than cores only slow each other down",
        )
    } else {
        Item::ok("cores", found)
    }
}

/// The smaller of what the machine has free and what the container may use.
fn memory() -> Item {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let of_machine = read("/proc/meminfo").and_then(|text| meminfo(&text, "MemAvailable"));
    let limit = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse::<u64>().ok());
    let used = read("/sys/fs/cgroup/memory.current").and_then(|text| text.trim().parse::<u64>().ok());
    let of_container = limit.map(|limit| limit.saturating_sub(used.unwrap_or(0)));
    match of_machine.into_iter().chain(of_container).min() {
        None => Item::ok("memory", "this system does not say how much is free"),
        Some(free) if free < LITTLE_MEMORY => Item::warning(
            "memory",
            format!("{} free", size(free)),
            "make room, or lower `slots` and `cores`: a process that runs out of memory is killed, and its steps are done again",
        ),
        Some(free) => Item::ok("memory", format!("{} free", size(free))),
    }
}

fn meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn open_files() -> Item {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(limit) if limit < FEW_FILES => Item::problem(
            "open_files",
            format!("at most {limit} at a time"),
            "raise it: `ulimit -n 4096`, or LimitNOFILE=4096 in the systemd unit",
        ),
        Some(limit) => Item::ok("open_files", format!("at most {limit} at a time")),
        None => Item::ok("open_files", "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text = "MemTotal:        2048 kB\nMemAvailable:       3 kB\n";
        assert_eq!((meminfo(text, "MemAvailable"), meminfo(text, "Swap")), (Some(3072), None));
    }
}
