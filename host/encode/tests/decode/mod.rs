//! Decoders that are not ours to change, and one that is written from the description of a format.

use std::io::{Cursor, Read};

use wasmill_encode::Compression;

/// The uncompressed object.
pub(crate) fn decode(compression: Compression, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::None => out.extend_from_slice(body),
        Compression::Gzip { .. } => {
            // One member only: what follows it would stay unread.
            let mut rest = body;
            flate2::bufread::GzDecoder::new(&mut rest).read_to_end(&mut out).unwrap();
            assert!(rest.is_empty(), "more than one member");
        }
        Compression::Zstd { .. } => {
            let mut decoder = zstd::stream::read::Decoder::new(body).unwrap().single_frame();
            decoder.read_to_end(&mut out).unwrap();
            assert!(decoder.finish().buffer().is_empty(), "more than one frame");
        }
        Compression::Snappy => {
            snap::read::FrameDecoder::new(body).read_to_end(&mut out).unwrap();
        }
        Compression::SnappyJava => {
            out = blocks(body.strip_prefix(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01").unwrap(), false);
        }
        Compression::HadoopSnappy => out = blocks(body, true),
        Compression::Zip => {
            let mut archive = zip::ZipArchive::new(Cursor::new(body)).unwrap();
            assert_eq!(archive.len(), 1);
            // Read to its end, an entry's checksum is compared.
            archive.by_index(0).unwrap().read_to_end(&mut out).unwrap();
        }
    }
    out
}

/// The two framings of the JVM: blocks of snappy's raw format, each behind its length; `sized`, also behind the length
/// of what is in it. Hadoop allows several compressed parts in a block.
fn blocks(mut rest: &[u8], sized: bool) -> Vec<u8> {
    let mut out = Vec::new();
    while !rest.is_empty() {
        let end = if sized { out.len() + length(&mut rest) } else { out.len() + 1 };
        while out.len() < end {
            let compressed = length(&mut rest);
            let (part, after) = rest.split_at(compressed);
            rest = after;
            out.extend(snap::raw::Decoder::new().decompress_vec(part).unwrap());
        }
        assert!(!sized || out.len() == end, "a block says another length");
    }
    out
}

fn length(rest: &mut &[u8]) -> usize {
    let (length, after) = rest.split_first_chunk().unwrap();
    *rest = after;
    u32::from_be_bytes(*length) as usize
}
