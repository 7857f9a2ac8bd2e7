//! Numbered requests of a stream's producers: sent, sent again, late, twice at a moment, with a taken number. Whatever
//! becomes of the answers, each is stored at most once, and every answer is true.

use std::sync::Arc;

use rand::Rng;
use rand::rngs::SmallRng;
use wasmill_buffer::{AppendError, Numbered, Receipt, Records};

use crate::model::Told;

/// How many greater sequences of a producer are stored before one is forgotten.
const REMEMBERED: usize = 8;

struct Sent {
    producer: u8,
    sequence: u64,
    texts: Vec<String>,
    receipt: Option<Receipt>,
    /// It was sent at least once, so that it may be stored.
    tried: bool,
    /// Told that it is forgotten.
    over: bool,
}

/// All requests of one stream.
#[derive(Default)]
pub(crate) struct Requests {
    sent: Vec<Sent>,
}

/// A request on its way: which one, and whether with other records than the first time.
#[derive(Clone, Copy)]
pub(crate) struct Try {
    index: usize,
    wrong: bool,
}

impl Requests {
    /// A request that was sent before, as far as there is one.
    pub(crate) fn again(&self, random: &mut SmallRng) -> Option<Try> {
        let latest = self.sent.len().checked_sub(1)?;
        let index = latest - random.random_range(0..20).min(latest);
        let sent = self.sent.get(index).filter(|sent| !sent.over)?;
        Some(Try { index, wrong: sent.receipt.is_some() && random.random_bool(0.2) })
    }

    /// A request with a number of its own: mostly the next, sometimes one that was left out.
    pub(crate) fn another(&mut self, random: &mut SmallRng, texts: Vec<String>) -> Try {
        let producer = random.random_range(0..2);
        let of_producer = || self.sent.iter().filter(|sent| sent.producer == producer);
        let next = of_producer().map(|sent| sent.sequence + 1).max().unwrap_or(0);
        let late = next.checked_sub(random.random_range(2..12)).filter(|_| random.random_bool(0.3));
        let late = late.filter(|late| of_producer().all(|sent| sent.sequence != *late));
        let sequence = late.unwrap_or(next + random.random_range(0..3));
        self.sent.push(Sent { producer, sequence, texts, receipt: None, tried: false, over: false });
        Try { index: self.sent.len() - 1, wrong: false }
    }

    pub(crate) fn texts(&self, this: Try) -> Vec<String> {
        let texts = self.sent.get(this.index).map(|sent| sent.texts.clone()).unwrap();
        if this.wrong { vec!["another body".to_owned()] } else { texts }
    }

    pub(crate) fn number(&mut self, this: Try, records: &mut Records) {
        let sent = self.sent.get_mut(this.index).unwrap();
        sent.tried = true;
        let mut digest = [0; 16];
        digest[..4].copy_from_slice(&crc32c::crc32c(&records.payload).to_le_bytes());
        let producer = Arc::from(format!("producer {}", sent.producer));
        records.numbered = Some(Numbered { producer, sequence: sent.sequence, digest });
    }

    /// Compares an answer with what was told before. True if the fate of an append became unknown by it.
    pub(crate) fn answered(
        &mut self,
        this: Try,
        answer: &Result<Receipt, AppendError>,
        told: &mut Told,
    ) -> bool {
        let (producer, sequence) =
            self.sent.get(this.index).map(|sent| (sent.producer, sent.sequence)).unwrap();
        let greater = |sent: &&Sent| sent.producer == producer && sent.sequence > sequence && sent.tried;
        let greater = self.sent.iter().filter(greater).count();
        let sent = self.sent.get_mut(this.index).unwrap();
        // Where the records are, if they are: seen after a crash that left the fate of the request open.
        let place = told.records.iter().find(|(_, text)| **text == sent.texts[0]).map(|(offset, _)| *offset);
        match answer {
            Ok(receipt) => {
                assert!(!this.wrong, "another body took the place of {:?}", sent.receipt);
                assert_eq!(receipt.count as usize, sent.texts.len());
                assert_eq!(receipt.duplicate, place.is_some(), "{receipt:?} of {place:?}");
                match place {
                    Some(place) => assert_eq!(receipt.first_offset, place),
                    None => {
                        told.append_acknowledged(receipt.first_offset, sent.texts.clone());
                        // Earlier tries are void: should one be found, it is there twice.
                        told.unknown.retain(|text| !sent.texts.contains(text));
                    }
                }
                let first = *sent.receipt.get_or_insert(*receipt);
                let same = (receipt.first_offset, receipt.position) == (first.first_offset, first.position);
                assert!(same, "{receipt:?} after {first:?}");
            }
            Err(AppendError::Forgotten { floor, .. }) => {
                assert!(sent.sequence <= *floor && greater >= REMEMBERED, "{floor} with {greater} greater");
                sent.over = true;
            }
            Err(AppendError::Conflict { first_offset, .. }) => {
                assert!(this.wrong, "the same body is a conflict");
                assert_eq!(Some(*first_offset), place);
            }
            Err(AppendError::Unknown) => {
                assert!(place.is_none(), "it is stored, and known to be");
                return true;
            }
            // Nothing is stored now; its first copy may be, if there was no room for this one behind it.
            Err(AppendError::Storage { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        false
    }

    /// Nobody was told yet what became of it.
    pub(crate) fn is_open(&self, this: Try) -> bool {
        self.sent.get(this.index).is_some_and(|sent| sent.receipt.is_none())
    }

    /// Every request that is not given up, to be sent once more.
    pub(crate) fn all(&self) -> Vec<Try> {
        let open = |(index, sent): (usize, &Sent)| (!sent.over).then_some(Try { index, wrong: false });
        self.sent.iter().enumerate().filter_map(open).collect()
    }
}
