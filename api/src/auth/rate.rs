//! How often a caller may ask: so many requests a minute, at once or spread. In comes a caller, out come the `RateLimit` headers, or a 429.
//! Each process counts for itself, so that a server of several lets through as many times more.

use super::{Access, Caller, Who};
use crate::problem::Problem;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use poem::http::{HeaderValue, StatusCode};
use poem::{Request, Response};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Counted {
    Key(uuid::Uuid),
    Address(IpAddr),
}

/// Addresses are forgotten when so many are known; those that have asked of late stay.
const REMEMBERED: usize = 50_000;

struct Limit {
    per_minute: NonZeroU32,
    counts: DefaultKeyedRateLimiter<Counted, StateInformationMiddleware>,
}

impl Limit {
    fn of(per_minute: u32) -> Option<Self> {
        let per_minute = NonZeroU32::new(per_minute)?;
        let counts = RateLimiter::keyed(Quota::per_minute(per_minute)).with_middleware();
        Some(Self { per_minute, counts })
    }
}

/// The counts of one process.
pub(crate) struct Rates {
    keys: Option<Limit>,
    addresses: Option<Limit>,
    behind_proxy: bool,
}

/// What is left to a caller (draft-ietf-httpapi-ratelimit-headers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    per_minute: u32,
    left: u32,
}

impl Rates {
    pub(crate) fn of(access: &Access) -> Self {
        // Where no key is needed, only this machine asks.
        let limit = |per_minute| if access.keys { Limit::of(per_minute) } else { None };
        Self {
            keys: limit(access.requests_per_minute),
            addresses: limit(access.anonymous_requests_per_minute),
            behind_proxy: access.behind_proxy,
        }
    }

    /// Counts a request; what is left, where there is a limit.
    pub(crate) fn count(&self, caller: &Caller, request: &Request) -> Result<Option<Left>, Problem> {
        let (limit, counted) = match &caller.who {
            Who::Operator => return Ok(None),
            Who::Key { id, .. } => (&self.keys, Counted::Key(*id)),
            Who::Anonymous => (&self.addresses, Counted::Address(self.address(request))),
        };
        self.take(limit.as_ref(), &counted)
    }

    /// Counts an attempt to show a key: guessing is limited as asking without one is.
    pub(crate) fn count_guess(&self, request: &Request) -> Result<(), Problem> {
        self.take(self.addresses.as_ref(), &Counted::Address(self.address(request))).map(|_| ())
    }

    fn take(&self, limit: Option<&Limit>, counted: &Counted) -> Result<Option<Left>, Problem> {
        let Some(limit) = limit else { return Ok(None) };
        if limit.counts.len() > REMEMBERED {
            limit.counts.retain_recent();
        }
        let per_minute = limit.per_minute.get();
        match limit.counts.check_key(counted) {
            Ok(state) => Ok(Some(Left { per_minute, left: state.remaining_burst_capacity() })),
            Err(wait) => {
                let seconds = wait.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
                let seconds = u32::try_from(seconds).unwrap_or(60);
                let detail = format!("{per_minute} requests a minute are answered. Come again in {seconds} s.");
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests", detail);
                Err(Left { per_minute, left: 0 }.on_problem(problem.retry_after(seconds), seconds))
            }
        }
    }

    /// One network of IPv6 is one caller: a subscriber has all of its addresses.
    fn address(&self, request: &Request) -> IpAddr {
        let forwarded = request.header("x-forwarded-for").filter(|_| self.behind_proxy);
        let forwarded = forwarded.and_then(|all| all.rsplit(',').next()?.trim().parse().ok());
        let peer = || request.remote_addr().as_socket_addr().map(|address| address.ip());
        match forwarded.or_else(peer).unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)).to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            v4 => v4,
        }
    }
}

impl Left {
    fn fields(self, until: u32) -> [(&'static str, String); 2] {
        let Self { per_minute, left } = self;
        [
            ("ratelimit-policy", format!("\"default\";q={per_minute};w=60")),
            ("ratelimit", format!("\"default\";r={left};t={until}")),
        ]
    }

    fn on_problem(self, problem: Problem, until: u32) -> Problem {
        self.fields(until)
            .into_iter()
            .fold(problem, |problem, (name, value)| problem.header(poem::http::HeaderName::from_static(name), value))
    }

    /// Writes the headers. One more request is granted after each 60 / q seconds.
    pub(crate) fn tell(self, response: &mut Response) {
        for (name, value) in self.fields(60_u32.div_ceil(self.per_minute)) {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
    }
}
