//! Keyed hashes: HMAC-SHA-256 (RFC 2104, FIPS 180-4) as lower-case hex, cut to a chosen length.
//!
//! The same secret and value give the same text in every version of this plugin, so that hashed records can be
//! joined. Without the secret, values cannot be found by trying them. Refuses secrets under 16 bytes.

use sha2::{Digest, Sha256};

/// Shortest secret in bytes.
pub const SECRET_MIN: usize = 16;
/// Fewest and most hex digits. From 20 on a hash is never taken for a card number.
pub const LENGTH_MIN: usize = 20;
/// Most hex digits.
pub const LENGTH_MAX: usize = 64;

const BLOCK: usize = 64;

/// The hash function of one secret.
#[derive(Clone)]
pub struct Keyed {
    inner: Sha256,
    outer: Sha256,
    length: usize,
}

impl std::fmt::Debug for Keyed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The states would give the secret's hashes away.
        out.debug_struct("Keyed").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Keyed {
    /// Prepares a secret. `length` is in hex digits.
    pub fn new(secret: &[u8], length: usize) -> Result<Self, String> {
        if secret.len() < SECRET_MIN {
            return Err(format!("the secret has {} bytes; it needs at least {SECRET_MIN}", secret.len()));
        }
        if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) {
            return Err(format!(
                "`length` is {length}; it must be from {LENGTH_MIN} to {LENGTH_MAX} hex digits"
            ));
        }
        Ok(Self::of(secret, length))
    }

    fn of(secret: &[u8], length: usize) -> Self {
        let mut key = [0; BLOCK];
        if secret.len() > BLOCK {
            key[..32].copy_from_slice(&Sha256::digest(secret));
        } else {
            key[..secret.len()].copy_from_slice(secret);
        }
        let state = |pad: u8| Sha256::new().chain_update(key.map(|byte| byte ^ pad));
        Self { inner: state(0x36), outer: state(0x5c), length }
    }

    /// Appends the hash of `value`.
    pub fn write(&self, value: &[u8], out: &mut Vec<u8>) {
        let inner = self.inner.clone().chain_update(value).finalize();
        let digest = self.outer.clone().chain_update(inner).finalize();
        let start = out.len();
        for byte in digest {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        out.truncate(start + self.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(secret: &[u8], value: &[u8]) -> String {
        let mut out = Vec::new();
        Keyed::of(secret, LENGTH_MAX).write(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Vectors of RFC 4231, test cases 1, 2 and 6.
    #[test]
    fn write_rfc_4231_vectors_agree() {
        assert_eq!(
            hex(&[0x0b; 20], b"Hi There"),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(
            hex(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn new_weak_settings_are_refused() {
        assert!(Keyed::new(b"short", 32).is_err());
        assert!(Keyed::new(&[1; 16], 19).is_err());
        assert!(Keyed::new(&[1; 16], 65).is_err());
        assert!(Keyed::new(&[1; 16], 32).is_ok());
    }

    #[test]
    fn debug_shows_no_state() {
        assert_eq!(format!("{:?}", Keyed::of(&[1; 16], 32)), "Keyed { length: 32, .. }");
    }
}
