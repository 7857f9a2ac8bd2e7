//! The batch id: one name for one batch, for ever.
//!
//! It is made of, in this order and joined by `-`:
//!
//! | part | width | from |
//! |---|---|---|
//! | incarnation | 32 hex digits | 128 random bits, made when the stream was created |
//! | epoch | 8 hex digits | grows by a random step at each unclean open |
//! | output | 8 hex digits | first 32 bits of the SHA-256 of the output's name |
//! | first offset | 20 decimal digits | the batch's first record |
//! | partition | 20 hex digits | first 80 bits of the SHA-256 of names and values; zeros when there is none |
//!
//! All parts have a fixed width and are zero-padded, so ids of one output sort by offset, and
//! `[0-9a-f-]` are safe in every file system and object store. The partition is hashed with
//! SHA-256 because its values come from data: nobody can make two partitions share an id. Hashed are,
//! for each name and then its value, the length as a little-endian u64 and the bytes.

use sha2::{Digest, Sha256};

/// Length of every batch id, in bytes.
pub const BATCH_ID_LENGTH: usize = 32 + 1 + 8 + 1 + 8 + 1 + 20 + 1 + 20;

/// The id of the batch that starts at `first_offset`. `partition` holds names and values in the
/// order in which the batch's rows set them.
pub fn batch_id<N: AsRef<str>, V: AsRef<[u8]>>(
    incarnation: [u8; 16],
    epoch: u32,
    output: &str,
    first_offset: u64,
    partition: &[(N, V)],
) -> String {
    let incarnation = u128::from_be_bytes(incarnation);
    let output = output_tag(output);
    let partition = partition_tag(partition);
    format!("{incarnation:032x}-{epoch:08x}-{output:08x}-{first_offset:020}-{partition:020x}")
}

/// The incarnation of the stream whose batch id a name carries, if it carries one.
pub fn incarnation_in(name: &str) -> Option<[u8; 16]> {
    let bytes = name.as_bytes();
    // Digits of either kind are single bytes, so that places of bytes are places of text.
    let at = bytes.windows(BATCH_ID_LENGTH).position(|window| {
        let hyphens = [32, 41, 50, 71];
        window.iter().enumerate().all(|(at, byte)| match hyphens.contains(&at) {
            true => *byte == b'-',
            false => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
        })
    })?;
    let digits = name.get(at..at + 32)?;
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

/// Recognises names that carry a batch id of one output of one stream, or of any of its outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOwner {
    incarnation: String,
    /// Empty: any.
    output: String,
}

impl BatchOwner {
    pub fn new(incarnation: [u8; 16], output: &str) -> BatchOwner {
        BatchOwner {
            incarnation: format!("{:032x}-", u128::from_be_bytes(incarnation)),
            output: format!("-{:08x}-", output_tag(output)),
        }
    }

    /// Of whatever output the stream has or had.
    pub fn of_stream(incarnation: [u8; 16]) -> BatchOwner {
        BatchOwner { output: String::new(), ..BatchOwner::new(incarnation, "") }
    }

    /// What a probe of this output's destination writes: no other output, stream or host writes there.
    pub(crate) fn probe_name(&self) -> String {
        format!(".wasmill-probe-{}{}", self.incarnation, self.output.trim_matches('-'))
    }

    /// Whether `name` carries such an id, in any epoch.
    pub fn owns(&self, name: &str) -> bool {
        name.match_indices(&self.incarnation).any(|(at, found)| {
            let epoch_at = at + found.len();
            name.get(epoch_at + 8..).is_some_and(|rest| rest.starts_with(&self.output))
        })
    }
}

fn output_tag(output: &str) -> u32 {
    let digest = Sha256::digest(output.as_bytes());
    digest.iter().take(4).fold(0, |tag, byte| tag << 8 | u32::from(*byte))
}

fn partition_tag<N: AsRef<str>, V: AsRef<[u8]>>(partition: &[(N, V)]) -> u128 {
    if partition.is_empty() {
        return 0;
    }
    let mut digest = Sha256::new();
    for (name, value) in partition {
        for part in [name.as_ref().as_bytes(), value.as_ref()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    digest.finalize().iter().take(10).fold(0, |tag, byte| tag << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &[(&str, &[u8])] = &[];

    #[test]
    fn batch_id_has_fixed_width_and_sorts_by_offset() {
        let small = batch_id([0; 16], 0, "default", 9, NONE);
        let large = batch_id([0; 16], 0, "default", u64::MAX, NONE);
        assert_eq!(small.len(), BATCH_ID_LENGTH);
        assert_eq!(batch_id([255; 16], u32::MAX, "x", u64::MAX, &[("a", "b")]).len(), BATCH_ID_LENGTH);
        assert!(small < large);
        assert!(small.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{small}");
    }

    #[test]
    fn batch_id_never_changes_between_versions() {
        let mut incarnation = [0; 16];
        incarnation[0] = 0xab;
        assert_eq!(
            batch_id(incarnation, 3, "default", 42, &[("class", "bot")]),
            "ab000000000000000000000000000000-00000003-37a8eec1-00000000000000000042-66a9d2c6d239058fb9d6"
        );
    }

    #[test]
    fn batch_id_different_partitions_differ() {
        let id = |partition: &[(&str, &str)]| batch_id([7; 16], 1, "out", 5, partition);
        let ids = [
            id(&[]),
            id(&[("a", "")]),
            id(&[("", "a")]),
            id(&[("a", "b"), ("c", "d")]),
            id(&[("a", "bc"), ("", "d")]),
        ];
        for (at, left) in ids.iter().enumerate() {
            assert!(ids[at + 1..].iter().all(|right| right != left), "{left}");
        }
    }

    #[test]
    fn batch_owner_names_of_other_streams_and_outputs_refused() {
        let owner = BatchOwner::new([1; 16], "default");
        let mine = batch_id([1; 16], 9, "default", 5, &[("a", "b")]);
        assert!(owner.owns(&format!("access/2026/{mine}.ndjson.zst")));
        assert!(owner.owns(&mine));
        assert!(!owner.owns(&batch_id([2; 16], 9, "default", 5, NONE)));
        let any = BatchOwner::of_stream([1; 16]);
        assert!(any.owns(&mine) && any.owns(&batch_id([1; 16], 9, "other", 5, NONE)));
        assert!(!any.owns(&batch_id([2; 16], 9, "default", 5, NONE)));
        assert!(!owner.owns(&batch_id([1; 16], 9, "other", 5, NONE)));
        assert!(!owner.owns("access/2026/something-else"));
        assert_eq!(owner.probe_name(), format!(".wasmill-probe-{}-37a8eec1", "01".repeat(16)));
        assert!(!owner.owns(&owner.probe_name()));
        assert_eq!(incarnation_in(&format!("access/{mine}.ndjson.zst.copy")), Some([1; 16]));
        let cut = &mine[..mine.len() - 1];
        for none in ["", "\u{e9}\u{e9}", cut, &mine.to_uppercase().replace('0', "A"), &owner.probe_name()] {
            assert_eq!(incarnation_in(none), None, "{none}");
        }
    }
}
