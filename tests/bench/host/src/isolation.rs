//! What `isolation = "process"` costs: the access-log job with its plugins in a process, against the same on the host's
//! own threads; and the way of one record, which two more switches of processes make longer.

use std::time::Instant;

use anyhow::Result;

use crate::arrivals::Arrivals;
use crate::child::Used;
use crate::http::{self, Client, push_request};
use crate::samples::{Report, Samples};
use crate::scene::{JOB, JOB_PLUGINS, Place, Scene};

const WAYS: [&str; 2] = ["thread", "process"];
/// Records whose way is timed, in each run.
const RECORDS: usize = 200;

pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    let input = scene.input(if scene.quick { 64 } else { 512 })?;
    let job = |way: &str| -> Result<Place> {
        let place = scene.place(&format!("isolation-{way}"))?;
        place.config(&format!(
            "isolation = {way:?}\n{}\n[streams.access]\nsource = {{ type = \"file\", paths = [{:?}] }}\n{JOB}\n\
             [[streams.access.outputs]]\ntype = \"directory\"\npath = \"out\"\n",
            scene.head(None, &place.plugins(scene, &JOB_PLUGINS)?),
            input.path.display().to_string()
        ))?;
        Ok(place)
    };
    let [thread, process] = WAYS.map(job);
    let (thread, process) = (thread?, process?);
    let run = |place: &Place| -> Result<Used> {
        place.renew()?;
        scene.product.run(&place.dir.join("wasmill.toml"), &place.log())
    };
    // Once before it counts: plugins are compiled.
    run(&thread)?;
    run(&process)?;
    let (mut cpu, mut wall) = (Samples::default(), Samples::default());
    for _ in 0..scene.runs {
        let (here, there) = (run(&thread)?, run(&process)?);
        cpu.push(there.cpu_s / here.cpu_s);
        wall.push(there.wall_s / here.wall_s);
    }
    report.figure("process_over_thread_cpu", &cpu);
    report.figure("process_over_thread_wall", &wall);
    let mut latencies = [Samples::default(), Samples::default()];
    for _ in 0..scene.runs {
        for (way, samples) in WAYS.iter().zip(&mut latencies) {
            samples.push(latency(scene, way)?);
        }
    }
    let [thread, process] = latencies;
    report.figure("process_over_thread_latency_p50", &process.over(&thread));
    report.figure("process_latency_p50_ms", &process);
    Ok(())
}

/// The median from before a record's push until its object is visible, in milliseconds.
fn latency(scene: &Scene, way: &str) -> Result<f64> {
    let place = scene.place("isolation-latency")?;
    let port = http::free_port()?;
    let config = place.config(&format!(
        "isolation = {way:?}\n{}\n[streams.access]\nsource = {{ type = \"http\" }}\n{JOB}\n\
         [[streams.access.outputs]]\ntype = \"directory\"\npath = \"out\"\ninterval = \"0s\"\n\
         object = \"{{batch}}{{extension}}\"\n",
        scene.head(Some(port), &place.plugins(scene, &JOB_PLUGINS)?)
    ))?;
    std::fs::create_dir_all(place.out())?;
    let server = scene.product.serve(&config, &place.log(), port)?;
    let mut arrivals = Arrivals::watch(&place.out())?;
    let mut client = Client::connect(port)?;
    let kept = scene.log.lines().filter(|line| !line.windows(9).any(|word| word == b" /images/"));
    let mut samples = Samples::default();
    for line in kept.take(RECORDS) {
        let sent = Instant::now();
        client.call(&push_request("access", line))?;
        arrivals.next(std::time::Duration::from_secs(30))?;
        samples.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    server.stop()?;
    Ok(samples.median())
}
