//! Signatures of plugin files: Ed25519 over the digest of the file, beside it as `NAME.wasm.sig`.
//!
//! What is signed is [`message`], which begins with what it is for, so that a signature of anything else is none of a plugin.
//! A signature is checked before anything looks into the file. It says who let the file pass, and nothing of what the file
//! may do.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use wasmill_transform::Digest;

const ALGORITHM: &str = "ed25519:";
/// A file of signatures, and how many are looked at in it.
pub(crate) const SIGNATURE_BYTES_MAX: u64 = 4 << 10;
const SIGNATURES_MAX: usize = 16;
/// An Ed25519 private key in PKCS#8 (RFC 8410) is this and 32 bytes.
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// The bytes that are signed: `wasmill plugin signature v1`, a line feed, the digest of the file as `sha256:` and 64
/// lower-case hexadecimal digits, a line feed.
pub fn message(digest: Digest) -> Vec<u8> {
    format!("wasmill plugin signature v1\n{digest}\n").into_bytes()
}

/// Who may sign. Displayed and parsed as `ed25519:<base64 of 32 bytes>`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PublicKey, KeyError> {
        let bytes = text.strip_prefix(ALGORITHM).and_then(|base64| STANDARD.decode(base64).ok());
        bytes.and_then(|bytes| bytes.try_into().ok()).map(PublicKey).ok_or(KeyError::Public)
    }
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("no public key, expected ed25519: and 44 characters of base64")]
    Public,
    #[error("no private key of Ed25519, expected PKCS#8 in PEM (-----BEGIN PRIVATE KEY-----)")]
    Private,
    #[error("the system gives no randomness")]
    Randomness,
}

/// What signs. Shows nothing of itself.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new key, as PKCS#8 in PEM.
    pub fn generate() -> Result<String, KeyError> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::Randomness)?;
        let base64 = STANDARD.encode([PKCS8.as_slice(), &seed].concat());
        Ok(format!("{PEM_BEGIN}\n{base64}\n{PEM_END}\n"))
    }

    pub fn from_pem(text: &str) -> Result<SigningKey, KeyError> {
        let inside = text.split_once(PEM_BEGIN).and_then(|(_, rest)| Some(rest.split_once(PEM_END)?.0));
        let base64: String = inside.ok_or(KeyError::Private)?.split_ascii_whitespace().collect();
        let der = STANDARD.decode(base64).map_err(|_| KeyError::Private)?;
        // With or without the public key: other tools write either.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| KeyError::Private)?;
        Ok(SigningKey(pair))
    }

    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }

    /// One line of a signature file.
    pub fn sign(&self, digest: Digest) -> String {
        format!("{ALGORITHM}{}\n", STANDARD.encode(self.0.sign(&message(digest))))
    }
}

/// What a tenant asks of its plugin files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningPolicy {
    /// Without, a file that has no signature is taken; one with a bad signature never is.
    pub required: bool,
    /// Any of them is enough.
    pub keys: Vec<PublicKey>,
}

/// Why a file is not taken for its signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("it is not signed, and plugins of this tenant must be: {}", hint(.keys))]
    Unsigned { keys: Vec<PublicKey> },
    #[error("none of its signatures is by a key of this tenant over this file: {}", hint(.keys))]
    Foreign { keys: Vec<PublicKey> },
    #[error("its signature file is none: {0}")]
    Malformed(&'static str),
}

fn hint(keys: &[PublicKey]) -> String {
    if keys.is_empty() {
        return "the tenant has no key that may sign".to_owned();
    }
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    format!("sign it with `wasmill plugin sign`, as {}", keys.join(" or "))
}

impl SigningPolicy {
    /// Whether a file with this digest may be used. `signatures` is the text of its signature file.
    pub fn check(&self, digest: Digest, signatures: Option<&[u8]>) -> Result<(), SignatureError> {
        let Some(signatures) = signatures else {
            return match self.required {
                true => Err(SignatureError::Unsigned { keys: self.keys.clone() }),
                false => Ok(()),
            };
        };
        let message = message(digest);
        let signed = |signature: &[u8; 64]| {
            let by = |key: &PublicKey| UnparsedPublicKey::new(&ED25519, key.0).verify(&message, signature);
            self.keys.iter().any(|key| by(key).is_ok())
        };
        match parse(signatures)?.iter().any(signed) {
            true => Ok(()),
            false => Err(SignatureError::Foreign { keys: self.keys.clone() }),
        }
    }
}

/// The signatures of a file of them, a line each.
fn parse(text: &[u8]) -> Result<Vec<[u8; 64]>, SignatureError> {
    let malformed = SignatureError::Malformed;
    if text.len() as u64 > SIGNATURE_BYTES_MAX {
        return Err(malformed("it is over 4 KiB"));
    }
    let text = std::str::from_utf8(text).map_err(|_| malformed("it is no text"))?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() || lines.len() > SIGNATURES_MAX {
        return Err(malformed("expected 1 to 16 lines, a signature each"));
    }
    let signature = |line: &&str| {
        let bytes = line.strip_prefix(ALGORITHM).and_then(|base64| STANDARD.decode(base64).ok());
        let bytes = bytes.and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
        bytes.ok_or(malformed("a line is not ed25519: and 88 characters of base64"))
    };
    lines.iter().map(signature).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_pem(&SigningKey::generate().unwrap()).unwrap()
    }

    fn policy(required: bool, keys: &[&SigningKey]) -> SigningPolicy {
        SigningPolicy { required, keys: keys.iter().map(|key| key.public()).collect() }
    }

    #[test]
    fn signature_is_good_for_its_file_and_its_key_alone() {
        let (ours, theirs) = (key(), key());
        let (digest, other) = (Digest::of(b"plugin"), Digest::of(b"plugin."));
        let signature = ours.sign(digest).into_bytes();
        let both = policy(true, &[&theirs, &ours]);
        assert_eq!(both.check(digest, Some(&signature)), Ok(()));
        assert!(matches!(both.check(other, Some(&signature)), Err(SignatureError::Foreign { .. })));
        let only_theirs = policy(true, &[&theirs]).check(digest, Some(&signature)).unwrap_err();
        assert!(only_theirs.to_string().contains(&theirs.public().to_string()), "{only_theirs}");
        // Signed by both, either may go.
        let twice = [theirs.sign(digest).into_bytes(), signature].concat();
        assert_eq!(policy(true, &[&ours]).check(digest, Some(&twice)), Ok(()));
        assert_eq!(policy(true, &[&theirs]).check(digest, Some(&twice)), Ok(()));
        assert!(policy(true, &[]).check(digest, Some(&twice)).is_err());
    }

    #[test]
    fn file_without_signature_is_taken_only_where_none_is_required_and_a_bad_one_never() {
        let (ours, digest) = (key(), Digest::of(b"plugin"));
        assert!(matches!(policy(true, &[&ours]).check(digest, None), Err(SignatureError::Unsigned { .. })));
        let lax = policy(false, &[&ours]);
        assert_eq!(lax.check(digest, None), Ok(()));
        assert!(lax.check(digest, Some(key().sign(digest).as_bytes())).is_err());
        let good = ours.sign(digest);
        for bad in [
            "",
            "\n",
            "ed25519:",
            "rsa:AAAA",
            &good.replace("ed25519:", ""),
            &format!("{good}{}", &good[..40]),
            &good.repeat(17),
            &"x".repeat(5000),
        ] {
            let error = lax.check(digest, Some(bad.as_bytes())).unwrap_err();
            assert!(matches!(error, SignatureError::Malformed(_)), "{bad:?}: {error}");
        }
        assert!(lax.check(digest, Some(b"\xff\xfe")).is_err());
    }

    #[test]
    fn keys_are_read_back_as_they_are_shown() {
        let pem = SigningKey::generate().unwrap();
        assert_ne!(pem, SigningKey::generate().unwrap());
        let public = SigningKey::from_pem(&pem).unwrap().public();
        assert_eq!(public.to_string().parse(), Ok(public));
        for bad in ["", "ed25519:", "ed25519:AAAA", &public.to_string().to_uppercase(), &pem] {
            assert_eq!(bad.parse::<PublicKey>(), Err(KeyError::Public), "{bad}");
        }
        for bad in
            ["", "x", &pem.replace("MC4C", "MC4D"), &pem.replace("MC4CAQAw", "MC4CAQ"), &public.to_string()]
        {
            assert!(matches!(SigningKey::from_pem(bad), Err(KeyError::Private)), "{bad}");
        }
    }

    /// These bytes are in docs/plugins.md, for who signs with other tools.
    #[test]
    fn message_is_what_the_documentation_says() {
        let text = String::from_utf8(message(Digest::of(b""))).unwrap();
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(text, format!("wasmill plugin signature v1\nsha256:{digest}\n"));
    }
}
