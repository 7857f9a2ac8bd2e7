//! What is done with a value: mask, drop, hash or replace, as a whole or where a finder points.
//!
//! After a change the built-in finders look again, since what is left may meet what stood beside it; a value in
//! which they still find something after [`PASSES`] rounds is masked as a whole. So nothing that they can find is
//! ever let through. (Regular expressions act once: one that matches its own replacement would never end.)

use crate::find::{Finder, Span};
use crate::keyed::Keyed;

/// Rounds before a value is masked as a whole.
pub const PASSES: usize = 4;
/// Characters that stand for a value whose length says nothing, such as a nested object.
const BLIND: usize = 8;

/// What is done.
#[derive(Debug)]
pub enum Act {
    /// Characters are overwritten.
    Mask {
        /// With this character.
        byte: u8,
        /// Except so many at the end, if the value has at least twice as many.
        keep_last: usize,
        /// So many characters, whatever they hide.
        length: Option<usize>,
    },
    /// It is removed.
    Drop,
    /// It becomes its keyed hash.
    Hash {
        /// What stands before the hash.
        prefix: Vec<u8>,
    },
    /// It becomes a fixed text.
    Replace {
        /// The text.
        with: Vec<u8>,
    },
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// What it looks for; without, the whole value is meant.
    pub finder: Option<Finder>,
    /// What it does.
    pub act: Act,
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was found.
    Same,
    /// See [`Redactor::result`].
    Changed,
    /// The field is to be removed.
    Removed,
}

/// The rules and the buffers in which they work.
#[derive(Debug)]
pub struct Redactor {
    rules: Vec<Rule>,
    keyed: Option<Keyed>,
    spans: Vec<Span>,
    current: Vec<u8>,
    next: Vec<u8>,
}

impl Redactor {
    /// `keyed` must be there if a rule hashes.
    #[must_use]
    pub fn new(rules: Vec<Rule>, keyed: Option<Keyed>) -> Self {
        Self { rules, keyed, spans: Vec::new(), current: Vec::new(), next: Vec::new() }
    }

    /// Whether one of these rules takes whole values.
    #[must_use]
    pub fn takes_whole(&self, rules: &[usize]) -> bool {
        rules.iter().any(|rule| self.rules[*rule].finder.is_none())
    }

    /// The value after [`Outcome::Changed`].
    #[must_use]
    pub fn result(&self) -> &[u8] {
        &self.current
    }

    /// Applies rules to a value. `nested` says that it is the text of an array or object.
    pub fn value(&mut self, text: &[u8], rules: &[usize], nested: bool) -> Outcome {
        let mut changed = false;
        for rule in rules {
            match self.once(if changed { None } else { Some(text) }, *rule, nested) {
                Outcome::Removed => return Outcome::Removed,
                Outcome::Changed => changed = true,
                Outcome::Same => {}
            }
        }
        if !changed {
            return Outcome::Same;
        }
        for _ in 1..PASSES {
            if !self.again(rules) {
                return Outcome::Changed;
            }
        }
        if self.finds_more(rules) {
            self.current.clear();
            self.current.resize(BLIND, b'*');
        }
        Outcome::Changed
    }

    /// Applies one rule to `text`, or to the current value.
    fn once(&mut self, text: Option<&[u8]>, rule: usize, nested: bool) -> Outcome {
        let Self { rules, keyed, spans, current, next } = self;
        let rule = &rules[rule];
        let text = text.unwrap_or(current);
        let Some(finder) = &rule.finder else {
            if matches!(rule.act, Act::Drop) {
                return Outcome::Removed;
            }
            next.clear();
            match rule.act {
                Act::Mask { byte, length, .. } if nested => {
                    next.resize(length.unwrap_or(BLIND), byte);
                }
                _ => write(&rule.act, keyed.as_ref(), text, next),
            }
            std::mem::swap(current, next);
            return Outcome::Changed;
        };
        finder.all(text, spans);
        if spans.is_empty() {
            return Outcome::Same;
        }
        replace(text, spans, &rule.act, keyed.as_ref(), next);
        std::mem::swap(current, next);
        Outcome::Changed
    }

    /// Applies the built-in finders to the current value once more; `false` if they find nothing.
    fn again(&mut self, rules: &[usize]) -> bool {
        let mut changed = false;
        for rule in rules {
            let Self { rules, keyed, spans, current, next } = self;
            let rule = &rules[*rule];
            let Some(finder) = &rule.finder else { continue };
            finder.built_in(current, spans);
            if !spans.is_empty() {
                replace(current, spans, &rule.act, keyed.as_ref(), next);
                std::mem::swap(current, next);
                changed = true;
            }
        }
        changed
    }

    fn finds_more(&mut self, rules: &[usize]) -> bool {
        let Self { rules: all, spans, current, .. } = self;
        rules.iter().filter_map(|rule| all[*rule].finder.as_ref()).any(|finder| {
            finder.built_in(current, spans);
            !spans.is_empty()
        })
    }
}

fn replace(text: &[u8], spans: &[Span], act: &Act, keyed: Option<&Keyed>, out: &mut Vec<u8>) {
    out.clear();
    let mut from = 0;
    for span in spans {
        out.extend_from_slice(&text[from..span.start]);
        write(act, keyed, &text[span.start..span.end], out);
        from = span.end;
    }
    out.extend_from_slice(&text[from..]);
}

/// Appends what becomes of a piece.
fn write(act: &Act, keyed: Option<&Keyed>, piece: &[u8], out: &mut Vec<u8>) {
    match act {
        Act::Drop => {}
        Act::Replace { with } => out.extend_from_slice(with),
        Act::Hash { prefix } => {
            out.extend_from_slice(prefix);
            match keyed {
                Some(keyed) => keyed.write(piece, out),
                // Never without a key: the plan refuses it. Should it happen, nothing leaks.
                None => out.resize(out.len() + BLIND, b'*'),
            }
        }
        Act::Mask { byte, keep_last, length } => {
            let is_first = |byte: &&u8| **byte & 0xc0 != 0x80;
            let characters = piece.iter().filter(is_first).count();
            let kept = if characters >= keep_last * 2 { *keep_last } else { 0 };
            out.resize(out.len() + length.unwrap_or(characters - kept), *byte);
            if kept > 0 {
                let first = piece.iter().enumerate().rev().filter(|(_, byte)| is_first(byte)).nth(kept - 1);
                out.extend_from_slice(&piece[first.map_or(piece.len(), |(at, _)| at)..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Find;

    fn all_kinds() -> Finder {
        Finder::new(&[Find::Email, Find::Card, Find::Ipv4, Find::Ipv6]).unwrap()
    }

    fn masked(text: &str, keep_last: usize, length: Option<usize>, finder: Option<Finder>) -> String {
        let rule = Rule { finder, act: Act::Mask { byte: b'*', keep_last, length } };
        let mut redactor = Redactor::new(vec![rule], None);
        match redactor.value(text.as_bytes(), &[0], false) {
            Outcome::Same => text.to_owned(),
            _ => String::from_utf8(redactor.result().to_vec()).unwrap(),
        }
    }

    #[test]
    fn value_whole_mask_keeps_the_end_only_of_long_values() {
        assert_eq!(masked("secret", 0, None, None), "******");
        assert_eq!(masked("secret", 2, None, None), "****et");
        assert_eq!(masked("set", 2, None, None), "***");
        assert_eq!(masked("añb€", 2, None, None), "**b€");
        assert_eq!(masked("secret", 2, Some(3), None), "***et");
        assert_eq!(masked("", 2, None, None), "");
    }

    #[test]
    fn value_mask_of_finds_leaves_the_rest() {
        assert_eq!(masked("to bob@x.io from ::1", 0, None, Some(all_kinds())), "to ******** from ***");
        assert_eq!(
            masked("pay 4111-1111-1111-1111!", 4, None, Some(all_kinds())),
            "pay ***************1111!"
        );
        assert_eq!(masked("nothing here", 0, None, Some(all_kinds())), "nothing here");
    }

    #[test]
    fn value_what_is_left_beside_a_mask_is_found_again() {
        // The kept digits of the first card and the digits behind it are a card again.
        let text = "4111111111111111 1111 1111 1111";
        let out = masked(text, 4, None, Some(all_kinds()));
        let mut spans = Vec::new();
        all_kinds().all(out.as_bytes(), &mut spans);
        assert!(spans.is_empty(), "{out}");
    }

    /// Texts that are thick with what the finders look for.
    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-c0-9@.:x -]{0,8}",
            Just("4111111111111111".to_owned()),
            Just("4111 1111 1111 1111".to_owned()),
            Just("bob@example.org".to_owned()),
            Just("192.0.2.1".to_owned()),
            Just("2001:db8::1".to_owned()),
            any::<String>(),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn value_after_any_action_the_finders_find_nothing(
            text in texts(),
            keep_last in 0usize..12,
            mask in prop::sample::select(crate::plan::MASKS.as_bytes().to_vec()),
            kind in 0..4,
        ) {
            let act = match kind {
                0 => Act::Mask { byte: mask, keep_last, length: None },
                1 => Act::Drop,
                2 => Act::Hash { prefix: b"h:".to_vec() },
                _ => Act::Replace { with: b"[x]".to_vec() },
            };
            let keyed = Keyed::new(b"0123456789abcdef", 20).unwrap();
            let mut redactor = Redactor::new(vec![Rule { finder: Some(all_kinds()), act }], Some(keyed));
            let left = match redactor.value(text.as_bytes(), &[0], false) {
                Outcome::Same => text.as_bytes(),
                _ => redactor.result(),
            };
            let mut spans = Vec::new();
            all_kinds().all(left, &mut spans);
            prop_assert!(spans.is_empty(), "{}", String::from_utf8_lossy(left));
        }

        #[test]
        fn value_any_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..80), keep_last in 0usize..5) {
            let rule = Rule { finder: Some(all_kinds()), act: Act::Mask { byte: b'*', keep_last, length: None } };
            let whole = Rule { finder: None, act: Act::Mask { byte: b'*', keep_last, length: None } };
            let mut redactor = Redactor::new(vec![rule, whole], None);
            prop_assert_eq!(redactor.value(&text, &[0, 1], false), Outcome::Changed);
        }
    }
}
