//! Bytes that are no model are an error with a way out, never a panic and never a wrong model.

use crate::{carry_on, global, series, walk};
use forecast::{ForecastError, Global, Model};
use proptest::prelude::*;
use std::sync::LazyLock;

static BOTH: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let all = series("NEPSE:NABIL", &walk(300, 9, 500.0, 0.0), &[]);
    let global = global(&[&all]);
    (carry_on(&global, None, &all).to_bytes(), global.to_bytes())
});
static BYTES: LazyLock<&[u8]> = LazyLock::new(|| &BOTH.0);

fn assert_refused(bytes: &[u8]) {
    let error = Model::from_bytes(bytes).expect_err("must be refused");
    assert!(matches!(error, ForecastError::Corrupt { .. }), "{error}");
}

#[test]
fn a_short_file_is_refused() {
    for length in [0, 1, 7, 8, 9, 100, BYTES.len() / 2, BYTES.len() - 1] {
        assert_refused(&BYTES[..length]);
    }
    let mut longer = BYTES.to_vec();
    longer.push(0);
    assert_refused(&longer);
    let error = Model::from_bytes(b"").unwrap_err().to_string();
    assert!(error.contains("load the model from the registry again"), "{error}");
}

#[test]
fn one_bit_in_the_header_is_noticed() {
    let header = 8 + u64::from_le_bytes(BYTES[..8].try_into().unwrap()) as usize;
    let text_end = BYTES[..header].iter().rposition(|b| *b != b' ').unwrap();
    // Every bit would take long: of every third byte one, in turn.
    for at in (0..=text_end).step_by(3) {
        let mut bytes = BYTES.to_vec();
        bytes[at] ^= 1 << (at % 8);
        assert_refused(&bytes);
    }
}

#[test]
fn a_plain_safetensors_file_reads_us() {
    let file = safetensors::SafeTensors::deserialize(&BYTES).unwrap();
    assert_eq!(file.tensor("members.1.lstm.weight_hh_l0").unwrap().shape(), [24, 6]);
    assert_eq!(file.tensor("members.0.lstm.weight_ih_l0").unwrap().shape(), [24, 5]);
    assert_eq!(file.tensor("members.0.head.weight").unwrap().shape(), [3, 6]);
}

#[test]
fn one_kind_is_not_taken_for_the_other() {
    let error = Model::from_bytes(&BOTH.1).unwrap_err();
    assert!(error.to_string().contains("it is of kind Some(Global), not Ticker"), "{error}");
    assert!(matches!(Global::from_bytes(&BOTH.0), Err(ForecastError::Corrupt { .. })));
    assert!(Global::from_bytes(&BOTH.1).is_ok());
}

proptest! {
    #[test]
    fn one_bit_anywhere_after_the_header_is_noticed(at in 0.0f64..1.0, bit in 0u8..8) {
        let header = 8 + u64::from_le_bytes(BYTES[..8].try_into().unwrap()) as usize;
        let mut bytes = BYTES.to_vec();
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
