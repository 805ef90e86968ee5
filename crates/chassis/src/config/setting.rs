//! Readers of single settings. Each error describes a valid value.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use http::Uri;
#[cfg(feature = "database")]
use sqlx::postgres::PgConnectOptions;

/// `127.0.0.1:8080` or `[::1]:8080`.
pub fn socket_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address and port such as 127.0.0.1:8080"))
}

/// A whole number within `range`.
pub fn whole<T: FromStr + PartialOrd + Display>(text: &str, range: RangeInclusive<T>) -> Result<T, String> {
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("{text} is not a whole number from {} to {}", range.start(), range.end())),
    }
}

/// A name of 1 to 64 characters from `A-Za-z0-9._-`.
pub fn name(text: &str) -> Result<String, String> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=64).contains(&text.len()) && text.bytes().all(is_allowed) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not 1 to 64 of A-Za-z0-9._-"))
}

/// `true` or `false`.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// `http://host:port`, without credentials, query or fragment; a slash at the end is removed.
pub fn http_url(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not a URL such as http://127.0.0.1:8081");
    if text.contains('@') {
        return Err("must not hold credentials".to_owned());
    }
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let plain = uri.scheme_str() == Some("http") && uri.authority().is_some() && uri.query().is_none();
    if plain && !text.contains('#') { Ok(text.trim_end_matches('/').to_owned()) } else { Err(wrong()) }
}

/// The URL of a collector of spans.
pub fn otlp_url(text: &str) -> Result<String, String> {
    let url = http_url(text)?;
    if cfg!(feature = "otlp") {
        Ok(url)
    } else {
        Err("this program was built without span export".to_owned())
    }
}

/// A PostgreSQL connection URL. The error does not quote it, because it may contain a password.
#[cfg(feature = "database")]
pub fn postgres_url(text: &str) -> Result<PgConnectOptions, String> {
    let shape = "must be a URL such as postgres://role:password@127.0.0.1:5432/database";
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err(shape.to_owned());
    }
    let options: PgConnectOptions = text.parse().map_err(|_| shape.to_owned())?;
    if options.get_database().is_none_or(str::is_empty) {
        return Err(format!("{shape}; it names no database"));
    }
    Ok(options)
}

/// A folder that can be made, if it is not there.
pub fn folder(path: &str) -> Result<PathBuf, String> {
    std::fs::create_dir_all(path).map_err(|error| format!("cannot make {path}: {error}"))?;
    Ok(path.into())
}

/// The content of a readable file.
pub fn file(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))
}

/// A log filter, as `RUST_LOG` takes it.
pub fn log_filter(text: &str) -> Result<String, String> {
    telemetry::check_filter(text)
        .map(|()| text.to_owned())
        .map_err(|error| format!("{text:?} is not a log filter such as info,mainstay=debug ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_services_are_plain_http_without_credentials() {
        assert_eq!(http_url("http://127.0.0.1:8081/").as_deref(), Ok("http://127.0.0.1:8081"));
        assert_eq!(http_url("http://inventory:8081").as_deref(), Ok("http://inventory:8081"));
        for bad in ["127.0.0.1:8081", "https://h:1", "http://u:p@h:1", "http://h/?a=b", "http://", "ftp://h"]
        {
            assert!(http_url(bad).is_err(), "{bad}");
        }
        assert!(!http_url("http://u:hunter2@h:1").unwrap_err().contains("hunter2"));
    }

    #[cfg(feature = "database")]
    #[test]
    fn a_database_url_names_a_database() {
        let options = postgres_url("postgres://r:p@127.0.0.1:5432/mainstay_order").unwrap();
        assert_eq!(options.get_database(), Some("mainstay_order"));
        for bad in ["", "r:p@h/d", "mysql://r:p@h/d", "postgres://127.0.0.1:5432", "postgres://h:port/d"] {
            assert!(postgres_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_and_booleans_say_what_would_be_right() {
        assert_eq!(whole("900", 1..=86_400), Ok(900_u32));
        for bad in ["0", "86401", "-1", "1.5", "x", "99999999999999999999"] {
            assert!(whole(bad, 1..=86_400_u32).unwrap_err().contains("from 1 to 86400"), "{bad}");
        }
        assert_eq!((boolean("true"), boolean("0")), (Ok(true), Ok(false)));
        assert!(boolean("yes").unwrap_err().contains("neither true nor false"));
    }
}
