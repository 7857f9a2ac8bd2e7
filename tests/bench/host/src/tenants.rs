//! Many tenants at once, each with a stream, a plugin and a connection of its own, against one tenant that gets all of the
//! same load over as many connections.
//!
//! What one tenant can do is found first: its connections push as fast as they are acknowledged. Then phases alternate in
//! which the same requests are due at that rate, of all tenants in turn or of the one. Throughput is all records of a phase
//! over the time from the first push until the last verdict is durable; before the next one begins, everything is delivered.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::child::Server;
use crate::http::{self, Client};
use crate::rivals;
use crate::samples::{Report, Samples};
use crate::scene::Scene;

/// In a request; one of ten is dropped.
const RECORDS: usize = 100;
/// Phases of each kind.
const PHASES: usize = 3;
/// The first start compiles every plugin.
const COLD_MAX: Duration = Duration::from_secs(30 * 60);
/// From the last acknowledgement until everything is delivered.
const DELIVERED_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Of a connection's thread.
const STACK: usize = 128 << 10;

/// What all at once cost, beside what one alone does.
pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    let count = scene.tenants;
    let phase = Duration::from_secs(if scene.quick { 3 } else { 20 });
    let place = scene.place("tenants")?;
    let port = http::free_port()?;
    let names: Vec<String> = (0..count).map(|number| format!("t{number:04}")).collect();
    let filter = std::fs::read(scene.plugins.join("filter.wasm"))?;
    let mut text = format!(
        "{}max_connections = {}\n[http.auth]\nmode = \"keys\"\n",
        scene.head(Some(port), &place.dir.join("plugins")),
        count + 64
    );
    // The one tenant has a connection for each of the others.
    text.push_str(&format!("[tenants.{}.quota]\nrequests = {}\n", names[0], count.max(256)));
    std::fs::create_dir_all(place.dir.join("plugins"))?;
    for name in &names {
        let dir = place.dir.join("plugins").join(name);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("filter.wasm"), rivals::variant(&filter, name)?)?;
        text.push_str(&format!(
            "[tenants.{name}.streams.events]\nsource = {{ type = \"http\" }}\n\
             transforms = [{{ plugin = \"filter\", config = {{ drop = 'level == \"debug\"' }} }}]\n\
             outputs = [{{ type = \"directory\", path = \"out/{name}\", interval = \"5s\" }}]\n"
        ));
    }
    let config = place.config(&text)?;
    let operator = rivals::operator(scene, &config)?;
    crate::say(&format!("tenants: the first start compiles {count} plugins"));
    let server = scene.product.serve_within(&config, &place.log(), port, COLD_MAX)?;
    report.note("tenants_count", count);
    report.note("tenants_cores", thread::available_parallelism()?.get());
    report.note("tenants_cold_start_s", server.ready_s);
    server.stop()?;
    let server = scene.product.serve_within(&config, &place.log(), port, COLD_MAX)?;
    report.figure("tenants_start_s", &Samples(vec![server.ready_s]));
    report.note("tenants_idle_rss_mb", rivals::status(server.id(), "VmRSS")? / 1024.0);
    let mut client = Client::connect(port)?;
    let mut requests = Vec::with_capacity(count);
    for (number, name) in names.iter().enumerate() {
        let key = rivals::push_key(&mut client, &operator, name)?;
        let lines = (0..RECORDS).map(|record| {
            let level = if record % 10 == 0 { "debug" } else { "info" };
            format!(
                "{{\"level\":\"{level}\",\"tenant\":{number},\"n\":{record},\"text\":\"{}\"}}\n",
                "x".repeat(120)
            )
        });
        requests.push(http::push_as(&key, "events", lines.collect::<String>().as_bytes()));
    }
    let all: Vec<&[u8]> = requests.iter().map(Vec::as_slice).collect();
    let one: Vec<&[u8]> = vec![all[0]; count];
    let hosted = Hosted { server: &server, operator: &operator };
    // Keys are verified once, and every plugin gets its first instance.
    hosted.load(&all, Pace { per_connection: 2, rate: None })?;
    let found = hosted.load(&one, Pace { per_connection: 10, rate: None })?;
    let per_connection = (found.rate() * phase.as_secs_f64() / (RECORDS * count) as f64).ceil();
    let found = hosted.load(&one, Pace { per_connection: per_connection as usize, rate: None })?;
    let pace = Pace { rate: Some(found.rate()), per_connection: per_connection as usize };
    report.note("tenants_one_capacity_records_per_s", found.rate().round());
    let (mut at_once, mut alone) = (Samples::default(), Samples::default());
    let (mut acks, mut acks_alone) = (Samples::default(), Samples::default());
    let (mut pushes, mut syncs) = (0, 0.0);
    for _ in 0..PHASES {
        crate::say("tenants: one alone");
        let found = hosted.load(&one, pace)?;
        alone.push(found.rate());
        acks_alone.0.extend(found.acks_ms);
        crate::say("tenants: all at once");
        let before = rivals::metric(port, &operator, "wasmill_journal_syncs_total")?;
        let found = hosted.load(&all, pace)?;
        syncs += rivals::metric(port, &operator, "wasmill_journal_syncs_total")? - before;
        at_once.push(found.rate());
        pushes += found.acks_ms.len();
        acks.0.extend(found.acks_ms);
    }
    report.figure("tenants_over_one", &at_once.over(&alone));
    report.figure("tenants_records_per_s", &at_once);
    report.figure("tenants_one_records_per_s", &alone);
    for (name, samples) in [("tenants", &acks), ("tenants_one", &acks_alone)] {
        report.note(&format!("{name}_ack_p50_ms"), samples.median());
        report.note(&format!("{name}_ack_p99_ms"), samples.percentile(99));
    }
    report.note("tenants_syncs_per_push", syncs / pushes as f64);
    report.note("tenants_warm_instances", rivals::metric(port, &operator, "wasmill_tenant_warm_instances")?);
    for (name, of) in [("rss", "VmRSS"), ("rss_anon", "RssAnon"), ("rss_peak", "VmHWM")] {
        report.note(&format!("tenants_{name}_mb"), rivals::status(server.id(), of)? / 1024.0);
    }
    report.note("tenants_threads", rivals::status(server.id(), "Threads")?);
    server.stop()
}

/// How fast connections push.
#[derive(Clone, Copy)]
struct Pace {
    per_connection: usize,
    /// Records a second of all together; as fast as they are acknowledged without one.
    rate: Option<f64>,
}

/// What became of a phase.
struct Phase {
    records: usize,
    /// Until the last verdict was durable.
    took: Duration,
    /// From each request that was sent until its answer.
    acks_ms: Vec<f64>,
}

impl Phase {
    fn rate(&self) -> f64 {
        self.records as f64 / self.took.as_secs_f64()
    }
}

struct Hosted<'a> {
    server: &'a Server,
    operator: &'a str,
}

impl Hosted<'_> {
    /// Pushes over a connection for each of the requests, all at once.
    fn load(&self, requests: &[&[u8]], pace: Pace) -> Result<Phase> {
        let processed = self.sum("wasmill_stream_records_processed_total")?;
        let delivered = self.sum("wasmill_output_records_delivered_total")?;
        let clients: Result<Vec<Client>> =
            requests.iter().map(|_| Client::connect(self.server.port)).collect();
        let between = pace.rate.map(|rate| Duration::from_secs_f64(RECORDS as f64 / rate));
        let started = Instant::now();
        let acks_ms = thread::scope(|scope| -> Result<Vec<f64>> {
            let mut pushing = Vec::with_capacity(requests.len());
            for (number, (request, mut client)) in requests.iter().zip(clients?).enumerate() {
                let push = move || -> Result<Vec<f64>> {
                    let mut acks = Vec::with_capacity(pace.per_connection);
                    for turn in 0..pace.per_connection {
                        if let Some(between) = between {
                            let due = between * u32::try_from(turn * requests.len() + number)?;
                            crate::pause(due.saturating_sub(started.elapsed()));
                        }
                        let sent = Instant::now();
                        client.call(request).context("push")?;
                        acks.push(sent.elapsed().as_secs_f64() * 1e3);
                    }
                    Ok(acks)
                };
                pushing.push(thread::Builder::new().stack_size(STACK).spawn_scoped(scope, push)?);
            }
            let mut all = Vec::new();
            for connection in pushing {
                all.extend(connection.join().map_err(|_panic| anyhow::anyhow!("a connection panicked"))??);
            }
            Ok(all)
        })?;
        let records = acks_ms.len() * RECORDS;
        self.reach("wasmill_stream_records_processed_total", processed + records as f64)?;
        let took = started.elapsed();
        self.reach("wasmill_output_records_delivered_total", delivered + (records / 10 * 9) as f64)?;
        Ok(Phase { records, took, acks_ms })
    }

    fn sum(&self, metric: &str) -> Result<f64> {
        rivals::metric(self.server.port, self.operator, metric)
    }

    fn reach(&self, metric: &str, wanted: f64) -> Result<()> {
        let since = Instant::now();
        loop {
            let found = self.sum(metric)?;
            ensure!(found <= wanted, "{metric} is {found}, more than the {wanted} that were pushed");
            if found == wanted {
                return Ok(());
            }
            ensure!(since.elapsed() < DELIVERED_MAX, "{metric} stays at {found}, expected {wanted}");
            crate::pause(LOOK_EVERY);
        }
    }
}
