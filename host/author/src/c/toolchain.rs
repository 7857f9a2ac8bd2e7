//! Finds, or where it may installs, a compiler of C and C++ for Wasm, and one for this machine.
//!
//! Ways, in this order: a clang on the path that has a C library for Wasm (Debian's packages, the WASI SDK); zig, which
//! brings its own, on the path or in the cache of tools. To install: Debian's packages through apt (only as root), else
//! zig from PyPI. A clang is believed when it has linked a small program, not by its version.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Dialect;
use crate::rust::toolchain::apt_install;
use crate::{process, tools};

const DEBIAN_PACKAGES: [&str; 6] = [
    "clang-19",
    "lld-19",
    "wasi-libc",
    "libclang-rt-19-dev-wasm32",
    "libc++-19-dev-wasm32",
    "libc++abi-19-dev-wasm32",
];
/// Names of clang, the newest that Debian has first.
const CLANGS: [&str; 6] = ["clang", "clang-21", "clang-20", "clang-19", "clang-18", "clang-17"];
/// The package `ziglang` of PyPI is the compiler itself, for every platform.
const ZIG: &str = "ziglang";
const ZIG_VERSION: &str = "0.17.1";

/// A compiler for Wasm.
#[derive(Clone, Debug)]
pub(super) enum Toolchain {
    Clang { program: PathBuf, target: &'static str },
    Zig { program: PathBuf },
}

/// What a person can do to get a compiler.
pub(super) fn how() -> String {
    format!(
        "`wasmill plugin build --install`, or on Debian as root `apt-get install --no-install-recommends {}`, or zig from \
         https://ziglang.org on the path",
        DEBIAN_PACKAGES.join(" ")
    )
}

impl Toolchain {
    /// A compiler that works here, without installing anything.
    pub(super) fn present(dialect: Dialect) -> Option<Toolchain> {
        clang(dialect).or_else(zig)
    }

    pub(super) fn required(dialect: Dialect) -> Result<Toolchain> {
        match Toolchain::present(dialect) {
            Some(found) => Ok(found),
            None => bail!("no compiler of C and C++ for Wasm was found: {}", how()),
        }
    }

    /// A compiler that works here, installed first if need be.
    pub(super) fn prepare(dialect: Dialect) -> Result<Toolchain> {
        if let Some(found) = Toolchain::present(dialect) {
            return Ok(found);
        }
        if process::on_path("apt-get").is_some() && rustix::process::geteuid().is_root() {
            eprintln!(
                "plugins: installing Debian's {} (about 600 MB): a compiler that can build Wasm, and its libraries",
                DEBIAN_PACKAGES.join(", ")
            );
            if apt_install(&DEBIAN_PACKAGES)?
                && let Some(found) = clang(dialect)
            {
                return Ok(found);
            }
        }
        tools::installed(ZIG, ZIG_VERSION, |dir| {
            eprintln!(
                "plugins: installing {ZIG} {ZIG_VERSION} from PyPI (about 100 MB) into {}",
                dir.display()
            );
            let mut pip = Command::new("python3");
            // Run as root it would warn of what does not matter in a directory of its own.
            pip.env("PIP_ROOT_USER_ACTION", "ignore");
            pip.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--disable-pip-version-check",
                "--target",
            ]);
            pip.arg(dir).arg(format!("{ZIG}=={ZIG_VERSION}"));
            process::run_tool(&mut pip).context("get zig with Python's pip")
        })?;
        Toolchain::required(dialect)
    }

    pub(super) fn described(&self) -> String {
        match self {
            Toolchain::Clang { program, target } => format!("{} with target {target}", program.display()),
            Toolchain::Zig { program } => format!("{} cc", program.display()),
        }
    }

    /// As build scripts take a compiler, which name the target themselves.
    pub(super) fn freestanding(&self) -> String {
        match self {
            Toolchain::Clang { program, .. } => program.display().to_string(),
            Toolchain::Zig { program } => format!("{} cc", program.display()),
        }
    }

    /// A plugin's stack lies below its data, so that what overflows it traps. Zig does that by itself.
    pub(super) fn stack_first(&self) -> &'static [&'static str] {
        match self {
            Toolchain::Clang { .. } => &["-Wl,--stack-first"],
            Toolchain::Zig { .. } => &[],
        }
    }

    /// A call of the compiler for Wasm.
    pub(super) fn compiler(&self, cpp: bool) -> Command {
        match self {
            Toolchain::Clang { program, target } => {
                let mut command = Command::new(program);
                if cpp {
                    command.arg("--driver-mode=g++");
                }
                command.arg(format!("--target={target}"));
                command
            }
            Toolchain::Zig { program } => {
                let mut command = Command::new(program);
                command.args([if cpp { "c++" } else { "cc" }, "-target", "wasm32-wasi"]);
                command
            }
        }
    }
}

/// A clang that links a program of the language for Wasm.
fn clang(dialect: Dialect) -> Option<Toolchain> {
    let sdk = std::env::var_os("WASI_SDK_PATH").map(|dir| PathBuf::from(dir).join("bin").join("clang"));
    let programs = sdk.into_iter().chain(CLANGS.iter().filter_map(|name| process::on_path(name)));
    for program in programs {
        // What Debian calls wasm32-wasi is wasm32-wasip1 for newer ones.
        for target in ["wasm32-wasi", "wasm32-wasip1"] {
            let toolchain = Toolchain::Clang { program: program.clone(), target };
            if links(&toolchain, dialect) {
                return Some(toolchain);
            }
        }
    }
    None
}

fn links(toolchain: &Toolchain, dialect: Dialect) -> bool {
    let (language, header) = match dialect {
        Dialect::C => ("c", "string.h"),
        Dialect::Cpp => ("c++", "string"),
    };
    let Ok(dir) = Scratch::new() else { return false };
    let source = dir.0.join("probe");
    if std::fs::write(&source, format!("#include <{header}>\nint main(void) {{ return 0; }}\n")).is_err() {
        return false;
    }
    let mut command = toolchain.compiler(dialect == Dialect::Cpp);
    command.args(["-x", language]).arg(&source).arg("-o").arg(dir.0.join("probe.wasm"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A directory that goes when it is no longer needed.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Scratch> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("wasmill-c-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir)?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is a few bytes in the directory for such things.
        let _ignored = std::fs::remove_dir_all(&self.0);
    }
}

fn zig() -> Option<Toolchain> {
    let cached = tools::dir(ZIG, ZIG_VERSION).ok().map(|dir| dir.join(ZIG).join("zig"));
    let program = process::on_path("zig").or_else(|| cached.filter(|file| file.is_file()))?;
    Some(Toolchain::Zig { program })
}

/// A call of the compiler for this machine: `CC` or `CXX`, what the system calls `cc` or `c++`, any clang, or zig.
pub(super) fn native(cpp: bool) -> Result<Command> {
    let (variable, usual) = if cpp { ("CXX", "c++") } else { ("CC", "cc") };
    if let Some(named) = std::env::var_os(variable).filter(|named| !named.is_empty()) {
        return Ok(Command::new(named));
    }
    if let Some(program) = process::on_path(usual) {
        return Ok(Command::new(program));
    }
    if let Some(program) = CLANGS.iter().find_map(|name| process::on_path(name)) {
        let mut command = Command::new(program);
        if cpp {
            command.arg("--driver-mode=g++");
        }
        return Ok(command);
    }
    if let Some(Toolchain::Zig { program }) = zig() {
        let mut command = Command::new(program);
        command.arg(if cpp { "c++" } else { "cc" });
        return Ok(command);
    }
    bail!(
        "no compiler for this machine: there is no `{usual}`, clang or zig on the path, and {variable} is not set"
    )
}
