//! Refuses requests that another site's page makes with the person's browser.
//!
//! A browser says in `Origin` which page a request comes from, and in `Host` under which name it asks. The server is
//! reachable from every page that a person opens, so the origin must be the server itself, and the name one that no site
//! can have: a plain address, `localhost`, or a name of `ALLOWED_HOSTS`. Requests without `Origin` come from programs,
//! or are the page's own reads.

use crate::app::Shared;
use crate::error::ApiError;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

/// The middleware.
pub async fn check(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let host = match host(request.headers(), request.uri()) {
        Ok(host) => host,
        Err(()) => return ApiError::bad_request("the header `Host` is not a name").into_response(),
    };
    if let Some(host) = &host
        && !is_known(host.host(), &app.config.allowed_hosts.0)
    {
        tracing::warn!(%host, "refused a request for a name that is not ours");
        let message = format!("this server is not `{}`: its names are those of `ALLOWED_HOSTS`", host.host());
        return ApiError::new(StatusCode::FORBIDDEN, "forbidden_host", message).into_response();
    }
    let origin = request.headers().get(header::ORIGIN);
    match origin {
        Some(origin)
            if !is_allowed(
                origin.to_str().unwrap_or_default(),
                host.as_ref(),
                &app.config.allowed_origins.0,
            ) =>
        {
            tracing::warn!(
                ?origin,
                host = host.map(|h| h.to_string()),
                "refused a request of another origin"
            );
            ApiError::new(StatusCode::FORBIDDEN, "forbidden_origin", "the request comes from another origin")
                .into_response()
        }
        _ if is_foreign_fetch(request.headers(), host.as_ref()) => {
            tracing::warn!("refused a request that another site's page made");
            ApiError::new(StatusCode::FORBIDDEN, "forbidden_origin", "the request comes from another site")
                .into_response()
        }
        // What a browser asks before it asks; without CORS headers it goes no further, as in ComfyUI.
        _ if request.method() == Method::OPTIONS => StatusCode::OK.into_response(),
        _ => next.run(request).await,
    }
}

/// Whether a browser says that another site's page asks for this, other than by following a link to it. Requests
/// without `Origin`, such as those of `<img>`, are told apart by this only.
fn is_foreign_fetch(headers: &HeaderMap, host: Option<&Authority>) -> bool {
    let is = |name: &str, text: &str| headers.get(name).is_some_and(|value| value == text);
    host.is_some_and(|host| is_loopback(host.host()))
        && is("sec-fetch-site", "cross-site")
        && !is("sec-fetch-mode", "navigate")
}

fn host(headers: &HeaderMap, uri: &Uri) -> Result<Option<Authority>, ()> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok().and_then(|host| host.parse().ok()).map(Some).ok_or(()),
        (Some(_), Some(_)) => Err(()),
        (None, _) => Ok(uri.authority().cloned()),
    }
}

/// Whether a name is one of the server's. A plain address is: no site can make it lead elsewhere.
fn is_known(host: &str, allowed: &[String]) -> bool {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    is_loopback(host)
        || plain.parse::<IpAddr>().is_ok()
        || allowed.iter().any(|name| name == "*" || name.eq_ignore_ascii_case(host))
}

fn is_allowed(origin: &str, host: Option<&Authority>, allowed: &[String]) -> bool {
    if allowed.iter().any(|known| known.eq_ignore_ascii_case(origin)) {
        return true;
    }
    // `null` is what sandboxed frames and local files send: nobody who may be trusted.
    let Ok(uri) = origin.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let Some(host) = host else { return false };
    let default_port = if scheme == "https" { 443 } else { 80 };
    authority.host().eq_ignore_ascii_case(host.host())
        && authority.port_u16().unwrap_or(default_port) == host.port_u16().unwrap_or(default_port)
}

fn is_loopback(host: &str) -> bool {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || plain.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sites_may_link_here_and_no_more() {
        let check = |host: &str, site: &str, mode: &str, foreign: bool| {
            let pairs = [("sec-fetch-site", site), ("sec-fetch-mode", mode)];
            let pairs = pairs.map(|(name, text)| (name.parse().unwrap(), text.parse().unwrap()));
            let headers = HeaderMap::from_iter(pairs);
            let host: Authority = host.parse().unwrap();
            assert_eq!(is_foreign_fetch(&headers, Some(&host)), foreign, "{host} {site} {mode}");
        };
        check("127.0.0.1:8080", "cross-site", "no-cors", true);
        check("127.0.0.1:8080", "cross-site", "navigate", false);
        check("127.0.0.1:8080", "same-origin", "cors", false);
        check("comfy.example", "cross-site", "no-cors", false);
    }

    #[test]
    fn only_the_server_itself_is_an_origin() {
        for (origin, host, allowed) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("http://localhost:8080", "localhost:8080", true),
            ("http://LOCALHOST:8080", "localhost:8080", true),
            ("http://localhost", "localhost:80", true),
            ("https://localhost", "localhost:443", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("http://evil.example", "127.0.0.1:8080", false),
            ("http://localhost:9999", "localhost:8080", false),
            ("http://localhost:8080", "127.0.0.1:8080", false),
            ("null", "127.0.0.1:8080", false),
            ("null", "comfy.example", false),
            ("", "127.0.0.1:8080", false),
            ("https://page.example", "comfy.example", false),
            ("https://comfy.example", "comfy.example", true),
            ("https://comfy.example", "comfy.example:8080", false),
            ("https://proxy.example", "127.0.0.1:8080", true),
            ("http://proxy.example", "127.0.0.1:8080", false),
        ] {
            let host: Authority = host.parse().unwrap();
            let known = ["https://proxy.example".to_owned()];
            assert_eq!(is_allowed(origin, Some(&host), &known), allowed, "{origin} -> {host}");
        }
    }

    #[test]
    fn names_that_any_site_could_have_are_refused() {
        let allowed = ["comfy.example".to_owned()];
        for (host, known) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("192.168.0.2", true),
            ("[2001:db8::1]", true),
            ("Comfy.Example", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_known(host, &allowed), known, "{host}");
        }
        assert!(is_known("evil.example", &["*".to_owned()]));
    }
}
