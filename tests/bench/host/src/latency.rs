//! One record at a time with interval 0: from before the push is sent until the finished object is visible.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::arrivals::Arrivals;
use crate::http::{self, Client, push_request};
use crate::probe::Probe;
use crate::samples::{Report, Samples};
use crate::scene::{JOB, JOB_PLUGINS, Scene};

const PROBE_BYTES: usize = 4096;
const PROBE_APPENDS: usize = 4;
/// Phases of each kind in a run, and records or probes in a phase.
const PHASES: usize = 10;
const PER_PHASE: usize = 20;
const OBJECT_MAX: Duration = Duration::from_secs(30);

pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    let place = scene.place("latency")?;
    let port = http::free_port()?;
    let config = place.config(&format!(
        "{}\n[streams.access]\nsource = {{ type = \"http\" }}\n{JOB}\n\
         [[streams.access.outputs]]\ntype = \"directory\"\npath = \"out\"\ninterval = \"0s\"\n\
         object = \"{{batch}}{{extension}}\"\n",
        scene.head(Some(port), &place.plugins(scene, &JOB_PLUGINS)?)
    ))?;
    // A record that is kept gives an object.
    let kept = scene.log.lines().filter(|line| !line.windows(9).any(|word| word == b" /images/"));
    let requests: Vec<Vec<u8>> = kept.take(1000).map(|line| push_request("access", line)).collect();
    let (mut whole, mut probes) = (Samples::default(), Samples::default());
    let (mut acks, mut middle, mut idle) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..scene.runs {
        place.renew()?;
        std::fs::create_dir_all(place.out())?;
        let server = scene.product.serve(&config, &place.log(), port)?;
        let mut arrivals = Arrivals::watch(&place.out())?;
        let mut client = Client::connect(port)?;
        let mut probe = Probe::open(&place.dir.join("data"), PROBE_BYTES, PROBE_APPENDS)?;
        let (mut of_objects, mut of_probes, mut of_acks) =
            (Samples::default(), Samples::default(), Samples::default());
        let mut requests = requests.iter().cycle();
        for phase in 0..=PHASES {
            for request in requests.by_ref().take(PER_PHASE) {
                let sent = Instant::now();
                client.call(request)?;
                let ack = sent.elapsed().as_secs_f64();
                arrivals.next(OBJECT_MAX)?;
                // The first phase warms up.
                if phase > 0 {
                    of_objects.push(sent.elapsed().as_secs_f64());
                    of_acks.push(ack);
                }
            }
            for _ in 0..PER_PHASE {
                let probed = probe.run()?;
                if phase > 0 {
                    of_probes.push(probed);
                }
            }
        }
        whole.push(of_objects.percentile(99) * 1e3);
        middle.push(of_objects.median() / of_probes.median());
        idle.push(of_probes.median() * 1e3);
        acks.push(of_acks.median() * 1e3);
        probes.push(of_probes.percentile(99) * 1e3);
        server.stop()?;
    }
    report.figure("latency_over_probe_p99", &whole.over(&probes));
    report.figure("latency_p99_ms", &whole);
    report.figure("latency_probe_p99_ms", &probes);
    report.figure("latency_over_probe_p50", &middle);
    report.figure("latency_probe_p50_ms", &idle);
    report.figure("latency_ack_p50_ms", &acks);
    Ok(())
}
