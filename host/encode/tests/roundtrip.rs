//! Objects are read back by decoders that are not ours to change: the libraries' readers and the
//! command-line tools. Also what the encoder refuses, and that its contexts start clean each time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{self, Write};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use wasmill_encode::{Compression, Encoded, Encoder, Format, PARALLEL_BYTES_MIN};
use xxhash_rust::xxh3::xxh3_128;

mod decode;

use decode::decode;

const ALL: [Compression; 7] = [
    Compression::None,
    Compression::Gzip { level: 6 },
    Compression::Zstd { level: 3 },
    Compression::Snappy,
    Compression::SnappyJava,
    Compression::HadoopSnappy,
    Compression::Zip,
];

fn framed(format: Format, rows: &[Vec<u8>]) -> Vec<u8> {
    rows.iter().flat_map(|row| row.iter().copied().chain(format.separator())).collect()
}

fn encode(
    encoder: &mut Encoder,
    format: Format,
    compression: Compression,
    pieces: &[Vec<u8>],
) -> (Vec<u8>, Encoded) {
    let mut out = Vec::new();
    let size = pieces.iter().map(|piece| piece.len() as u64).sum();
    let encoded = encoder.encode(format, compression, Some(size), pieces.iter().map(Ok), &mut out).unwrap();
    assert_eq!(encoded.bytes, out.len() as u64);
    assert_eq!(encoded.body_digest, xxh3_128(&out));
    (out, encoded)
}

/// Output of a command-line tool, or nothing where it is not installed.
fn tool(name: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut child =
        Command::new(name).args(["-d", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let mut stdin = child.stdin.take()?;
    let body = body.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&body));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{name} refused the object");
    Some(output.stdout)
}

fn log_lines(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| format!("{{\"status\":{},\"path\":\"/images/{}\"}}", 200 + n % 7, n * 7919 % 1000).into())
        .collect()
}

#[test]
fn encode_every_format_and_codec_reads_back() {
    let mut encoder = Encoder::new();
    let rows = log_lines(3000);
    for compression in ALL {
        for (format, expected) in [
            (Format::Verbatim, rows.concat()),
            (Format::Raw, framed(Format::Raw, &rows)),
            (Format::Ndjson, framed(Format::Ndjson, &rows)),
            (Format::JsonArray, [b"[".as_slice(), &rows.join(&b','), b"]"].concat()),
        ] {
            let pieces: Vec<_> = rows.chunks(700).map(|rows| framed(format, rows)).collect();
            let (body, encoded) = encode(&mut encoder, format, compression, &pieces);
            assert_eq!(decode(compression, &body), expected, "{format:?} {compression:?}");
            assert_eq!(encoded.raw_bytes, expected.len() as u64);
            assert_eq!(encoded.digest, xxh3_128(&expected));
        }
    }
}

#[test]
fn encode_no_rows_is_a_valid_empty_object() {
    let mut encoder = Encoder::new();
    for compression in ALL {
        for (format, expected) in
            [(Format::Verbatim, b"".as_slice()), (Format::Ndjson, b""), (Format::JsonArray, b"[]")]
        {
            for pieces in [vec![], vec![vec![]]] {
                let (body, _) = encode(&mut encoder, format, compression, &pieces);
                assert_eq!(decode(compression, &body), expected, "{compression:?}");
            }
        }
    }
}

#[test]
fn encode_command_line_tools_read_it() {
    let mut encoder = Encoder::with_workers(2);
    let lines = log_lines(300_000);
    let piece = framed(Format::Ndjson, &lines);
    assert!(piece.len() as u64 > PARALLEL_BYTES_MIN);
    for (compression, name) in
        [(Compression::Gzip { level: 1 }, "gzip"), (Compression::Zstd { level: 3 }, "zstd")]
    {
        let (body, _) = encode(&mut encoder, Format::Ndjson, compression, std::slice::from_ref(&piece));
        assert!(decode(compression, &body) == piece, "{name}");
        if let Some(read) = tool(name, &body) {
            assert!(read == piece, "{name}");
        }
    }
}

#[test]
fn encode_same_rows_again_gives_same_bytes_whatever_came_between() {
    let mut encoder = Encoder::new();
    let piece = framed(Format::Ndjson, &log_lines(5000));
    for compression in ALL {
        let (first, _) = encode(&mut encoder, Format::Ndjson, compression, std::slice::from_ref(&piece));
        for other in [Compression::Zstd { level: 9 }, Compression::Gzip { level: 9 }] {
            encode(&mut encoder, Format::JsonArray, other, &[b"1,2,".to_vec()]);
        }
        let (again, _) = encode(&mut encoder, Format::Ndjson, compression, std::slice::from_ref(&piece));
        assert!(first == again, "{compression:?}");
    }
}

#[test]
fn encode_after_a_failed_object_starts_clean() {
    let mut encoder = Encoder::new();
    let piece = framed(Format::Ndjson, &log_lines(50_000));
    for compression in ALL {
        let broken = [Ok(piece.clone()), Err(io::Error::other("disk"))];
        let failed = encoder.encode(Format::Ndjson, compression, None, broken, &mut Vec::new());
        assert_eq!(failed.unwrap_err().to_string(), "disk");
        let (body, _) = encode(&mut encoder, Format::Ndjson, compression, std::slice::from_ref(&piece));
        assert!(decode(compression, &body) == piece, "{compression:?}");
    }
}

#[test]
fn encode_piece_without_separator_refused() {
    for format in [Format::Raw, Format::Ndjson, Format::JsonArray] {
        let pieces = [Ok(b"{}".as_slice())];
        let result = Encoder::new().encode(format, Compression::None, None, pieces, &mut Vec::new());
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn encode_announced_size_wrong_refused() {
    for compression in ALL {
        for announced in [1, 1000] {
            let pieces = [Ok(b"{}\n".as_slice())];
            let mut encoder = Encoder::new();
            let result =
                encoder.encode(Format::Ndjson, compression, Some(announced), pieces, &mut Vec::new());
            assert!(result.is_err(), "{compression:?} {announced}");
        }
    }
}

#[test]
fn encode_writer_full_is_an_error() {
    let mut space = [0_u8; 10];
    let piece = framed(Format::Ndjson, &log_lines(100));
    for compression in ALL {
        let result =
            Encoder::new().encode(Format::Ndjson, compression, None, [Ok(&piece)], &mut space.as_mut_slice());
        assert!(result.is_err(), "{compression:?}");
    }
}

proptest! {
    #[test]
    fn encode_any_rows_cut_anywhere_reads_back(
        rows in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..60),
        cut in 1..20_usize,
        codec in 0..ALL.len(),
    ) {
        let mut encoder = Encoder::new();
        for format in [Format::Verbatim, Format::Raw, Format::JsonArray] {
            let pieces: Vec<_> = rows.chunks(cut).map(|rows| framed(format, rows)).collect();
            let (body, encoded) = encode(&mut encoder, format, ALL[codec], &pieces);
            let expected = match format {
                Format::JsonArray => [b"[".as_slice(), &rows.join(&b','), b"]"].concat(),
                _ => framed(format, &rows),
            };
            prop_assert_eq!(decode(ALL[codec], &body), expected);
            prop_assert_eq!(encoded.raw_bytes, format.object_bytes(framed(format, &rows).len() as u64));
        }
    }
}
