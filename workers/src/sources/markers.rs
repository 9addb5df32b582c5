//! Refusals that come with status 200, known by their words: pure. In comes the text of an answer, out comes a typed error, or nothing.

use super::error::SourceErrorKind as Kind;

/// On a page of many rows the words of a refusal may stand anywhere, as news or in a script; a refusal itself is short.
const SHORT: usize = 4_000;

/// What stands on the pages that we came for; a page with one of these is none of the refusals that are known by a form.
const OURS: [&str; 3] = ["<table", "id=\"companyid\"", "hdnstocksymbol"];

/// `Ok` for an answer that is worth reading.
pub(crate) fn judge(text: &str) -> Result<(), Kind> {
    let head: String = text.chars().take(SHORT).collect::<String>().to_ascii_lowercase();
    let short = text.len() < SHORT;
    let title = title_of(&head);
    let ours = OURS.iter().any(|mark| head.contains(mark));
    // In few words, or as the title of a longer page.
    let says = |marker: &str| title.contains(marker) || short && !ours && head.contains(marker);
    let blocked = |what: &str| Err(Kind::Blocked(what.to_owned()));
    if says("too many requests")
        || says("exceeded the daily hits limit")
        || says("rate limit exceeded")
        || says("you have run over your")
    {
        return Err(Kind::RateLimited { retry_after: None });
    }
    if title.starts_with("just a moment")
        || title.starts_with("attention required")
        || ["cf-challenge", "cf_chl_opt"].iter().any(|marker| head.contains(marker))
    {
        return blocked("a challenge page for browsers");
    }
    if short && head.contains("csrf token mismatch") {
        return Err(Kind::SessionExpired);
    }
    if says("will be right back") {
        return Err(Kind::Transport("the site says that it will be right back".to_owned()));
    }
    if says("access denied") {
        return blocked("a page that says `access denied`");
    }
    if says("captcha") {
        return blocked("a page that asks for a captcha");
    }
    if !text.trim_start().starts_with('<') {
        return Ok(());
    }
    judge_forms(&text.to_ascii_lowercase())
}

/// Pages that are no refusal by their words but by what they hold: nothing, or a form that wants something else first.
fn judge_forms(page: &str) -> Result<(), Kind> {
    if OURS.iter().any(|mark| page.contains(mark)) {
        return Ok(());
    }
    if let Some((_, after)) = page.split_once("<app-root") {
        let inner = after.split_once('>').map_or("", |(_, inner)| inner);
        if inner.split("</app-root").next().is_none_or(|inner| !inner.contains("<t")) {
            return Err(Kind::Blocked("a page that stays empty without a browser".to_owned()));
        }
    }
    if ["type=\"password\"", "type='password'", "type=password"].iter().any(|field| page.contains(field)) {
        return Err(Kind::SessionExpired);
    }
    if page.contains("consent.yahoo.com") || page.contains("name=\"agree\"") {
        return Err(Kind::Blocked("a page that asks for consent".to_owned()));
    }
    Ok(())
}

/// The page's title, lower case; empty where there is none.
fn title_of(head: &str) -> &str {
    let after = head.split_once("<title").and_then(|(_, rest)| rest.split_once('>')).map_or("", |(_, title)| title);
    after.split('<').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refusals_with_status_200_are_known_by_their_words() {
        assert!(matches!(judge("Too Many Requests\r\n"), Err(Kind::RateLimited { .. })));
        assert!(matches!(judge("Exceeded the daily hits limit"), Err(Kind::RateLimited { .. })));
        let spent = r#"{"detail":"Error: You have run over your hourly request allocation."}"#;
        assert!(matches!(judge(spent), Err(Kind::RateLimited { .. })));
        assert!(matches!(judge("<html><title>Just a moment...</title>"), Err(Kind::Blocked(_))));
        assert!(matches!(judge("<html><div class=\"cf-challenge\"></div>"), Err(Kind::Blocked(_))));
        assert!(matches!(judge("<h1>Will be right back...</h1>"), Err(Kind::Transport(_))));
        assert!(matches!(judge("<HTML><HEAD><TITLE>Access Denied</TITLE>"), Err(Kind::Blocked(_))));
        assert_eq!(judge(r#"{"message":"CSRF token mismatch."}"#), Err(Kind::SessionExpired));
        assert_eq!(judge("<form><input type=\"password\"></form>"), Err(Kind::SessionExpired));
        assert!(matches!(judge("<html><app-root></app-root><script src=\"main.js\">"), Err(Kind::Blocked(_))));
    }

    #[test]
    fn a_page_that_only_mentions_them_is_read() {
        let padding = " ".repeat(5_000);
        assert_eq!(judge(&format!("{{\"news\":\"Too Many Requests\"}}{padding}")), Ok(()));
        let long = format!("<html><title>Today</title>{padding}<input type=\"password\"><table></table>");
        assert_eq!(judge(&long), Ok(()), "a page of ours with a form for members beside it");
        let refusal = format!("<html><title>429 Too Many Requests</title>{padding}");
        assert!(matches!(judge(&refusal), Err(Kind::RateLimited { .. })), "however long, its title says it");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = judge(&text);
            let _ = judge(&format!("<app-root{text}"));
        }
    }
}
