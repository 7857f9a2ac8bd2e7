//! `wasmill plugin keygen|sign|verify`: who let a plugin file pass.
//!
//! Owns files alone: a private key that only its owner may read, never one over another; a signature beside the plugin.
//! No private key is ever printed.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use wasmill_author::component;
use wasmill_catalog::{PublicKey, SigningKey, SigningPolicy};
use wasmill_transform::Digest;

use crate::cli::output;

/// Of a private key in PEM and of a signature file.
const TEXT_BYTES_MAX: u64 = 16 << 10;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The public key goes to stdout, for \"keys\" in [signing] or [tenants.NAME.signing] of a host. The private key is\n\
    PKCS#8 in PEM and can be read by its owner alone; keep it away from the hosts.\n\n\
    Example:\n  \
    wasmill plugin keygen --output release.pem"
)]
pub(in crate::cli) struct Keygen {
    /// Where the private key goes; a file that is there is never replaced
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Writes PLUGIN.wasm.sig beside the file; hosts take both together. A file that changes needs a new signature.\n\n\
    Examples:\n  \
    wasmill plugin sign --key release.pem plugins/geo.wasm\n  \
    wasmill plugin sign --key next.pem --add plugins/geo.wasm    # while keys change"
)]
pub(in crate::cli) struct Sign {
    /// The private key (PEM)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Keep the signatures that are there
    #[arg(long)]
    add: bool,
    /// The plugin file
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The exit code is 1 if PLUGIN.wasm.sig has no signature by one of these keys over the file.\n\n\
    Example:\n  \
    wasmill plugin verify --key ed25519:GeMTZfgKjUw6jQyc3gpP6J5zBG2GQy2vGkbWmOVyCKk= plugins/geo.wasm"
)]
pub(in crate::cli) struct Verify {
    /// A public key; may be given more than once
    #[arg(long, value_name = "KEY", required = true)]
    key: Vec<String>,
    /// The plugin file
    file: PathBuf,
}

pub(super) fn keygen(arguments: &Keygen) -> Result<ExitCode> {
    let file = &arguments.output;
    let pem = SigningKey::generate()?;
    let key = SigningKey::from_pem(&pem)?;
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("make {}", file.display()))?;
    opened
        .write_all(pem.as_bytes())
        .and_then(|()| opened.sync_all())
        .with_context(|| format!("write {}", file.display()))?;
    output::print(&format!("{}\n", key.public()))
}

pub(super) fn sign(arguments: &Sign) -> Result<ExitCode> {
    let Sign { key, add, file } = arguments;
    let signing = SigningKey::from_pem(&text(key)?).with_context(|| key.display().to_string())?;
    let digest = Digest::of(&super::read(file)?);
    let beside = signature_file(file);
    let line = signing.sign(digest);
    let mut signatures = match *add && beside.exists() {
        true => text(&beside)?,
        false => String::new(),
    };
    if !signatures.lines().any(|before| before == line.trim_end()) {
        if !signatures.is_empty() && !signatures.ends_with('\n') {
            signatures.push('\n');
        }
        signatures.push_str(&line);
    }
    // A host would not take what does not hold here.
    let policy = SigningPolicy { required: true, keys: vec![signing.public()] };
    policy.check(digest, Some(signatures.as_bytes())).with_context(|| beside.display().to_string())?;
    component::place(&beside, signatures.as_bytes())?;
    output::print(&format!("{} signed as {}\n", file.display(), signing.public()))
}

pub(super) fn verify(arguments: &Verify) -> Result<ExitCode> {
    let Verify { key, file } = arguments;
    let parse = |text: &String| text.parse::<PublicKey>().with_context(|| format!("--key {text}"));
    let keys = key.iter().map(parse).collect::<Result<Vec<_>>>()?;
    let digest = Digest::of(&super::read(file)?);
    let beside = signature_file(file);
    if !beside.exists() {
        bail!("{} is not signed: there is no {}", file.display(), beside.display());
    }
    let signatures = text(&beside)?;
    let by = |key: &&PublicKey| {
        let policy = SigningPolicy { required: true, keys: vec![**key] };
        policy.check(digest, Some(signatures.as_bytes())).is_ok()
    };
    if let Some(key) = keys.iter().find(by) {
        return output::print(&format!("{} ({digest}) is signed by {key}\n", file.display()));
    }
    let policy = SigningPolicy { required: true, keys };
    policy.check(digest, Some(signatures.as_bytes())).with_context(|| file.display().to_string())?;
    bail!("{} has no signature that counts", file.display())
}

fn signature_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// The signatures of a plugin file; empty without any.
pub(super) fn beside(file: &Path) -> Result<String> {
    let beside = signature_file(file);
    if beside.exists() { text(&beside) } else { Ok(String::new()) }
}

/// A small text file.
fn text(file: &Path) -> Result<String> {
    let found = std::fs::metadata(file).with_context(|| format!("read {}", file.display()))?;
    if !found.is_file() || found.len() > TEXT_BYTES_MAX {
        bail!("{} is no file of at most {TEXT_BYTES_MAX} bytes", file.display());
    }
    std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}
