//! One key: what it may do, until when, and the hashes of its secrets.
//!
//! A key has one secret, and for a grace time after a rotation the one before beside it; never more, so that what a wrong
//! key costs is bounded. A key that was revoked stays so, and stays in the list for a while.

use serde::{Deserialize, Serialize};

use crate::Moment;
use crate::directory::Refused;
use crate::hash::SecretHash;
use crate::scope::Scopes;

/// Longest name, in characters.
const LABEL_MAX: usize = 64;
/// What [`is_label`] accepts, for messages.
pub const LABEL_EXPECTED: &str = "1 to 64 characters, none of them a control character";

/// Whether a key can be called so.
pub fn is_label(text: &str) -> bool {
    (1..=LABEL_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// What a key is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    pub name: String,
    pub scopes: Scopes,
    pub expires_ms: Option<Moment>,
    /// Whether requests may be signed with it (Signature Version 4), besides carrying it.
    pub signs: bool,
}

/// One key, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub id: String,
    /// For people; need not be the only one of its kind.
    pub name: String,
    pub scopes: Scopes,
    pub created_ms: Moment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<Moment>,
    /// Whether requests may be signed with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub signs: bool,
    /// The newest first.
    pub secrets: Vec<KeySecret>,
}

/// One secret of a key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeySecret {
    /// Counts from 1 within its key.
    pub number: u64,
    pub hash: SecretHash,
    pub created_ms: Moment,
    /// The end of its grace time, once there is a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<Moment>,
}

impl Key {
    pub fn new(id: String, new: NewKey, hash: SecretHash, now: Moment) -> Key {
        let secret = KeySecret { number: 1, hash, created_ms: now, until_ms: None };
        Key {
            id,
            name: new.name,
            scopes: new.scopes,
            created_ms: now,
            expires_ms: new.expires_ms,
            revoked_ms: None,
            signs: new.signs,
            secrets: vec![secret],
        }
    }

    /// Puts a new secret in the place of the one before, which is good until `until`. One that is older ends at once.
    pub fn rotate(&mut self, hash: SecretHash, now: Moment, until: Moment) {
        let number = self.secrets.first().map_or(0, |newest| newest.number) + 1;
        self.secrets.truncate(1);
        for old in &mut self.secrets {
            old.until_ms = Some(until);
        }
        self.secrets.retain(|old| old.until_ms.is_none_or(|until| until > now));
        self.secrets.insert(0, KeySecret { number, hash, created_ms: now, until_ms: None });
    }

    /// Ends it. A second time changes nothing.
    pub fn revoke(&mut self, now: Moment) {
        self.revoked_ms.get_or_insert(now);
    }

    /// Whether the secret of this number may be used now.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn valid(&self, secret: u64, now: Moment) -> Result<(), Refused> {
        if self.revoked_ms.is_some() {
            return Err(Refused::Revoked);
        }
        if self.expires_ms.is_some_and(|expires| expires <= now) {
            return Err(Refused::Expired);
        }
        let found = self.secrets.iter().find(|found| found.number == secret);
        match found {
            Some(found) if found.until_ms.is_none_or(|until| until > now) => Ok(()),
            _ => Err(Refused::Replaced),
        }
    }

    /// `active`, `expired` or `revoked`.
    pub fn state(&self, now: Moment) -> &'static str {
        match (self.revoked_ms, self.expires_ms) {
            (Some(_), _) => "revoked",
            (None, Some(expires)) if expires <= now => "expired",
            _ => "active",
        }
    }

    /// The moment from which on it was of no use, if it is of none.
    pub fn ended_ms(&self, now: Moment) -> Option<Moment> {
        self.revoked_ms.or(self.expires_ms.filter(|expires| *expires <= now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyText, Scope};

    #[test]
    fn rotated_secret_is_good_for_its_grace_time_and_no_third_is_kept() {
        let text = KeyText::draw().unwrap();
        let hash = || SecretHash::of(&text).unwrap();
        let new = NewKey {
            name: "edge".to_owned(),
            scopes: [Scope::Push].into_iter().collect(),
            expires_ms: None,
            signs: false,
        };
        let mut key = Key::new("k".to_owned(), new, hash(), 100);
        key.rotate(hash(), 200, 300);
        assert_eq!((key.valid(1, 299), key.valid(1, 300)), (Ok(()), Err(Refused::Replaced)));
        assert_eq!(key.valid(2, 10_000), Ok(()));
        key.rotate(hash(), 250, 400);
        assert_eq!(key.secrets.iter().map(|secret| secret.number).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(key.valid(1, 251), Err(Refused::Replaced));
        // Without grace the one before ends at once.
        key.rotate(hash(), 300, 300);
        assert_eq!((key.secrets.len(), key.valid(3, 300)), (1, Err(Refused::Replaced)));
        key.revoke(500);
        key.revoke(600);
        assert_eq!(
            (key.valid(4, 501), key.revoked_ms, key.state(501)),
            (Err(Refused::Revoked), Some(500), "revoked")
        );
    }

    #[test]
    fn key_expires_at_its_moment() {
        let hash = SecretHash::of(&KeyText::draw().unwrap()).unwrap();
        let new = NewKey { name: "x".to_owned(), scopes: Scopes::NONE, expires_ms: Some(50), signs: false };
        let key = Key::new("k".to_owned(), new, hash, 1);
        assert_eq!((key.valid(1, 49), key.valid(1, 50)), (Ok(()), Err(Refused::Expired)));
        assert_eq!((key.ended_ms(49), key.ended_ms(50)), (None, Some(50)));
    }

    #[test]
    fn label_is_for_people_and_for_one_line() {
        assert!(is_label("Café 7") && is_label(&"ä".repeat(64)));
        assert!(!is_label("") && !is_label("a\nb") && !is_label(&"a".repeat(65)) && !is_label("\u{1b}[2J"));
    }
}
