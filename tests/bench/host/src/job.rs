//! The access-log job from end to end: the product, the same pipeline with native plugins, and `mawk | zstd`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::child::{Program, Used};
use crate::samples::{Report, Samples};
use crate::scene::{Input, JOB, JOB_PLUGINS, Place, Scene};
use crate::unix::{self, Unix};

/// By how much mawk's counts may differ on a generated log, which has damaged lines.
const MAWK_OFF_MAX: f64 = 0.01;

/// One way to do the job, and what its runs cost.
struct Way {
    cpu_s: Samples,
    wall_s: Samples,
    rss_mb: Samples,
}

impl Way {
    fn new() -> Way {
        Way { cpu_s: Samples::default(), wall_s: Samples::default(), rss_mb: Samples::default() }
    }

    fn push(&mut self, used: Used) {
        self.cpu_s.push(used.cpu_s);
        self.wall_s.push(used.wall_s);
        self.rss_mb.push(used.rss_bytes_peak as f64 / 1e6);
    }
}

/// Configures a host that does the job.
fn place(scene: &Scene, name: &str, input: &Input) -> Result<Place> {
    let place = scene.place(name)?;
    let text = format!(
        "{}\n[streams.access]\nsource = {{ type = \"file\", paths = [{:?}], buffer = \"forced\" }}\n{JOB}\n\
         [[streams.access.outputs]]\ntype = \"directory\"\npath = \"out\"\ncompression = \"zstd\"\nlevel = 3\n",
        scene.head(None, &place.plugins(scene, &JOB_PLUGINS)?),
        input.path.display().to_string(),
    );
    place.config(&text)?;
    Ok(place)
}

fn run(program: &Program, place: &Place) -> Result<Used> {
    place.renew()?;
    program.run(&place.dir.join("wasmill.toml"), &place.log())
}

pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    let input = scene.input(if scene.quick { 64 } else { 512 })?;
    let expected = scene.log.expected.map(|(kept, bots)| (kept * input.copies, bots * input.copies));
    let unix = Unix::prepare(scene)?;
    let (ours, theirs) = (place(scene, "job", &input)?, place(scene, "job-native", &input)?);
    // Once before it counts: plugins are compiled, the input is in the page cache.
    run(&scene.product, &ours)?;
    run(&scene.native, &theirs)?;
    unix.run(&input)?;
    let single = check(scene, &input, &ours, &theirs, &unix, expected, report)?;
    let mut ratio = Samples::default();
    let (mut product, mut native, mut shell) = (Way::new(), Way::new(), Way::new());
    for round in 0..scene.runs {
        product.push(run(&scene.product, &ours)?);
        ratio.push(single as f64 / size(&ours.objects()?)? as f64);
        shell.push(unix.run(&input)?);
        native.push(run(&scene.native, &theirs)?);
        crate::say(&format!(
            "job, round {} of {}: ours {:.2}, native {:.2}, mawk | zstd {:.2} CPU-s",
            round + 1,
            scene.runs,
            product.cpu_s.0[round],
            native.cpu_s.0[round],
            shell.cpu_s.0[round]
        ));
    }
    let gigabytes = input.bytes as f64 / 1e9;
    report.figure("e2e_mb_per_s", &product.wall_s.map(|wall_s| gigabytes * 1e3 / wall_s));
    report.figure("e2e_cpu_s_per_gb", &product.cpu_s.map(|cpu_s| cpu_s / gigabytes));
    report.figure("cpu_over_unix", &product.cpu_s.over(&shell.cpu_s));
    report.figure("wasm_over_native_e2e", &product.cpu_s.over(&native.cpu_s));
    report.figure("ratio_over_single_frame", &ratio);
    report.largest("host_rss_mb_peak", &product.rss_mb);
    report.figure("unix_cpu_s_per_gb", &shell.cpu_s.map(|cpu_s| cpu_s / gigabytes));
    report.figure("unix_mb_per_s", &shell.wall_s.map(|wall_s| gigabytes * 1e3 / wall_s));
    report.figure("native_cpu_s_per_gb", &native.cpu_s.map(|cpu_s| cpu_s / gigabytes));
    report.note("input_bytes", input.bytes);
    inside(scene, &input, report)
}

/// What came out: as many records as expected, every line JSON, the same from all. How small it is in one stream.
fn check(
    scene: &Scene,
    input: &Input,
    ours: &Place,
    theirs: &Place,
    unix: &Unix,
    expected: Option<(u64, u64)>,
    report: &mut Report,
) -> Result<u64> {
    let text = scene.dir.join("output.ndjson");
    let objects = ours.objects()?;
    unix::decompress(&objects, &text)?;
    let (records, bots) = count(&text, true)?;
    if let Some(expected) = expected {
        ensure!(
            (records, bots) == expected,
            "{records} records and {bots} bots came out, expected {expected:?}"
        );
    }
    let single = unix::one_stream(&text, &scene.dir.join("single.zst"))?;
    report.note("output", json!({
        "records_in": input.copies * scene.log.lines().count() as u64, "records": records, "bots": bots,
        "objects": objects.len(), "bytes": size(&objects)?, "bytes_single_frame": single, "bytes_raw": fs::metadata(&text)?.len(),
    }));
    unix::decompress(&theirs.objects()?, &text)?;
    ensure!(count(&text, false)? == (records, bots), "native plugins put out something else");
    unix::decompress(std::slice::from_ref(&unix.output), &text)?;
    let shell = count(&text, false)?;
    // Lines that are damaged or have escaped quotes, which mawk takes as they come, are few.
    let off = |theirs: u64, ours: u64| theirs.abs_diff(ours) as f64 / ours as f64;
    let most = if expected.is_some() { 0.0 } else { MAWK_OFF_MAX };
    ensure!(
        off(shell.0, records) <= most && off(shell.1, bots) <= most,
        "mawk put out {shell:?} records and bots, not {records} and {bots}"
    );
    fs::remove_file(&text)?;
    Ok(single)
}

fn size(objects: &[PathBuf]) -> Result<u64> {
    let sizes = objects.iter().map(|object| Ok(fs::metadata(object)?.len()));
    sizes.sum()
}

/// Lines and those of bots; with `valid`, each must be JSON.
pub(crate) fn count(text: &Path, valid: bool) -> Result<(u64, u64)> {
    let mut lines = BufReader::with_capacity(1 << 20, File::open(text)?);
    let (mut records, mut bots) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok((records, bots));
        }
        records += 1;
        if valid {
            let record: Value =
                serde_json::from_slice(&line).with_context(|| format!("line {records} is no JSON"))?;
            bots += u64::from(record["class"] == "bot");
        } else {
            bots += u64::from(line.ends_with(b"\"class\":\"bot\"}\n"));
        }
    }
}

/// Syncs and bytes, which only the inside knows; batches have the default size of 5 MiB.
fn inside(scene: &Scene, input: &Input, report: &mut Report) -> Result<()> {
    let place = place(scene, "job-inside", input)?;
    let (mut syncs, mut written) = (Samples::default(), Samples::default());
    let mut last = Value::Null;
    for _ in 0..scene.runs {
        run(&scene.inside, &place)?;
        last = serde_json::from_slice(&fs::read(place.log())?).context("read what the inside says")?;
        let number = |name: &str| last[name].as_f64().with_context(|| format!("the inside says no {name}"));
        syncs.push((number("journal_syncs")? + number("destination_syncs")?) / number("batches")?);
        written.push((number("journal_bytes_written")? + number("object_bytes")?) / number("bytes_in")?);
    }
    report.figure("syncs_per_batch", &syncs);
    report.figure("bytes_written_per_byte_in", &written);
    report.note("inside", last);
    Ok(())
}
