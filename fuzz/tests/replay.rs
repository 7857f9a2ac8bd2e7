//! Every target over its corpus, and over what a few thousand random changes make of it: the same ones each time.
//!
//! This is fuzzing for where there is no fuzzer. An input that breaks a promise is written to a file, whose name is in
//! the message; it belongs into the corpus once what it found is mended.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wasmill_fuzz::{TARGETS, Target};

/// Changed inputs per target; fewer where the machine is slow.
const ITERATIONS: u32 = 4_000;
const TIME_MAX: Duration = Duration::from_secs(4);
/// Longest input that is made.
const INPUT_MAX: usize = 16 << 10;
/// Most memory of the whole test, in KiB.
const MEMORY_MAX: u64 = 1 << 20;

/// Pieces that random bytes do not find.
const PIECES: [&[u8]; 14] = [
    b"wmFr",
    b"\x28\xb5\x2f\xfd",
    b"\x1f\x8b\x08",
    b"[[",
    b"\"",
    b"{}",
    b"\n",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"[streams.a]\n",
    b"= \"",
    b"\\u",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b",",
];

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end.max(1)
    }
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

fn changed(random: &mut Random, inputs: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = inputs[random.below(inputs.len())].1.clone();
    for _ in 0..1 + random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(64)).min(bytes.len());
        match random.below(8) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            3 => drop(bytes.drain(at..end)),
            4 => bytes.truncate(at),
            5 => drop(bytes.splice(at..at, (0..random.below(32)).map(|_| random.below(256) as u8))),
            6 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            _ => {
                let other = &inputs[random.below(inputs.len())].1;
                let from = random.below(other.len());
                bytes.splice(at..end, other[from..(from + 256).min(other.len())].iter().copied());
            }
        }
    }
    bytes.truncate(INPUT_MAX);
    bytes
}

/// Names the input that fails.
fn attempt(name: &str, target: Target, input: &[u8], of: &str) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-broken"));
        std::fs::write(&file, input).unwrap();
        panic!("{name} is broken by {of}, which is in {}", file.display());
    }
}

fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let inputs = corpus(name);
    assert!(inputs.len() >= 5, "only {} inputs for {name}", inputs.len());
    for (file, input) in &inputs {
        attempt(name, target, input, &file.display().to_string());
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let started = Instant::now();
    let mut done = 0;
    while done < ITERATIONS && (started.elapsed() < TIME_MAX || done < 10) {
        attempt(name, target, &changed(&mut random, &inputs), &format!("change {done}"));
        done += 1;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak = peak.map_or(0, |peak| peak.parse().unwrap());
    assert!(peak < MEMORY_MAX, "{peak} KiB after {name}");
}

#[test]
fn config_keeps_its_promises() {
    replay("config");
}

#[test]
fn decompress_keeps_its_promises() {
    replay("decompress");
}

#[test]
fn doors_keeps_its_promises() {
    replay("doors");
}

#[test]
fn firehose_keeps_its_promises() {
    replay("firehose");
}

#[test]
fn guest_calls_keeps_its_promises() {
    replay("guest_calls");
}

#[test]
fn plugin_output_keeps_its_promises() {
    replay("plugin_output");
}

#[test]
fn push_body_keeps_its_promises() {
    replay("push_body");
}

#[test]
fn segment_reader_keeps_its_promises() {
    replay("segment_reader");
}

#[test]
fn every_target_has_a_corpus_and_a_binary() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |dir: &str| {
        let entries = std::fs::read_dir(folder.join(dir)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names("corpus"), known);
    assert_eq!(names("fuzz_targets"), known);
}
