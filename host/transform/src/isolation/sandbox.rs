//! What a process that runs plugins gives up before it loads the first: files, sockets, programs, threads.
//!
//! Linux alone has what it takes; elsewhere entering fails, and with it the process.

use std::collections::BTreeMap;
use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Of what it may write to its two anonymous files.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Bounds memory and takes the rest away that has a limit. For the whole process.
pub(super) fn limit(memory_bytes: u64) -> io::Result<()> {
    let both = |bound| Rlimit { current: Some(bound), maximum: Some(bound) };
    // Writable private memory; reserved address space is not counted, and the engine reserves much.
    setrlimit(Resource::Data, both(memory_bytes))?;
    setrlimit(Resource::Fsize, both(FILE_BYTES_MAX))?;
    setrlimit(Resource::Core, both(0))?;
    // The three that it was started with.
    setrlimit(Resource::Nofile, both(3))?;
    Ok(())
}

/// Allows all threads of the process what running guests needs, and nothing else, for ever: another system call fails (for
/// files) or ends the process. No new file, socket, process or thread; no signal to anybody else.
#[cfg(target_os = "linux")]
pub(super) fn enter() -> Result<(), String> {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule,
    };

    // How the clock is read is found out when it is read first, by calls that are not allowed later.
    let _now = crate::clock::thread_cpu();

    let arch = std::env::consts::ARCH.try_into().map_err(|error| format!("this processor: {error}"))?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let only = |argument: u8, value: u64| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(|error| error.to_string())
    };
    // Ending itself by abort is a signal to one of its own threads.
    rules.insert(libc::SYS_tgkill, vec![only(0, u64::from(std::process::id()))?]);
    // Private memory alone counts towards the limit.
    let kind = (libc::MAP_TYPE | libc::MAP_GROWSDOWN).unsigned_abs().into();
    let private = SeccompCondition::new(
        3,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(kind),
        libc::MAP_PRIVATE.unsigned_abs().into(),
    );
    let private = private.and_then(|condition| SeccompRule::new(vec![condition]));
    rules.insert(libc::SYS_mmap, vec![private.map_err(|error| error.to_string())?]);
    // What a thread does last that is starting now: it gives itself a name.
    rules.insert(libc::SYS_prctl, vec![only(0, libc::PR_SET_NAME.unsigned_abs().into())?]);
    // Asked of every file that is closed, in builds with assertions.
    rules.insert(libc::SYS_fcntl, vec![only(1, libc::F_GETFD.unsigned_abs().into())?]);
    // The engine asks for a file in memory to map initial contents from, and copies them where there is none; such a file
    // would count towards no limit. The allocator wants to read a setting of the kernel's.
    let no_files = [libc::SYS_memfd_create, libc::SYS_openat].map(|call| (call, Vec::new()));
    let no_files = BTreeMap::from(no_files);
    let not_there = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let refusing = SeccompFilter::new(no_files, SeccompAction::Allow, not_there, arch);
    let ending = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch);
    // The severest answer of all filters holds.
    for filter in [refusing, ending] {
        let program: Result<BpfProgram, _> = filter.map_err(|error| error.to_string())?.try_into();
        let program = program.map_err(|error: seccompiler::BackendError| error.to_string())?;
        // Takes away new privileges too, for every thread.
        seccompiler::apply_filter_all_threads(&program).map_err(|error| match error {
            seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source) => {
                format!("install the filter of system calls: {source}")
            }
            error => format!("install the filter of system calls: {error}"),
        })?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn enter() -> Result<(), String> {
    Err("processes for plugins need Linux".to_owned())
}

/// Memory, the clock, waiting for each other, the socket that is open already, and an end.
#[cfg(target_os = "linux")]
const ALLOWED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_close,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_sched_getaffinity,
    libc::SYS_restart_syscall,
    // Which the other filter refuses.
    libc::SYS_memfd_create,
    libc::SYS_openat,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use rustix::process::Signal;

    const WISH: &str = "WASMILL_TEST_WISH";

    /// Tries one thing from inside, in a process that was started for it, since there is no way back out.
    #[test]
    #[ignore = "started by the test below"]
    #[expect(clippy::exit, reason = "the test harness would write its report to a file")]
    fn wish() {
        let wish = std::env::var(WISH).unwrap();
        let parent = rustix::process::getppid().unwrap();
        super::limit(256 << 20).unwrap();
        super::enter().unwrap();
        match wish.as_str() {
            "nothing" => {}
            "some memory" => drop(std::hint::black_box(vec![1_u8; 64 << 20])),
            "much memory" => drop(std::hint::black_box(vec![1_u8; 512 << 20])),
            "a file in memory" => {
                let refused = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap_err();
                assert_eq!(refused, rustix::io::Errno::NOSYS);
            }
            "a file" => drop(std::fs::File::open("/etc/passwd").unwrap_err()),
            "a socket" => drop(std::net::UdpSocket::bind("127.0.0.1:0")),
            "a program" => drop(Command::new("/bin/true").status()),
            "a thread" => drop(std::thread::Builder::new().spawn(|| {})),
            "a signal" => drop(rustix::process::kill_process(parent, Signal::HUP)),
            "shared memory" => shared_memory(),
            "an abort" => std::process::abort(),
            wish => unreachable!("{wish}"),
        }
        std::process::exit(0);
    }

    #[expect(unsafe_code, reason = "there is no other way to ask for it")]
    fn shared_memory() {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice, which nobody touches.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, kind, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
    }

    #[test]
    fn process_inside_can_compute_and_end_and_nothing_else() {
        let wished = |wish: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            let test = "isolation::sandbox::tests::wish";
            command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
            // As in the real one, which has no environment: a backtrace would want files.
            let output = command.env(WISH, wish).env_remove("RUST_BACKTRACE").output().unwrap();
            (output.status.code(), output.status.signal())
        };
        for wish in ["nothing", "some memory", "a file in memory", "a file"] {
            assert_eq!(wished(wish), (Some(0), None), "{wish}");
        }
        for wish in ["much memory", "an abort"] {
            assert_eq!(wished(wish), (None, Some(Signal::ABORT.as_raw())), "{wish}");
        }
        for wish in ["a socket", "a program", "a thread", "a signal", "shared memory"] {
            assert_eq!(wished(wish), (None, Some(Signal::SYS.as_raw())), "{wish}");
        }
    }
}
