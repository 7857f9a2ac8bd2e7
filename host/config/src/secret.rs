//! Values that must not be seen: a secret never appears in `Debug`, errors or generated text, and what a URL may hold of
//! one is masked wherever it is shown.
//!
//! It owns the value's bytes as text and hands them out only through [`Secret::reveal`].
//! It refuses `Display`, `Serialize` and comparison with plain text.

use std::fmt;
use std::path::Path;

/// Longest secret file, in bytes.
const SECRET_MAX: u64 = 64 << 10;

/// A secret that was read from the environment or from a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: String) -> Secret {
        Secret(value)
    }

    /// The value itself. Do not log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// The text of a secret file, without the line feed at its end.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !size.is_file() {
        return Err("no file".to_owned());
    }
    if size.len() > SECRET_MAX {
        return Err(format!("has {} bytes, the limit is {SECRET_MAX}", size.len()));
    }
    let mut text = String::from_utf8(std::fs::read(path).map_err(|error| error.to_string())?)
        .map_err(|_| "is not UTF-8".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Stands for what is not shown.
pub(crate) const MASK: &str = "***";

/// A URL as it may be shown: without user, password, query and fragment. Of text that should have been one and is not
/// (`https:/user:password@host`), everything up to the last `@` may be a password.
pub fn masked_url(url: &str) -> String {
    let (lead, rest) = url.split_at(lead(url));
    if lead.is_empty() {
        return match url.rsplit_once('@') {
            None => without_query(url),
            Some((hidden, _)) if hidden.contains(['?', '#']) => MASK.to_owned(),
            Some((_, rest)) => format!("{MASK}@{}", without_query(rest)),
        };
    }
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((_, host)) => (format!("{MASK}@"), host),
        None => (String::new(), authority),
    };
    // Of a password with a slash in it the rest would pass for a path.
    let (user, host, after) = match after.rsplit_once('@') {
        Some((_, rest)) if user.is_empty() && !is_place(authority) => (format!("{MASK}@"), rest, ""),
        _ => (user, host, after),
    };
    format!("{lead}{user}{}", without_query(&format!("{host}{after}")))
}

fn without_query(url: &str) -> String {
    match url.find(['?', '#']) {
        Some(at) => format!("{}?{MASK}", &url[..at]),
        None => url.to_owned(),
    }
}

/// Whether text that should have been something else may hold what a URL may hold.
pub(crate) fn may_be_url(text: &str) -> bool {
    lead(text) > 0
}

/// Bytes of the scheme and what parts it from the rest: `://`, and behind http and https what is easily written for it.
fn lead(url: &str) -> usize {
    let scheme = url.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(url.len());
    let (scheme, rest) = url.split_at(scheme);
    let parting = rest.len() - rest.trim_start_matches([':', '/', '\\']).len();
    let of_http = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    if parting > 0 && (of_http || rest.starts_with("://")) { scheme.len() + parting } else { 0 }
}

/// Whether it can be a host with or without a port.
fn is_place(authority: &str) -> bool {
    let port = authority.rsplit_once(':').filter(|_| !authority.ends_with(']')).map_or("", |(_, port)| port);
    port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_shown_without_what_may_be_secret() {
        for (url, shown) in [
            ("http://host", "http://host"),
            ("https://host:8443/a/b", "https://host:8443/a/b"),
            ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
            ("http://[::1]/a@b", "http://[::1]/a@b"),
            ("http://user:sekret@host/h?token=abc", "http://***@host/h?***"),
            ("http://sekret@host:1?token", "http://***@host:1?***"),
            ("http://host/h#token", "http://host/h?***"),
            ("http://u:p@ss@host/", "http://***@host/"),
            ("http://user:sek/ret@host/h?token=abc", "http://***@host/h?***"),
            ("http:///user:sekret@host/h", "http:///***@host/h"),
            ("https:/user:sekret@host/h?token=abc", "https:/***@host/h?***"),
            ("https:/user:sek/ret@host/h", "https:/***@host/h"),
            ("HTTPS:user:sekret@host", "HTTPS:***@host"),
            ("https//user:sekret@host", "https//***@host"),
            ("https:\\\\user:sekret@host", "https:\\\\***@host"),
            ("https:/user:sekret@host/?to=http://a", "https:/***@host/?***"),
            ("htps:/user:sekret@host/?token", "***@host/?***"),
            ("htps:/host/?to=a@sekret", "***"),
            ("user:sekret@host/h", "***@host/h"),
            ("sekret://user:sek@host", "sekret://***@host"),
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("host/?token", "host/?***"),
            ("http", "http"),
            ("", ""),
        ] {
            assert_eq!(masked_url(url), shown, "{url}");
        }
    }
}
