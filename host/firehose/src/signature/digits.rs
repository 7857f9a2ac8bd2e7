//! Signatures and hashes, and hexadecimal.

use ring::digest;
use subtle::ConstantTimeEq as _;

/// 32 bytes out of 64 hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature([u8; 32]);

impl Signature {
    pub(super) fn parse(text: &str) -> Option<Signature> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(high? * 16 + low?).ok()?;
        }
        Some(Signature(bytes))
    }

    /// Takes the same time wherever they differ.
    pub(super) fn is(&self, other: &Signature) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Lower-case hexadecimal digits of the SHA-256 of these bytes.
pub(super) fn sha256(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let hash = digest::digest(&digest::SHA256, bytes);
    let digits = hash
        .as_ref()
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    digits.map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_as_it_is_written() {
        let digits = sha256(b"");
        assert_eq!(digits, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let signature = Signature::parse(&digits).unwrap();
        assert_eq!(signature.0[..3], [0xe3, 0xb0, 0xc4]);
        assert!(signature.is(&Signature::parse(&digits.to_uppercase()).unwrap()));
        assert!(!signature.is(&Signature::parse(&digits.replace("e3", "e4")).unwrap()));
        assert!(Signature::parse(&digits[1..]).is_none());
        assert!(Signature::parse(&digits.replace('e', "g")).is_none());
    }
}
