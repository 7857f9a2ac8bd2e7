//! HTTP push over loopback: durable, 500 records per request, 16 keep-alive connections, each sending its next request
//! when the last one is acknowledged. Phases of load and of the disk's probe alternate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::child::Server;
use crate::http::{self, Client, push_request};
use crate::probe::Probe;
use crate::samples::{Report, Samples};
use crate::scene::{JOB, JOB_PLUGINS, Scene};

const RECORDS: usize = 500;
const CONNECTIONS: usize = 16;
/// Phases of each kind in a run.
const PHASES: usize = 4;

pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    let phase = Duration::from_millis(if scene.quick { 250 } else { 700 });
    let place = scene.place("push")?;
    let port = http::free_port()?;
    let config = place.config(&format!(
        "{}\n[streams.access]\nsource = {{ type = \"http\" }}\n{JOB}\n\
         [[streams.access.outputs]]\ntype = \"directory\"\npath = \"out\"\n",
        scene.head(Some(port), &place.plugins(scene, &JOB_PLUGINS)?)
    ))?;
    let bodies = bodies(scene);
    let bytes = bodies.iter().map(Vec::len).sum::<usize>() / bodies.len();
    let requests: Vec<Vec<u8>> = bodies.iter().map(|body| push_request("access", body)).collect();
    let (mut rate, mut acks, mut probes) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..scene.runs {
        place.renew()?;
        let server = scene.product.serve(&config, &place.log(), port)?;
        let mut probe = Probe::open(&place.dir.join("data"), bytes, 2)?;
        load(&server, &requests, phase)?;
        let (mut of_acks, mut of_probes) = (Samples::default(), Samples::default());
        let mut seconds = 0.0;
        for _ in 0..PHASES {
            let started = Instant::now();
            of_acks.0.extend(load(&server, &requests, phase)?);
            seconds += started.elapsed().as_secs_f64();
            let started = Instant::now();
            while started.elapsed() < phase {
                of_probes.push(probe.run()?);
            }
        }
        drop(probe);
        rate.push((of_acks.0.len() * RECORDS) as f64 / seconds);
        acks.push(of_acks.percentile(99) * 1e3);
        probes.push(of_probes.percentile(99) * 1e3);
        server.stop()?;
    }
    report.figure("push_records_per_s", &rate);
    report.figure("push_ack_over_probe_p99", &acks.over(&probes));
    report.figure("push_ack_p99_ms", &acks);
    report.figure("push_probe_p99_ms", &probes);
    report.note("push_request_bytes", bytes);
    Ok(())
}

/// The log, cut into bodies.
fn bodies(scene: &Scene) -> Vec<Vec<u8>> {
    let lines: Vec<&[u8]> = scene.log.lines().collect();
    lines.chunks_exact(RECORDS).map(|lines| [&lines.join(&b'\n')[..], b"\n"].concat()).collect()
}

/// Seconds until each request was acknowledged, over all connections, which begin at different places.
pub(crate) fn load(server: &Server, requests: &[Vec<u8>], span: Duration) -> Result<Vec<f64>> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let connection = |number: usize| {
            let stop = &stop;
            move || {
                let mut client = Client::connect(server.port)?;
                let mut acks = Vec::new();
                for request in requests.iter().cycle().skip(number * requests.len() / CONNECTIONS) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let sent = Instant::now();
                    client.call(request).context("push")?;
                    acks.push(sent.elapsed().as_secs_f64());
                }
                Ok::<_, anyhow::Error>(acks)
            }
        };
        let connections: Vec<_> = (0..CONNECTIONS).map(|number| scope.spawn(connection(number))).collect();
        crate::pause(span);
        stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for connection in connections {
            all.extend(connection.join().map_err(|_panic| anyhow::anyhow!("a connection panicked"))??);
        }
        Ok(all)
    })
}
