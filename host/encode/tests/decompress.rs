//! Bodies that clients may send: honest ones of several frames, and bombs, cut and padded ones.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::Write;

use proptest::prelude::*;
use wasmill_encode::{DecodeError, Decompressor, Encoding, ZSTD_WINDOW_LOG_MAX, decompress};

const CODECS: [Encoding; 2] = [Encoding::Gzip, Encoding::Zstd];

fn compress(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Identity => bytes.to_vec(),
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

fn run(encoding: Encoding, body: &[u8], cap: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    decompress(encoding, body, cap, &mut out).map(|()| out)
}

fn text() -> Vec<u8> {
    (0..20_000).flat_map(|n| format!("line {} of the body\n", n * 31 % 977).into_bytes()).collect()
}

fn is_corrupt(result: &Result<Vec<u8>, DecodeError>) -> bool {
    matches!(result, Err(DecodeError::Corrupt { .. }))
}

#[test]
fn decompress_several_frames_and_members_are_one_body() {
    for encoding in CODECS {
        let parts: [&[u8]; 4] = [b"one ", b"", &text(), b"end"];
        let body: Vec<u8> = parts.iter().flat_map(|part| compress(encoding, part)).collect();
        assert!(run(encoding, &body, 1 << 20) == Ok(parts.concat()), "{encoding:?}");
    }
}

#[test]
fn decompress_exactly_the_cap_passes_and_one_more_is_refused() {
    for size in [0, 1, 65_535, 65_536, 65_537, 131_072, 400_000] {
        let plain = vec![b'x'; size];
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
            let body = compress(encoding, &plain);
            assert!(run(encoding, &body, size) == Ok(plain.clone()), "{encoding:?} {size}");
            if let Some(cap) = size.checked_sub(1) {
                assert_eq!(run(encoding, &body, cap), Err(DecodeError::TooLarge { cap }), "{encoding:?}");
            }
        }
    }
}

#[test]
fn decompress_bomb_stops_at_the_cap_and_leaves_no_bytes() {
    let plain = vec![0; 256 << 20];
    for encoding in CODECS {
        let body = compress(encoding, &plain);
        assert!(body.len() < 3 << 20);
        let mut out = b"before".to_vec();
        let error = decompress(encoding, &body, 1 << 20, &mut out).unwrap_err();
        assert_eq!(error, DecodeError::TooLarge { cap: 1 << 20 });
        assert_eq!(out, b"before");
        assert!(out.capacity() <= 4 << 20, "{}", out.capacity());
    }
}

#[test]
fn decompress_zstd_window_past_the_limit_refused() {
    let window = |log| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(b"small").unwrap();
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(run(Encoding::Zstd, &window(ZSTD_WINDOW_LOG_MAX), 100), Ok(b"small".to_vec()));
    assert!(is_corrupt(&run(Encoding::Zstd, &window(ZSTD_WINDOW_LOG_MAX + 1), 100)));
}

#[test]
fn decompress_claimed_content_size_allocates_nothing() {
    // A frame header that claims 2^60 bytes of content in a window of 1 MiB.
    let mut body = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1100_0000, 0x50];
    body.extend_from_slice(&(1_u64 << 60).to_le_bytes());
    let mut out = Vec::new();
    assert!(decompress(Encoding::Zstd, &body, 1 << 20, &mut out).is_err());
    assert!(out.capacity() <= 4 << 20);
}

#[test]
fn decompress_cut_anywhere_refused() {
    let plain = text();
    for encoding in CODECS {
        let body = compress(encoding, &plain);
        for cut in (0..40).chain((40..body.len()).step_by(97)).chain(body.len() - 12..body.len()) {
            assert!(is_corrupt(&run(encoding, &body[..cut], 1 << 20)), "{encoding:?} cut at {cut}");
        }
    }
}

#[test]
fn decompress_error_says_what_is_wrong() {
    let reason = |encoding, body: &[u8]| match run(encoding, body, 1 << 20) {
        Err(DecodeError::Corrupt { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    for (encoding, name) in [(Encoding::Gzip, "gzip"), (Encoding::Zstd, "zstd")] {
        for plain in
            [&b"{"[..], b"{}\n", b"{\"a\":1}\n{\"a\":2}\n", &[0x1f, 0x8c, 0, 0], &[0x28, 0xb5, 0x2f, 0xfe]]
        {
            let said = reason(encoding, plain);
            assert!(said.starts_with(&format!("it does not begin as {name} does, but with")), "{said}");
        }
        assert_eq!(reason(encoding, b""), "it is empty");
        let body = compress(encoding, &text());
        for cut in [1, 2, 3, 10, 1000, body.len() - 9, body.len() - 1] {
            assert_eq!(reason(encoding, &body[..cut]), "it ends too early", "{name} cut at {cut}");
        }
        for garbage in [&b"\0"[..], b"\n", b"{}\n", &[0; 512]] {
            let padded = [&body, garbage].concat();
            let expected =
                format!("bytes follow its end, which is at byte {} of {}", body.len(), padded.len());
            assert_eq!(reason(encoding, &padded), expected);
            let second = [&body[..], &body, garbage].concat();
            let expected =
                format!("bytes follow its end, which is at byte {} of {}", 2 * body.len(), second.len());
            assert_eq!(reason(encoding, &second), expected);
        }
        // The beginning of another member or frame is one that was cut.
        let begun = [&body[..], &body[..2]].concat();
        assert_eq!(reason(encoding, &begun), "it ends too early");
        let mut damaged = body.clone();
        let last = damaged.len() - 5;
        damaged[last] ^= 1;
        let said = reason(encoding, &damaged);
        assert!(!said.contains("ends") && !said.contains("begin"), "{said}");
    }
}

#[test]
fn decompress_trailing_garbage_refused() {
    for encoding in CODECS {
        for garbage in [&b"\0"[..], b"x", b"{}\n", &[0; 512], &[0x1f, 0x8b], &[0x28, 0xb5]] {
            let body = [compress(encoding, b"fine"), garbage.to_vec()].concat();
            assert!(is_corrupt(&run(encoding, &body, 100)), "{encoding:?} {garbage:?}");
        }
    }
}

#[test]
fn decompress_flipped_bit_never_gives_other_bytes() {
    let plain = text();
    for encoding in CODECS {
        let body = compress(encoding, &plain);
        for at in (10..body.len()).step_by(173) {
            let mut broken = body.clone();
            broken[at] ^= 4;
            if let Ok(out) = run(encoding, &broken, 1 << 20) {
                assert!(out == plain, "{encoding:?} flipped at {at}");
            }
        }
    }
}

#[test]
fn decompressor_after_an_error_starts_clean() {
    let mut decompressor = Decompressor::new();
    let body = compress(Encoding::Zstd, &text());
    for _ in 0..3 {
        let mut out = Vec::new();
        assert!(decompressor.decompress(Encoding::Zstd, &body[..body.len() / 2], 1 << 20, &mut out).is_err());
        decompressor.decompress(Encoding::Zstd, &body, 1 << 20, &mut out).unwrap();
        assert!(out == text());
    }
}

#[test]
fn encoding_from_header_knows_names_in_any_case() {
    assert_eq!(Encoding::from_header(" GZip "), Some(Encoding::Gzip));
    assert_eq!(Encoding::from_header("zstd"), Some(Encoding::Zstd));
    assert_eq!(Encoding::from_header("identity"), Some(Encoding::Identity));
    assert_eq!(Encoding::from_header("br"), None);
    assert_eq!(Encoding::from_header("gzip, zstd"), None);
}

proptest! {
    #[test]
    fn decompress_any_bytes_never_passes_the_cap(body: Vec<u8>, cap in 0..200_usize, codec in 0..2_usize) {
        if let Ok(out) = run(CODECS[codec], &body, cap) {
            prop_assert!(out.len() <= cap);
        }
    }

    #[test]
    fn decompress_any_damage_never_passes_the_cap(at: prop::sample::Index, byte: u8, codec in 0..2_usize) {
        let mut body = compress(CODECS[codec], &text()[..3000]);
        let at = at.index(body.len());
        body[at] = byte;
        if let Ok(out) = run(CODECS[codec], &body, 3000) {
            prop_assert!(out.len() <= 3000);
        }
    }
}
