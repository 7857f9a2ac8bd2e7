//! Hashed n-grams as scikit-learn's `HashingVectorizer` makes them (analyzers `word`, `char`, `char_wb`; token
//! pattern `(?u)\b\w\w+\b`; n-grams of words joined by one space).
//!
//! Known difference: what counts as a letter follows Rust's Unicode tables; Python leaves combining vowel signs of
//! some scripts out of `\w`.

use crate::config::{Norm, Unit};
use crate::murmur::place;
use crate::vector::gather;

/// How a text becomes pieces, and pieces become positions.
#[derive(Debug)]
pub struct Ngrams {
    /// What pieces are made of.
    pub unit: Unit,
    /// Fewest units of a piece.
    pub min: usize,
    /// Most units of a piece.
    pub max: usize,
    /// Positions.
    pub size: u32,
    /// Whether half of the tokens count negative.
    pub signed: bool,
    /// Whether upper and lower case are alike.
    pub lowercase: bool,
    /// How counts are scaled.
    pub norm: Norm,
    /// Characters that count.
    pub max_chars: usize,
}

/// Buffers for one text after the other.
#[derive(Debug, Default)]
pub struct Scratch {
    text: String,
    token: String,
    /// Byte spans of the units.
    units: Vec<(usize, usize)>,
    pairs: Vec<(u32, f64)>,
    bytes: Vec<u8>,
}

impl Scratch {
    /// A buffer for tokens of other features.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Ngrams {
    /// Positions and weights of a text, in order.
    pub fn pairs<'s>(&self, text: &str, scratch: &'s mut Scratch) -> &'s [(u32, f64)] {
        let Scratch { text: plain, token, units, pairs, .. } = scratch;
        plain.clear();
        pairs.clear();
        let characters = text.chars().take(self.max_chars);
        if self.lowercase {
            // By way of `str`, which knows the final sigma as Python does.
            let cut: usize = characters.map(char::len_utf8).sum();
            plain.push_str(&text.get(..cut).unwrap_or(text).to_lowercase());
        } else {
            plain.extend(characters);
        }
        match self.unit {
            Unit::Word => {
                words(plain, units);
                self.grams(plain, units, Some(token), pairs);
            }
            Unit::Char => {
                token.clear();
                squeeze(plain, token);
                spans(token, 0, units);
                self.grams(token, units, None, pairs);
            }
            Unit::CharWb => {
                for word in plain.split(is_space).filter(|word| !word.is_empty()) {
                    token.clear();
                    token.extend([" ", word, " "]);
                    spans(token, 0, units);
                    self.word_grams(token, units, pairs);
                }
            }
        }
        gather(pairs);
        let norm: f64 = match self.norm {
            Norm::None => 1.0,
            Norm::L1 => pairs.iter().map(|(_, value)| value.abs()).sum(),
            Norm::L2 => libm::sqrt(pairs.iter().map(|(_, value)| value * value).sum()),
        };
        if norm > 0.0 {
            for (_, value) in &mut *pairs {
                *value /= norm;
            }
        }
        pairs
    }

    /// All runs of `min` to `max` units. With `joined`, units are put together with spaces.
    fn grams(
        &self,
        text: &str,
        units: &[(usize, usize)],
        mut joined: Option<&mut String>,
        pairs: &mut Vec<(u32, f64)>,
    ) {
        for length in self.min..=self.max {
            for run in units.windows(length) {
                let (first, last) = (run[0].0, run[length - 1].1);
                let token = match &mut joined {
                    Some(joined) if length > 1 => {
                        joined.clear();
                        for (at, (start, end)) in run.iter().enumerate() {
                            joined.push_str(if at > 0 { " " } else { "" });
                            joined.push_str(text.get(*start..*end).unwrap_or_default());
                        }
                        joined.as_bytes()
                    }
                    _ => &text.as_bytes()[first..last],
                };
                pairs.push(place(token, self.size, self.signed));
            }
        }
    }

    /// Runs within one padded word; a word shorter than a length counts once, as a whole.
    fn word_grams(&self, word: &str, units: &[(usize, usize)], pairs: &mut Vec<(u32, f64)>) {
        for length in self.min..=self.max {
            if units.len() <= length {
                pairs.push(place(word.as_bytes(), self.size, self.signed));
                return;
            }
            for run in units.windows(length) {
                let token = &word.as_bytes()[run[0].0..run[length - 1].1];
                pairs.push(place(token, self.size, self.signed));
            }
        }
    }
}

/// Python's white space: Unicode's, and the four separators of ASCII.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Runs of at least two word characters.
fn words(text: &str, units: &mut Vec<(usize, usize)>) {
    units.clear();
    let (mut start, mut count) = (0, 0);
    let ends = std::iter::once((text.len(), ' '));
    for (at, character) in text.char_indices().chain(ends) {
        if character.is_alphanumeric() || character == '_' {
            if count == 0 {
                start = at;
            }
            count += 1;
        } else {
            if count >= 2 {
                units.push((start, at));
            }
            count = 0;
        }
    }
}

/// Runs of two and more spaces become one blank; single ones stay what they are.
fn squeeze(text: &str, out: &mut String) {
    let mut run = 0;
    for character in text.chars() {
        if is_space(character) {
            run += 1;
            if run == 1 {
                out.push(character);
            } else if run == 2 {
                out.pop();
                out.push(' ');
            }
        } else {
            run = 0;
            out.push(character);
        }
    }
}

fn spans(text: &str, from: usize, units: &mut Vec<(usize, usize)>) {
    units.clear();
    units.extend(text.char_indices().map(|(at, character)| (from + at, from + at + character.len_utf8())));
}
