//! How far a shard was read, as it is kept in the buffer together with its records.
//!
//! Format, little-endian: version 1 (u8), identity of the Kinesis stream (u64), when it was first read (i64, milliseconds
//! since the Unix epoch), 1 if the shard was read to its end (u8), length (u8) and text of the shard's id, and its last sequence
//! number as the rest. Other versions are refused, never guessed.

const VERSION: u8 = 1;

/// A shard, and its last record that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    /// A stream that is made again under the name of another is another one.
    pub(super) identity: u64,
    /// Milliseconds since the Unix epoch.
    pub(super) began_ms: i64,
    /// No record follows.
    pub(super) ended: bool,
    /// At most 128 bytes, as the API has it.
    pub(super) shard: String,
    pub(super) sequence: String,
}

impl Saved {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.identity.to_le_bytes());
        bytes.extend(self.began_ms.to_le_bytes());
        bytes.push(u8::from(self.ended));
        // Longer ones there are not; one would be refused when it is read.
        bytes.push(u8::try_from(self.shard.len()).unwrap_or(u8::MAX));
        bytes.extend(self.shard.as_bytes());
        bytes.extend(self.sequence.as_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Saved> {
        let (version, rest) = bytes.split_first()?;
        let (identity, rest) = rest.split_first_chunk()?;
        let (began_ms, rest) = rest.split_first_chunk()?;
        let (ended, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (shard, sequence) = rest.split_at_checked(usize::from(*length))?;
        let sequence = std::str::from_utf8(sequence).ok()?;
        let is_number = !sequence.is_empty() && sequence.bytes().all(|byte| byte.is_ascii_digit());
        (*version == VERSION && *ended <= 1 && !shard.is_empty() && is_number).then_some(())?;
        Some(Saved {
            identity: u64::from_le_bytes(*identity),
            began_ms: i64::from_le_bytes(*began_ms),
            ended: *ended == 1,
            shard: std::str::from_utf8(shard).ok()?.to_owned(),
            sequence: sequence.to_owned(),
        })
    }
}

/// What tells streams apart: the ARN, and the moment of creation in milliseconds (FNV-1a).
pub(super) fn identity(arn: &str, created_ms: i64) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    arn.bytes().chain(created_ms.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_written_reads_the_same_and_damage_is_refused() {
        let saved = Saved {
            identity: identity("arn:aws:kinesis:us-east-1:000000000000:stream/clicks", 1),
            began_ms: -7,
            ended: true,
            shard: "shardId-000000000012".to_owned(),
            sequence: "49680612758712685552489749097316921752689041089924956162".to_owned(),
        };
        let bytes = saved.write();
        assert_eq!(Saved::read(&bytes), Some(saved.clone()));
        for end in 0..bytes.len() - saved.sequence.len() + 1 {
            assert_eq!(Saved::read(&bytes[..end]), None, "{end}");
        }
        let mut newer = bytes.clone();
        newer[0] = 2;
        assert_eq!(Saved::read(&newer), None);
        let mut damaged = bytes;
        *damaged.last_mut().unwrap() = b'x';
        assert_eq!(Saved::read(&damaged), None);
    }

    #[test]
    fn stream_that_was_made_again_is_another_one() {
        assert_ne!(identity("arn:a", 1), identity("arn:a", 2));
        assert_ne!(identity("arn:a", 1), identity("arn:b", 1));
    }
}
