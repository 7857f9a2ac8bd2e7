//! The text of a key: `wm_<id>_<secret>`.
//!
//! The id is 12, the secret 43 letters and digits (256 random bits), and 6 more behind it are a checksum of all before, so
//! that a slip of the hand is told apart from a wrong key without asking anybody, and that programs which look for
//! secrets in places where none should be find few others.

use std::fmt;

use rand::TryRngCore;
use rand::rngs::OsRng;

const PREFIX: &str = "wm_";
pub(crate) const ID_LENGTH: usize = 12;
const SECRET_LENGTH: usize = 43;
const CHECK_LENGTH: usize = 6;
const LENGTH: usize = PREFIX.len() + ID_LENGTH + 1 + SECRET_LENGTH + CHECK_LENGTH;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The text of a key, secret included. It is shown by [`KeyText::reveal`] only.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(String);

/// Why a text is no key. What it was is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAKey {
    #[error("it is not of the form wm_<id>_<secret>")]
    Form,
    #[error("its checksum does not match: it was cut or mistyped")]
    Checksum,
}

impl KeyText {
    /// A new key with the system's randomness.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn draw() -> Result<KeyText, rand::rand_core::OsError> {
        KeyText::with_id(&letters(ID_LENGTH)?)
    }

    /// A new secret of the key with this id.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn with_id(id: &str) -> Result<KeyText, rand::rand_core::OsError> {
        let mut text = format!("{PREFIX}{id}_{}", letters(SECRET_LENGTH)?);
        text.push_str(&checksum(&text));
        Ok(KeyText(text))
    }

    /// # Errors
    /// See [`NotAKey`].
    pub fn parse(text: &str) -> Result<KeyText, NotAKey> {
        let rest = text.strip_prefix(PREFIX).filter(|_| text.len() == LENGTH).ok_or(NotAKey::Form)?;
        let (id, secret) = rest.split_once('_').ok_or(NotAKey::Form)?;
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if id.len() != ID_LENGTH || !digits(id) || !digits(secret) {
            return Err(NotAKey::Form);
        }
        let (checked, check) = text.split_at(LENGTH - CHECK_LENGTH);
        match checksum(checked) == check {
            true => Ok(KeyText(text.to_owned())),
            false => Err(NotAKey::Checksum),
        }
    }

    /// The name by which everybody may speak of the key.
    pub fn id(&self) -> &str {
        self.0.get(PREFIX.len()..PREFIX.len() + ID_LENGTH).unwrap_or_default()
    }

    /// The text itself. Do not log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyText({PREFIX}{}_..)", self.id())
    }
}

/// So many random letters and digits, each as likely as any other.
fn letters(count: usize) -> Result<String, rand::rand_core::OsError> {
    let mut text = String::with_capacity(count);
    let mut random = [0; 64];
    while text.len() < count {
        OsRng.try_fill_bytes(&mut random)?;
        // 248 is the greatest multiple of 62 in a byte: what is above would make some letters likelier.
        let drawn = random.iter().filter(|byte| **byte < 248);
        let drawn = drawn.filter_map(|byte| DIGITS.get(usize::from(byte % 62)));
        text.extend(drawn.take(count - text.len()).map(|digit| char::from(*digit)));
    }
    Ok(text)
}

fn checksum(text: &str) -> String {
    let mut rest = crc32c::crc32c(text.as_bytes());
    let mut digits = [b'0'; CHECK_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_key_is_one_and_none_is_drawn_twice() {
        let drawn: Vec<KeyText> = (0..200).map(|_| KeyText::draw().unwrap()).collect();
        for key in &drawn {
            assert_eq!(KeyText::parse(key.reveal()).as_ref(), Ok(key));
            assert_eq!(key.reveal().len(), LENGTH);
        }
        let ids: std::collections::HashSet<&str> = drawn.iter().map(KeyText::id).collect();
        assert_eq!(ids.len(), 200);
        let all: String = drawn.iter().map(KeyText::reveal).collect();
        assert!(DIGITS.iter().all(|digit| all.contains(char::from(*digit))), "a letter is never drawn");
    }

    #[test]
    fn every_slip_of_one_character_is_a_slip_and_not_another_key() {
        let key = KeyText::draw().unwrap();
        let text = key.reveal();
        for at in 0..text.len() {
            for other in ["a", "Z", "0", "_"] {
                let mut wrong = text.to_owned();
                wrong.replace_range(at..=at, other);
                assert!(wrong == text || KeyText::parse(&wrong).is_err(), "{at}");
            }
            assert!(KeyText::parse(&text[..at]).is_err());
        }
        let checked = text.replace(&text[20..21], if &text[20..21] == "x" { "y" } else { "x" });
        assert_eq!(KeyText::parse(&checked), Err(NotAKey::Checksum));
        for wrong in ["", "wm_", "Bearer x", &format!("{text}a"), &"ä".repeat(32), &"wm_".repeat(500)] {
            assert_eq!(KeyText::parse(wrong), Err(NotAKey::Form));
        }
    }

    #[test]
    fn debug_text_has_the_id_and_not_the_secret() {
        let key = KeyText::draw().unwrap();
        let shown = format!("{key:?}");
        let secret = &key.reveal()[PREFIX.len() + ID_LENGTH + 1..];
        assert!(shown.contains(key.id()) && !shown.contains(&secret[..8]), "{shown}");
    }
}
