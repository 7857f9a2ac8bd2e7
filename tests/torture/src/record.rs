//! The records: what each one asks for, and every byte of it, follow from the seed, the client and a number.
//!
//! So nothing needs to be remembered about a record but what became of it, and whatever comes out is compared byte for
//! byte. The fields that plugins look at stand at fixed places.

/// Where plugins find what a record says of itself; the version of `stamp` is at 6.
pub const STAMP_AT: usize = 6;
pub const VERDICT_AT: u32 = 15;
pub const OUTPUT_AT: u32 = 24;
pub const KEY_AT: u32 = 32;
const ID_AT: usize = 41;
const ID_BYTES: usize = 12;
/// What stands in place of a version before `stamp` has run.
const UNSTAMPED: u8 = b'-';

/// What is to become of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Drop,
    /// By the plugin's word, by a trap, or by an error of the whole call.
    Fail,
    /// Fails in some versions of the plugin and passes in others, so that a replay may let it pass.
    Mend,
}

/// Who sent a record, and its number among those of this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub client: u8,
    pub number: u32,
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02}-{:09}", self.client, self.number)
    }
}

/// Where a record that passes goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Output {
    /// A directory, with a partition key.
    Directory,
    /// Small objects in S3.
    Objects,
    /// Large objects in S3, in parts.
    Bulk,
    /// Requests to an HTTP receiver.
    Requests,
}

/// One record. See the head of this file.
#[derive(Clone, Debug)]
pub struct Record {
    pub id: Id,
    verdict: u8,
    output: u8,
    key: u8,
    pad: u32,
    letter: u8,
}

/// A number out of a number: every bit of the one counts for every bit of the other (SplitMix64).
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Record {
    pub fn new(seed: u64, id: Id) -> Record {
        let drawn = mix(mix(seed ^ u64::from(id.client)) ^ u64::from(id.number));
        let part = |shift: u32, below: u64| (drawn >> shift & 0xffff) % below;
        let bulky = part(0, 200) == 0;
        let verdict = match part(16, 10_000) {
            0..1_000 => b'd',
            1_000..1_080 => b'f',
            1_080..1_082 => b'x',
            1_082..1_084 => b'e',
            1_084..1_200 => b'm',
            _ => b'p',
        };
        let output = match part(32, 100) {
            _ if bulky => b'b',
            0..3 => b'b',
            3..30 => b's',
            30..50 => b'h',
            _ => b'd',
        };
        let spread = mix(drawn);
        let pad = if bulky { 20_000 + spread % 20_000 } else { spread % 100 };
        let letter = |spread: u64, of: &[u8]| {
            let index = usize::try_from(spread % of.len() as u64).unwrap_or_default();
            of.get(index).copied().unwrap_or_default()
        };
        Record {
            id,
            verdict,
            output,
            key: letter(spread >> 32, b"abcd"),
            pad: u32::try_from(pad).unwrap_or_default(),
            letter: letter(spread >> 40, b"klmnopqrstuvwxyz"),
        }
    }

    pub fn verdict(&self) -> Verdict {
        match self.verdict {
            b'd' => Verdict::Drop,
            b'p' => Verdict::Pass,
            b'm' => Verdict::Mend,
            _ => Verdict::Fail,
        }
    }

    pub fn output(&self) -> Output {
        match self.output {
            b's' => Output::Objects,
            b'b' => Output::Bulk,
            b'h' => Output::Requests,
            _ => Output::Directory,
        }
    }

    /// Its value of the partition key, where the output has one.
    pub fn key(&self) -> char {
        self.key.into()
    }

    /// Appends the record, without a line end.
    pub fn write(&self, into: &mut String) {
        let text = |byte: u8| char::from(byte);
        into.push_str("{\"v\":\"-\",\"do\":\"");
        into.push(text(self.verdict));
        into.push_str("\",\"to\":\"");
        into.push(text(self.output));
        into.push_str("\",\"k\":\"");
        into.push(text(self.key));
        into.push_str("\",\"id\":\"");
        into.push_str(&self.id.to_string());
        into.push_str("\",\"pad\":\"");
        into.extend(std::iter::repeat_n(text(self.letter), self.pad as usize));
        into.push_str("\"}");
    }

    /// The id that a line bears, if it bears one.
    pub fn id_of(line: &[u8]) -> Option<Id> {
        let text = line.get(ID_AT..ID_AT + ID_BYTES)?;
        let (client, number) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Id { client: client.parse().ok()?, number: number.parse().ok()? })
    }

    /// Whether a line is this record: as it was sent, or stamped by a plugin.
    pub fn is(&self, line: &[u8], stamped: bool) -> bool {
        let mut sent = String::new();
        self.write(&mut sent);
        let sent = sent.as_bytes();
        let stamp = line.get(STAMP_AT).copied().unwrap_or_default();
        let right = if stamped { stamp.is_ascii_alphanumeric() } else { stamp == UNSTAMPED };
        let behind = STAMP_AT + 1;
        right
            && line.len() == sent.len()
            && line.get(..STAMP_AT) == sent.get(..STAMP_AT)
            && line.get(behind..) == sent.get(behind..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_stands_where_plugins_look_for_it() {
        for number in 0..2_000 {
            let record = Record::new(7, Id { client: 3, number });
            let mut text = String::new();
            record.write(&mut text);
            let at = |place: u32| text.as_bytes()[place as usize];
            assert_eq!(
                (at(VERDICT_AT), at(OUTPUT_AT), at(KEY_AT)),
                (record.verdict, record.output, record.key)
            );
            assert_eq!(Record::id_of(text.as_bytes()), Some(record.id));
            assert!(record.is(text.as_bytes(), false) && !record.is(text.as_bytes(), true));
            let stamped = text.replacen("\"v\":\"-\"", "\"v\":\"4\"", 1);
            assert!(record.is(stamped.as_bytes(), true) && !record.is(stamped.as_bytes(), false));
            let other = Record::new(7, Id { client: 3, number: number + 1 });
            assert!(!other.is(text.as_bytes(), false));
            assert!(text.len() < 50_000);
        }
    }
}
