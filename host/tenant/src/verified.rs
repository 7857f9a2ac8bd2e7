//! Texts of keys that were verified, so that a push costs no hash that takes time.
//!
//! What is kept is a keyed hash of a text, with a key that this process drew at its start, and which secret of which key
//! it was. Whoever reads the memory of this table learns no text, and whoever measures look-ups learns nothing of what is
//! in it without the process's key.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use blake2::Blake2bMac;
use blake2::digest::consts::U32;
use blake2::digest::{FixedOutput, KeyInit, Update};
use rand::TryRngCore;
use rand::rngs::OsRng;
use subtle::ConstantTimeEq;

use crate::key_text::KeyText;

/// Texts that are remembered; the one that came first is forgotten for one more.
pub const KNOWN_MAX: usize = 10_000;

type Digest = [u8; 32];

/// See the head of this file.
pub struct Verified {
    process_key: [u8; 32],
    known: HashMap<u64, Known>,
    order: VecDeque<u64>,
    max: usize,
}

struct Known {
    digest: Digest,
    id: String,
    secret: u64,
}

impl Verified {
    /// # Errors
    /// The system has no randomness.
    pub fn new(max: usize) -> Result<Verified, rand::rand_core::OsError> {
        let mut process_key = [0; 32];
        OsRng.try_fill_bytes(&mut process_key)?;
        Ok(Verified { process_key, known: HashMap::new(), order: VecDeque::new(), max: max.max(1) })
    }

    fn digest(&self, text: &KeyText) -> (u64, Digest) {
        // A key of 32 bytes is within what the algorithm allows.
        let Ok(mut mac) = <Blake2bMac<U32> as KeyInit>::new_from_slice(&self.process_key) else {
            return (0, [0; 32]);
        };
        mac.update(text.reveal().as_bytes());
        let digest: Digest = mac.finalize_fixed().into();
        let mut head = [0; 8];
        head.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        (u64::from_le_bytes(head), digest)
    }

    /// The number of the secret that this text was found to be.
    pub fn find(&self, text: &KeyText) -> Option<u64> {
        let (head, digest) = self.digest(text);
        let known = self.known.get(&head)?;
        let same = bool::from(known.digest.ct_eq(&digest)) && known.id == text.id();
        same.then_some(known.secret)
    }

    /// Remembers that the text is the secret of that number of the key that it names.
    pub fn remember(&mut self, text: &KeyText, secret: u64) {
        let (head, digest) = self.digest(text);
        let known = Known { digest, id: text.id().to_owned(), secret };
        if self.known.insert(head, known).is_none() {
            self.order.push_back(head);
        }
        while self.order.len() > self.max {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({} texts)", self.known.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_again_until_too_many_others_came() {
        let mut verified = Verified::new(3).unwrap();
        let texts: Vec<KeyText> = (0..4).map(|_| KeyText::draw().unwrap()).collect();
        for (number, text) in texts.iter().enumerate() {
            assert_eq!(verified.find(text), None);
            verified.remember(text, number as u64);
            verified.remember(text, number as u64);
            assert_eq!(verified.find(text), Some(number as u64));
        }
        assert_eq!((verified.find(&texts[0]), verified.len()), (None, 3));
        let same_id = KeyText::with_id(texts[3].id()).unwrap();
        assert_eq!(verified.find(&same_id), None);
    }

    #[test]
    fn two_processes_remember_different_hashes_and_none_shows_a_text() {
        let text = KeyText::draw().unwrap();
        let [mut one, mut other] = [Verified::new(9).unwrap(), Verified::new(9).unwrap()];
        one.remember(&text, 1);
        other.remember(&text, 1);
        assert_ne!(one.digest(&text), other.digest(&text));
        assert_eq!(format!("{one:?}"), "Verified(1 texts)");
    }
}
