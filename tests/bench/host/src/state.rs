//! Keyed state: windows over a million keys, reads and writes of keys, and what state costs a chain.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::child::Used;
use crate::samples::{Report, Samples};
use crate::scene::{Place, Scene};
use crate::{job, unix};

const KEYS: u64 = 1_000_000;
/// Event time of the records, in milliseconds: two windows, of which the first closes.
const SPAN_MS: u64 = 119_000;

const WINDOW: &str = r#"
[[streams.events.transforms]]
plugin = "window"
key = ["k"]
[streams.events.transforms.config]
window = { kind = "tumbling", size = "1m" }
time = "t"
time_format = "ms"
by = ["k"]
aggregates = { n = { op = "count" }, sum = { op = "sum", field = "v" } }
"#;

/// No two ids are equal: each record reads one key and writes it.
const DEDUPE: &str = r#"
[[streams.events.transforms]]
plugin = "dedupe"
config = { by = ["id"], within = "1h", time = "t", time_format = "ms" }
"#;

const CHAIN: &str = r#"
[[streams.events.transforms]]
plugin = "derive"
config = { set = 'class = if v > 500 then "high" else "low"' }
"#;

pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    let records = if scene.quick { 400_000 } else { 4_000_000 };
    let input = input(&scene.dir.join("events.ndjson"), records)?;
    // One core, and as many strands as there are cores.
    let strands = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 64));
    let parted = format!("parallel = {{ key = \"k\", strands = {strands} }}\n{WINDOW}");
    for (name, chain) in [("window", WINDOW), ("window_strands", &parted)] {
        let windows = place(scene, name, &input, chain, &["window"])?;
        let (mut per_s, mut rss) = (Samples::default(), Samples::default());
        for used in runs(scene, &windows)? {
            per_s.push(records as f64 / used.wall_s);
            rss.push(used.rss_bytes_peak as f64 / 1e6);
        }
        let results = results(scene, &windows, records)?;
        report.figure(&format!("{name}_records_per_s"), &per_s);
        report.largest(&format!("{name}_rss_mb_peak"), &rss);
        report.note(&format!("{name}_results"), results);
    }
    report.note("window_strands", strands);
    let deduped = place(scene, "dedupe", &input, &format!("{CHAIN}{DEDUPE}"), &["derive", "dedupe"])?;
    let plain = place(scene, "stateless", &input, CHAIN, &["derive"])?;
    let (mut operations, mut with, mut without) =
        (Samples::default(), Samples::default(), Samples::default());
    for used in runs(scene, &deduped)? {
        operations.push(2.0 * records as f64 / used.wall_s);
        with.push(used.cpu_s);
    }
    for used in runs(scene, &plain)? {
        without.push(used.cpu_s);
    }
    report.figure("state_operations_per_s", &operations);
    report.figure("state_over_stateless_cpu", &with.over(&without));
    Ok(())
}

/// How many windows were given, which must be about what chance says.
fn results(scene: &Scene, windows: &Place, records: u64) -> Result<u64> {
    let text = scene.dir.join("windows.ndjson");
    unix::decompress(&windows.objects()?, &text)?;
    let (results, _) = job::count(&text, false)?;
    std::fs::remove_file(&text)?;
    let (first, keys) = (records as f64 * 60_000.0 / SPAN_MS as f64, KEYS as f64);
    // Each key has a record of the first minute with the same chance (of a Poisson distribution).
    let expected = keys * (1.0 - (-first / keys).exp());
    ensure!(
        (results as f64 / expected - 1.0).abs() < 0.02,
        "{results} windows, expected about {expected:.0}"
    );
    Ok(results)
}

/// Records of random keys, ids that grow, and times that grow.
fn input(path: &Path, records: u64) -> Result<PathBuf> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for id in 0..records {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let (key, time, value) = (random % KEYS, id * SPAN_MS / records, (random >> 40) % 1000);
        writeln!(file, r#"{{"id":{id},"k":"key-{key}","t":{time},"v":{value}}}"#)?;
    }
    file.into_inner()?.sync_all()?;
    Ok(path.to_owned())
}

fn place(scene: &Scene, name: &str, input: &Path, chain: &str, plugins: &[&str]) -> Result<Place> {
    let place = scene.place(&format!("state-{name}"))?;
    place.config(&format!(
        "{}\n[streams.events]\nsource = {{ type = \"file\", paths = [{:?}], buffer = \"forced\" }}\n{chain}\n\
         [[streams.events.outputs]]\ntype = \"directory\"\npath = \"out\"\ncompression = \"zstd\"\nlevel = 3\n",
        scene.head(None, &place.plugins(scene, plugins)?),
        input.display().to_string(),
    ))?;
    Ok(place)
}

/// Runs of the product, after one that compiles the plugins.
fn runs(scene: &Scene, place: &Place) -> Result<Vec<Used>> {
    let run = || {
        place.renew()?;
        scene.product.run(&place.dir.join("wasmill.toml"), &place.log())
    };
    run()?;
    (0..scene.runs).map(|_| run()).collect()
}
