//! Why a server could not be reached, read from what its driver said, and what to do about it. In comes an error of redis or sqlx, out
//! goes one of a few causes with its advice; neither ever holds a password.

use std::fmt;

/// Why. The drivers say it in their own words; an operator needs to know which of these it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreached {
    /// Nobody listens there, or the name is unknown.
    Address,
    /// No answer in time.
    Silent,
    /// The certificate is signed by an authority that is not trusted here.
    Authority,
    /// The certificate belongs to another host name.
    HostName,
    /// The certificate has another fault: it is out of date, or not for servers.
    Certificate,
    /// One side speaks TLS and the other does not.
    Tls,
    /// A certificate file that the URL names cannot be read.
    CertificateFile,
    /// User or password are wrong or missing.
    Credentials,
    /// The user may not do this.
    Rights,
    /// The server has no such database.
    Database,
    /// The server takes no more connections.
    Full,
    /// Nothing more can be written to the disk of the database.
    Disk,
}

impl Unreached {
    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Unreached::Address => "check host and port, and that the server runs",
            Unreached::Silent => {
                "check host, port and firewall, whether the server is overloaded, and whether it speaks TLS on that port just where the URL says so"
            }
            Unreached::Authority => {
                "the server's certificate is not signed by a known authority: name the right one (redis_ca_file for Redis, sslrootcert=FILE in the URL for PostgreSQL)"
            }
            Unreached::HostName => {
                "the server's certificate is for another name: use in the URL the name for which the certificate was made"
            }
            Unreached::Certificate => {
                "the server's certificate cannot be used: have a new one made, and check this machine's clock"
            }
            Unreached::Tls => {
                "only one side speaks TLS: use rediss:// (Redis) or sslmode=verify-full (PostgreSQL) exactly where the server speaks it"
            }
            Unreached::CertificateFile => "a certificate file named in the URL cannot be read: check sslrootcert=FILE",
            Unreached::Credentials => {
                "check user and password in the URL; a password's special characters are written as %XX"
            }
            Unreached::Rights => "the server's user lacks a right: grant it, or use another user",
            Unreached::Database => "create the database first, or correct its name at the end of the URL",
            Unreached::Full => "the server takes no more connections: raise its limit, or lower database_connections",
            Unreached::Disk => "its disk is full: make room there, and the program goes on by itself",
        }
    }

    /// What redis said.
    pub fn of_redis(error: &redis::RedisError) -> Option<Self> {
        let text = error.to_string();
        if error.kind() == redis::ErrorKind::AuthenticationFailed {
            return Some(Unreached::Credentials);
        }
        match error.code() {
            Some("NOAUTH" | "WRONGPASS") => return Some(Unreached::Credentials),
            Some("NOPERM") => return Some(Unreached::Rights),
            _ => {}
        }
        of_tls(&text).or(match () {
            () if text.contains("max number of clients") => Some(Unreached::Full),
            () if error.is_connection_refusal() => Some(Unreached::Address),
            () if of_names(&text) => Some(Unreached::Address),
            () if error.is_timeout() => Some(Unreached::Silent),
            () => None,
        })
    }

    /// What sqlx said.
    pub fn of_postgres(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::Database(said) => match said.code()?.as_ref() {
                "28P01" | "28000" => Some(Unreached::Credentials),
                "42501" => Some(Unreached::Rights),
                "3D000" => Some(Unreached::Database),
                "53300" => Some(Unreached::Full),
                // The second is SQLite's.
                "53100" | "13" => Some(Unreached::Disk),
                _ => None,
            },
            sqlx::Error::PoolTimedOut => Some(Unreached::Silent),
            sqlx::Error::Tls(_) => of_tls(&error.to_string()).or(Some(Unreached::Tls)),
            sqlx::Error::Io(said) => of_tls(&error.to_string()).or(match said.kind() {
                std::io::ErrorKind::NotFound => Some(Unreached::CertificateFile),
                std::io::ErrorKind::ConnectionRefused => Some(Unreached::Address),
                std::io::ErrorKind::TimedOut => Some(Unreached::Silent),
                _ if of_names(&error.to_string()) => Some(Unreached::Address),
                _ => None,
            }),
            _ => None,
        }
    }
}

/// rustls names the fault of a certificate in its text, whichever driver passes it on.
fn of_tls(text: &str) -> Option<Unreached> {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // A bad signature: an authority of the same name, and another key.
    if has(&["UnknownIssuer", "unknown issuer", "BadSignature"]) {
        Some(Unreached::Authority)
    } else if has(&["not valid for name", "NotValidForName"]) {
        Some(Unreached::HostName)
    } else if has(&["invalid peer certificate"]) {
        Some(Unreached::Certificate)
    } else if has(&["InvalidContentType", "does not support TLS", "received corrupt message"]) {
        Some(Unreached::Tls)
    } else {
        None
    }
}

fn of_names(text: &str) -> bool {
    ["failed to lookup address", "Name or service not known", "No address found"].iter().any(|word| text.contains(word))
}

/// The URL as it may be logged, also one that is written wrongly: everything up to the last `@` but the user goes, and so does a
/// password among the parameters, where PostgreSQL takes one too.
pub fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(_, rest)| (&url[..url.len() - rest.len()], rest));
    let open = match rest.rsplit_once('@') {
        Some((user, host)) => format!("{scheme}{}:***@{host}", user.split([':', '/', '?']).next().unwrap_or_default()),
        None => url.to_owned(),
    };
    let Some((start, parameters)) = open.split_once('?') else { return open };
    let shown = parameters.split('&').map(|parameter| match parameter.split_once('=') {
        Some((key, _)) if key.contains("pass") => format!("{key}=***"),
        _ => parameter.to_owned(),
    });
    format!("{start}?{}", shown.collect::<Vec<_>>().join("&"))
}

/// The advice as the end of an error's sentence; nothing where the cause is not known.
pub(crate) struct Advice(pub(crate) Option<Unreached>);

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |cause| write!(f, " ({})", cause.advice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_rustls_name_the_fault() {
        assert_eq!(of_tls("invalid peer certificate: UnknownIssuer"), Some(Unreached::Authority));
        assert_eq!(of_tls("invalid peer certificate: certificate not valid for name \"x\""), Some(Unreached::HostName));
        assert_eq!(of_tls("invalid peer certificate: Expired"), Some(Unreached::Certificate));
        assert_eq!(of_tls("broken pipe"), None);
    }

    #[test]
    fn a_pool_that_waits_in_vain_and_a_file_that_is_not_there() {
        assert_eq!(Unreached::of_postgres(&sqlx::Error::PoolTimedOut), Some(Unreached::Silent));
        let absent = sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::NotFound));
        assert_eq!(Unreached::of_postgres(&absent), Some(Unreached::CertificateFile));
        assert_eq!(Unreached::of_postgres(&sqlx::Error::RowNotFound), None);
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        let shown = [
            ("postgres://me:se@cret@db/x?sslmode=require", "postgres://me:***@db/x?sslmode=require"),
            ("postgres://db/x?user=me&password=secret&a=b", "postgres://db/x?user=me&password=***&a=b"),
            ("redis://:secret@db:6379/1", "redis://:***@db:6379/1"),
            ("redis://db", "redis://db"),
            ("me:secret@db", "me:***@db"),
            ("postgres://me:sec?ret@db/x", "postgres://me:***@db/x"),
            ("postgres://db/x?password=secret@", "postgres://db:***@"),
        ];
        for (url, expected) in shown {
            assert_eq!(without_password(url), expected);
        }
    }
}
