//! The one number parser for pages and files: thousands separators, currency signs, Devanagari digits; junk is an error, never 0.

/// Why a text is no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a number")]
pub struct NumberFault(pub String);

/// Reads a number as web pages print it. `None` for what pages print when there is none: empty, `-`, `--`, `N/A`.
///
/// Understood: comma thousands (`1,234,567` and `12,34,567`), a leading `$`, `Rs.`, `NPR` or `रु`, a trailing `%`, parentheses or a
/// minus for negatives, no-break spaces, and Devanagari digits (U+0966..U+096F). A comma that parts no thousands is an error: it may
/// be somebody's decimal point.
pub fn parse_number(text: &str) -> Result<Option<f64>, NumberFault> {
    let fault = || NumberFault(text.chars().take(40).collect());
    let plain: String = text
        .chars()
        .map(|c| match c {
            '\u{0966}'..='\u{096F}' => char::from(b'0' + (c as u32 - 0x0966) as u8),
            '\u{2212}' => '-',
            c if c.is_whitespace() => ' ',
            c => c,
        })
        .collect();
    let mut rest = plain.trim();
    if matches!(rest, "" | "-" | "--" | "—" | "–")
        || rest.eq_ignore_ascii_case("n/a")
        || rest.eq_ignore_ascii_case("na")
    {
        return Ok(None);
    }
    let mut negative = false;
    if let Some(inner) = rest.strip_prefix('(').and_then(|r| r.strip_suffix(')')) {
        negative = true;
        rest = inner.trim();
    }
    rest = rest.strip_suffix('%').unwrap_or(rest).trim();
    if let Some(after) = rest.strip_prefix('-') {
        if negative {
            return Err(fault());
        }
        negative = true;
        rest = after.trim();
    } else if let Some(after) = rest.strip_prefix('+') {
        rest = after.trim();
    }
    for sign in ["NRs.", "Rs.", "Rs", "NPR", "रु.", "रू.", "रु", "रू", "$"] {
        if let Some(after) = rest.strip_prefix(sign) {
            rest = after.trim();
            break;
        }
    }
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let whole_fits = is_whole(whole);
    let fraction_fits = is_fraction(fraction);
    let digits = whole.chars().chain(fraction.chars()).any(|c| c.is_ascii_digit());
    if !(whole_fits && fraction_fits && digits) {
        return Err(fault());
    }
    let number: f64 = rest.replace(',', "").parse().map_err(|_| fault())?;
    if !number.is_finite() {
        return Err(fault());
    }
    Ok(Some(if negative { -number } else { number }))
}

/// Digits, in groups where there are commas: three at the end, two or three before, at most three in front.
fn is_whole(text: &str) -> bool {
    let mut groups = text.split(',').rev();
    let last = groups.next().unwrap_or_default();
    let mut before = groups.peekable();
    if before.peek().is_none() {
        return last.chars().all(|c| c.is_ascii_digit());
    }
    let sized = |group: &str, sizes: std::ops::RangeInclusive<usize>| {
        sizes.contains(&group.len()) && group.chars().all(|c| c.is_ascii_digit())
    };
    let mut fits = sized(last, 3..=3);
    while let Some(group) = before.next() {
        fits &= sized(group, if before.peek().is_some() { 2..=3 } else { 1..=3 });
    }
    fits
}

/// Digits, perhaps with an exponent: files written by programs print `1.2e-05`.
fn is_fraction(text: &str) -> bool {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    digits.chars().all(|c| c.is_ascii_digit()) && !exponent.is_empty() && exponent.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_pages_print() {
        for (text, value) in [
            ("505,370.50", 505_370.5),
            ("$341.07", 341.07),
            ("Rs. 1,157.00", 1157.0),
            ("(12.5)", -12.5),
            ("-0.64", -0.64),
            ("-0.64%", -0.64),
            ("\u{a0}562.00\u{a0}", 562.0),
            ("१,२३४.५", 1234.5),
            ("562", 562.0),
            ("1.2e-05", 1.2e-5),
            ("56833400.00", 56_833_400.0),
            ("12,34,567.5", 1_234_567.5),
            ("१,२३४", 1234.0),
            ("रु. ५", 5.0),
            ("($5.25)", -5.25),
            ("-$5", -5.0),
            ("2.48%", 2.48),
        ] {
            assert_eq!(parse_number(text), Ok(Some(value)), "{text}");
        }
        for text in ["", " ", "-", "--", "N/A", "n/a"] {
            assert_eq!(parse_number(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn junk_is_an_error_and_never_zero() {
        for text in [
            "abc",
            "1.2.3",
            "12abc",
            "NaN",
            "inf",
            "1 2",
            "$",
            ",",
            ".",
            "1e",
            "--5",
            "<td>",
            ",5",
            "1,2",
            "1,23",
            "1,2345",
            "1,,234",
            "1234,567",
            "1,234,56",
            "(-5)",
            "1.234,5",
            "€5",
            "5 USD",
            "٥",
            "１",
            "0x10",
            "1_000",
            "(5",
            "5)",
            "%",
            "1,234.5,6",
        ] {
            assert!(parse_number(text).is_err(), "{text}: {:?}", parse_number(text));
        }
    }

    proptest! {
        #[test]
        fn printed_numbers_come_back(value in -1e9f64..1e9) {
            let printed = format!("{value:.4}");
            let expected: f64 = printed.parse().unwrap();
            prop_assert_eq!(parse_number(&printed).unwrap(), Some(expected));
        }

        #[test]
        fn however_it_is_dressed_it_is_the_same_number(value in 0u64..1_000_000_000_000, cents in 0u32..100, negative: bool) {
            let digits = value.to_string();
            let grouped: String = digits
                .chars()
                .enumerate()
                .flat_map(|(at, c)| ((digits.len() - at) % 3 == 0 && at > 0).then_some(',').into_iter().chain([c]))
                .collect();
            let plain: f64 = format!("{value}.{cents:02}").parse().unwrap();
            let expected = if negative { -plain } else { plain };
            let sign = if negative { "-" } else { "" };
            let nepali: String = grouped.chars().map(|c| c.to_digit(10).map_or(c, |d| char::from_u32(0x0966 + d).unwrap())).collect();
            for dressed in [
                format!("{sign}{grouped}.{cents:02}"),
                format!("\u{a0}{sign}${grouped}.{cents:02} "),
                format!("{sign}Rs. {grouped}.{cents:02}"),
                format!("{sign}{grouped}.{cents:02}%"),
                format!("{sign}{nepali}.{cents:02}"),
                if negative { format!("({grouped}.{cents:02})") } else { format!("+{digits}.{cents:02}") },
            ] {
                prop_assert_eq!(parse_number(&dressed), Ok(Some(expected)), "{}", dressed);
            }
        }

        #[test]
        fn one_foreign_character_makes_it_junk(value in 1u32..1_000_000, at in 0usize..8, junk in "[a-df-zA-DF-Z<>/|_:;#*'\"?]") {
            let mut text = format!("{value}.25");
            text.insert_str(at.min(text.len()), &junk);
            prop_assert!(parse_number(&text).is_err(), "{}", text);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            if let Ok(Some(number)) = parse_number(&text) {
                prop_assert!(number.is_finite());
            }
        }
    }
}
