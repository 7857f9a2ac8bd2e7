//! Objects as Amazon Data Firehose writes them, read by Python's own `zipfile`, by `unzip`, and by libraries of Python
//! that read the JVM's framings of snappy: python-snappy (Hadoop's) and kafka-python (snappy-java's). Also what stands
//! in the bytes themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says what it left out")]

use std::io;
use std::path::Path;
use std::process::Command;

use wasmill_encode::{Compression, Encoder, Format};

/// Some hundred KiB in pieces, so that blocks end inside pieces and rows.
fn pieces() -> Vec<Vec<u8>> {
    (0..90).map(|n| format!("{{\"row\":{n},\"path\":\"/{}\"}}", n * 7919 % 1000).repeat(100).into()).collect()
}

fn object(compression: Compression, announced: bool, pieces: &[Vec<u8>]) -> Vec<u8> {
    let size = announced.then(|| pieces.iter().map(|piece| piece.len() as u64).sum());
    let mut out = Vec::new();
    Encoder::new().encode(Format::Verbatim, compression, size, pieces.iter().map(Ok), &mut out).unwrap();
    out
}

/// What a program writes to its standard output; `None`: it is not installed.
fn output(command: &mut Command) -> Option<Vec<u8>> {
    let output = command.output().ok()?;
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

/// What a program of Python, with the libraries of `cargo xtask test`, makes of a file.
fn python(program: &str, libraries: bool, file: &Path) -> Option<Vec<u8>> {
    let mut command = Command::new("python3");
    command.arg("-c").arg(format!("import sys\nbody = open(sys.argv[1], 'rb').read()\n{program}")).arg(file);
    if libraries {
        let Some(readers) = std::env::var_os("WASMILL_READERS") else {
            println!("skipped: WASMILL_READERS is not set; `cargo xtask test` sets it");
            return None;
        };
        command.env("PYTHONPATH", readers);
    }
    output(&mut command)
}

#[test]
fn zip_of_known_and_unknown_size_is_read_by_python_and_unzip() {
    let dir = tempfile::tempdir().unwrap();
    for (announced, pieces) in [(true, pieces()), (false, pieces()), (true, vec![]), (false, vec![])] {
        let file = dir.path().join("object.zip");
        std::fs::write(&file, object(Compression::Zip, announced, &pieces)).unwrap();
        let program = "import zipfile\nwith zipfile.ZipFile(sys.argv[1]) as archive:\n    \
            assert archive.testzip() is None\n    [entry] = archive.infolist()\n    \
            assert entry.compress_type == zipfile.ZIP_DEFLATED and entry.date_time == (1980, 1, 1, 0, 0, 0)\n    \
            assert entry.external_attr >> 16 == 0o100644\n    sys.stdout.buffer.write(archive.read(entry))";
        if let Some(read) = python(program, false, &file) {
            assert!(read == pieces.concat(), "announced: {announced}");
        }
        if let Some(read) = output(Command::new("unzip").arg("-p").arg(&file)) {
            assert!(read == pieces.concat(), "announced: {announced}");
        }
        if let Some(said) = output(Command::new("unzip").arg("-tq").arg(&file)) {
            assert!(String::from_utf8_lossy(&said).contains("No errors detected"));
        }
    }
}

#[test]
fn zip_entry_has_a_uuid_that_follows_from_the_content() {
    let name = |pieces: &[Vec<u8>]| {
        let body = object(Compression::Zip, true, pieces);
        zip::ZipArchive::new(io::Cursor::new(body)).unwrap().by_index(0).unwrap().name().unwrap().into_owned()
    };
    let whole = pieces().concat();
    let one = name(std::slice::from_ref(&whole));
    assert_eq!(one, name(&pieces()), "cut otherwise");
    assert_ne!(one, name(&[whole[1..].to_vec()]));
    assert_ne!(name(&[]), name(&[b"x".to_vec()]));
    let parts: Vec<usize> = one.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12]);
    assert_eq!((&one[14..15], "89ab".contains(&one[19..20])), ("8", true), "{one}");
}

#[test]
fn zip_of_unknown_size_has_its_sizes_in_the_structures_of_zip64() {
    let size = pieces().concat().len() as u64;
    let body = object(Compression::Zip, false, &pieces());
    // From the end: the end record (22), the locator (20), the ZIP64 end record (56), the entry (46 + 36 + 20),
    // the data descriptor (24).
    let at = |from_end: usize, bytes: usize| {
        let start = body.len() - from_end;
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(&body[start..start + bytes]);
        u64::from_le_bytes(number)
    };
    let bytes = body.len() as u64;
    let packed = bytes - 22 - 20 - 56 - 102 - 24 - (30 + 36 + 20);
    let signatures = (at(22, 4), at(42, 4), at(98, 4), at(200, 4), at(224, 4));
    assert_eq!(signatures, (0x0605_4b50, 0x0706_4b50, 0x0606_4b50, 0x0201_4b50, 0x0807_4b50));
    assert_eq!((at(216, 8), at(208, 8)), (packed, size), "descriptor");
    assert_eq!((at(200 - 20, 4), at(200 - 24, 4)), (0xffff_ffff, 0xffff_ffff), "entry");
    assert_eq!((at(98 + 16, 8), at(98 + 8, 8)), (size, packed), "the entry's ZIP64 field");
    assert_eq!(at(98 - 48, 8), bytes - 200, "where the directory is");
    assert_eq!(at(42 - 8, 8), bytes - 98, "where the ZIP64 end record is");
    // Announced, the same content has the plain structures, which are shorter.
    let plain = object(Compression::Zip, true, &pieces());
    assert_eq!(bytes - plain.len() as u64, 20 + 8 + 20 + 56 + 20);
}

#[test]
fn zip_that_fails_in_the_middle_is_no_archive() {
    let broken = [Ok(vec![b'x'; 1 << 20]), Err(io::Error::other("disk"))];
    let mut out = Vec::new();
    let failed = Encoder::new().encode(Format::Verbatim, Compression::Zip, None, broken, &mut out);
    assert_eq!(failed.unwrap_err().to_string(), "disk");
    assert!(zip::ZipArchive::new(io::Cursor::new(out)).is_err());
}

#[test]
fn snappy_java_is_read_by_kafka_python() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("object");
    for pieces in [pieces(), vec![b"one short row".to_vec()], vec![vec![7; 32 << 10]]] {
        std::fs::write(&file, object(Compression::SnappyJava, true, &pieces)).unwrap();
        let program = "import kafka.codec\nassert kafka.codec._detect_xerial_stream(body)\n\
            sys.stdout.buffer.write(kafka.codec.snappy_decode(body))";
        if let Some(read) = python(program, true, &file) {
            assert!(read == pieces.concat());
        }
    }
}

#[test]
fn hadoop_snappy_is_read_by_python_snappy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("object");
    for pieces in [pieces(), vec![b"one short row".to_vec()], vec![vec![7; 32 << 10]], vec![]] {
        std::fs::write(&file, object(Compression::HadoopSnappy, true, &pieces)).unwrap();
        let program = "import io, snappy.snappy\n\
            snappy.snappy.hadoop_stream_decompress(io.BytesIO(body), sys.stdout.buffer)";
        if let Some(read) = python(program, true, &file) {
            assert!(read == pieces.concat());
        }
    }
}

#[test]
fn snappy_blocks_have_32_kib_and_lengths_with_the_high_byte_first() {
    let body = object(Compression::SnappyJava, true, &pieces());
    assert_eq!(body[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    let hadoop = object(Compression::HadoopSnappy, true, &pieces());
    assert_eq!(hadoop[..4], [0, 0, 0x80, 0]);
    let first = u32::from_be_bytes(hadoop[4..8].try_into().unwrap()) as usize;
    assert_eq!(hadoop[4..8 + first], body[16..20 + first], "both hold the same blocks");
    assert_eq!(object(Compression::SnappyJava, true, &[]).len(), 16);
    assert!(object(Compression::HadoopSnappy, true, &[]).is_empty());
}
