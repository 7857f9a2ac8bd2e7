//! Capped decompression of any bytes, and that whatever the encoder wrote comes back.

use std::io::{Cursor, Read};

use wasmill_encode::{Compression, DecodeError, Decompressor, Encoder, Encoding, Format};

use crate::draw::Draw;

/// What stood in the output before.
const BEFORE: &[u8] = b"before";

/// `data`: 0 = open the rest, 1 = write it and open that; a codec; a cap (two bytes) or a level; the rest.
pub fn decompress(data: &[u8]) {
    let mut draw = Draw(data);
    if draw.byte() % 2 == 0 {
        let encoding = draw.pick(&[Encoding::Gzip, Encoding::Zstd, Encoding::Identity]);
        let cap = usize::from(draw.short());
        open(encoding, draw.0, cap);
    } else {
        write(&mut draw);
    }
}

fn open(encoding: Encoding, body: &[u8], cap: usize) {
    let mut used = Decompressor::new();
    let first = opened(&mut used, encoding, body, cap);
    // A context that has seen this body answers the same as one that has not.
    assert_eq!(opened(&mut used, encoding, body, cap), first, "the second time");
    match &first {
        Ok(plain) => {
            assert!(plain.len() <= cap, "{} bytes under a cap of {cap}", plain.len());
            assert_eq!(opened(&mut used, encoding, body, plain.len()), first, "at exactly its size");
            if let Some(less) = plain.len().checked_sub(1) {
                let refused = opened(&mut used, encoding, body, less);
                assert_eq!(refused, Err(DecodeError::TooLarge { cap: less }));
            }
        }
        Err(DecodeError::TooLarge { cap: said }) => assert_eq!(*said, cap),
        Err(DecodeError::Corrupt { encoding: said, reason }) => {
            assert_eq!(*said, encoding);
            assert_ne!(encoding, Encoding::Identity, "{reason}");
            assert!(!reason.is_empty());
        }
    }
}

fn opened(
    decompressor: &mut Decompressor,
    encoding: Encoding,
    body: &[u8],
    cap: usize,
) -> Result<Vec<u8>, DecodeError> {
    let mut out = BEFORE.to_vec();
    let result = decompressor.decompress(encoding, body, cap, &mut out);
    assert!(out.starts_with(BEFORE), "what stood there before is gone");
    // Output grows in steps of 64 KiB, and a vector at most doubles.
    let most = 2 * (BEFORE.len() + cap + 1 + (64 << 10));
    assert!(out.capacity() <= most, "{} bytes held for a cap of {cap}", out.capacity());
    match result {
        Ok(()) => Ok(out.split_off(BEFORE.len())),
        Err(error) => {
            assert_eq!(out, BEFORE, "a refused body left bytes");
            Err(error)
        }
    }
}

/// Rows of any bytes as one object, with an encoder that wrote another before.
fn write(draw: &mut Draw<'_>) {
    let kind = draw.byte() % 7;
    let level = draw.byte();
    let compression = match kind {
        0 => Compression::None,
        1 => Compression::Gzip { level: 1 + u32::from(level % 9) },
        // The slow levels are the same code with larger tables.
        2 => Compression::Zstd { level: 1 + i32::from(level % 9) },
        3 => Compression::Snappy,
        4 => Compression::SnappyJava,
        5 => Compression::HadoopSnappy,
        _ => Compression::Zip,
    };
    compression.check().unwrap();
    let format = draw.pick(&[Format::Raw, Format::Ndjson, Format::JsonArray, Format::Verbatim]);
    let mut encoder = Encoder::new();
    for _ in 0..2 {
        let announced = draw.one_in(2);
        let repeat = 1 + draw.below(256);
        let mut pieces = Vec::new();
        for row in draw.bytes(4096).split(|byte| *byte == b'\n') {
            pieces.push([row, format.separator().as_slice()].concat().repeat(repeat));
        }
        let size = pieces.iter().map(Vec::len).sum::<usize>() as u64;
        let mut object = Vec::new();
        let written = encoder.encode(
            format,
            compression,
            announced.then_some(size),
            pieces.iter().map(Ok::<_, std::io::Error>),
            &mut object,
        );
        let written = written.unwrap();
        let rows = pieces.concat();
        let rows = if format.keeps_last_separator() { &rows[..] } else { &rows[..rows.len() - 1] };
        let plain = [format.prefix(), rows, format.suffix()].concat();
        assert_eq!((written.bytes, written.raw_bytes), (object.len() as u64, plain.len() as u64));
        assert_eq!(written.raw_bytes, format.object_bytes(size));
        let found = match kind {
            0 => opened(&mut Decompressor::new(), Encoding::Identity, &object, plain.len()).unwrap(),
            1 => opened(&mut Decompressor::new(), Encoding::Gzip, &object, plain.len()).unwrap(),
            2 => opened(&mut Decompressor::new(), Encoding::Zstd, &object, plain.len()).unwrap(),
            3 => read(snap::read::FrameDecoder::new(&object[..])),
            4 => blocks(object.strip_prefix(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01").unwrap(), false),
            5 => blocks(&object, true),
            _ => {
                let mut archive = zip::ZipArchive::new(Cursor::new(&object)).unwrap();
                assert_eq!(archive.len(), 1);
                // Read to its end, an entry's checksum is compared.
                read(archive.by_index(0).unwrap())
            }
        };
        assert!(found == plain, "{compression:?} gave something else");
    }
}

fn read(mut from: impl Read) -> Vec<u8> {
    let mut found = Vec::new();
    from.read_to_end(&mut found).unwrap();
    found
}

/// Snappy's raw format in blocks behind their lengths: `sized`, also behind that of what is in them.
fn blocks(mut rest: &[u8], sized: bool) -> Vec<u8> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let size = sized.then(|| length(&mut rest));
        let compressed = length(&mut rest);
        let (block, after) = rest.split_at(compressed);
        rest = after;
        let block = snap::raw::Decoder::new().decompress_vec(block).unwrap();
        assert!(!block.is_empty() && block.len() <= 32 << 10, "a block of {} bytes", block.len());
        assert!(size.is_none_or(|size| size == block.len()), "a block says another length");
        found.extend_from_slice(&block);
    }
    found
}

fn length(rest: &mut &[u8]) -> usize {
    let (length, after) = rest.split_first_chunk().unwrap();
    *rest = after;
    u32::from_be_bytes(*length) as usize
}
