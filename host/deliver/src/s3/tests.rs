//! What can be told without a server: how bodies are cut into parts. Deliveries are tested by whole hosts against a real
//! server, in `tests/tests/host/s3.rs`.

use super::PARTS_MAX;
use super::multipart::{Part, parts};

#[test]
fn parts_cover_the_body_once_and_in_order() {
    for (bytes, part_bytes) in [(1, 1), (10, 3), (9, 3), (1 << 20, 5 << 20), (100, 0)] {
        let all: Vec<Part> = parts(bytes, part_bytes).collect();
        let mut end = 0;
        for (number, part) in (1..).zip(&all) {
            assert_eq!((part.number, part.start), (number, end), "{bytes} in {part_bytes}");
            assert!(part.bytes > 0);
            end += part.bytes;
        }
        assert_eq!(end, bytes);
    }
}

#[test]
fn parts_grow_where_there_would_be_too_many() {
    let bytes = PARTS_MAX * 1000 + 1;
    let all: Vec<Part> = parts(bytes, 1).collect();
    assert!(all.len() as u64 <= PARTS_MAX);
    assert_eq!(all.iter().map(|part| part.bytes).sum::<u64>(), bytes);
}
