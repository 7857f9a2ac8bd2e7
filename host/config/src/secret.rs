//! Values that must not be seen: a secret never appears in `Debug`, errors or generated text, and what a URL may hold of
//! one is masked wherever it is shown.
//!
//! It owns the value's bytes as text and hands them out only through [`Secret::reveal`].
//! It refuses `Display`, `Serialize` and comparison with plain text.

use std::fmt;

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

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Stands for what is not shown.
const MASK: &str = "***";

/// A URL as it may be shown: without user, password, query and fragment. Other text is as it was.
pub fn masked_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
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
    let end = |text: &str| text.find(['?', '#']).unwrap_or(text.len());
    let ((host, in_host), (path, in_path)) = (host.split_at(end(host)), after.split_at(end(after)));
    let query = if in_host.is_empty() && in_path.is_empty() { String::new() } else { format!("?{MASK}") };
    format!("{scheme}://{user}{host}{path}{query}")
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
            ("no url, a@b?c", "no url, a@b?c"),
        ] {
            assert_eq!(masked_url(url), shown, "{url}");
        }
    }
}
