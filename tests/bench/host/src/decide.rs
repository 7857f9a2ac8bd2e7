//! Answers while the client waits: requests of one record at a steady rate, over many connections in turn, from when each was
//! due until its answer was read. Phases of load, of the disk's probe of two serial appends, and of that probe at the same rate
//! alternate; with answers that are durable and with answers before that, of lines of the access log, and of payments with state of their cards and a model.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::http;
use crate::probe::Probe;
use crate::samples::{Report, Samples};
use crate::scene::{JOB, JOB_PLUGINS, Scene};
use crate::steady::Load;

/// Requests a second.
const RATE: u32 = 5000;
const CONNECTIONS: usize = 64;
const PHASES: usize = 5;
const PROBE_BYTES: usize = 4096;
/// Receipt and outcome.
const PROBE_APPENDS: usize = 2;
const PROBES_PER_PHASE: usize = 200;

/// Where packages of Python are that train models.
const TRAINERS_VARIABLE: &str = "WASMILL_TRAINERS";
const CARDS: u64 = 10_000;
const PAYMENTS: u64 = 50_000;

/// Two windows and a last time of each card, and 100 trees over them.
const PAYMENT: &str = r#"
[[streams.access.transforms]]
plugin = "rolling"
key = ["card"]
[streams.access.transforms.config]
by = ["card"]
time = "time"
time_format = "ms"
into = "past"
features = [
  { ops = ["count"], within = "10m" },
  { ops = ["sum"], of = ["amount"], within = "1h" },
  { ops = ["mean", "std", "max"], of = ["amount"], records = 50, before = true },
  { ops = ["elapsed"] },
]
[[streams.access.transforms]]
plugin = "score"
models = { model = "trees" }
[streams.access.transforms.config]
missing = "nan"
prediction = "risk"
features = [
  "amount", "a", "b", "c", "d", "e", "past.count_10m", "past.amount_sum_1h", "past.amount_mean_50_before",
  "past.amount_std_50_before", "past.amount_max_50_before", "past.elapsed",
]
[[streams.access.transforms]]
plugin = "derive"
config = { set = 'answer = if risk > 100 then "block" else "pass"' }
"#;

pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    let lines: Vec<Vec<u8>> =
        scene.log.lines().take(1000).map(|line| http::decide_request("access", line)).collect();
    let job = Chain { transforms: JOB, plugins: &JOB_PLUGINS, model: None, requests: &lines };
    for (name, answer) in [("decide", "durable"), ("decide_computed", "computed"), ("decide_early", "early")]
    {
        one(scene, report, name, answer, &job)?;
    }
    let Some(packages) = std::env::var_os(TRAINERS_VARIABLE) else {
        let reason = format!("{TRAINERS_VARIABLE} names no packages that train a model");
        report.note("decide_model_skipped", reason);
        return Ok(());
    };
    let model = scene.dir.join("trees.onnx");
    let mut python = Command::new("python3");
    python.arg("-").arg(&model).env("PYTHONPATH", packages);
    crate::child::feed(&mut python, include_bytes!("trees.py"))?;
    let payments: Vec<Vec<u8>> =
        payments().map(|payment| http::decide_request("access", payment.as_bytes())).collect();
    let scored = Chain {
        transforms: PAYMENT,
        plugins: &["rolling", "score", "derive"],
        model: Some(&model),
        requests: &payments,
    };
    for answer in ["durable", "computed", "early"] {
        let name =
            if answer == "durable" { "decide_model".to_owned() } else { format!("decide_model_{answer}") };
        one(scene, report, &name, answer, &scored)?;
    }
    Ok(())
}

/// What is asked of whom.
struct Chain<'a> {
    transforms: &'a str,
    plugins: &'a [&'a str],
    model: Option<&'a Path>,
    requests: &'a [Vec<u8>],
}

/// Payments of random cards, a fifth of a millisecond apart.
fn payments() -> impl Iterator<Item = String> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    (0..PAYMENTS).map(move |number| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let part = |at: u64| (random >> at) % 100;
        format!(
            r#"{{"card":"card-{}","time":{},"amount":{}.5,"a":{},"b":{},"c":{},"d":{},"e":{}}}"#,
            random % CARDS,
            1_700_000_000_000 + number / 5,
            part(8),
            part(16),
            part(24),
            part(32),
            part(40),
            part(48)
        )
    })
}

/// What an answer waits for.
fn appends(answer: &str) -> usize {
    match answer {
        "durable" => PROBE_APPENDS,
        "computed" => 1,
        _ => 0,
    }
}

fn one(scene: &Scene, report: &mut Report, name: &str, answer: &str, chain: &Chain<'_>) -> Result<()> {
    let phase = Duration::from_secs(if scene.quick { 1 } else { 4 });
    let place = scene.place(name)?;
    let port = http::free_port()?;
    let models = match chain.model {
        Some(file) => {
            let dir = place.dir.join("models");
            std::fs::create_dir_all(&dir)?;
            std::fs::copy(file, dir.join("trees.onnx"))?;
            format!("model_dir = {:?}\n", dir.display().to_string())
        }
        None => String::new(),
    };
    let config = place.config(&format!(
        "{models}{}\n[streams.access]\nsource = {{ type = \"http\" }}\ndecide = {{ answer = {answer:?} }}\n{}\n\
         [[streams.access.outputs]]\ntype = \"directory\"\npath = \"out\"\ninterval = \"10s\"\n",
        scene.head(Some(port), &place.plugins(scene, chain.plugins)?),
        chain.transforms
    ))?;
    let requests = chain.requests;
    let (mut p99, mut p50, mut probes, mut excess) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    let (mut floor, mut past_floor) = (Samples::default(), Samples::default());
    for _ in 0..scene.runs {
        place.renew()?;
        let server = scene.product.serve(&config, &place.log(), port)?;
        let data = place.dir.join("data");
        let mut probe = Probe::open(&data, PROBE_BYTES, PROBE_APPENDS)?;
        let mut bare = Probe::open(&data, PROBE_BYTES, appends(answer))?;
        let load =
            Load { port, requests, expected: b"{\"fallback\":false", rate: RATE, connections: CONNECTIONS };
        // Instances, files: what is slow only once.
        load.run(phase / 2)?;
        let (mut of_answers, mut of_probes, mut of_floor) =
            (Samples::default(), Samples::default(), Samples::default());
        for _ in 0..PHASES {
            of_answers.0.extend(load.run(phase)?.0);
            for _ in 0..PROBES_PER_PHASE {
                of_probes.push(probe.run()?);
            }
            of_floor.0.extend(bare.at_rate(RATE, phase)?.0);
        }
        p50.push(of_answers.median() * 1e3);
        p99.push(of_answers.percentile(99) * 1e3);
        probes.push(of_probes.percentile(99) * 1e3);
        excess.push((of_answers.percentile(99) - of_probes.percentile(99)) * 1e3);
        floor.push(of_floor.percentile(99) * 1e3);
        past_floor.push((of_answers.percentile(99) - of_floor.percentile(99)) * 1e3);
        drop((probe, bare));
        server.stop()?;
    }
    report.figure(&format!("{name}_p99_ms"), &p99);
    report.figure(&format!("{name}_p50_ms"), &p50);
    report.figure(&format!("{name}_probe_p99_ms"), &probes);
    report.figure(&format!("{name}_past_probe_p99_ms"), &excess);
    report.figure(&format!("{name}_floor_p99_ms"), &floor);
    report.figure(&format!("{name}_past_floor_p99_ms"), &past_floor);
    Ok(())
}
