//! Makes inputs and shows them to a target. Without the compiler's coverage (which needs a nightly toolchain) the answer itself is the guide: an input
//! that is answered in a way not seen before joins those that are spoilt further.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Inputs in `make test`.
const INPUTS: u64 = 3_000;
/// So many inputs are kept to be spoilt further.
const MOST_KEPT: usize = 2_000;
/// Pages grow by what is put in; beyond this they only become slow.
const LONGEST: usize = 8 * 1024;

/// What gets into pages: the ends of things, and what looks like a number to somebody. No `&#48;` and no `\u0030`: these are digits by the rules of
/// their languages, and the check reads the page as it stands.
const WORDS: [&str; 32] = [
    "</td>",
    "<td>",
    "</tr><tr>",
    "<!--",
    "-->",
    "</table>",
    "<table>",
    "<b>",
    "&nbsp;",
    "\0",
    "\u{feff}",
    "1e308",
    "-1",
    "0",
    "1.5.2",
    ",",
    "1,23",
    "NaN",
    "null",
    "\"",
    "{",
    "}",
    "]",
    "9999999999999999999",
    "०",
    "N/A",
    "(1)",
    "2026-13-45",
    "|",
    "e5",
    "\u{a0}",
    "\n",
];

/// Shows `check` inputs until there were enough. It answers in words how it took an input, `None` when not at all, and panics when a promise is broken.
pub(super) fn fuzz(target: &str, own: Vec<Vec<u8>>, check: impl Fn(&[u8]) -> Option<String>) {
    let (seconds, seed) = (setting("RETAINAI_TEST_FUZZ_S"), setting("RETAINAI_TEST_FUZZ_SEED").unwrap_or(1));
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut chance = Chance(seed);
    let (mut kept, mut ways) = (own, HashSet::new());
    kept.extend(corpus(target));
    let beginning = kept.clone();
    let (mut inputs, mut slowest) = (0, Duration::ZERO);
    let mut first = beginning.into_iter();
    while end.map_or(inputs < INPUTS, |end| Instant::now() < end) {
        let whole = first.next();
        let is_own = whole.is_some();
        let input = whole.unwrap_or_else(|| spoil(&kept, &mut chance));
        let began = Instant::now();
        let way = catch_unwind(AssertUnwindSafe(|| check(&input))).unwrap_or_else(|_| {
            let file = std::env::temp_dir().join(format!("fuzz-{target}"));
            let _ = std::fs::write(&file, &input);
            panic!("fuzz {target}: broken by {}; put it into tests/it/corpus/{target}", file.display());
        });
        inputs += 1;
        slowest = slowest.max(began.elapsed());
        if way.is_some_and(|way| ways.insert(way)) && !is_own {
            if kept.len() == MOST_KEPT {
                kept.swap_remove(chance.below(MOST_KEPT));
            }
            kept.push(input);
        }
    }
    println!(
        "fuzz {target}: {inputs} inputs from seed {seed}, answered in {} ways, the slowest in {} ms",
        ways.len(),
        slowest.as_millis()
    );
    assert!(ways.len() > 1, "whatever it was shown, the answer was the same");
}

#[allow(clippy::disallowed_methods, reason = "a test is told how long it may take")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Inputs that were found or thought of.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/corpus").join(target);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
}

/// One of those that are kept, with some flaws.
fn spoil(kept: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut page = kept[chance.below(kept.len())].clone();
    for _ in 0..=chance.below(6) {
        if page.is_empty() {
            break;
        }
        let at = chance.below(page.len());
        let until = (at + 1 + chance.below(40)).min(page.len());
        match chance.below(9) {
            0 => drop(page.drain(at..until)),
            1 | 2 => drop(page.splice(at..at, WORDS[chance.below(WORDS.len())].bytes())),
            3 => page[at] = chance.below(256) as u8,
            4 => {
                let twice = page[at..until].to_vec();
                drop(page.splice(at..at, twice));
            }
            5 => page[at..until].reverse(),
            6 => page[at..until].fill(b'0' + chance.below(10) as u8),
            7 => {
                // Goes on as another one.
                let other = &kept[chance.below(kept.len())];
                let from = chance.below(other.len().max(1)).min(other.len());
                page.truncate(at);
                page.extend_from_slice(&other[from..]);
            }
            _ if chance.below(8) == 0 => page.truncate(at),
            _ => page[at] = page[at].wrapping_add(1),
        }
    }
    page.truncate(LONGEST);
    page
}

/// SplitMix64: the same inputs from the same seed on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % most.max(1) as u64) as usize
    }
}
