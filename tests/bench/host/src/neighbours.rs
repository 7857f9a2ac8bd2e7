//! A victim at a steady rate, beside one tenant after another that does what it likes: how much later its records arrive.
//!
//! The victim pushes 10 records every 10 ms, over 8 connections in turn, to a stream with interval 0 and a filter. A
//! record's latency is from when its push was due until its object is visible. Phases with and without the neighbour
//! alternate.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use wasmill_tests::hostile;

use crate::arrivals::Arrivals;
use crate::child::Server;
use crate::http::{self, Client};
use crate::rivals;
use crate::samples::{Report, Samples};
use crate::scene::{Place, Scene};

const TICK: Duration = Duration::from_millis(10);
const PER_TICK: usize = 10;
/// Of the victim.
const CONNECTIONS: usize = 8;
/// After the last push of a phase.
const SETTLE: Duration = Duration::from_secs(20);

/// What a neighbour does while it is there.
#[derive(Clone, Copy, Debug)]
enum Rival {
    /// Its plugin loops in every call until it is stopped.
    CpuBurner,
    /// Its plugin takes memory until there is none, in every call.
    MemoryBomb,
    /// Its plugin writes as much log as it can, in every call.
    LogFlooder,
    /// Puts plugins into its directory whose compilation takes half a minute.
    CompileBomb,
    /// Pushes bodies of 1 MB over 8 connections, each as soon as the last is answered, past its quota of 8 MB a second.
    PushFlood,
    /// The same without a quota: it may use what the machine has.
    UnboundedFlood,
    /// Pushes as much as the victim does; its destination takes connections and never answers.
    HangingDestination,
    /// Replaces its plugin ten times a second.
    ReloadStorm,
}

const RIVALS: [(&str, Rival); 8] = [
    ("cpu_burner", Rival::CpuBurner),
    ("memory_bomb", Rival::MemoryBomb),
    ("log_flooder", Rival::LogFlooder),
    ("compile_bomb", Rival::CompileBomb),
    ("push_flood", Rival::PushFlood),
    ("unbounded_flood", Rival::UnboundedFlood),
    ("hanging_destination", Rival::HangingDestination),
    ("reload_storm", Rival::ReloadStorm),
];

impl Rival {
    /// What the host counts of what this neighbour is for.
    fn trace(self, port: u16, operator: &str) -> Result<f64> {
        let name = match self {
            Rival::CpuBurner | Rival::MemoryBomb => "wasmill_transform_traps_total",
            Rival::LogFlooder => "wasmill_transform_calls_total",
            Rival::CompileBomb => "wasmill_tenant_compile_cpu_seconds_total",
            Rival::PushFlood => "wasmill_quota_refusals_total",
            Rival::UnboundedFlood => "wasmill_stream_bytes_in_total",
            Rival::HangingDestination => "wasmill_output_records_pending",
            Rival::ReloadStorm => "wasmill_plugin_reloads_total",
        };
        rivals::metric_with(port, operator, name, "tenant=\"rival\"")
    }
}

pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    let span = Duration::from_secs(if scene.quick { 5 } else { 60 });
    let parts: Vec<&str> = scene.only.iter().filter_map(|name| name.strip_prefix("neighbours.")).collect();
    if let Some(unknown) = parts.iter().find(|part| !RIVALS.iter().any(|(name, _)| name == *part)) {
        bail!("no neighbour is called {unknown:?}; there are {:?}", RIVALS.map(|(name, _)| name));
    }
    report.note("neighbours_cores", std::thread::available_parallelism()?.get());
    report.note("neighbours_victim_records_per_s", PER_TICK as f64 / TICK.as_secs_f64());
    report.note("neighbours_span_s", span.as_secs());
    for (name, rival) in RIVALS.into_iter().filter(|(name, _)| parts.is_empty() || parts.contains(name)) {
        let (alone, beside, acted) = one(scene, name, rival, span)?;
        report.note(&format!("neighbours_{name}_acted"), acted);
        for (when, found) in [("alone", &alone), ("beside", &beside)] {
            report.note(&format!("neighbours_{name}_{when}_p99_ms"), found.objects.percentile(99) * 1e3);
            report.note(&format!("neighbours_{name}_{when}_p50_ms"), found.objects.median() * 1e3);
            report.note(&format!("neighbours_{name}_{when}_ack_p99_ms"), found.acks.percentile(99) * 1e3);
        }
        let ratio = beside.objects.percentile(99) / alone.objects.percentile(99);
        report.figure(&format!("neighbour_{name}"), &Samples(vec![ratio]));
    }
    Ok(())
}

/// Seconds until records of the victim were visible, and until their pushes were acknowledged.
#[derive(Default)]
struct Latencies {
    objects: Samples,
    acks: Samples,
}

impl Latencies {
    fn add(&mut self, more: Latencies) {
        self.objects.0.extend(more.objects.0);
        self.acks.0.extend(more.acks.0);
    }
}

/// Latencies of the victim without and with this neighbour, and how much the neighbour did, by [`Rival::trace`].
fn one(scene: &Scene, name: &str, rival: Rival, span: Duration) -> Result<(Latencies, Latencies, f64)> {
    let place = scene.place(&format!("neighbour-{name}"))?;
    let port = http::free_port()?;
    let plugins = place.dir.join("plugins");
    for tenant in ["victim", "rival"] {
        std::fs::create_dir_all(plugins.join(tenant))?;
    }
    std::fs::copy(scene.plugins.join("filter.wasm"), plugins.join("victim/filter.wasm"))?;
    let evil = plugin(rival)?;
    // What takes long to compile comes later.
    let first = if let Rival::CompileBomb = rival { plugin(Rival::ReloadStorm)? } else { evil.clone() };
    deploy(&plugins.join("rival"), 0, &first)?;
    let hanging = TcpListener::bind("127.0.0.1:0")?;
    let output = match rival {
        Rival::HangingDestination => {
            format!(
                "type = \"http\", url = \"http://{}/\", interval = \"0s\", timeout = \"600s\", format = \"raw\"",
                hanging.local_addr()?
            )
        }
        _ => "type = \"directory\", path = \"rival\", interval = \"1s\", format = \"raw\"".to_owned(),
    };
    let quota = match rival {
        Rival::PushFlood => "[tenants.rival.quota]\nbytes_per_second = \"8MB\"\n",
        _ => "",
    };
    let config = place.config(&format!(
        "{}[http.auth]\nmode = \"keys\"\n\
         [tenants.victim.streams.events]\nsource = {{ type = \"http\" }}\n\
         transforms = [{{ plugin = \"filter\", config = {{ drop = 'level == \"debug\"' }} }}]\n\
         outputs = [{{ type = \"directory\", path = \"out\", interval = \"0s\", compression = \"none\", object = \"{{batch}}{{extension}}\" }}]\n\
         [tenants.rival.streams.events]\nsource = {{ type = \"http\" }}\nmax_failed_percent = 100\n\
         dead_letters = {{ max_bytes = \"4GiB\" }}\ntransforms = [{{ plugin = \"step\" }}]\noutputs = [{{ {output} }}]\n{quota}",
        scene.head(Some(port), &plugins)
    ))?;
    std::fs::create_dir_all(place.out())?;
    let operator = rivals::operator(scene, &config)?;
    let server = scene.product.serve(&config, &place.log(), port)?;
    let mut client = Client::connect(port)?;
    let [victim, own] = ["victim", "rival"].map(|tenant| rivals::push_key(&mut client, &operator, tenant));
    let (victim, own) = (victim?, own?);
    // Keys, instances, files: what is slow only once.
    watched(&server, &place, &victim, Duration::from_secs(2))?;
    let (mut alone, mut beside) = (Latencies::default(), Latencies::default());
    let mut acted = 0.0;
    // Halves, so that what the machine does otherwise meets both.
    for _ in 0..2 {
        alone.add(watched(&server, &place, &victim, span / 2)?);
        let before = rival.trace(port, &operator)?;
        let stop = AtomicBool::new(false);
        let found = std::thread::scope(|scope| {
            let acting = scope.spawn(|| act(rival, &server, &own, &plugins.join("rival"), &evil, &stop));
            // It is at it.
            crate::pause(Duration::from_secs(1));
            let found = watched(&server, &place, &victim, span / 2);
            stop.store(true, Ordering::Relaxed);
            acting.join().map_err(|_panic| anyhow::anyhow!("the neighbour panicked"))??;
            found
        })?;
        beside.add(found);
        let more = rival.trace(port, &operator)? - before;
        ensure!(more > 0.0, "{name} left no trace: it did not do what it is for");
        acted += more;
        // What it left is worked off, or waits for ever.
        crate::pause(Duration::from_secs(3));
    }
    drop(hanging);
    // Undelivered data of the neighbour would keep it from ending in order.
    drop(server);
    Ok((alone, beside, acted))
}

/// The neighbour's plugin.
fn plugin(rival: Rival) -> Result<Vec<u8>> {
    let name = match rival {
        Rival::CompileBomb => return Ok(hostile::compile_bomb()),
        Rival::CpuBurner => "loop-in-process",
        Rival::MemoryBomb => "memory-page-by-page",
        Rival::LogFlooder => "log-of-many-lines",
        Rival::PushFlood | Rival::UnboundedFlood | Rival::HangingDestination | Rival::ReloadStorm => {
            "tables-a-few"
        }
    };
    let case = hostile::corpus().into_iter().find(|case| case.name == name);
    Ok(case.with_context(|| format!("no hostile plugin is called {name}"))?.wasm)
}

/// Puts it into its directory with a digest of its own.
fn deploy(dir: &Path, salt: u32, wasm: &[u8]) -> Result<()> {
    let part = dir.join(".step.part");
    // A custom section: id, size, name, contents.
    let mut section = vec![0, 9, 4];
    section.extend_from_slice(b"salt");
    section.extend_from_slice(&salt.to_le_bytes());
    std::fs::write(&part, [wasm, &section].concat())?;
    Ok(std::fs::rename(part, dir.join("step.wasm"))?)
}

/// Does it until it is told to stop.
fn act(rival: Rival, server: &Server, key: &str, dir: &Path, wasm: &[u8], stop: &AtomicBool) -> Result<()> {
    let pushing = |body: &[u8], connections: usize, pause: Duration| -> Result<()> {
        std::thread::scope(|scope| {
            let pushers: Vec<_> = (0..connections)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        let request = http::push_as(key, "events", body);
                        let mut client = Client::connect(server.port)?;
                        while !stop.load(Ordering::Relaxed) {
                            // Refusals are as good as anything; one whose body is not read ends the connection.
                            match client.send(&request).and_then(|()| client.answer()) {
                                Ok(answer) if answer.status == 200 => crate::pause(pause),
                                Ok(_refused) => crate::pause(pause.max(Duration::from_millis(5))),
                                Err(_closed) => {
                                    crate::pause(Duration::from_millis(5));
                                    client = Client::connect(server.port)?;
                                }
                            }
                        }
                        Ok(())
                    })
                })
                .collect();
            for pusher in pushers {
                pusher.join().map_err(|_panic| anyhow::anyhow!("a connection panicked"))??;
            }
            Ok(())
        })
    };
    let mut salt = 1;
    match rival {
        Rival::CpuBurner => pushing(b"loop\n", 2, TICK),
        Rival::MemoryBomb => pushing(b"more\n", 2, TICK),
        Rival::LogFlooder => pushing("say something\n".repeat(100).as_bytes(), 2, TICK),
        Rival::PushFlood | Rival::UnboundedFlood => {
            pushing(&b"0123456789012345678901234567890123456789\n".repeat(25_000), 8, Duration::ZERO)
        }
        Rival::HangingDestination => pushing("nobody answers\n".repeat(PER_TICK).as_bytes(), 1, TICK),
        Rival::CompileBomb => {
            while !stop.load(Ordering::Relaxed) {
                deploy(dir, salt, wasm)?;
                salt += 1;
                crate::pause(Duration::from_secs(1));
            }
            Ok(())
        }
        Rival::ReloadStorm => {
            while !stop.load(Ordering::Relaxed) {
                deploy(dir, salt, wasm)?;
                salt += 1;
                crate::pause(Duration::from_millis(100));
            }
            Ok(())
        }
    }
}

/// Pushes the victim's records for a while and waits for all of them.
fn watched(server: &Server, place: &Place, key: &str, span: Duration) -> Result<Latencies> {
    let mut arrivals = Arrivals::watch(&place.out())?;
    let ticks = usize::try_from(span.as_millis() / TICK.as_millis())?;
    std::thread::scope(|scope| {
        // Connections take turns, so that a push that is late holds up none behind it: the rate is steady.
        let started = Instant::now();
        let pushing = |connection: usize| {
            move || -> Result<Samples> {
                let mut acks = Samples::default();
                let mut client = Client::connect(server.port)?;
                for tick in (connection..ticks).step_by(CONNECTIONS) {
                    let due = TICK * u32::try_from(tick)?;
                    crate::pause(due.saturating_sub(started.elapsed()));
                    // From when it was due: what waits is part of the latency.
                    let now = wall()? - started.elapsed().saturating_sub(due).as_nanos();
                    let line = format!("{{\"level\":\"info\",\"t\":{now}}}\n");
                    client.call(&http::push_as(key, "events", line.repeat(PER_TICK).as_bytes()))?;
                    acks.push(started.elapsed().saturating_sub(due).as_secs_f64());
                }
                Ok(acks)
            }
        };
        let pushers: Vec<_> = (0..CONNECTIONS).map(|connection| scope.spawn(pushing(connection))).collect();
        let mut samples = Samples::default();
        while samples.0.len() < ticks * PER_TICK {
            let name = arrivals.next(SETTLE).context("the victim's records")?;
            let seen = wall()?;
            let path: PathBuf = place.out().join(name);
            let text = std::fs::read_to_string(&path)?;
            for line in text.lines() {
                let sent = line
                    .split_once("\"t\":")
                    .and_then(|(_, rest)| rest.split(['}', ',']).next()?.parse().ok());
                let Some(sent) = sent else { bail!("{} has no time: {line}", path.display()) };
                samples.push(Duration::from_nanos(u64::try_from(seen.saturating_sub(sent))?).as_secs_f64());
            }
            std::fs::remove_file(path)?;
        }
        let mut acks = Samples::default();
        for pusher in pushers {
            acks.0.extend(pusher.join().map_err(|_panic| anyhow::anyhow!("the victim panicked"))??.0);
        }
        Ok(Latencies { objects: samples, acks })
    })
}

/// Nanoseconds since the epoch.
fn wall() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())
}
