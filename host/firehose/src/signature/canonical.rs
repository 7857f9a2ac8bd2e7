//! The canonical form of a request: what client and server must agree on before they sign it.

use super::presented::Request;

/// The canonical request, up to and with the hash of the payload.
pub(super) fn canonical(
    request: &Request<'_>,
    signed_headers: &[String],
    payload_hash: &str,
    without: Option<&str>,
) -> String {
    let mut out = String::with_capacity(1024);
    out.push_str(request.method);
    out.push('\n');
    out.push_str(&path(request.path));
    out.push('\n');
    out.push_str(&query(request.query.unwrap_or_default(), without));
    out.push('\n');
    for name in signed_headers {
        out.push_str(name);
        out.push(':');
        header(request, name, &mut out);
        out.push('\n');
    }
    out.push('\n');
    out.push_str(&signed_headers.join(";"));
    out.push('\n');
    out.push_str(payload_hash);
    out
}

/// Values of a header with white space folded, joined by commas in their order.
fn header(request: &Request<'_>, name: &str, out: &mut String) {
    for (index, value) in request.values(name).enumerate() {
        if index > 0 {
            out.push(',');
        }
        // Bytes that are no UTF-8 are signed by no client that is known; they become a sign that is in no signature.
        let value = String::from_utf8_lossy(value);
        for (index, word) in value.trim().split(' ').filter(|word| !word.is_empty()).enumerate() {
            if index > 0 {
                out.push(' ');
            }
            out.push_str(word);
        }
    }
}

/// Without empty segments and dots, and encoded once more than it came: only S3 has it otherwise.
fn path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut out = String::from("/");
    for (index, segment) in segments.iter().enumerate() {
        if index > 0 {
            out.push('/');
        }
        encode(segment.as_bytes(), &mut out);
    }
    let is_directory = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    if is_directory && !segments.is_empty() {
        out.push('/');
    }
    out
}

/// Parameters decoded, encoded in the one way, and sorted; without the one of this name.
fn query(query: &str, without: Option<&str>) -> String {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, value) in parameters(query) {
        if without == Some(name.as_str()) {
            continue;
        }
        let (mut encoded_name, mut encoded_value) = (String::new(), String::new());
        encode(name.as_bytes(), &mut encoded_name);
        encode(value.as_bytes(), &mut encoded_value);
        pairs.push((encoded_name, encoded_value));
    }
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Decoded parameters of a query in their order. A plus is a space, as in forms, which is how signers of SDKs read a query.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(tail.first()), digit(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// All but unreserved characters (RFC 3986) as percent and two upper-case digits.
fn encode(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_normalised_and_encoded_once_more() {
        for (given, expected) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/a/b", "/a/b"),
            ("/a/./b/../c/", "/a/c/"),
            ("/../a", "/a"),
            ("/a%20b", "/a%2520b"),
            ("/a/.", "/a/"),
            ("/ä", "/%C3%A4"),
        ] {
            assert_eq!(path(given), expected, "{given}");
        }
    }

    #[test]
    fn queries_are_sorted_and_encoded_in_one_way() {
        for (given, expected) in [
            ("", ""),
            ("b=2&a=1", "a=1&b=2"),
            ("a=2&a=1&a", "a=&a=1&a=2"),
            ("a=%2f%20~&b=x+y%2b", "a=%2F%20~&b=x%20y%2B"),
            ("a=%zz&%", "%25=&a=%25zz"),
            ("X=1&drop=2", "X=1"),
        ] {
            assert_eq!(query(given, Some("drop")), expected, "{given}");
        }
    }

    #[test]
    fn headers_are_folded_and_joined() {
        let request = Request {
            method: "POST",
            path: "/",
            query: None,
            headers: vec![("a", b"  x   y\t"), ("b", b""), ("A", b"z")],
        };
        let mut out = String::new();
        header(&request, "a", &mut out);
        header(&request, "b", &mut out);
        assert_eq!(out, "x y,z");
    }

    proptest! {
        #[test]
        fn a_canonical_query_is_its_own_canonical_form(text in "[a-c=&%20+ä]{0,40}") {
            let once = query(&text, None);
            prop_assert_eq!(query(&once, None), once);
        }

        #[test]
        fn what_was_encoded_is_decoded_to_the_same(text in any::<String>()) {
            let mut encoded = String::new();
            encode(text.as_bytes(), &mut encoded);
            prop_assert_eq!(decode(&encoded), text);
        }
    }
}
