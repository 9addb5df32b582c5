//! The polite client: says who it is, asks the flow control before each request, reads no more than it must, and turns every answer
//! into text or a typed error.

use super::error::SourceErrorKind as Kind;
use super::markers;
use super::robots::{Robots, Rules};
use chrono::DateTime;
use reqwest::{
    Client, Method, StatusCode, Url,
    cookie::{CookieStore, Jar},
    header::{self, HeaderMap},
    redirect::{Action, Attempt, Policy},
};
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use workflows::flow::{Ending, Flow, Limit, NotNow, Permit, Verdict};

/// No page that we know is larger than a fifth of this; what is larger after decompression is no page for us.
const BODY_LIMIT: usize = 5 * 1024 * 1024;

/// How long a request waits for its turn by itself; after that the worker's slot is worth more to others.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the later requests of a visit wait: what was read before would have to be read again. Several pauses, or this.
const VISIT_PATIENCE: Duration = Duration::from_secs(30);
/// Within one site.
const MOST_REDIRECTS: usize = 3;
/// A host that asks for more quiet than this is mistaken.
const LONGEST_REST: Duration = Duration::from_secs(24 * 3600);

/// How the client behaves.
#[derive(Debug, Clone)]
pub struct Manners {
    /// Said in the User-Agent, so that a site's operator can reach ours.
    pub contact: Option<String>,
    /// What each host bears, by all processes together.
    pub limit: Limit,
    /// How long a host is left alone after a 429 that names no time.
    pub cool_down: Duration,
    /// Limit of one request from beginning to end.
    pub timeout: Duration,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            contact: None,
            limit: Limit::paced(Duration::from_secs(1)),
            cool_down: Duration::from_secs(15 * 60),
            timeout: Duration::from_secs(20),
        }
    }
}

/// One question to a site.
pub(crate) struct Question<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub form: Option<&'a [(&'a str, String)]>,
    /// Cookies of the session that this question belongs to.
    pub jar: Option<&'a Jar>,
    /// A limit of its own, where the general one is too long.
    pub timeout: Option<Duration>,
    /// The setting whose key it carries: then a refusal is about that.
    pub key: Option<&'static str>,
}

impl Question<'_> {
    /// A plain GET.
    pub(crate) fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), form: None, jar: None, timeout: None, key: None }
    }
}

/// An HTTP client with manners, shared by the sources of one process.
pub struct PoliteClient {
    http: Client,
    manners: Manners,
    flow: Flow,
    robots: Robots,
}

/// Several requests that belong together: once admitted, they are carried through one after the other.
pub(crate) struct Visit<'a> {
    client: &'a PoliteClient,
    permit: Option<Permit>,
    /// What the host bears.
    limit: Limit,
}

impl PoliteClient {
    /// A client that behaves so, and asks `flow` before each request.
    pub fn new(mut manners: Manners, flow: Flow) -> Result<Self, reqwest::Error> {
        // No request outlasts its time-out, so whoever holds a permit for longer has died.
        manners.limit.permit_life = manners.timeout + Duration::from_secs(10);
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let contact = manners.contact.as_ref().map(|contact| format!(" (+{contact})")).unwrap_or_default();
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(format!("RetainAI/{}{contact}", env!("CARGO_PKG_VERSION")))
            .gzip(true)
            .redirect(Policy::custom(within_the_site))
            .connect_timeout(Duration::from_secs(5).min(manners.timeout))
            .timeout(manners.timeout)
            .build()?;
        Ok(Self { http, manners, flow, robots: Robots::default() })
    }

    /// The answer's text, when its status and its first words are those of a page and not of a refusal.
    pub(crate) async fn ask(&self, question: Question<'_>) -> Result<String, Kind> {
        let host = question.url.authority().to_owned();
        let limit = self.look_at_robots(&question.url).await?;
        let permit = self.flow.acquire(&host, &limit, PATIENCE).await.map_err(not_now)?;
        let answer = self.send(question).await;
        self.flow.report(permit, verdict(&answer)).await;
        self.flow.note_ending(&host, ending(&answer, &limit)).await;
        answer
    }

    /// For requests of which the later ones are worth nothing without the earlier ones. All of them go to one host.
    pub(crate) fn visit(&self) -> Visit<'_> {
        Visit { client: self, permit: None, limit: self.manners.limit }
    }

    /// Whether the host's robots.txt lets us ask for the page; it is read once a day. A host without one, or whose one cannot be had,
    /// forbids nothing. The answer is what the host bears: our limit, or its own pace where that is slower.
    async fn look_at_robots(&self, url: &Url) -> Result<Limit, Kind> {
        let slot = self.robots.slot(url);
        let mut kept = slot.lock().await;
        let rules = match kept.as_ref().filter(|rules| rules.count()) {
            Some(rules) => rules.clone(),
            None => kept.insert(Arc::new(self.read_robots(url).await?)).clone(),
        };
        if rules.allow(url) { Ok(rules.slowed(self.manners.limit)) } else { Err(forbidden(url)) }
    }

    async fn read_robots(&self, url: &Url) -> Result<Rules, Kind> {
        let page = url.join("/robots.txt").map_err(|e| Kind::Transport(e.to_string()))?;
        let permit = self.flow.acquire(url.authority(), &self.manners.limit, PATIENCE).await.map_err(not_now)?;
        let answer = self.fetch(Question::get(page)).await;
        let (verdict, rules) = match &answer {
            Err(Kind::RateLimited { .. }) => (verdict(&answer), None),
            Err(Kind::Transport(_)) => (Verdict::Failure, Some(Rules::unreached())),
            Ok(text) => {
                let rules = Rules::read(text);
                if let Some(delay) = rules.delay() {
                    tracing::info!(
                        host = url.authority(),
                        delay_s = delay.as_secs_f64(),
                        "its robots.txt asks for this pace"
                    );
                }
                (Verdict::Success, Some(rules))
            }
            Err(_) => (Verdict::Success, Some(Rules::none())),
        };
        self.flow.report(permit, verdict).await;
        match (rules, answer) {
            (Some(rules), _) => Ok(rules),
            (None, answer) => answer.map(|text| Rules::read(&text)),
        }
    }

    /// A page, and no refusal in the shape of one.
    async fn send(&self, question: Question<'_>) -> Result<String, Kind> {
        let judged = self.fetch(question).await.and_then(|text| markers::judge(&text).map(|()| text));
        judged.map_err(|kind| self.with_rest(kind))
    }

    async fn fetch(&self, question: Question<'_>) -> Result<String, Kind> {
        let mut request = self.http.request(question.method, question.url.clone()).headers(question.headers);
        if let Some(cookies) = question.jar.and_then(|jar| jar.cookies(&question.url)) {
            request = request.header(header::COOKIE, cookies);
        }
        if let Some(form) = question.form {
            request = request.form(form);
        }
        if let Some(timeout) = question.timeout {
            request = request.timeout(timeout.min(self.manners.timeout));
        }
        let answer = request.send().await.map_err(|e| unreachable_site(&e))?;
        if let Some(jar) = question.jar {
            jar.set_cookies(&mut answer.headers().get_all(header::SET_COOKIE).iter(), answer.url());
        }
        if answer.status().is_redirection() {
            return Err(moved(&answer));
        }
        let judged = match (judge_status(answer.status(), answer.headers()), question.key) {
            (Ok(()), _) => read_body(answer).await,
            (Err(Kind::SessionExpired | Kind::Blocked(_)), Some(setting)) => {
                Err(Kind::Key { setting, said: format!("status {}", answer.status()) })
            }
            (Err(kind), _) => Err(kind),
        };
        judged.map_err(|kind| self.with_rest(kind))
    }

    /// A refusal for too many requests says for how long; if the host does not, we do.
    fn with_rest(&self, kind: Kind) -> Kind {
        let Kind::RateLimited { retry_after } = kind else { return kind };
        Kind::RateLimited { retry_after: Some(retry_after.unwrap_or(self.manners.cool_down).min(LONGEST_REST)) }
    }
}

impl Visit<'_> {
    /// As `PoliteClient::ask`. An error that was not the host's ends the visit: the next request begins another.
    pub(crate) async fn ask(&mut self, question: Question<'_>) -> Result<String, Kind> {
        let PoliteClient { flow, .. } = self.client;
        let host = question.url.authority().to_owned();
        // Later requests of a visit go to pages that belong to the first; their rules were read with it.
        if self.permit.is_none() {
            self.limit = self.client.look_at_robots(&question.url).await?;
        } else if !self.client.robots.known_to_allow(&question.url) {
            return Err(forbidden(&question.url));
        }
        let permit = match self.permit.take() {
            None => flow.acquire(&host, &self.limit, PATIENCE).await,
            Some(permit) => {
                let pause = self.limit.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(2.0 / rate));
                flow.again(permit, VISIT_PATIENCE.max(pause)).await
            }
        };
        let permit = permit.map_err(not_now)?;
        let answer = self.client.send(question).await;
        flow.note(&permit, verdict(&answer)).await;
        flow.note_ending(&host, ending(&answer, &self.limit)).await;
        self.permit = Some(permit);
        answer
    }
}

fn forbidden(url: &Url) -> Kind {
    Kind::Blocked(format!("its robots.txt asks programs to leave {} alone", url.path()))
}

fn not_now(NotNow { wait, why }: NotNow) -> Kind {
    Kind::NotNow { wait, why }
}

/// What an answer says about its host: one that refuses us or breaks off is left alone after a while; a page we cannot use is our concern.
fn verdict(answer: &Result<String, Kind>) -> Verdict {
    match answer {
        Err(Kind::RateLimited { retry_after }) => Verdict::BlockedFor(retry_after.unwrap_or_default()),
        Err(Kind::Transport(_) | Kind::Blocked(_) | Kind::Key { .. }) => Verdict::Failure,
        _ => Verdict::Success,
    }
}

/// What people may want to know of it.
fn ending(answer: &Result<String, Kind>, limit: &Limit) -> Ending<'static> {
    Ending {
        error: answer.as_ref().err().map(Kind::word),
        pause: limit.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
    }
}

/// A page may have moved within its site. Where it sends us to another one, or from https to http, nobody has looked at that one's
/// robots.txt and terms, and a key or a form would go with us: the answer then is the redirection itself.
fn within_the_site(attempt: Attempt<'_>) -> Action {
    let stays = attempt.previous().last().is_some_and(|from| same_site(from, attempt.url()));
    if stays && attempt.previous().len() <= MOST_REDIRECTS { attempt.follow() } else { attempt.stop() }
}

fn same_site(from: &Url, to: &Url) -> bool {
    let same_door = from.scheme() == to.scheme() && from.port_or_known_default() == to.port_or_known_default();
    let made_safe = (from.scheme(), to.scheme()) == ("http", "https")
        && (from.port_or_known_default(), to.port_or_known_default()) == (Some(80), Some(443));
    from.host() == to.host() && (same_door || made_safe)
}

/// Where a redirection that was not followed leads.
fn moved(answer: &reqwest::Response) -> Kind {
    let to = answer.headers().get(header::LOCATION).and_then(|to| answer.url().join(to.to_str().ok()?).ok());
    match to {
        Some(to) if same_site(answer.url(), &to) => Kind::Blocked("it redirects without end".to_owned()),
        // Without path and query, which may hold a session.
        Some(to) => Kind::Moved { to: to.origin().ascii_serialization() },
        None => Kind::layout("status 200", format!("status {} that leads nowhere", answer.status())),
    }
}

/// The address of a page below a base URL, whether or not that ends with a slash.
pub(crate) fn address(base: &str, path: &str) -> Result<Url, Kind> {
    let text = format!("{}{path}", base.trim_end_matches('/'));
    let fault = |why: &dyn std::fmt::Display| Kind::Transport(format!("`{text}` is no web address ({why})"));
    let url = Url::parse(&text).map_err(|e| fault(&e))?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(fault(&"neither http nor https")) }
}

/// SHA-256 of the pages in the order in which they were read, hex.
pub(crate) fn hash<'a>(pages: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    pages.into_iter().for_each(|page| hasher.update(page.as_bytes()));
    hex::encode(hasher.finalize())
}

/// What a status says; `Ok` for an answer whose body is worth reading.
fn judge_status(status: StatusCode, headers: &HeaderMap) -> Result<(), Kind> {
    let code = status.as_u16();
    Err(match code {
        200..=299 => return Ok(()),
        404 | 410 => Kind::NotFound,
        429 => Kind::RateLimited { retry_after: retry_after(headers) },
        401 | 419 => Kind::SessionExpired,
        403 | 451 => Kind::Blocked(format!("status {status}")),
        // A source that is down may say for how long; the plan's backoff knows as well.
        408 | 425 | 500..=599 => Kind::Transport(format!("status {status}")),
        _ => Kind::layout("status 200", format!("status {status}")),
    })
}

/// `Retry-After` as seconds or as a date; a date is counted from the answer's own `Date`, not from our clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let after = text(header::RETRY_AFTER)?.trim();
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTime::parse_from_rfc2822(after).ok()?;
    let from = DateTime::parse_from_rfc2822(text(header::DATE)?).ok()?;
    Some((until - from).to_std().unwrap_or_default())
}

async fn read_body(mut answer: reqwest::Response) -> Result<String, Kind> {
    let mut body = Vec::new();
    // Chunks come decompressed, so a small bomb cannot become a large body.
    while let Some(chunk) = answer.chunk().await.map_err(|e| unreachable_site(&e))? {
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(Kind::layout("a page of at most 5 MiB", "a larger one"));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|e| Kind::Parse(format!("not UTF-8 ({e})")))
}

fn unreachable_site(error: &reqwest::Error) -> Kind {
    // The outermost text only repeats the address; the innermost says what happened.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let what = if error.is_timeout() { "it took too long" } else { "the connection failed" };
    Kind::Transport(format!("{what} ({cause})"))
}

#[cfg(test)]
mod tests;
