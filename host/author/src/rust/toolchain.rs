//! Finds, or where it may installs, a compiler that can build Wasm.
//!
//! In this order: a Wasm target that the current Rust already has; Debian's `rustc-web` with the standard
//! library's source, when it is installed already; `rustup target add`, bounded in time; Debian's packages
//! through apt (only as root). It says what it does and why, and when nothing works, what a person can do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;

/// A compiler for Wasm and how to call it.
pub enum Toolchain {
    /// The current Rust has the target's standard library.
    Installed { target: &'static str },
    /// Debian's compiler, which builds the standard library from its source package.
    Debian { linker: PathBuf },
}

const TARGETS: [&str; 2] = ["wasm32-unknown-unknown", "wasm32-wasip2"];
pub(super) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
pub(super) const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const RUSTUP_LIMIT: Duration = Duration::from_secs(180);

/// The cargo that runs this program, else the one on the path.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Optimised for speed: plugins run on every record, and are built seldom.
const RUSTFLAGS: [&str; 2] = [
    "-Ctarget-feature=+simd128,+bulk-memory,+sign-ext,+nontrapping-fptoint,+mutable-globals",
    "-Cpanic=abort",
];
const PROFILE: [(&str, &str); 6] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "debuginfo"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
];

impl Toolchain {
    /// A toolchain that works here, installed first if need be.
    pub fn prepare() -> Result<Toolchain> {
        if let Some(found) = Toolchain::present() {
            return Ok(found);
        }
        if let Some(found) = add_with_rustup()? {
            return Ok(found);
        }
        if let Some(found) = add_with_apt()? {
            return Ok(found);
        }
        bail!("no compiler for Wasm. Plugins are Wasm components, so one of these is needed: {}", how());
    }

    /// A toolchain that works here, without installing anything.
    pub fn present() -> Option<Toolchain> {
        installed().or_else(debian)
    }

    /// The same, or what to do.
    pub fn required() -> Result<Toolchain> {
        Toolchain::present()
            .with_context(|| format!("this Rust cannot build Wasm; one of these is needed: {}", how()))
    }

    /// `cargo build` for Wasm, into the given target directory; packages are the caller's to add.
    pub fn build_command(&self, wasm_dir: &Path) -> Command {
        let mut command = match self {
            Toolchain::Installed { .. } => cargo(),
            Toolchain::Debian { .. } => Command::new(DEBIAN_CARGO),
        };
        release(&mut command, self.target(), wasm_dir);
        command.env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
        if let Toolchain::Debian { linker } = self {
            with_std(&mut command, DEBIAN_RUSTC);
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        command
    }

    /// The target triple, which is also the name of the directory below the target directory.
    pub fn target(&self) -> &'static str {
        match self {
            Toolchain::Installed { target } => target,
            Toolchain::Debian { .. } => TARGETS[0],
        }
    }

    /// One line for the user.
    pub fn described(&self) -> String {
        match self {
            Toolchain::Installed { target } => format!("the installed Rust with target {target}"),
            Toolchain::Debian { .. } => {
                format!(
                    "Debian's {DEBIAN_RUSTC} (package rustc-web), which builds the standard library for Wasm too"
                )
            }
        }
    }
}

/// A release build for a target, untouched by what the environment says about flags.
pub(super) fn release(command: &mut Command, target: &str, wasm_dir: &Path) {
    command.args(["build", "--release", "--target", target]).arg("--target-dir").arg(wasm_dir);
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "RUSTDOCFLAGS",
    ] {
        command.env_remove(name);
    }
    command.envs(PROFILE);
}

/// The standard library is built too.
pub(super) fn with_std(command: &mut Command, rustc: &str) {
    // No features of its own: what it could print of a panic's stack, the host prints.
    command.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features="]);
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", rustc);
}

/// What a person can do to get a toolchain.
pub fn how() -> String {
    format!(
        "rustup target add {}, or on Debian as root apt-get install --no-install-recommends {}",
        TARGETS[0],
        DEBIAN_PACKAGES.join(" ")
    )
}

/// Makes a build of [`Toolchain::build_command`] keep what names files and lines in one package. All others stay as they
/// are, so that a build with it and one without share them: the standard library takes longer than everything else.
pub fn with_debug(command: &mut Command, package: &str) {
    for setting in ["debug = \"line-tables-only\"", "strip = \"none\""] {
        command.arg("--config").arg(format!("profile.release.package.{package:?}.{setting}"));
    }
}

fn installed() -> Option<Toolchain> {
    TARGETS.iter().find(|target| sysroot_has(target)).map(|target| Toolchain::Installed { target })
}

/// Whether the current Rust has the standard library of a target.
pub(super) fn sysroot_has(target: &str) -> bool {
    let sysroot = process::output_of(rustc().args(["--print", "sysroot"]));
    sysroot.is_some_and(|sysroot| Path::new(&sysroot).join("lib/rustlib").join(target).join("lib").is_dir())
}

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// Debian's compiler, when everything that it needs is installed.
pub(super) fn debian() -> Option<Toolchain> {
    let sysroot = process::output_of(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]))?;
    let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/std");
    let complete = Path::new(DEBIAN_CARGO).is_file() && source.is_dir();
    if !complete || !knows_wasm(DEBIAN_RUSTC) {
        return None;
    }
    Some(Toolchain::Debian { linker: wasm_linker()? })
}

fn knows_wasm(rustc: &str) -> bool {
    let targets = process::output_of(Command::new(rustc).args(["--print", "target-list"]));
    targets.is_some_and(|targets| targets.lines().any(|target| target == TARGETS[0]))
}

/// `rust-lld`: of the current toolchain, of any other toolchain of rustup, of Debian's packages.
fn wasm_linker() -> Option<PathBuf> {
    let current = process::output_of(rustc().args(["--print", "sysroot"])).map(PathBuf::from);
    let rustup_home = std::env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".rustup"))
    });
    let others = rustup_home.map(|home| subdirectories(&home.join("toolchains"))).unwrap_or_default();
    let sysroots = current.into_iter().chain(others).chain([PathBuf::from("/usr")]);
    sysroots
        .flat_map(|sysroot| subdirectories(&sysroot.join("lib/rustlib")))
        .map(|host| host.join("bin/rust-lld"))
        .find(|file| file.is_file())
        .or_else(|| process::on_path("rust-lld"))
}

pub(super) fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

fn add_with_rustup() -> Result<Option<Toolchain>> {
    Ok(if add_target(TARGETS[0])? { installed() } else { None })
}

/// Whether rustup added a target to the current Rust.
pub(super) fn add_target(target: &str) -> Result<bool> {
    if process::on_path("rustup").is_none() {
        return Ok(false);
    }
    eprintln!("plugins: this Rust has no target for Wasm; trying `rustup target add {target}`");
    let mut command = Command::new("rustup");
    // The toolchain that runs this program, not one that a directory override would choose.
    command.args(["target", "add", target]);
    match process::run_within(&mut command, RUSTUP_LIMIT)? {
        Some(status) if status.success() => Ok(true),
        Some(status) => {
            eprintln!("plugins: rustup could not add it ({status})");
            Ok(false)
        }
        None => {
            eprintln!("plugins: rustup was not done after {} s and was stopped", RUSTUP_LIMIT.as_secs());
            Ok(false)
        }
    }
}

fn add_with_apt() -> Result<Option<Toolchain>> {
    if process::on_path("apt-get").is_none() {
        return Ok(None);
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("plugins: Debian's packages would do, but installing them needs root");
        return Ok(None);
    }
    eprintln!(
        "plugins: installing Debian's {} (about 400 MB): a compiler that can build Wasm, and the source of \
         the standard library for it",
        DEBIAN_PACKAGES.join(", ")
    );
    if !apt_install(&DEBIAN_PACKAGES)? {
        return Ok(None);
    }
    let found = debian();
    if found.is_none() && wasm_linker().is_none() {
        eprintln!("plugins: the packages are there, but no rust-lld was found (it is part of rustup's Rust)");
    }
    Ok(found)
}

/// Installs Debian packages without asking. `false` = apt refused; its own message has been shown.
pub fn apt_install(packages: &[&str]) -> Result<bool> {
    let update = apt(&["update", "-qq"]).status().context("run apt-get update")?;
    if !update.success() {
        eprintln!("apt-get update failed ({update}); trying with the lists that are here");
    }
    let arguments: Vec<&str> = ["install", "-y", "-qq", "--no-install-recommends"]
        .into_iter()
        .chain(packages.iter().copied())
        .collect();
    Ok(apt(&arguments).status().context("run apt-get install")?.success())
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    command
}
