//! Finds, or where it may installs, what builds WASI preview 1 programs: the guests of the tests that are such.
//!
//! In this order: the target of the current Rust; Debian's compiler with its C library for WASI, when they are
//! installed; `rustup target add`; Debian's packages (only as root).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::toolchain::{
    self, DEBIAN_CARGO, DEBIAN_RUSTC, Toolchain, add_target, apt_install, cargo, sysroot_has,
};

pub const TARGET: &str = "wasm32-wasip1";

/// A compiler for such programs.
pub enum Wasip1 {
    /// The current Rust has the target's standard library.
    Installed,
    /// Debian's compiler builds it, over Debian's C library.
    Debian { linker: PathBuf, builtins: PathBuf },
}

const LIBRARY: &str = "/usr/lib/wasm32-wasi";
const DEBIAN_PACKAGES: [&str; 2] = ["wasi-libc", "libclang-rt-19-dev-wasm32"];

impl Wasip1 {
    /// One that works here, installed first if need be.
    pub fn prepare() -> Result<Wasip1> {
        if sysroot_has(TARGET) {
            return Ok(Wasip1::Installed);
        }
        if let Some(found) = debian() {
            return Ok(found);
        }
        if add_target(TARGET)? && sysroot_has(TARGET) {
            return Ok(Wasip1::Installed);
        }
        if matches!(Toolchain::prepare()?, Toolchain::Debian { .. })
            && rustix::process::geteuid().is_root()
            && apt_install(&DEBIAN_PACKAGES)?
            && let Some(found) = debian()
        {
            return Ok(found);
        }
        bail!(
            "no compiler for WASI preview 1; one of these is needed: rustup target add {TARGET}, or on Debian as root \
             apt-get install --no-install-recommends {}",
            DEBIAN_PACKAGES.join(" ")
        )
    }

    /// `cargo build` of such a program, into the given target directory.
    pub fn build_command(&self, wasm_dir: &Path) -> Command {
        let mut command = match self {
            Wasip1::Installed => cargo(),
            Wasip1::Debian { .. } => Command::new(DEBIAN_CARGO),
        };
        toolchain::release(&mut command, TARGET, wasm_dir);
        if let Wasip1::Debian { linker, builtins } = self {
            toolchain::with_std(&mut command, DEBIAN_RUSTC);
            command.env("CARGO_TARGET_WASM32_WASIP1_LINKER", linker);
            let flags = [
                "-Clink-self-contained=no".to_owned(),
                format!("-L{LIBRARY}"),
                format!("-Clink-arg={LIBRARY}/crt1-command.o"),
                format!("-Clink-arg={}", builtins.display()),
            ];
            command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        }
        command
    }
}

fn debian() -> Option<Wasip1> {
    let Some(Toolchain::Debian { linker }) = toolchain::debian() else { return None };
    if !Path::new(LIBRARY).join("crt1-command.o").is_file() {
        return None;
    }
    let llvm = toolchain::subdirectories(Path::new("/usr/lib"));
    let builtins = llvm
        .iter()
        .flat_map(|version| toolchain::subdirectories(&version.join("lib/clang")))
        .map(|clang| clang.join("lib/wasi/libclang_rt.builtins-wasm32.a"))
        .find(|file| file.is_file())?;
    Some(Wasip1::Debian { linker, builtins })
}
