//! Plugins of an author who means harm, each with the right answer to it: the one table of what a host must withstand.
//!
//! Owns the attacks and the answers; a test puts each into the stream of a host and compares. An attack that a host
//! answers otherwise is a fault of the host, or of this table, never a reason to leave it out.

mod asking;
mod bombs;
mod boundary;
mod core;
mod files;
mod inside;
mod manifests;

pub use bombs::compile_bomb;

/// What a host must do with a plugin that comes as the next version of a stream's only one.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Refused before anything of it runs: its sections, its imports, its compiler, its manifest. The reason has this text.
    Refused(&'static str),
    /// It does not pass its probe. The reason has this text.
    Unfit(&'static str),
    /// It runs, and a record that it gets becomes a dead letter whose reason has this text.
    Letter(&'static str),
    /// It runs, and a record that it gets is delivered.
    Harmless,
}

/// One hostile plugin.
pub struct Case {
    pub name: String,
    pub wasm: Vec<u8>,
    pub answer: Answer,
}

impl Case {
    fn new(name: &str, answer: Answer, wasm: Vec<u8>) -> Case {
        Case { name: name.to_owned(), wasm, answer }
    }
}

/// What the limits of a transform must be for the answers to hold: all of these are hit.
pub const LIMITS: &str =
    r#"{ memory = "8MiB", deadline = "150ms", configure_deadline = "400ms", output = "1MiB" }"#;

/// The whole corpus. Takes a second or two, and tens of MiB.
pub fn corpus() -> Vec<Case> {
    let mut all = inside::cases();
    all.extend(asking::cases());
    all.extend(boundary::cases());
    all.extend(files::cases());
    all.extend(bombs::cases());
    all.extend(manifests::cases());
    all
}
