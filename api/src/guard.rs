//! The gate. On a loopback address no key is needed, so a web page in the user's browser must not be able to ask for it: only loopback `Host` names
//! are answered (DNS rebinding), and nothing that a page of another origin sent. Elsewhere a key is asked for, and requests are counted.

use crate::Shared;
use crate::auth::rate::Rates;
use crate::auth::{self, Caller, Who};
use crate::problem::Problem;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, Request, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Whether only this machine can reach the address.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Lets through whom we know, and tells the resources who it is. Health is for everyone: probes name the machine by whatever address it has.
pub(crate) async fn guard<E: Endpoint<Output = Response>>(
    next: Arc<E>,
    mut request: Request,
    shared: Arc<Shared>,
    rates: Arc<Rates>,
) -> poem::Result<Response> {
    if request.uri().path().starts_with("/health/") {
        return next.call(request).await;
    }
    let access = &shared.state.access;
    if !access.keys {
        check_host(&request, &shared.state.hosts)?;
    }
    check_origin(&request, &access.cors_origins)?;
    let caller = match auth::identify(&shared, &request).await {
        Ok(caller) => caller,
        Err(problem) => {
            rates.count_guess(&request)?;
            return Err(problem.into());
        }
    };
    let left = rates.count(&caller, &request)?;
    check_cookie(&caller, &request)?;
    auth::allow(&shared, &caller, &request)?;
    let keep = caller.who != Who::Anonymous && access.keys;
    request.set_data(caller);
    let mut answer = next.call(request).await;
    if let Ok(response) = &mut answer {
        if let Some(left) = left {
            left.tell(response);
        }
        if keep {
            // What a key opens is nobody else's, whatever lies between.
            response.headers_mut().append(header::VARY, HeaderValue::from_static("Authorization, X-API-Key, Cookie"));
        }
    }
    answer
}

/// A browser sends cookies by itself: what changes something must come from a page of ours, and say so.
fn check_cookie(caller: &Caller, request: &Request) -> Result<(), Problem> {
    if !caller.by_cookie() || request.method().is_safe() || request.header(header::ORIGIN).is_some() {
        return Ok(());
    }
    let detail = "A login changes things only from the pages of this server. Programs send a key.";
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "origin_needed",
        "The request does not say which page it comes from",
        detail,
    ))
}

/// Both the header and an absolute URI, where there is one, must name us.
fn check_host(request: &Request, hosts: &[String]) -> Result<(), Problem> {
    let named: Vec<&str> =
        request.header(header::HOST).into_iter().chain(request.uri().authority().map(|a| a.as_str())).collect();
    let known = |host: &str| names_loopback(host) || hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
    if !named.is_empty() && named.iter().all(|host| known(host)) {
        return Ok(());
    }
    let detail = "Ask for localhost, 127.0.0.1 or [::1], or add this name to the settings.";
    Err(Problem::new(StatusCode::FORBIDDEN, "bad_host", "The Host header does not name this server", detail))
}

/// A browser says where a request comes from. A page of ours may do anything; a link elsewhere may only lead here.
fn check_origin(request: &Request, others: &[String]) -> Result<(), Problem> {
    let ours = match request.header(header::ORIGIN) {
        None => true,
        Some(origin) => {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_some() && authority == request.header(header::HOST)
        }
    };
    // The operator has named it. It sends a key: cookies of ours never come from elsewhere.
    let named = request.header(header::ORIGIN).is_some_and(|origin| others.iter().any(|other| other == origin));
    let crossed = request.header("sec-fetch-site") == Some("cross-site");
    let followed_a_link = request.method().is_safe() && request.header("sec-fetch-mode") == Some("navigate");
    if named || ours && (!crossed || followed_a_link) {
        return Ok(());
    }
    let detail = "A page of another site asked for this; its browser was told no.";
    Err(Problem::new(StatusCode::FORBIDDEN, "foreign_origin", "The request comes from another site", detail))
}

/// Whether a `Host` value names loopback: `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
fn names_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, after)) => (name, after.strip_prefix(':').or(after.is_empty().then_some("0"))),
            None => return false,
        },
        None => host.split_once(':').map_or((host, Some("0")), |(name, port)| (name, Some(port))),
    };
    let port_is_one = port.is_some_and(|port| port.parse::<u16>().is_ok());
    let is_loopback = name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    port_is_one && (name.eq_ignore_ascii_case("localhost") || is_loopback)
}

/// Headers that every answer carries. A page with scripts or styles of its own says so; everything else may load nothing.
pub(crate) async fn harden<E: Endpoint<Output = Response>>(next: Arc<E>, request: Request) -> poem::Result<Response> {
    let mut response = next.call(request).await?;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_few_names() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "127.0.0.53:80", "[::1]", "[::1]:8080"]
        {
            assert!(names_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
            "[::1",
            "[::1]x",
            "localhost:",
            "localhost:x",
            "localhost:80:80",
            "0.0.0.0:8080",
            "user@localhost",
        ] {
            assert!(!names_loopback(host), "{host}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (address, yes) in [
            ("127.0.0.1:80", true),
            ("[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("0.0.0.0:80", false),
            ("10.1.2.3:80", false),
        ] {
            assert_eq!(is_loopback(address.parse().unwrap()), yes, "{address}");
        }
    }
}
