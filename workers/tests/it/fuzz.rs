//! Fuzz targets: one for each kind of page, for the number parser and for the files of an import. Whatever the bytes are, nothing panics or hangs, and
//! each value that is read stands on the page. Some thousand inputs each in `make test`, always the same; `make fuzz DURATION=…` goes on for longer
//! with others. Each target begins with the files in `corpus/TARGET` and our own pages; what is answered in a new way is spoilt further.

mod runner;

use crate::mutated::{PAGES, key, numbers, values};
use market::{Exchange, parse_bars_csv, parse_factors_csv, parse_number, parse_rows_csv};
use runner::fuzz;
use workers::sources::{SourceErrorKind, merolagani_page, saved_page, sharesansar_page, tiingo_page};

macro_rules! page_targets {
    ($($source:ident),+) => { $(
        #[test]
        fn $source() {
            let source = stringify!($source);
            let own = PAGES.iter().filter(|(of, _)| *of == source).map(|(_, page)| page.as_bytes().to_vec());
            fuzz(source, own.collect(), |page| page_of(source, page));
        }
    )+ };
}

page_targets!(yahoo, nasdaq, tiingo, sharesansar, merolagani, csv);

/// What was read, in words that are the same for pages that are answered alike.
fn page_of(source: &str, page: &[u8]) -> Option<String> {
    let read = match saved_page::read(source, page, None) {
        Ok(read) => read,
        // What it expected tells the way that it went.
        Err(SourceErrorKind::LayoutChanged { expected, .. }) => return Some(expected),
        Err(kind) => return Some(kind.word().to_owned()),
    };
    let text = String::from_utf8_lossy(page);
    let known = numbers(&text);
    for (_, bar) in &read.rows {
        for value in values(bar) {
            assert!(known.contains(&key(value)), "{value} stands nowhere on the page: {bar:?}");
        }
        assert!(bar.close > 0.0 && bar.close.is_finite(), "{bar:?}");
    }
    let missing = read.rows.iter().filter(|(_, bar)| values(bar).count() < 4).count();
    Some(format!("{} rows, {missing} of them thin, {} refused", read.rows.len(), read.refused.len()))
}

/// The pages that are read for something else than prices.
#[test]
fn forms() {
    const COMPANY: &[u8] = b"<meta name=\"_token\" content=\"a1b2\"><div id=\"symbol\">DEMOA</div><div id=\"companyid\">17</div>\
        <form><input type=\"hidden\" name=\"__VIEWSTATE\" value=\"/wEP\"><input type=hidden name=p_hdnStockSymbol value=DEMOA></form>";
    const META: &[u8] =
        b"{\"ticker\":\"DEMO\",\"name\":\"Demo\",\"exchangeCode\":\"NASDAQ\",\"startDate\":\"2000-01-03\"}";
    fuzz("forms", vec![COMPANY.to_vec(), META.to_vec()], |page| {
        let text = String::from_utf8_lossy(page);
        let company = sharesansar_page::parse_company(&text).map_err(|kind| kind.word());
        let form = merolagani_page::parse_form(&text).map(|form| form.hidden.len()).map_err(|kind| kind.word());
        let symbol = tiingo_page::parse_symbol(&text).map_err(|kind| kind.word());
        if let Ok(symbol) = &symbol {
            assert!(!symbol.is_empty());
        }
        Some(format!("{:?} {form:?} {:?}", company.map(drop), symbol.map(drop)))
    });
}

/// Files of an import: bars, rows as they stand, and factors.
#[test]
fn imports() {
    const BARS: &str = "date,open,high,low,close,volume\n2026-03-02,1003.5,1012.9,997.15,1004.33,1203417\n2026-03-03,,1020,999,\"1,011.50\",0\n";
    const FACTORS: &str = "ticker,date,factor\nDEMOA,2026-03-02,0.8929\nDEMOB,2026-03-03,0.5\n";
    fuzz("imports", vec![BARS.into(), FACTORS.into()], |file| {
        let text = String::from_utf8_lossy(file);
        let known = numbers(&text);
        let (bars, rows) = (parse_bars_csv(&text), parse_rows_csv(&text));
        for bar in bars.iter().flat_map(|parsed| &parsed.bars) {
            assert!(values(bar).all(|value| known.contains(&key(value))), "{bar:?}");
        }
        let factors = parse_factors_csv(Exchange::Nepse, &text);
        for row in factors.iter().flat_map(|(rows, _)| rows) {
            let factor = row.factor.factor;
            assert!(factor.is_finite() && factor > 0.0 && known.contains(&key(factor)), "{row:?}");
        }
        let counts =
            (bars.map(|parsed| (parsed.bars.len(), parsed.refused.len())).ok(), rows.map(|(rows, _)| rows.len()).ok());
        Some(format!("{counts:?} {:?}", factors.map(|(rows, refused)| (rows.len(), refused.len())).ok()))
    });
}

/// A number has the digits of its text, all of them and in their order.
#[test]
fn number() {
    let own =
        ["1,234,567.50", "Rs. 1,157.00", "(12.5)", "-0.64%", "१२,३४,५६७.५", "1.2e-05", "$.5", "\u{a0}562\u{a0}", "—"];
    fuzz("number", own.iter().map(|text| text.as_bytes().to_vec()).collect(), |text| {
        let text = String::from_utf8_lossy(text);
        let Some(number) = parse_number(&text).ok()? else { return Some("none".to_owned()) };
        let again = read_again(&text);
        assert!(number.is_finite() && number.abs() == again, "`{text}` became {number}, and is {again}");
        let digits = text.chars().filter(|c| c.is_numeric()).count();
        Some(format!("{digits} digits, {}", text.chars().filter(|c| !c.is_numeric()).collect::<String>()))
    });
}

/// The number once more, by a shorter way: all digits with the point that stands among them, and the exponent.
fn read_again(text: &str) -> f64 {
    let plain: String = text
        .chars()
        .map(|c| match c {
            '\u{0966}'..='\u{096F}' => char::from(b'0' + (c as u32 - 0x0966) as u8),
            c => c,
        })
        .collect();
    let of_a_sign = ["Rs.", "रु.", "रू."].iter().find_map(|sign| plain.split_once(sign));
    let plain = of_a_sign.map_or(plain.as_str(), |(_, after)| after);
    let (mantissa, exponent) = plain.split_once(['e', 'E']).unwrap_or((plain, "0"));
    let kept = |text: &str, others: &[char]| {
        text.chars().filter(|c| c.is_ascii_digit() || others.contains(c)).collect::<String>()
    };
    format!("{}e{}", kept(mantissa, &['.']), kept(exponent, &['-'])).parse().unwrap_or(f64::NAN)
}
