//! What is kept of a key's text: a salted hash that costs time.
//!
//! Argon2id in the form of a PHC string, so that its parameters can change and old hashes stay readable. The parameters
//! are small on purpose: a secret has 256 random bits, so that nobody who steals the hashes finds one by trying, whatever
//! a try costs; the cost is for a flaw in the drawing of secrets that nobody knows of. Measured with this crate, one core
//! of an AMD EPYC: 0.3 ms with 1 MiB and one pass, 1.2 ms with 2 MiB and two (chosen), 15 ms with 7 MiB and five, 18 ms
//! with 19 MiB and two (advised for passwords that people think of).

use std::fmt;
use std::sync::LazyLock;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};

use crate::key_text::KeyText;

const MEMORY_KIB: u32 = 2 * 1024;
const PASSES: u32 = 2;
const SALT_BYTES: usize = 16;

/// The hash of a key's text.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct SecretHash(String);

/// A hash that cannot be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hash a key: {reason}")]
pub struct HashError {
    reason: String,
}

impl HashError {
    fn new(reason: impl fmt::Display) -> HashError {
        HashError { reason: reason.to_string() }
    }
}

fn argon() -> Argon2<'static> {
    // These are within what the algorithm allows.
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

impl SecretHash {
    /// Takes milliseconds of a processor.
    ///
    /// # Errors
    /// The system has no randomness for the salt.
    pub fn of(text: &KeyText) -> Result<SecretHash, HashError> {
        let mut salt = [0; SALT_BYTES];
        OsRng.try_fill_bytes(&mut salt).map_err(HashError::new)?;
        let salt = SaltString::encode_b64(&salt).map_err(HashError::new)?;
        let hash = argon().hash_password(text.reveal().as_bytes(), &salt).map_err(HashError::new)?;
        Ok(SecretHash(hash.to_string()))
    }

    /// Whether it is the hash of this text; takes as long if it is not. A hash that cannot be read is of no text.
    pub fn verifies(&self, text: &KeyText) -> bool {
        match PasswordHash::new(&self.0) {
            Ok(hash) => argon().verify_password(text.reveal().as_bytes(), &hash).is_ok(),
            Err(_unreadable) => verify_nothing(text),
        }
    }

    /// # Errors
    /// It is no PHC string of this algorithm, so that no text would ever verify.
    pub fn check(&self) -> Result<(), HashError> {
        let hash = PasswordHash::new(&self.0).map_err(HashError::new)?;
        Algorithm::try_from(hash.algorithm).map_err(HashError::new)?;
        Ok(())
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

/// Costs what [`SecretHash::verifies`] costs, and says no: for keys that nobody knows, so that time does not tell which
/// ids there are.
pub(crate) fn verify_nothing(text: &KeyText) -> bool {
    static OF_NOBODY: LazyLock<Option<SecretHash>> = LazyLock::new(|| {
        let nobody = KeyText::draw().ok()?;
        SecretHash::of(&nobody).ok()
    });
    let _never = OF_NOBODY.as_ref().is_some_and(|hash| hash.verifies(text));
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_of_its_text_alone_and_salted() {
        let (one, other) = (KeyText::draw().unwrap(), KeyText::draw().unwrap());
        let [first, second] = [SecretHash::of(&one).unwrap(), SecretHash::of(&one).unwrap()];
        assert_ne!(first, second, "without a salt");
        assert!(first.verifies(&one) && second.verifies(&one));
        assert!(!first.verifies(&other) && !verify_nothing(&one));
        assert!(!first.0.contains(one.id()));
        first.check().unwrap();
    }

    #[test]
    fn hash_of_other_parameters_still_verifies() {
        let text = KeyText::draw().unwrap();
        let salt = SaltString::encode_b64(&[7; 16]).unwrap();
        let params = Params::new(64, 3, 1, None).unwrap();
        let other = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash = SecretHash(other.hash_password(text.reveal().as_bytes(), &salt).unwrap().to_string());
        assert!(hash.verifies(&text));
    }

    #[test]
    fn hash_that_is_none_is_told_and_verifies_nothing() {
        let text = KeyText::draw().unwrap();
        for wrong in [
            "",
            "secret",
            "$argon2id$",
            "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        ] {
            let hash = SecretHash(wrong.to_owned());
            assert!(hash.check().is_err() && !hash.verifies(&text), "{wrong}");
        }
        assert_eq!(format!("{:?}", SecretHash::of(&text).unwrap()), "SecretHash(..)");
    }
}
