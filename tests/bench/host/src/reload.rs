//! From closing a new version of a plugin's file until its first record is out, with interval 0, while records flow.
//!
//! The version differs by a custom section, so its digest is new and its code is in no cache; everything of it has to be
//! compiled and probed. Measured with a component of about 200 KB that passes records on, and with `parse`, which is
//! about twice as large.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::arrivals::Arrivals;
use crate::http::{self, Client, push_request};
use crate::samples::{Report, Samples};
use crate::scene::Scene;

const OBJECT_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the new version.
const RELOAD_MAX: Duration = Duration::from_secs(30);

/// A plugin that is replaced.
struct Replaced<'a> {
    name: &'a str,
    original: PathBuf,
    config: &'a str,
    record: &'a [u8],
}

pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    let line = scene.log.lines().next().context("the log is empty")?;
    let small = Replaced {
        name: "vectors",
        original: scene.guests.join("vectors.wasm"),
        config: "{}",
        record: b"{\"a\":1}",
    };
    let parse = Replaced {
        name: "parse",
        original: scene.plugins.join("parse.wasm"),
        config: "{ format = \"combined\" }",
        record: line,
    };
    let (times, bytes) = reload(scene, &small)?;
    report.figure("reload_ms", &times);
    report.note("reload_component_bytes", bytes);
    let (times, bytes) = reload(scene, &parse)?;
    report.figure("reload_parse_ms", &times);
    report.note("reload_parse_component_bytes", bytes);
    Ok(())
}

/// Milliseconds of each reload, and the size of the component.
fn reload(scene: &Scene, replaced: &Replaced<'_>) -> Result<(Samples, usize)> {
    let Replaced { name, original, config, record } = replaced;
    let place = scene.place("reload")?;
    let plugins = place.dir.join("plugins");
    std::fs::create_dir_all(&plugins)?;
    let file = plugins.join(format!("{name}.wasm"));
    let component = std::fs::read(original).with_context(|| format!("read {}", original.display()))?;
    std::fs::write(&file, &component)?;
    let port = http::free_port()?;
    let config = place.config(&format!(
        "{}\n[streams.access]\nsource = {{ type = \"http\" }}\n\
         [[streams.access.transforms]]\nplugin = {name:?}\nconfig = {config}\n\
         [[streams.access.outputs]]\ntype = \"directory\"\npath = \"out\"\ninterval = \"0s\"\n\
         object = \"{{batch}}{{extension}}\"\n",
        scene.head(Some(port), &plugins)
    ))?;
    std::fs::create_dir_all(place.out())?;
    let request = push_request("access", record);
    let server = scene.product.serve(&config, &place.log(), port)?;
    let mut arrivals = Arrivals::watch(&place.out())?;
    let mut times = Samples::default();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Records flow: one after the other, each as soon as the last is delivered.
        let flow = scope.spawn(|| {
            let mut client = Client::connect(port)?;
            let mut delivered = Vec::new();
            while !done.load(Ordering::Relaxed) {
                client.call(&request)?;
                arrivals.next(OBJECT_MAX)?;
                delivered.push(Instant::now());
            }
            Ok::<_, anyhow::Error>(delivered)
        });
        let replaced = replace_again_and_again(scene, &file, &component, port);
        done.store(true, Ordering::Relaxed);
        let delivered = flow.join().map_err(|_panic| anyhow::anyhow!("the flow panicked"))??;
        for (closed, taken) in replaced? {
            // The first object whose record was sent after the new version had taken over: the second from there.
            let first =
                delivered.iter().filter(|at| **at > taken).nth(1).context("no object after a reload")?;
            times.push((*first - closed).as_secs_f64() * 1e3);
        }
        Ok::<_, anyhow::Error>(())
    })?;
    server.stop()?;
    Ok((times, component.len()))
}

/// When each new file was closed, and when the stream was seen to have taken it over.
fn replace_again_and_again(
    scene: &Scene,
    file: &Path,
    component: &[u8],
    port: u16,
) -> Result<Vec<(Instant, Instant)>> {
    let mut client = Client::connect(port)?;
    let mut times = Vec::new();
    for round in 0..scene.runs.max(5) {
        crate::pause(Duration::from_millis(700));
        let before = reloads(&mut client)?;
        let staged = file.with_extension("new");
        let mut new = File::create(&staged)?;
        new.write_all(component)?;
        new.write_all(&custom_section(round))?;
        drop(new);
        std::fs::rename(&staged, file)?;
        let closed = Instant::now();
        while reloads(&mut client)? == before {
            ensure!(closed.elapsed() < RELOAD_MAX, "the new version did not take over");
            crate::pause(Duration::from_millis(1));
        }
        times.push((closed, Instant::now()));
        crate::pause(Duration::from_millis(300));
    }
    Ok(times)
}

fn reloads(client: &mut Client) -> Result<u64> {
    let streams: Value = serde_json::from_slice(&client.get("/v1/streams")?)?;
    let stream = if streams.is_array() { &streams[0] } else { &streams["streams"][0] };
    stream["reloads"].as_u64().context("/v1/streams says no reloads")
}

/// A custom section `bench` with this number.
fn custom_section(number: usize) -> Vec<u8> {
    let mut section = vec![0, 0, 5];
    section.extend_from_slice(b"bench");
    section.extend_from_slice(format!("{number}").as_bytes());
    section[1] = u8::try_from(section.len() - 2).unwrap_or(u8::MAX);
    section
}
