//! JSON objects one after the other: `{}{}`, JSON lines, and anything between.
//!
//! Every object is checked to be JSON (RFC 8259) and leaves as it was written; white space between objects goes.

use serde::de::IgnoredAny;

use crate::config::Limits;
use crate::pieces::{Label, Pieces};

/// So much of a record is shown.
const SHOWN: usize = 40;

pub(crate) struct Json {
    whole_beyond: usize,
}

impl Json {
    /// A record of more than so many objects passes whole, as Amazon Data Firehose has it.
    pub(crate) fn new(whole_beyond: usize) -> Self {
        Self { whole_beyond }
    }

    pub(crate) fn run(
        &self,
        limits: &Limits,
        piece: &[u8],
        label: Label,
        out: &mut Pieces,
    ) -> Result<(), String> {
        let mark = out.mark();
        let (mut at, mut count) = (skip(piece, 0), 0);
        if at == piece.len() {
            return Err("the record is empty; it must hold a JSON object".to_owned());
        }
        while at < piece.len() {
            match piece[at] {
                b'{' => {}
                b'[' if count == 0 => {
                    return Err("the record is a JSON array; it must hold objects".to_owned());
                }
                _ => {
                    let text = shown(&piece[at..]);
                    return Err(format!("no JSON object begins at byte {}: `{text}`", at + 1));
                }
            }
            let mut values = serde_json::Deserializer::from_slice(&piece[at..]).into_iter::<IgnoredAny>();
            if let Some(Err(error)) = values.next() {
                return Err(format!("the object that begins at byte {} is not JSON: {error}", at + 1));
            }
            if count == self.whole_beyond {
                return out.leave_whole(limits, label, mark, piece, self.whole_beyond);
            }
            let end = at + values.byte_offset();
            out.push(limits, label, &[&piece[at..end]])?;
            count += 1;
            at = skip(piece, end);
        }
        Ok(())
    }
}

/// Where the next byte is that is no white space of JSON.
fn skip(piece: &[u8], from: usize) -> usize {
    let space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    from + piece[from..].iter().take_while(space).count()
}

/// The beginning of a text.
#[cold]
fn shown(text: &[u8]) -> String {
    let short = String::from_utf8_lossy(&text[..text.len().min(4 * SHOWN)]).into_owned();
    match short.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}...", short.get(..cut).unwrap_or_default()),
        None => short,
    }
}
