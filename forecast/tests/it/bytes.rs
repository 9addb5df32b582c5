//! Bytes that are no model are an error with a way out, never a panic and never a wrong model.

use crate::{create, series, walk};
use forecast::{ForecastError, Model};
use proptest::prelude::*;
use std::sync::LazyLock;

static BYTES: LazyLock<Vec<u8>> =
    LazyLock::new(|| create(&series("NEPSE:NABIL", &walk(60, 9, 500.0, 0.0), &[])).to_bytes());

fn assert_refused(bytes: &[u8]) {
    let error = Model::from_bytes(bytes).expect_err("must be refused");
    assert!(matches!(error, ForecastError::Corrupt { .. }), "{error}");
}

#[test]
fn a_short_file_is_refused() {
    for length in [0, 1, 7, 8, 9, 100, BYTES.len() / 2, BYTES.len() - 1] {
        assert_refused(&BYTES[..length]);
    }
    let mut longer = BYTES.clone();
    longer.push(0);
    assert_refused(&longer);
    let error = Model::from_bytes(b"").unwrap_err().to_string();
    assert!(error.contains("load the model from the registry again"), "{error}");
}

#[test]
fn one_bit_in_the_header_is_noticed() {
    let header = 8 + u64::from_le_bytes(BYTES[..8].try_into().unwrap()) as usize;
    let text_end = BYTES[..header].iter().rposition(|b| *b != b' ').unwrap();
    for at in 0..=text_end {
        let mut bytes = BYTES.clone();
        bytes[at] ^= 1 << (at % 8);
        assert_refused(&bytes);
    }
}

#[test]
fn a_plain_safetensors_file_reads_us() {
    let file = safetensors::SafeTensors::deserialize(&BYTES).unwrap();
    assert_eq!(file.tensor("lstm.weight_hh_l0").unwrap().shape(), [80, 20]);
    assert_eq!(file.tensor("head.weight").unwrap().shape(), [1, 20]);
}

proptest! {
    #[test]
    fn one_bit_anywhere_after_the_header_is_noticed(at in 0.0f64..1.0, bit in 0u8..8) {
        let header = 8 + u64::from_le_bytes(BYTES[..8].try_into().unwrap()) as usize;
        let mut bytes = BYTES.clone();
        let at = header + ((bytes.len() - header) as f64 * at) as usize;
        bytes[at] ^= 1 << bit;
        assert_refused(&bytes);
    }

    #[test]
    fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        assert_refused(&noise);
        // The same behind a header length that fits.
        let mut framed = (noise.len() as u64).to_le_bytes().to_vec();
        framed.extend(&noise);
        assert_refused(&framed);
    }
}
