//! Processes that speak and never end what they were asked: this test program again, as the one at the other end of the socket.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use wasmill_chunk::{Column, Input, RowCheck, RowMeta};
use wasmill_state::SliceState;

use super::super::messages::{Place, StateAsk};
use super::super::wire::{Channel, put_u32s};
use super::super::{ProcessOptions, Processes};
use super::*;
use crate::cache::CodeCache;
use crate::chain::TransformSpec;
use crate::engine::{Engine, EngineOptions};
use crate::log::NullLog;
use crate::manifest::{Grants, Manifest};
use crate::step::Table;
use crate::worker::ChainWorker;

/// What the process does when it is asked to run records; without it, the tests are tests.
const DOES: &str = "WASMILL_FAKE_PROCESS";

/// A program that is this one as such a process.
fn program(directory: &Path, does: &str) -> std::path::PathBuf {
    let this = std::env::current_exe().unwrap();
    let test =
        "isolation::remote::tests::process_that_asks_without_end_is_ended_in_time_and_costs_the_record";
    let script = format!("#!/bin/sh\n{DOES}={does} exec '{}' --exact {test} --nocapture\n", this.display());
    let path = directory.join(does);
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The process: builds whatever it is told to, and asks without end once it is to run.
fn serve(does: &str) -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut host = Channel::patient(socket);
    loop {
        let (request, _) = host.receive::<Request>(None)?;
        match request {
            Request::Code { .. } => host.send(&Answer::Taken, &[], None)?,
            Request::Load(load) => {
                let table = || Table { name: "counts".to_owned(), version: 1, ttl_ns: 0 };
                let step = |_| LoadedStep { declared: Digest::of(b"counts"), tables: vec![table()] };
                let loaded = load.transforms.iter().map(step).collect();
                host.send(&Answer::Loaded(loaded), &[], None)?;
            }
            _ => break,
        }
    }
    let mut address = Vec::new();
    put_u32s(&mut address, [4]);
    address.extend_from_slice(b"\x07key");
    let ask = || StateAsk { place: Place { step: 0, table: 0 }, addresses: Some(1) };
    loop {
        match does {
            "checks" => host.send(&Answer::Check { route: 0 }, &[&b"row"[..]], None)?,
            _ => host.send(&Answer::State(ask()), &[&address], None)?,
        }
        // What is not read fills the socket, and holds up whoever writes.
        if does != "deaf" {
            host.receive::<Request>(None)?;
        }
    }
}

struct Nothing(Vec<u8>);

impl RowSink for Nothing {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        &mut self.0
    }

    fn end(&mut self, _row: &RowMeta<'_>) {
        panic!("no row leaves");
    }
}

/// Takes every row.
struct Any;

impl RowCheck for Any {
    fn check(&mut self, _route: u32, _row: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

/// Each is ended when its time is over, however much it says meanwhile: it costs the record, and no state is left of it.
#[test]
fn process_that_asks_without_end_is_ended_in_time_and_costs_the_record() {
    if let Ok(does) = std::env::var(DOES) {
        // The host lets go of it, or ends it.
        drop(serve(&does));
        return;
    }
    const TIME: Duration = Duration::from_millis(300);
    // What a slice may take whose chunks come one after another.
    const WHOLE: Duration = Duration::from_secs(600);
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::new(EngineOptions { pooling: false, ..EngineOptions::default() }).unwrap();
    let cache = CodeCache::open(directory.path()).unwrap();
    let module = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).unwrap();
    let digest = Digest::of(&module);
    let code = cache.put(&engine, digest, &engine.precompile(&module).unwrap()).unwrap();
    let manifest = Manifest { grants: Grants { state: true, ..Grants::default() }, ..Manifest::default() };
    let plugin = engine.load(&code, manifest, digest).unwrap();
    for does in ["asks", "deaf", "checks"] {
        let processes = Processes::new(&engine, ProcessOptions::new(program(directory.path(), does)));
        let spec = TransformSpec::new(Arc::clone(&plugin), "{}");
        let specs = vec![TransformSpec { name: "t0".to_owned(), ..spec }];
        let options = ChainOptions::default();
        let built = Chain::build_apart(
            &engine,
            &processes.of("a"),
            specs,
            &["main".to_owned()],
            options,
            Arc::new(NullLog),
        );
        let mut chain = built.unwrap();
        let remote = Arc::get_mut(&mut chain).and_then(|chain| chain.elsewhere.as_mut()).unwrap();
        (remote.chunk_max, remote.each_chunk) = (TIME, WHOLE);
        assert!(chain.keeps_state());
        let mut payloads = Column::default();
        payloads.push(b"record");
        let inputs = [Input::of_payloads(100, payloads.as_ref())];
        let slice = Slice { id: 100, stream_seed: 7, inputs: &inputs };
        let mut check = Any;
        let kept = Kept { state: SliceState::scratch(5), check: Some(&mut check) };
        let begun = Instant::now();
        let mut sink = Nothing(Vec::new());
        let (report, layer) =
            ChainWorker::new(chain).run_keeping(&slice, &FinishOptions::default(), &mut sink, Some(kept));
        // Two processes, each with its time; a machine that is busy takes a little longer.
        assert!(begun.elapsed() < 2 * TIME + PATIENCE, "{does}: {:?}", begun.elapsed());
        let reasons: Vec<&str> = report.failures.iter().map(|letter| letter.reason.as_str()).collect();
        let [reason] = reasons[..] else { panic!("{does}: {reasons:?}") };
        assert!(reason.contains("did not answer in time"), "{does}: {reason}");
        assert!(layer.is_some_and(|layer| layer.changes() == 0), "{does}: state is left of it");
        assert_eq!((processes.stats().started, processes.stats().lost), (2, 2), "{does}");
    }
}
