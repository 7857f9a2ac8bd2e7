//! How far a file was read, as it is kept in the buffer.
//!
//! Format, little-endian: version 1 (u8), device (u64), inode (u64), offset (u64), bytes under the
//! fingerprint (u16), fingerprint (u64). Other versions are refused, never guessed.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Most bytes under a fingerprint.
pub(crate) const FINGER: u16 = 256;
const VERSION: u8 = 1;

/// The identity of a file and how far it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) offset: u64,
    pub(crate) finger_bytes: u16,
    pub(crate) finger: u64,
}

impl Saved {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for number in [self.device, self.inode, self.offset] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.finger_bytes.to_le_bytes());
        bytes.extend(self.finger.to_le_bytes());
        bytes
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Saved> {
        let (version, rest) = bytes.split_first()?;
        let (device, rest) = rest.split_first_chunk()?;
        let (inode, rest) = rest.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (finger_bytes, rest) = rest.split_first_chunk()?;
        let (finger, rest) = rest.split_first_chunk()?;
        (*version == VERSION && rest.is_empty()).then_some(Saved {
            device: u64::from_le_bytes(*device),
            inode: u64::from_le_bytes(*inode),
            offset: u64::from_le_bytes(*offset),
            finger_bytes: u16::from_le_bytes(*finger_bytes),
            finger: u64::from_le_bytes(*finger),
        })
    }

    /// Whether this is the same file, as far as the directory knows.
    pub(crate) fn is(&self, meta: &Metadata) -> bool {
        self.device == meta.dev() && self.inode == meta.ino()
    }

    /// Whether the file still begins with the bytes that it began with.
    pub(crate) fn matches(&self, file: &File) -> io::Result<bool> {
        Ok(self.finger_bytes == 0 || fingerprint(file, self.finger_bytes)? == Some(self.finger))
    }
}

/// Hash of the first `bytes` bytes (FNV-1a); `None` if the file is shorter.
pub(crate) fn fingerprint(file: &File, bytes: u16) -> io::Result<Option<u64>> {
    let mut start = [0; FINGER as usize];
    let Some(start) = start.get_mut(..usize::from(bytes)) else { return Ok(None) };
    match file.read_exact_at(start, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    Ok(Some(start.iter().fold(0xcbf2_9ce4_8422_2325, step)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_written_reads_the_same_and_damage_is_refused() {
        let saved = Saved { device: 1, inode: u64::MAX, offset: 1 << 40, finger_bytes: 256, finger: 7 };
        let bytes = saved.write();
        assert_eq!(Saved::read(&bytes), Some(saved));
        for end in 0..bytes.len() {
            assert_eq!(Saved::read(&bytes[..end]), None);
        }
        let mut newer = bytes.clone();
        newer[0] = 2;
        assert_eq!(Saved::read(&newer), None);
    }
}
