//! Who may ask for what, and how often.
//!
//! Without keys everybody who reaches the server may do everything, which is why it listens on the loopback interface
//! only. With keys every request but the two of health carries one, and counts against the allowance of its key.

use crate::app::Shared;
use crate::error::ApiError;
use crate::serve::Peer;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sha2::{Digest as _, Sha256};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

/// How many seconds of its allowance a client may use at once: a page that loads asks for much at a time.
const BURST_SECONDS: u32 = 10;

/// How often clients that have been silent are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// What a key is good for; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Looking: jobs, pictures, nodes, the page.
    Read,
    /// Running workflows, uploading pictures, saving workflows and settings.
    Run,
    /// Removing jobs, adding users, freeing memory, reading the log.
    Admin,
}

impl Scope {
    const ALL: [(Self, &'static str); 3] = [(Self::Read, "read"), (Self::Run, "run"), (Self::Admin, "admin")];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(scope, _)| *scope == self).map_or("", |(_, name)| name)
    }
}

/// A key as the configuration holds it: never the key itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub name: String,
    pub scope: Scope,
    digest: [u8; 32],
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey").field("name", &self.name).field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl std::str::FromStr for ApiKey {
    type Err = String;

    /// Reads `NAME:SCOPE:DIGEST`, where the digest is the SHA-256 of the key in hexadecimal.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.trim().split(':');
        let (Some(name), Some(scope), Some(digest), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("a key is written `NAME:SCOPE:SHA256`, the last in hexadecimal".into());
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(format!(
                "`{}` is no name of a key: letters, digits, `-`, `_`, `.`",
                name.escape_debug()
            ));
        }
        let known = Scope::ALL.iter().find(|(_, known)| *known == scope);
        let (scope, _) = known.ok_or_else(|| {
            let valid = Scope::ALL.map(|(_, name)| format!("`{name}`")).join(", ");
            format!("key `{name}` has the scope `{}`, expected one of {valid}", scope.escape_debug())
        })?;
        // The text is not repeated: it may be the key, put there by mistake.
        let digest = unhex(digest).ok_or_else(|| {
            format!("key `{name}` ends in no SHA-256: 64 hexadecimal digits, as `printf %s KEY | sha256sum` prints")
        })?;
        Ok(Self { name: name.into(), scope: *scope, digest })
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let bytes: Vec<u8> =
        digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if text.len() == 64 { bytes.try_into().ok() } else { None }
}

/// Reads the keys of a file, one a line; empty lines and those that begin with `#` say nothing.
///
/// # Errors
/// When it cannot be read, or a line is no key; the line is named by its number.
pub fn read_file(path: &Path) -> Result<Vec<ApiKey>, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("`API_KEYS_FILE` `{name}` cannot be read: {error}"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    lines
        .map(|(at, line)| line.parse().map_err(|error| format!("`{name}`, line {}: {error}", at + 1)))
        .collect()
}

/// Says whether an address may be listened on.
///
/// # Errors
/// When others than this machine could reach it and nothing asks who they are.
pub fn may_listen(address: SocketAddr, has_keys: bool, allow_open: bool) -> Result<(), String> {
    if address.ip().is_loopback() || has_keys || allow_open {
        return Ok(());
    }
    Err(format!(
        "`{address}` can be reached from other machines and there are no `API_KEYS`: set some, listen on a loopback \
         address such as `127.0.0.1`, or set `ALLOW_OPEN_ACCESS=true` if something in front decides who gets here"
    ))
}

/// The keys, and who has asked how often.
pub struct Access {
    keys: Vec<ApiKey>,
    limiter: Option<DefaultKeyedRateLimiter<Client>>,
    clock: DefaultClock,
}

/// Whom a request counts for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Client {
    Key(String),
    Address(IpAddr),
}

impl Access {
    /// `per_second`: how many requests a client may make; 0: as many as it likes.
    pub fn new(keys: Vec<ApiKey>, per_second: u32) -> Self {
        let limiter = NonZeroU32::new(per_second).map(|rate| {
            let burst = rate.saturating_mul(NonZeroU32::new(BURST_SECONDS).expect("it is not zero"));
            RateLimiter::hashmap(Quota::per_second(rate).allow_burst(burst))
        });
        Self { keys, limiter, clock: DefaultClock::default() }
    }

    /// Forgets clients that could not be told from new ones, for ever.
    pub async fn forget_the_silent(app: Shared) {
        loop {
            tokio::select! {
                () = app.shutdown.cancelled() => return,
                () = tokio::time::sleep(FORGET_EVERY) => {}
            }
            if let Some(limiter) = &app.access.limiter {
                limiter.retain_recent();
            }
        }
    }

    fn find(&self, presented: &str) -> Option<&ApiKey> {
        let digest = Sha256::digest(presented.as_bytes());
        // Every byte of every key is looked at, so that time says nothing about them.
        let equal = |key: &ApiKey| key.digest.iter().zip(&digest).fold(0, |all, (a, b)| all | (a ^ b)) == 0;
        self.keys.iter().fold(None, |found, key| if equal(key) { Some(key) } else { found })
    }

    /// # Errors
    /// 429 when the client has used up its allowance.
    fn count(&self, client: &Client) -> Result<(), Box<Response>> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.check_key(client).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now()).as_secs_f64().ceil().max(1.0);
            let error = ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "this client asks too often: see `Retry-After`",
            );
            let mut response = error.into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait as u64));
            Box::new(response)
        })
    }
}

/// What a request needs; nothing for what says only that the server is there.
fn needed(method: &Method, path: &str) -> Option<Scope> {
    if *method == Method::OPTIONS || path == "/healthz" || path == "/readyz" {
        return None;
    }
    let path = path.strip_prefix("/api").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    if path.starts_with("/internal/") {
        return Some(Scope::Admin);
    }
    if *method == Method::GET || *method == Method::HEAD {
        return Some(Scope::Read);
    }
    let removes_job = *method == Method::DELETE && path.starts_with("/v1/");
    let is_for_all = ["/free", "/history", "/users"].contains(&path);
    Some(if removes_job || is_for_all { Scope::Admin } else { Scope::Run })
}

/// The key of a request: `Authorization: Bearer KEY`, `X-API-Key: KEY`, or the password of `Authorization: Basic`, which
/// is what a browser asks its user for.
fn presented(headers: &HeaderMap) -> Option<String> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.to_str().ok()?.to_owned());
    }
    let (scheme, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    Some(String::from_utf8(pair).ok()?.split_once(':')?.1.to_owned())
}

/// One network of IPv6 is one client: everybody has a whole one.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
        },
        v4 => v4,
    }
}

/// The middleware.
pub async fn check(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let access = &app.access;
    let presented = presented(request.headers());
    let key = presented.as_deref().and_then(|presented| access.find(presented));
    let client = match (key, request.extensions().get::<Peer>()) {
        (Some(key), _) => Client::Key(key.name.clone()),
        (None, Some(peer)) => Client::Address(network(peer.address.ip())),
        (None, None) => Client::Address(Ipv6Addr::UNSPECIFIED.into()),
    };
    if let Err(refusal) = access.count(&client) {
        tracing::warn!(?client, "refused a request of a client that asks too often");
        return *refusal;
    }
    let Some(needed) = needed(request.method(), request.uri().path()).filter(|_| !access.keys.is_empty())
    else {
        return next.run(request).await;
    };
    match key {
        Some(key) if key.scope >= needed => next.run(request).await,
        Some(key) => {
            let message = format!(
                "the key `{}` has the scope `{}`, this needs `{}`",
                key.name,
                key.scope.name(),
                needed.name()
            );
            ApiError::new(StatusCode::FORBIDDEN, "forbidden_scope", message).into_response()
        }
        None => {
            if presented.is_some() {
                tracing::warn!(?client, "refused a key that is not ours");
            }
            let error =
                ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "this server wants an API key");
            let mut response = error.into_response();
            let challenge =
                HeaderValue::from_static("Basic realm=\"Comfy Services: any name, and an API key\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"; // of `key`

    #[test]
    fn keys_are_read_and_found() {
        let key: ApiKey = format!("ci-1:run:{DIGEST}").parse().unwrap();
        assert_eq!((key.name.as_str(), key.scope), ("ci-1", Scope::Run));
        assert!(!format!("{key:?}").contains("2c70"));
        let access = Access::new(vec![key], 0);
        assert_eq!(access.find("key").unwrap().name, "ci-1");
        for wrong in ["", "Key", "key ", DIGEST] {
            assert!(access.find(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn wrong_keys_are_explained_and_not_repeated() {
        for (text, message) in [
            (String::new(), "NAME:SCOPE:SHA256"),
            ("secret".into(), "NAME:SCOPE:SHA256"),
            (format!("a:{DIGEST}"), "NAME:SCOPE:SHA256"),
            (format!("a b:run:{DIGEST}"), "no name of a key"),
            (format!("a:write:{DIGEST}"), "expected one of `read`, `run`, `admin`"),
            ("a:run:secret".into(), "64 hexadecimal digits"),
            (format!("a:run:{DIGEST}0"), "64 hexadecimal digits"),
            (format!("a:run:{}\u{e9}", &DIGEST[..62]), "64 hexadecimal digits"),
        ] {
            let error = text.parse::<ApiKey>().unwrap_err();
            assert!(error.contains(message) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn every_request_has_its_scope() {
        for (method, path, scope) in [
            ("GET", "/healthz", None),
            ("OPTIONS", "/prompt", None),
            ("GET", "/", Some(Scope::Read)),
            ("GET", "/api/ws", Some(Scope::Read)),
            ("GET", "/users", Some(Scope::Read)),
            ("GET", "/api/internal/logs", Some(Scope::Admin)),
            ("POST", "/prompt", Some(Scope::Run)),
            ("POST", "/api/settings/x", Some(Scope::Run)),
            ("POST", "/v1/jobs/x/cancel", Some(Scope::Run)),
            ("DELETE", "/userdata/x", Some(Scope::Run)),
            ("DELETE", "/v1/jobs/x", Some(Scope::Admin)),
            ("POST", "/api/history", Some(Scope::Admin)),
            ("POST", "/free", Some(Scope::Admin)),
            ("POST", "/users", Some(Scope::Admin)),
        ] {
            assert_eq!(needed(&method.parse().unwrap(), path), scope, "{method} {path}");
        }
    }

    #[test]
    fn open_addresses_need_keys_or_a_word() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            assert_eq!(may_listen(at(address), false, false), Ok(()), "{address}");
        }
        for address in ["0.0.0.0:1", "[::]:1", "192.168.0.2:1"] {
            let error = may_listen(at(address), false, false).unwrap_err();
            assert!(error.contains("ALLOW_OPEN_ACCESS") && error.contains("API_KEYS"), "{error}");
            assert_eq!(may_listen(at(address), true, false), Ok(()));
            assert_eq!(may_listen(at(address), false, true), Ok(()));
        }
    }

    #[test]
    fn networks_are_clients() {
        for (address, expected) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            assert_eq!(network(address.parse().unwrap()).to_string(), expected);
        }
    }
}
