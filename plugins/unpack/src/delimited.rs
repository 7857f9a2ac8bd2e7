//! Pieces between delimiters. What is empty is no record: a delimiter may also stand behind the last one.

use memchr::memmem::Finder;

use crate::config::Limits;
use crate::pieces::{Label, Pieces};

pub(crate) struct Delimited {
    delimiter: Finder<'static>,
    whole_beyond: usize,
}

impl Delimited {
    /// A record of more than so many pieces passes whole, as Amazon Data Firehose has it.
    pub(crate) fn new(delimiter: Vec<u8>, whole_beyond: usize) -> Self {
        Self { delimiter: Finder::new(&delimiter).into_owned(), whole_beyond }
    }

    pub(crate) fn run(
        &self,
        limits: &Limits,
        piece: &[u8],
        label: Label,
        out: &mut Pieces,
    ) -> Result<(), String> {
        let mark = out.mark();
        let (mut at, mut count) = (0, 0);
        while at < piece.len() {
            let end = self.delimiter.find(&piece[at..]).map_or(piece.len(), |found| at + found);
            if end > at {
                if count == self.whole_beyond {
                    return out.leave_whole(limits, label, mark, piece, self.whole_beyond);
                }
                out.push(limits, label, &[&piece[at..end]])?;
                count += 1;
            }
            at = end + self.delimiter.needle().len();
        }
        Ok(())
    }
}
