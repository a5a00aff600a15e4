//! Parsers for environment values. A bad value ends the process before anything is bound.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

/// Parses a duration: plain seconds (`90`), or a number with `ms`, `s`, `m` or `h`.
///
/// # Errors
/// Names what was expected when the text is anything else, or zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("`{text}` is not a positive duration such as `90`, `90s`, `10m` or `1h`");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.trim().parse().map_err(|_| expected())?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(expected()),
    };
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| expected())?;
    if duration.is_zero() { Err(expected()) } else { Ok(duration) }
}

/// Parses a size: plain bytes, or a number with `KiB`, `MiB`, `GiB`, `KB`, `MB` or `GB`.
///
/// # Errors
/// Names what was expected when the text is anything else.
pub fn bytes(text: &str) -> Result<u64, String> {
    let expected = || format!("`{text}` is not a size such as `1048576`, `500MB` or `2GiB`");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.trim().parse().map_err(|_| expected())?;
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(expected()),
    };
    let size = number * unit as f64;
    if size.is_finite() && size >= 0.0 { Ok(size as u64) } else { Err(expected()) }
}

/// Parses an address to listen on. The same variable names the service to its callers, so `http://` is accepted.
///
/// # Errors
/// Names what was expected when the text is not an address, or when a name does not resolve.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let resolved = bare.to_socket_addrs().ok().and_then(|mut found| found.next());
    resolved.ok_or_else(|| format!("`{text}` is not an address such as `127.0.0.1:9090`"))
}

/// Parses the address of another service into a URL; `http://` may be left out.
///
/// # Errors
/// Names what was expected when there is no host and port.
pub fn endpoint(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    match bare.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() && !host.contains('/') => {
            Ok(format!("http://{bare}"))
        }
        _ => Err(format!("`{text}` is not a service address such as `http://127.0.0.1:9090`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in
            [("90", 90_000), ("1.5s", 1500), ("250ms", 250), ("10m", 600_000), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(want)), "{text}");
        }
        for text in ["", "0", "-1", "soon", "5 days", "nan", "1e400"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        for text in ["127.0.0.1:9090", "http://127.0.0.1:9090", "http://127.0.0.1:9090/"] {
            assert_eq!(listen_address(text), Ok(([127, 0, 0, 1], 9090).into()), "{text}");
            assert_eq!(endpoint(text).as_deref(), Ok("http://127.0.0.1:9090"), "{text}");
        }
        for text in ["", "9090", "localhost", "ftp://x:1", "http://:80", "x:port"] {
            assert!(endpoint(text).is_err(), "{text}");
            assert!(listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, want) in [("0", 0), ("1024", 1024), ("500MB", 500_000_000), ("2GiB", 2 << 30)] {
            assert_eq!(bytes(text), Ok(want), "{text}");
        }
        for text in ["", "-1", "many", "5TBs"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
