//! gzip (RFC 1952), of one member or of several one after the other.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use crate::config::Limits;
use crate::pieces::{Label, Pieces};

const MAGIC: [u8; 2] = [0x1f, 0x8b];

pub(crate) struct Decompress;

impl Decompress {
    pub(crate) fn run(
        &self,
        limits: &Limits,
        piece: &[u8],
        label: Label,
        out: &mut Pieces,
    ) -> Result<(), String> {
        if !piece.starts_with(&MAGIC) {
            return Err(match piece {
                [] => "an empty record is not gzip".to_owned(),
                [first, ..] => {
                    format!("the record is not gzip: it begins with byte {first:#04x}, not with 0x1f 0x8b")
                }
            });
        }
        let room = out.room(limits);
        let by_ratio = piece.len().saturating_mul(limits.max_ratio);
        let most = room.min(by_ratio);
        let (before, _) = out.mark();
        // One byte more than is allowed: what is exactly as large as allowed is not refused.
        let mut decoder = MultiGzDecoder::new(piece).take((most as u64).saturating_add(1));
        decoder
            .read_to_end(out.buffer())
            .map_err(|error| format!("the gzip is corrupt or cut short: {error}"))?;
        let bytes = out.bytes() - before;
        if bytes > most {
            return Err(if room <= by_ratio {
                limits.too_large()
            } else {
                format!("the record grows more than {} times (`max_ratio`)", limits.max_ratio)
            });
        }
        out.finish(limits, label)
    }
}
