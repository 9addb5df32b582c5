//! The text of a key: `rtn_` + 8 hex digits by which it is found + `_` + 64 hex digits that nobody can guess. In comes text, out go its parts and hash.

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// With which every key begins, so that a leaked one is recognised by scanners.
const MARK: &str = "rtn_";
const PREFIX_BYTES: usize = 4;
const SECRET_BYTES: usize = 32;

/// A key as it was shown to us, or as we make it.
pub(crate) struct KeyText {
    /// By which it is found.
    pub(crate) prefix: String,
    /// Of the whole text.
    pub(crate) hash: [u8; 32],
}

/// The operating system has no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random numbers: {0}")]
pub(crate) struct NoChance(String);

/// A new key and its text, which is shown once and kept nowhere.
pub(crate) fn make() -> Result<(KeyText, String), NoChance> {
    let prefix = hex::encode(random::<PREFIX_BYTES>()?);
    let text = format!("{MARK}{prefix}_{}", hex::encode(random::<SECRET_BYTES>()?));
    Ok((KeyText { prefix, hash: hash(&text) }, text))
}

/// 256 random bits in hex: a login's or a process's own token.
pub(crate) fn token() -> Result<String, NoChance> {
    random::<SECRET_BYTES>().map(hex::encode)
}

fn random<const N: usize>() -> Result<[u8; N], NoChance> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| NoChance(error.to_string()))?;
    Ok(bytes)
}

/// SHA-256. A key holds 256 random bits, so that a slow hash would protect nothing.
pub(crate) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Whether two hashes are equal, in a time that does not tell where they differ.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

impl KeyText {
    /// The parts of a key; `None` where the text has not its form.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (prefix, secret) = text.strip_prefix(MARK)?.split_once('_')?;
        let digits = |part: &str, bytes: usize| {
            part.len() == 2 * bytes && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        (digits(prefix, PREFIX_BYTES) && digits(secret, SECRET_BYTES))
            .then(|| Self { prefix: prefix.to_owned(), hash: hash(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_made_is_read_back_and_never_the_same() {
        let made: Vec<(KeyText, String)> = (0..50).map(|_| make().unwrap()).collect();
        for (key, text) in &made {
            let read = KeyText::read(text).unwrap();
            assert_eq!((&read.prefix, read.hash), (&key.prefix, key.hash));
            assert!(same(&read.hash, &key.hash) && !same(&read.hash, &hash("other")));
        }
        assert_eq!(made.iter().map(|(_, text)| text).collect::<BTreeSet<_>>().len(), 50);
    }

    #[test]
    fn anything_else_is_no_key() {
        let (_, text) = make().unwrap();
        for other in
            ["", "rtn_", "rtn_1_2", &text[1..], &text[..text.len() - 1], &text.to_uppercase(), &format!("{text}0")]
        {
            assert!(KeyText::read(other).is_none(), "{other}");
        }
    }
}
