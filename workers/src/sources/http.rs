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
    redirect::Policy,
};
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use workflows::flow::{Flow, Limit, NotNow, Permit, Verdict};

/// No page that we know is larger than a fifth of this; what is larger after decompression is no page for us.
const BODY_LIMIT: usize = 5 * 1024 * 1024;

/// How long a request waits for its turn by itself; after that the worker's slot is worth more to others.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the later requests of a visit wait: what was read before would have to be read again. Several pauses, or this.
const VISIT_PATIENCE: Duration = Duration::from_secs(30);
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
            .redirect(Policy::limited(3))
            .connect_timeout(Duration::from_secs(5).min(manners.timeout))
            .timeout(manners.timeout)
            .build()?;
        Ok(Self { http, manners, flow, robots: Robots::default() })
    }

    /// The answer's text, when its status and its first words are those of a page and not of a refusal.
    pub(crate) async fn ask(&self, question: Question<'_>) -> Result<String, Kind> {
        let host = question.url.authority().to_owned();
        self.look_at_robots(&question.url).await?;
        let permit = self.flow.acquire(&host, &self.manners.limit, PATIENCE).await.map_err(not_now)?;
        let answer = self.send(question).await;
        self.flow.report(permit, verdict(&answer)).await;
        answer
    }

    /// For requests of which the later ones are worth nothing without the earlier ones. All of them go to one host.
    pub(crate) fn visit(&self) -> Visit<'_> {
        Visit { client: self, permit: None }
    }

    /// Whether the host's robots.txt lets us ask for the page; it is read once a day. A host without one, or whose one cannot be had,
    /// forbids nothing.
    async fn look_at_robots(&self, url: &Url) -> Result<(), Kind> {
        let slot = self.robots.slot(url);
        let mut kept = slot.lock().await;
        let rules = match kept.as_ref().filter(|rules| rules.count()) {
            Some(rules) => rules.clone(),
            None => kept.insert(Arc::new(self.read_robots(url).await?)).clone(),
        };
        if rules.allow(url) {
            return Ok(());
        }
        Err(forbidden(url))
    }

    async fn read_robots(&self, url: &Url) -> Result<Rules, Kind> {
        let page = url.join("/robots.txt").map_err(|e| Kind::Transport(e.to_string()))?;
        let permit = self.flow.acquire(url.authority(), &self.manners.limit, PATIENCE).await.map_err(not_now)?;
        let answer = self.fetch(Question::get(page)).await;
        let (verdict, rules) = match &answer {
            Err(Kind::RateLimited { .. }) => (verdict(&answer), None),
            Err(Kind::Transport(_)) => (Verdict::Failure, Some(Rules::unreached())),
            Ok(text) => (Verdict::Success, Some(Rules::read(text))),
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
        let PoliteClient { flow, manners, .. } = self.client;
        // Later requests of a visit go to pages that belong to the first; their rules were read with it.
        if self.permit.is_none() {
            self.client.look_at_robots(&question.url).await?;
        } else if !self.client.robots.known_to_allow(&question.url) {
            return Err(forbidden(&question.url));
        }
        let permit = match self.permit.take() {
            None => flow.acquire(question.url.authority(), &manners.limit, PATIENCE).await,
            Some(permit) => {
                let pause = manners.limit.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(2.0 / rate));
                flow.again(permit, VISIT_PATIENCE.max(pause)).await
            }
        };
        let permit = permit.map_err(not_now)?;
        let answer = self.client.send(question).await;
        flow.note(&permit, verdict(&answer)).await;
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
    if error.is_redirect() {
        return Kind::Blocked("it redirects without end".to_owned());
    }
    // The outermost text only repeats the address; the innermost says what happened.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let what = if error.is_timeout() { "it took too long" } else { "the connection failed" };
    Kind::Transport(format!("{what} ({cause})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use workflows::flow::NotNowReason;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_status_becomes_a_typed_error() {
        let judge = |code: u16| judge_status(StatusCode::from_u16(code).unwrap(), &HeaderMap::new());
        assert_eq!(judge(200), Ok(()));
        assert_eq!(judge(404), Err(Kind::NotFound));
        assert_eq!(judge(429), Err(Kind::RateLimited { retry_after: None }));
        assert_eq!(judge(419), Err(Kind::SessionExpired));
        assert!(matches!(judge(403), Err(Kind::Blocked(_))));
        assert!(matches!(judge(503), Err(Kind::Transport(_))));
        assert!(matches!(judge(405), Err(Kind::LayoutChanged { .. })));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let seconds = headers(&[(header::RETRY_AFTER, "120")]);
        assert_eq!(retry_after(&seconds), Some(Duration::from_secs(120)));
        let date = headers(&[
            (header::DATE, "Wed, 21 Oct 2026 07:28:00 GMT"),
            (header::RETRY_AFTER, "Wed, 21 Oct 2026 07:29:30 GMT"),
        ]);
        assert_eq!(retry_after(&date), Some(Duration::from_secs(90)));
        assert_eq!(retry_after(&headers(&[(header::RETRY_AFTER, "soon")])), None);
    }

    #[test]
    fn addresses_are_web_addresses() {
        assert_eq!(address("http://127.0.0.1:1/", "/x").unwrap().as_str(), "http://127.0.0.1:1/x");
        assert!(address("file:///etc", "/passwd").is_err());
        assert!(address("", "/x").is_err());
    }

    /// A site of one test: answers every request alike and counts them.
    async fn site(answer: &'static str) -> (Url, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked_for = [0; 4096];
                let length = stream.read(&mut asked_for).await.unwrap_or_default();
                if asked_for[..length].starts_with(b"GET /robots.txt") {
                    let none = "HTTP/1.1 404 None\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    let _ = stream.write_all(none.as_bytes()).await;
                    continue;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (url, asked)
    }

    fn client(limit: Limit, flow: &Flow) -> PoliteClient {
        PoliteClient::new(Manners { limit, ..Manners::default() }, flow.clone()).unwrap()
    }

    fn flow() -> Flow {
        Flow::memory("2026-03-04T12:00:00Z".parse().unwrap())
    }

    #[tokio::test]
    async fn a_host_that_asks_for_quiet_is_not_asked_by_any_client() {
        let (url, asked) =
            site("HTTP/1.1 429 Too Many\r\nretry-after: 90\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        let (flow, limit) = (flow(), Limit::paced(Duration::ZERO));
        let rest = Some(Duration::from_secs(90));
        let first = client(limit, &flow).ask(Question::get(url.clone())).await;
        assert_eq!(first, Err(Kind::RateLimited { retry_after: rest }));
        let second = client(limit, &flow).ask(Question::get(url.clone())).await.unwrap_err();
        let Kind::NotNow { wait, why: NotNowReason::Blocked } = second else { panic!("{second}") };
        assert!(wait > Duration::from_secs(60) && wait <= Duration::from_secs(90), "{wait:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_host_that_fails_again_and_again_is_left_alone() {
        let (url, asked) = site("HTTP/1.1 503 Broken\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        let client = client(Limit::paced(Duration::ZERO), &flow());
        for _ in 0..5 {
            assert!(matches!(client.ask(Question::get(url.clone())).await, Err(Kind::Transport(_))));
        }
        let left = client.ask(Question::get(url.clone())).await;
        assert!(matches!(left, Err(Kind::NotNow { why: NotNowReason::BreakerOpen, .. })), "{left:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 5);
    }

    #[tokio::test]
    async fn a_visit_goes_on_while_others_are_sent_away() {
        let (url, _) = site("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\npage").await;
        let (flow, limit) = (flow(), Limit::paced(Duration::from_millis(50)));
        let client = client(limit, &flow);
        let mut visit = client.visit();
        for _ in 0..4 {
            assert_eq!(visit.ask(Question::get(url.clone())).await, Ok("page".to_owned()));
            let other = flow.acquire(url.authority(), &limit, Duration::ZERO).await;
            assert_eq!(other.err().map(|not_now| not_now.why), Some(NotNowReason::Busy));
        }
        drop(visit);
        assert_eq!(client.ask(Question::get(url)).await, Ok("page".to_owned()));
    }
}
