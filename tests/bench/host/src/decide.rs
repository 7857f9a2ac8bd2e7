//! Answers while the client waits: requests of one record at a steady rate, over many connections in turn, from when each was
//! due until its answer was read. Phases of load and of the disk's probe of two serial appends alternate; once with
//! answers that are durable, and once with answers before that.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::child::Server;
use crate::http::{self, Client};
use crate::probe::Probe;
use crate::samples::{Report, Samples};
use crate::scene::{JOB, JOB_PLUGINS, Scene};

/// Requests a second.
const RATE: u32 = 5000;
const CONNECTIONS: usize = 64;
const PHASES: usize = 5;
const PROBE_BYTES: usize = 4096;
/// Receipt and outcome.
const PROBE_APPENDS: usize = 2;
const PROBES_PER_PHASE: usize = 200;

pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    for (name, answer) in [("decide", "durable"), ("decide_computed", "computed")] {
        one(scene, report, name, answer)?;
    }
    Ok(())
}

fn one(scene: &Scene, report: &mut Report, name: &str, answer: &str) -> Result<()> {
    let phase = Duration::from_secs(if scene.quick { 1 } else { 4 });
    let place = scene.place(name)?;
    let port = http::free_port()?;
    let config = place.config(&format!(
        "{}\n[streams.access]\nsource = {{ type = \"http\" }}\ndecide = {{ answer = {answer:?} }}\n{JOB}\n\
         [[streams.access.outputs]]\ntype = \"directory\"\npath = \"out\"\ninterval = \"10s\"\n",
        scene.head(Some(port), &place.plugins(scene, &JOB_PLUGINS)?)
    ))?;
    let requests: Vec<Vec<u8>> =
        scene.log.lines().take(1000).map(|line| http::decide_request("access", line)).collect();
    let (mut p99, mut p50, mut probes, mut excess) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    for _ in 0..scene.runs {
        place.renew()?;
        let server = scene.product.serve(&config, &place.log(), port)?;
        let mut probe = Probe::open(&place.dir.join("data"), PROBE_BYTES, PROBE_APPENDS)?;
        // Instances, files: what is slow only once.
        load(&server, &requests, phase / 2)?;
        let (mut of_answers, mut of_probes) = (Samples::default(), Samples::default());
        for _ in 0..PHASES {
            of_answers.0.extend(load(&server, &requests, phase)?.0);
            for _ in 0..PROBES_PER_PHASE {
                of_probes.push(probe.run()?);
            }
        }
        p50.push(of_answers.median() * 1e3);
        p99.push(of_answers.percentile(99) * 1e3);
        probes.push(of_probes.percentile(99) * 1e3);
        excess.push((of_answers.percentile(99) - of_probes.percentile(99)) * 1e3);
        drop(probe);
        server.stop()?;
    }
    report.figure(&format!("{name}_p99_ms"), &p99);
    report.figure(&format!("{name}_p50_ms"), &p50);
    report.figure(&format!("{name}_probe_p99_ms"), &probes);
    report.figure(&format!("{name}_past_probe_p99_ms"), &excess);
    Ok(())
}

/// Seconds from when each request was due until its answer was there.
fn load(server: &Server, requests: &[Vec<u8>], span: Duration) -> Result<Samples> {
    let ticks = usize::try_from(span.as_millis())? * RATE as usize / 1000;
    let started = Instant::now();
    std::thread::scope(|scope| {
        let asking = |connection: usize| {
            move || -> Result<Samples> {
                let mut samples = Samples::default();
                let mut client = Client::connect(server.port)?;
                for tick in (connection..ticks).step_by(CONNECTIONS) {
                    let due = Duration::from_secs(1) / RATE * u32::try_from(tick)?;
                    crate::pause(due.saturating_sub(started.elapsed()));
                    let answer = client.call(&requests[tick % requests.len()]).context("decide")?;
                    ensure!(
                        answer.starts_with(b"{\"fallback\":false"),
                        "a fallback: the host is too slow for its deadline"
                    );
                    samples.push(started.elapsed().saturating_sub(due).as_secs_f64());
                }
                Ok(samples)
            }
        };
        let askers: Vec<_> = (0..CONNECTIONS).map(|connection| scope.spawn(asking(connection))).collect();
        let mut all = Samples::default();
        for asker in askers {
            all.0.extend(asker.join().map_err(|_panic| anyhow::anyhow!("a connection panicked"))??.0);
        }
        Ok(all)
    })
}
