//! From letters in the store to an object that is decided: which letters, their lines, encoded and named.
//!
//! An object takes letters from one file of the store, which has at most about 8 MiB, so that what is held is bounded; a
//! single letter may be larger than an object is meant to be. Lines leave as they stand in the file. Everything here blocks.

use std::io;
use std::sync::PoisonError;

use wasmill_deliver::{NameContext, ObjectMeta, batch_id};
use wasmill_encode::{Encoder, extension};

use super::{LettersOutput, OWNER};
use crate::pipeline::context::StreamContext;
use crate::pipeline::dead_letters::{StoreError, Underway};

/// Letters that leave together.
pub(super) struct Gathered {
    pub(super) first: u64,
    pub(super) last: u64,
    /// When the first became a letter.
    pub(super) failed: i64,
    letters: u64,
    lines: Vec<u8>,
    /// No others will join them.
    pub(super) full: bool,
}

/// The first letters that have not been delivered.
pub(super) fn gather(context: &StreamContext, own: &LettersOutput) -> Result<Option<Gathered>, StoreError> {
    let mut after = own.delivered_to();
    loop {
        let found = context.letters.lock().unwrap_or_else(PoisonError::into_inner).snapshot(after)?;
        let Some(file) = found else { return Ok(None) };
        let mut gathered: Option<Gathered> = None;
        file.each(after, |line, letter| {
            let gathered = gathered.get_or_insert_with(|| Gathered {
                first: letter.number,
                last: letter.number,
                failed: letter.failed,
                letters: 0,
                lines: Vec::new(),
                full: false,
            });
            let bytes = (gathered.lines.len() + line.len()) as u64;
            if gathered.letters > 0 && bytes > own.output.seal.size {
                gathered.full = true;
                return false;
            }
            gathered.last = letter.number;
            gathered.letters += 1;
            gathered.lines.extend_from_slice(line);
            gathered.full = bytes >= own.output.seal.size;
            !gathered.full
        })?;
        if let Some(mut gathered) = gathered {
            gathered.full |= !file.last;
            return Ok(Some(gathered));
        }
        // All of its letters above are gone.
        after = file.last_number;
    }
}

/// Makes the object and notes, durably, that it leaves next.
pub(super) fn decide(
    context: &StreamContext,
    own: &LettersOutput,
    gathered: &Gathered,
) -> Result<(), StoreError> {
    let output = &own.output;
    own.cursor().decide(|file| {
        let framed = Some(gathered.lines.len() as u64);
        let pieces = std::iter::once(Ok::<_, io::Error>(&gathered.lines[..]));
        let encoded = Encoder::new().encode(output.format, output.compression, framed, pieces, file)?;
        // Other letters under the same number (an older copy of the directory was put back) make another object.
        let content = [("\0digest", format!("{:032x}", encoded.digest))];
        let (incarnation, epoch) = (context.buffer.incarnation(), context.buffer.epoch());
        let id = batch_id(incarnation, epoch, OWNER, gathered.first, &content);
        let name = output.template.render(&NameContext {
            stream: &context.name,
            output: &output.name,
            batch_id: &id,
            extension: &extension(output.format, output.compression),
            arrival: gathered.failed,
            partition: &[],
        });
        Ok(Underway {
            first: gathered.first,
            last: gathered.last,
            failed: gathered.failed,
            meta: ObjectMeta {
                name,
                content_type: output.format.content_type().to_owned(),
                content_encoding: output.compression.content_encoding().map(str::to_owned),
                batch_id: id,
                digest: encoded.digest,
                body_digest: encoded.body_digest,
                raw_bytes: encoded.raw_bytes,
                bytes: encoded.bytes,
                records: gathered.letters,
                stream: context.name.clone(),
                output: output.name.clone(),
            },
        })
    })
}
