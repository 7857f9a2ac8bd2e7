//! Frames between the host and a process that runs plugins: a head (what it is) and a body (columns, code, files).
//!
//! `u32` length of the head, `u32` length of the body, both little-endian, head, body. Owns the bounds and the time that a
//! frame may take: neither side believes a length, and the host waits for nothing without end.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the host says: configs and secrets.
const HOST_HEAD_BYTES_MAX: u32 = 256 << 20;
/// What a process says, which may be anything: what it becomes in memory may be many times as large.
const HEAD_BYTES_MAX: u32 = 2 << 20;
/// Rows, compiled code, granted files.
const BODY_BYTES_MAX: u32 = 1 << 30;
/// How often a side that waits looks at the clock.
const LOOK: Duration = Duration::from_millis(250);

/// One end of the socket between them.
pub(super) struct Channel {
    stream: UnixStream,
    head: Vec<u8>,
    /// Of what is received.
    head_max: u32,
}

impl Channel {
    /// The host's end: reads and writes wake up to look at the clock.
    pub(super) fn watched(stream: UnixStream) -> io::Result<Channel> {
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(LOOK))?;
        Ok(Channel { stream, head: Vec::new(), head_max: HEAD_BYTES_MAX })
    }

    /// The other end, which waits for as long as the host does not ask.
    pub(super) fn patient(stream: UnixStream) -> Channel {
        Channel { stream, head: Vec::new(), head_max: HOST_HEAD_BYTES_MAX }
    }

    /// Sends a frame whose body is these parts one after another.
    pub(super) fn send(
        &mut self,
        head: &impl Serialize,
        body: &[&[u8]],
        until: Option<Instant>,
    ) -> io::Result<()> {
        self.head.clear();
        self.head.extend_from_slice(&[0; 8]);
        let encoded = postcard::to_extend(head, std::mem::take(&mut self.head));
        self.head = encoded.map_err(io::Error::other)?;
        let length = |bytes: usize, max: u32| {
            let length = u32::try_from(bytes).ok().filter(|length| *length <= max);
            length.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, format!("frame of {bytes} bytes")))
        };
        let head_length = length(self.head.len() - 8, HOST_HEAD_BYTES_MAX)?;
        let body_length = length(body.iter().map(|part| part.len()).sum(), BODY_BYTES_MAX)?;
        self.head[..4].copy_from_slice(&head_length.to_le_bytes());
        self.head[4..8].copy_from_slice(&body_length.to_le_bytes());
        let mut slices: Vec<IoSlice<'_>> =
            std::iter::once(self.head.as_slice()).chain(body.iter().copied()).map(IoSlice::new).collect();
        let mut left = slices.as_mut_slice();
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            in_time(until)?;
            match self.stream.write_vectored(left) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) => may_go_on(error, until)?,
            }
        }
        Ok(())
    }

    /// Receives a frame.
    pub(super) fn receive<T: DeserializeOwned>(
        &mut self,
        until: Option<Instant>,
    ) -> io::Result<(T, Vec<u8>)> {
        let mut lengths = [0; 8];
        let mut read = 0;
        while read < lengths.len() {
            in_time(until)?;
            match self.stream.read(&mut lengths[read..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => read += bytes,
                Err(error) => may_go_on(error, until)?,
            }
        }
        let [a, b, c, d, e, f, g, h] = lengths;
        let bounded = |length: u32, max: u32| match length {
            length if length <= max => Ok(length as usize),
            length => Err(io::Error::new(ErrorKind::InvalidData, format!("frame of {length} bytes"))),
        };
        let head_length = bounded(u32::from_le_bytes([a, b, c, d]), self.head_max)?;
        let body_length = bounded(u32::from_le_bytes([e, f, g, h]), BODY_BYTES_MAX)?;
        let head = self.bytes(head_length, until)?;
        let head = postcard::from_bytes(&head)
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("head of a frame: {error}")))?;
        Ok((head, self.bytes(body_length, until)?))
    }

    /// So many bytes. Memory grows with what came, not with what was promised.
    fn bytes(&mut self, length: usize, until: Option<Instant>) -> io::Result<Vec<u8>> {
        const STEP: usize = 4 << 20;
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let at = bytes.len();
            let step = (length - at).min(STEP);
            bytes.reserve_exact(step);
            bytes.resize(at + step, 0);
            let mut filled = at;
            while filled < bytes.len() {
                in_time(until)?;
                match self.stream.read(&mut bytes[filled..]) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(read) => filled += read,
                    Err(error) => may_go_on(error, until)?,
                }
            }
        }
        Ok(bytes)
    }
}

/// Whether to try once more.
fn may_go_on(error: io::Error, until: Option<Instant>) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => in_time(until),
        _ => Err(error),
    }
}

/// Also asked of who sends a little at a time.
fn in_time(until: Option<Instant>) -> io::Result<()> {
    match until {
        Some(until) if Instant::now() >= until => Err(ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Appends numbers as the wire has them.
pub(super) fn put_u32s(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u32>) {
    numbers.into_iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

pub(super) fn put_i64s(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = i64>) {
    numbers.into_iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

/// Takes a body apart from its front.
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl<'a> Body<'a> {
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(length)?;
        self.0 = left;
        Some(taken)
    }

    pub(super) fn u32s(&mut self, count: usize) -> Option<Vec<u32>> {
        let bytes = self.bytes(count.checked_mul(4)?)?;
        Some(bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }

    pub(super) fn i64s(&mut self, count: usize) -> Option<Vec<i64>> {
        let bytes = self.bytes(count.checked_mul(8)?)?;
        Some(bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
    }

    /// Ends of values in `length` bytes: they never fall, and the last is the length.
    pub(super) fn ends(&mut self, count: usize, length: usize) -> Option<Vec<u32>> {
        let ends = self.u32s(count)?;
        let last = ends.last().map_or(0, |last| *last as usize);
        (last == length && ends.is_sorted()).then_some(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Channel::watched(ours).unwrap(), theirs)
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(5))
    }

    #[test]
    fn frame_arrives_as_it_was_sent() {
        let (mut ours, theirs) = pair();
        let large = vec![7; 3 << 20];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut theirs = Channel::patient(theirs);
                theirs.send(&("head", 5u64), &[b"", b"ab", &large, b"c"], None).unwrap();
                theirs.send(&("last", 0u64), &[], None).unwrap();
            });
            let (head, body): ((String, u64), _) = ours.receive(soon()).unwrap();
            assert_eq!(head, ("head".to_owned(), 5));
            assert!(body.len() == (3 << 20) + 3 && body.starts_with(b"ab\x07") && body.ends_with(b"\x07c"));
            let (head, body): ((String, u64), _) = ours.receive(soon()).unwrap();
            assert_eq!((head.0.as_str(), body.len()), ("last", 0));
        });
    }

    #[test]
    fn frame_that_claims_too_much_or_never_ends_is_an_error() {
        let error = |bytes: &[u8], close: bool| {
            let (mut ours, mut theirs) = pair();
            theirs.write_all(bytes).unwrap();
            let kept = (!close).then_some(theirs);
            let until = Some(Instant::now() + Duration::from_millis(300));
            let error = ours.receive::<u64>(until).unwrap_err();
            drop(kept);
            error.kind()
        };
        assert_eq!(error(&[0xff; 8], false), ErrorKind::InvalidData);
        assert_eq!(error(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], false), ErrorKind::InvalidData);
        assert_eq!(error(&[1, 0, 0, 0, 200, 0, 0, 0, 1, 2], false), ErrorKind::TimedOut);
        assert_eq!(error(&[1, 0, 0, 0, 200, 0, 0, 0, 1, 2], true), ErrorKind::UnexpectedEof);
        assert_eq!(error(&[1, 0, 0], true), ErrorKind::UnexpectedEof);
        // A head that is cut is no number.
        assert_eq!(error(&[1, 0, 0, 0, 0, 0, 0, 0, 0x80], false), ErrorKind::InvalidData);
    }

    #[test]
    fn body_with_other_lengths_than_it_says_is_nothing() {
        let mut bytes = Vec::new();
        put_u32s(&mut bytes, [2, 2, 5]);
        assert_eq!(Body(&bytes).ends(3, 5), Some(vec![2, 2, 5]));
        assert_eq!(Body(&bytes).ends(3, 6), None);
        assert_eq!(Body(&bytes).ends(4, 5), None);
        put_u32s(&mut bytes, [4]);
        assert_eq!(Body(&bytes).ends(4, 4), None);
        assert_eq!(Body(&bytes).i64s(usize::MAX), None);
    }
}
