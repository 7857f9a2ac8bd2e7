//! State of plugins through a real component: `tests/guests/counter`, which `cargo xtask plugins --guests` builds.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;

use wasmill_chunk::{Column, FinishOptions, Input, RowCheck, RowMeta, RowSink};
use wasmill_state::{Crashing, Layer, SliceState, StreamStore, Usage, View};
use wasmill_transform::{
    Chain, ChainError, ChainOptions, ChainWorker, CodeCache, Digest, Engine, EngineOptions, Isolation, Kept,
    Manifest, NullLog, Plugin, PluginFault, ProcessOptions, Processes, Slice, SliceReport, TransformSpec,
    componentize, read_manifest,
};

mod places;

use places::{Place, in_both_places};

const SECOND: i64 = 1_000_000_000;

#[derive(Default)]
struct Rows {
    rows: Vec<String>,
    buffer: Vec<u8>,
}

impl RowSink for Rows {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        self.buffer.clear();
        &mut self.buffer
    }

    fn end(&mut self, _row: &RowMeta<'_>) {
        self.rows.push(String::from_utf8_lossy(&self.buffer).into_owned());
    }
}

struct Bench {
    engine: Engine,
    isolation: Option<Isolation>,
    /// Of compiled code, which processes are handed.
    _cache: tempfile::TempDir,
    plugin: Arc<Plugin>,
    stream: StreamStore,
    usage: Arc<Usage>,
    position: u64,
    check: Option<Narrow>,
}

/// An output that takes no row whose order is `narrow`.
struct Narrow;

impl RowCheck for Narrow {
    fn check(&mut self, _route: u32, row: &[u8]) -> Result<(), String> {
        let narrow = String::from_utf8_lossy(row).contains(r#""do":"narrow""#);
        if narrow { Err("does not fit".to_owned()) } else { Ok(()) }
    }
}

/// The guest's component.
fn counter() -> Vec<u8> {
    let guests = std::env::var_os("WASMILL_GUESTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/guests"), PathBuf::from);
    let file = guests.join("counter.wasm");
    std::fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask plugins --guests`", file.display()))
}

impl Bench {
    fn new(place: Place) -> Bench {
        let wasm = counter();
        let engine = Engine::new(EngineOptions::default()).unwrap();
        let isolation = match place {
            Place::Here => None,
            Place::Apart => {
                let options = ProcessOptions::new(env!("CARGO_BIN_EXE_compile-child").into());
                Some(Processes::new(&engine, options).of("a"))
            }
        };
        let directory = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(directory.path()).unwrap();
        let code = engine.precompile(&componentize(&wasm).unwrap()).unwrap();
        let digest = Digest::of(&wasm);
        let path = cache.put(&engine, digest, &code).unwrap();
        let manifest = read_manifest(&wasm).unwrap().unwrap();
        assert!(manifest.grants.state);
        let plugin = engine.load(&path, manifest, digest).unwrap();
        let usage = Arc::new(Usage::default());
        let stream = Crashing::default().store().stream([1; 16], Arc::clone(&usage)).unwrap();
        Bench { engine, isolation, _cache: directory, plugin, stream, usage, position: 0, check: None }
    }

    fn spec(&self, name: &str, config: &str) -> TransformSpec {
        TransformSpec { name: name.to_owned(), ..TransformSpec::new(Arc::clone(&self.plugin), config) }
    }

    fn chain(&self, specs: Vec<TransformSpec>, options: ChainOptions) -> Result<Arc<Chain>, ChainError> {
        let (outputs, log) = (["main".to_owned()], Arc::new(NullLog));
        match &self.isolation {
            None => Chain::build(&self.engine, specs, &outputs, options, log),
            Some(isolation) => Chain::build_apart(&self.engine, isolation, specs, &outputs, options, log),
        }
    }

    fn worker(&self, options: ChainOptions) -> ChainWorker {
        let chain = self.chain(vec![self.spec("count", r#"{"key":"user"}"#)], options).unwrap();
        assert!(chain.keeps_state());
        ChainWorker::new(chain)
    }

    /// A slice over what is stored.
    fn slice(
        &mut self,
        worker: &mut ChainWorker,
        at: i64,
        records: &[&str],
    ) -> (Vec<String>, SliceReport, Option<Layer>) {
        let mut payloads = Column::default();
        records.iter().for_each(|record| payloads.push(record.as_bytes()));
        let mut input = Input::of_payloads(100, payloads.as_ref());
        input.arrival = at;
        let inputs = [input];
        let slice = Slice { id: 100, stream_seed: 7, inputs: &inputs };
        let view = View::new([], Arc::new(self.stream.clone()));
        let state = SliceState::new(view, at, Some(Arc::clone(&self.usage)));
        let mut rows = Rows::default();
        let check = self.check.as_mut().map(|check| check as &mut dyn RowCheck);
        let kept = Some(Kept { state, check });
        let (report, layer) = worker.run_keeping(&slice, &FinishOptions::default(), &mut rows, kept);
        (rows.rows, report, layer)
    }

    /// The same, and what it changed is stored.
    fn run(&mut self, worker: &mut ChainWorker, at: i64, records: &[&str]) -> (Vec<String>, SliceReport) {
        let (rows, report, layer) = self.slice(worker, at, records);
        self.position += 1;
        self.stream.apply(self.position, &[&layer.unwrap()]).unwrap();
        (rows, report)
    }
}

in_both_places! {
    counts_go_on_from_slice_to_slice_and_from_chunk_to_chunk_in_whatever_instance,
    poison_records_leave_state_as_if_they_had_never_been_there,
    record_that_fails_in_a_later_transform_takes_its_state_with_it,
    record_of_which_a_row_does_not_fit_its_output_was_never_there_for_the_state,
    quota_costs_the_records_that_want_more_and_no_other,
    counts_that_are_too_old_begin_anew,
    groups_are_those_of_the_transforms_key,
    layout_that_is_older_than_what_is_stored_is_refused_and_so_is_state_without_a_grant,
}

fn user(name: &str, order: &str) -> String {
    format!(r#"{{"user":"{name}","do":"{order}"}}"#)
}

fn counts(rows: &[String]) -> Vec<i64> {
    let number =
        |row: &String| serde_json::from_str::<serde_json::Value>(row).unwrap()["count"].as_i64().unwrap();
    rows.iter().map(number).collect()
}

fn counts_go_on_from_slice_to_slice_and_from_chunk_to_chunk_in_whatever_instance(place: Place) {
    for options in [
        ChainOptions::default(),
        ChainOptions { chunk_rows: 1, ..ChainOptions::default() },
        ChainOptions { chunk_rows: 2, calls_per_instance: 1, ..ChainOptions::default() },
    ] {
        let mut bench = Bench::new(place);
        let mut worker = bench.worker(options);
        let records = ["a", "b", "a", "a", "c"].map(|name| user(name, "-"));
        let records = records.each_ref().map(String::as_str);
        assert_eq!(counts(&bench.run(&mut worker, SECOND, &records).0), [1, 1, 2, 3, 1]);
        // A slice that has no outcome leaves nothing.
        assert_eq!(counts(&bench.slice(&mut worker, SECOND, &records).0), [4, 2, 5, 6, 2]);
        let (rows, _) = bench.run(&mut worker, SECOND, &[&user("a", "last"), &user("d", "list")]);
        assert_eq!(counts(&rows), [4, 1]);
        assert!(rows[0].ends_with(r#""before":"3"}"#) && rows[1].ends_with(r#""keys":4}"#), "{rows:?}");
        let stored: Vec<_> =
            bench.stream.tables().iter().map(|table| (table.id.table().to_owned(), table.entries)).collect();
        assert_eq!(stored, [("counts".to_owned(), 4), ("last".to_owned(), 4)]);
    }
}

fn poison_records_leave_state_as_if_they_had_never_been_there(place: Place) {
    for poison in ["fail", "err", "trap"] {
        for at in 0..5 {
            let mut bench = Bench::new(place);
            let mut worker = bench.worker(ChainOptions::default());
            let mut records: Vec<String> = ["a", "b", "a", "a"].iter().map(|name| user(name, "-")).collect();
            records.insert(at, user("a", poison));
            records.push(user("z", poison));
            let records: Vec<&str> = records.iter().map(String::as_str).collect();
            let (rows, report) = bench.run(&mut worker, SECOND, &records);
            assert_eq!(counts(&rows), [1, 1, 2, 3], "{poison} at {at}");
            let mut failed: Vec<u32> = report.failures.iter().map(|failure| failure.row).collect();
            failed.sort_unstable();
            assert_eq!(failed, [u32::try_from(at).unwrap(), 5], "{poison} at {at}");
            assert_eq!((report.passed, report.dropped, report.emitted), (4, 0, 4));
            // What ran again without its neighbours went in once.
            let bytes: usize = records.iter().map(|record| record.len()).sum();
            let transform = &report.transforms[0];
            assert_eq!((transform.records_in, transform.bytes_in), (6, bytes as u64), "{poison} at {at}");
            assert_eq!((transform.records_out, transform.dead_letters), (4, 2), "{poison} at {at}");
            let (rows, _) = bench.run(&mut worker, SECOND, &[&user("a", "list"), &user("z", "-")]);
            assert_eq!(counts(&rows), [4, 1], "{poison} at {at}");
            assert!(rows[0].contains(r#""keys":3"#), "{rows:?}");
        }
    }
}

fn record_that_fails_in_a_later_transform_takes_its_state_with_it(place: Place) {
    let mut bench = Bench::new(place);
    // The second counts what the first has let through, by another field.
    let specs = || vec![bench.spec("first", r#"{"key":"user"}"#), bench.spec("second", r#"{"key":"group"}"#)];
    let chain = bench.chain(specs(), ChainOptions::default()).unwrap();
    let mut worker = ChainWorker::new(chain);
    let record = |user: &str, order: &str| format!(r#"{{"user":"{user}","group":"g","do":"{order}"}}"#);
    let (rows, report) =
        bench.run(&mut worker, SECOND, &[&record("a", "-"), &record("a", "fail"), &record("b", "-")]);
    // The one that the first failed never came to the second, and neither has counted it.
    assert_eq!((counts(&rows), report.failures.len()), (vec![1, 2], 1));
    let stored: Vec<_> =
        bench.stream.tables().iter().map(|table| (table.id.transform().to_owned(), table.entries)).collect();
    assert_eq!(
        stored,
        [("first", 2), ("first", 2), ("second", 1), ("second", 1)].map(|(name, n)| (name.to_owned(), n))
    );
    // What is no JSON object fails behind the last transform.
    let chain = bench.chain(vec![bench.spec("late", r#"{"key":"user"}"#)], ChainOptions::default()).unwrap();
    let mut worker = ChainWorker::new(chain);
    let (rows, _) = bench.run(&mut worker, SECOND, &[&record("a", "-")]);
    assert_eq!(counts(&rows), [1]);
}

fn record_of_which_a_row_does_not_fit_its_output_was_never_there_for_the_state(place: Place) {
    let mut bench = Bench::new(place);
    let mut worker = bench.worker(ChainOptions::default());
    let records = [user("a", "-"), user("a", "narrow"), user("b", "-"), user("a", "-"), user("z", "narrow")];
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    // Nobody asks: it counts like any other.
    assert_eq!(counts(&bench.slice(&mut worker, SECOND, &records).0), [1, 2, 1, 3, 1]);
    bench.check = Some(Narrow);
    let (rows, report) = bench.run(&mut worker, SECOND, &records);
    assert_eq!(counts(&rows), [1, 1, 2]);
    let failed: Vec<_> = report
        .failures
        .iter()
        .map(|failure| (failure.row, failure.reason.as_str(), &*failure.transform, failure.route))
        .collect();
    assert_eq!(failed, [(1, "does not fit", "", 0), (4, "does not fit", "", 0)]);
    assert_eq!((report.passed, report.dropped, report.emitted, report.chunks_bisected), (3, 0, 3, 0));
    let (rows, _) = bench.run(&mut worker, SECOND, &[&user("a", "list"), &user("z", "-")]);
    assert_eq!(counts(&rows), [3, 1]);
    assert!(rows[0].contains(r#""keys":3"#), "{rows:?}");
}

fn quota_costs_the_records_that_want_more_and_no_other(place: Place) {
    let mut bench = Bench::new(place);
    let mut worker = bench.worker(ChainOptions::default());
    bench.run(&mut worker, SECOND, &[&user("a", "-"), &user("b", "-")]);
    bench.usage.set_limit(Some(bench.usage.stored() + 20));
    let fill = r#"{"user":"a","do":"fill","bytes":2000}"#;
    let records = [user("a", "-"), fill.to_owned(), user("c", "-"), user("b", "-")];
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let (rows, report) = bench.run(&mut worker, SECOND, &records);
    assert_eq!(counts(&rows), [2, 2]);
    let reasons: Vec<&str> = report.failures.iter().map(|failure| failure.reason.as_str()).collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons.iter().all(|reason| reason.contains("quota of state (state_bytes")), "{reasons:?}");
    assert!(
        report.faults.iter().all(|(_, fault)| matches!(fault, PluginFault::State { .. })),
        "{:?}",
        report.faults
    );
    bench.usage.set_limit(None);
    assert_eq!(counts(&bench.run(&mut worker, SECOND, &records).0), [3, 4, 1, 3]);
}

fn counts_that_are_too_old_begin_anew(place: Place) {
    let mut bench = Bench::new(place);
    let spec = bench.spec("count", r#"{"key":"user","ttl_ms":1000}"#);
    let mut worker = ChainWorker::new(bench.chain(vec![spec], ChainOptions::default()).unwrap());
    let a = user("a", "-");
    assert_eq!(counts(&bench.run(&mut worker, 10 * SECOND, &[&a]).0), [1]);
    assert_eq!(counts(&bench.run(&mut worker, 10 * SECOND + 999_999_999, &[&a]).0), [2]);
    assert_eq!(counts(&bench.run(&mut worker, 12 * SECOND, &[&a, &a]).0), [1, 2]);
    // Time does not go back.
    assert_eq!(counts(&bench.run(&mut worker, SECOND, &[&a]).0), [3]);
}

fn groups_are_those_of_the_transforms_key(place: Place) {
    let mut bench = Bench::new(place);
    let mut spec = bench.spec("count", r#"{"key":"user","by_groups":true}"#);
    spec.state.key = vec![vec!["user".to_owned()]];
    let mut worker = ChainWorker::new(bench.chain(vec![spec], ChainOptions::default()).unwrap());
    bench.run(&mut worker, SECOND, &[&user("a", "-"), &user("b", "-")]);
    // Without it each key has the group that is its own, which is that of the one text field.
    let mut worker = bench.worker(ChainOptions::default());
    assert_eq!(counts(&bench.run(&mut worker, SECOND, &[&user("a", "-"), &user("b", "-")]).0), [2, 2]);
}

fn layout_that_is_older_than_what_is_stored_is_refused_and_so_is_state_without_a_grant(place: Place) {
    let mut bench = Bench::new(place);
    let version = |bench: &Bench, version: u32| {
        let spec = bench.spec("count", &format!(r#"{{"key":"user","version":{version}}}"#));
        ChainWorker::new(bench.chain(vec![spec], ChainOptions::default()).unwrap())
    };
    let mut second = version(&bench, 2);
    assert_eq!(counts(&bench.run(&mut second, SECOND, &[&user("a", "-")]).0), [1]);
    let (rows, report, layer) = bench.slice(&mut version(&bench, 1), SECOND, &[&user("a", "-")]);
    assert!(rows.is_empty() && layer.is_none() && report.failures.is_empty());
    let (step, fault) = report.unrunnable.unwrap();
    let text = fault.to_string();
    assert!(step == 0 && text.contains("\"counts\" have layout version 2"), "{text}");
    // The next one reads what the one before wrote, and is told of what layout it is.
    let mut third = version(&bench, 3);
    let (rows, _) = bench.run(&mut third, SECOND, &[&user("a", "last"), &user("b", "last")]);
    assert_eq!(counts(&rows), [2, 1]);
    assert!(rows[0].contains(r#""before":"of 2: 1""#) && !rows[1].contains("before"), "{rows:?}");
    let (rows, _) = bench.run(&mut third, SECOND, &[&user("a", "last")]);
    assert!(rows[0].contains(r#""before":"2""#), "{rows:?}");
    let refusal =
        |spec: TransformSpec| bench.chain(vec![spec], ChainOptions::default()).err().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let wasm = counter();
    let cache = CodeCache::open(directory.path()).unwrap();
    let code = bench.engine.precompile(&componentize(&wasm).unwrap()).unwrap();
    let path = cache.put(&bench.engine, Digest::of(&wasm), &code).unwrap();
    let manifest =
        Manifest { name: "counter".to_owned(), version: "1.0.0".to_owned(), ..Manifest::default() };
    let plugin = bench.engine.load(&path, manifest, Digest::of(&wasm)).unwrap();
    let text =
        refusal(TransformSpec { plugin: Arc::clone(&plugin), ..bench.spec("count", r#"{"key":"user"}"#) });
    assert!(text.contains("manifest does not ask for it"), "{text}");
    let mut keyed = TransformSpec { plugin, ..bench.spec("count", r#"{"key":"user"}"#) };
    keyed.state.key = vec![vec!["user".to_owned()]];
    let text = refusal(keyed);
    assert!(text.contains("\"key\"") && text.contains("asks for no state"), "{text}");
    // It asks, and whoever wrote the stream may not have it.
    let mut denied = bench.spec("count", r#"{"key":"user"}"#);
    denied.state.denied = Some("[x] has no \"state = true\"".to_owned());
    let text = refusal(denied);
    assert!(text.contains("state is not granted") && text.contains("[x] has no \"state = true\""), "{text}");
}
