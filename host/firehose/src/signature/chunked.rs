//! Bodies that come in signed chunks (`aws-chunked`).

use aws_sigv4::sign::v4;

use super::digits::{Signature, sha256};
use crate::wire::{Kind, Refusal};

/// What a chunk may say of itself, up to its line's end.
const LINE_MAX: usize = 256;
/// Lines behind the last chunk.
const TRAILERS_MAX: usize = 16;
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// How the chunks are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    Signed,
    SignedWithTrailer,
    UnsignedWithTrailer,
}

impl Chunks {
    /// Of the value of `x-amz-content-sha256`.
    pub(super) fn of(value: &str) -> Option<Chunks> {
        match value {
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Some(Chunks::Signed),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Some(Chunks::SignedWithTrailer),
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Some(Chunks::UnsignedWithTrailer),
            _ => None,
        }
    }
}

/// What every chunk's signature is made of beside the chunk.
pub(super) struct Chain<'a> {
    pub(super) key: &'a [u8],
    /// As `20260713T141516Z`.
    pub(super) date: &'a str,
    pub(super) scope: &'a str,
    /// The signature before: that of the request, then that of each chunk.
    pub(super) previous: String,
}

impl Chain<'_> {
    fn next(&mut self, algorithm: &str, payload: &str, presented: Option<&str>) -> Result<(), Refusal> {
        let presented = presented.ok_or_else(|| malformed("a chunk has no chunk-signature"))?;
        let signature = Signature::parse(presented)
            .ok_or_else(|| malformed("a chunk-signature is not 64 hexadecimal digits"))?;
        let text = format!("{algorithm}\n{}\n{}\n{}\n{payload}", self.date, self.scope, self.previous);
        let computed = Signature::parse(&v4::calculate_signature(self.key, text.as_bytes()));
        if !computed.is_some_and(|computed| computed.is(&signature)) {
            return Err(super::presented::mismatch());
        }
        // Clients sign what they sent, and all send lower-case digits.
        presented.clone_into(&mut self.previous);
        Ok(())
    }
}

/// The body without its framing. Nothing of it is given before all signatures were found good.
///
/// # Errors
/// `InvalidSignatureException`: a signature does not match. `IncompleteSignatureException`: the framing is broken, or the
/// length is not the announced one.
pub(super) fn decode(
    body: &[u8],
    chunks: Chunks,
    mut chain: Chain<'_>,
    announced: Option<usize>,
) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    loop {
        let line = take_line(&mut rest)?;
        let (size, extension) = line.split_once(';').map_or((line, None), |(size, rest)| (size, Some(rest)));
        let is_hex = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = is_hex.then(|| usize::from_str_radix(size, 16).ok()).flatten();
        let size =
            size.ok_or_else(|| malformed("a chunk does not begin with its size in hexadecimal digits"))?;
        if size > rest.len() {
            return Err(malformed("a chunk ends before its size"));
        }
        let (data, tail) = rest.split_at(size);
        if chunks != Chunks::UnsignedWithTrailer {
            let signature = extension.and_then(|extension| extension.strip_prefix("chunk-signature="));
            chain.next("AWS4-HMAC-SHA256-PAYLOAD", &format!("{EMPTY}\n{}", sha256(data)), signature)?;
        }
        out.extend_from_slice(data);
        rest = tail;
        if size == 0 {
            break;
        }
        rest =
            rest.strip_prefix(b"\r\n").ok_or_else(|| malformed("a chunk is not followed by a line's end"))?;
    }
    trailer(rest, chunks, chain)?;
    match announced {
        Some(length) if length != out.len() => {
            let found = out.len();
            Err(malformed(&format!(
                "x-amz-decoded-content-length is {length} and the chunks have {found} bytes"
            )))
        }
        _ => Ok(out),
    }
}

/// What is behind the last chunk: lines of a trailer, and an empty one.
fn trailer(mut rest: &[u8], chunks: Chunks, mut chain: Chain<'_>) -> Result<(), Refusal> {
    let mut lines: Vec<(String, &str)> = Vec::new();
    let mut signature = None;
    while !rest.is_empty() {
        let line = take_line(&mut rest)?;
        if line.is_empty() {
            break;
        }
        let (name, value) =
            line.split_once(':').ok_or_else(|| malformed("a line of the trailer has no colon"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        match name.as_str() {
            "x-amz-trailer-signature" => signature = Some(value),
            _ => lines.push((name, value)),
        }
        if lines.len() > TRAILERS_MAX {
            return Err(malformed("the trailer has too many lines"));
        }
    }
    if !rest.is_empty() {
        return Err(malformed("something follows the last chunk"));
    }
    if chunks == Chunks::SignedWithTrailer {
        lines.sort();
        let text: String = lines.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        chain.next("AWS4-HMAC-SHA256-TRAILER", &sha256(text.as_bytes()), signature)?;
    } else if chunks == Chunks::Signed && !(lines.is_empty() && signature.is_none()) {
        return Err(malformed("a trailer follows chunks that were announced without one"));
    }
    Ok(())
}

fn take_line<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Refusal> {
    let window = &rest[..rest.len().min(LINE_MAX)];
    let end = window.windows(2).position(|pair| pair == b"\r\n");
    let end = end.ok_or_else(|| malformed("a line of a chunk has no end"))?;
    let line = std::str::from_utf8(&rest[..end]).map_err(|_| malformed("a line of a chunk is no text"))?;
    *rest = &rest[end + 2..];
    Ok(line)
}

fn malformed(what: &str) -> Refusal {
    Refusal::new(Kind::IncompleteSignature, format!("The aws-chunked body is malformed: {what}."))
}

#[cfg(test)]
mod tests {
    use super::super::anew::Scope;
    use super::*;

    /// The example of the Amazon S3 API Reference: 66,560 letters in two chunks.
    fn example() -> (Vec<u8>, Vec<u8>) {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let scope = Scope { access_key: "id", secret, region: "us-east-1", service: "s3", at: 1_369_353_600 };
        let key = scope.key().as_ref().to_vec();
        let mut body = Vec::new();
        for (size, signature) in [
            (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ] {
            body.extend_from_slice(format!("{size:x};chunk-signature={signature}\r\n").as_bytes());
            body.extend(std::iter::repeat_n(b'a', size));
            body.extend_from_slice(b"\r\n");
        }
        (key, body)
    }

    fn chain(key: &[u8]) -> Chain<'_> {
        Chain {
            key,
            date: "20130524T000000Z",
            scope: "20130524/us-east-1/s3/aws4_request",
            previous: "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9".to_owned(),
        }
    }

    #[test]
    fn the_example_of_the_documentation_is_good_and_no_byte_of_it_may_change() {
        let (key, body) = example();
        let decoded = decode(&body, Chunks::Signed, chain(&key), Some(66560)).unwrap();
        assert_eq!(decoded, vec![b'a'; 66560]);
        let mut changed = body.clone();
        changed[30_000] = b'b';
        assert_eq!(
            decode(&changed, Chunks::Signed, chain(&key), None).unwrap_err().kind,
            Kind::InvalidSignature
        );
        assert!(
            decode(&body, Chunks::Signed, chain(&key), Some(66559))
                .unwrap_err()
                .message
                .contains("66560 bytes")
        );
        // The second chunk before the first, each with its own signature.
        let second = body.len() - (1024 + 87 + 2) - 86;
        let swapped = [&body[second..body.len() - 86], &body[..second], &body[body.len() - 86..]].concat();
        assert_eq!(swapped.len(), body.len());
        assert!(decode(&swapped, Chunks::Signed, chain(&key), None).is_err());
    }

    #[test]
    fn a_body_that_is_cut_anywhere_is_refused() {
        let (key, body) = example();
        for cut in [0, 1, 40, 85, 70_000 - 3_500, body.len() - 90, body.len() - 4] {
            assert!(decode(&body[..cut], Chunks::Signed, chain(&key), None).is_err(), "{cut}");
        }
    }

    #[test]
    fn unsigned_chunks_are_read_with_their_trailer() {
        let read = |body: &[u8]| decode(body, Chunks::UnsignedWithTrailer, chain(b"key"), None);
        let body = b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        assert_eq!(read(body).unwrap(), b"abcde");
        for (body, expected) in [
            (&b"z\r\n"[..], "its size"),
            (b"+3\r\nabc\r\n0\r\n\r\n", "its size"),
            (b"ffffffffffffffffff\r\n", "its size"),
            (b"5\r\nabc", "ends before its size"),
            (b"3\r\nabcd\r\n0\r\n\r\n", "line's end"),
            (b"0\r\nno colon\r\n\r\n", "no colon"),
            (b"0\r\n\r\nmore", "something follows"),
        ] {
            let refusal = read(body).unwrap_err();
            assert!(refusal.message.contains(expected), "{refusal}");
        }
    }
}
