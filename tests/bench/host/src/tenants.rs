//! Many tenants at once, each with a stream and a plugin of its own, against one tenant that gets all of the same load.

use std::time::Duration;

use anyhow::Result;

use crate::http::{self, Client};
use crate::push::load;
use crate::rivals;
use crate::samples::{Report, Samples};
use crate::scene::Scene;

/// In a request.
const RECORDS: usize = 100;
/// Phases of each kind.
const PHASES: usize = 3;
/// The first start compiles every plugin.
const COLD_MAX: Duration = Duration::from_secs(30 * 60);

/// What all at once cost, beside what one alone does.
pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    let count = scene.tenants;
    let phase = Duration::from_secs(if scene.quick { 3 } else { 15 });
    let place = scene.place("tenants")?;
    let port = http::free_port()?;
    let names: Vec<String> = (0..count).map(|number| format!("t{number:04}")).collect();
    let filter = std::fs::read(scene.plugins.join("filter.wasm"))?;
    let mut text =
        format!("{}[http.auth]\nmode = \"keys\"\n", scene.head(Some(port), &place.dir.join("plugins")));
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
    report.note("tenants_cold_start_s", server.ready_s);
    server.stop()?;
    let server = scene.product.serve_within(&config, &place.log(), port, COLD_MAX)?;
    report.note("tenants_start_s", server.ready_s);
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
    // Keys are verified once, and every plugin gets its first instance.
    load(&server, &requests, phase)?;
    let (mut ratio, mut rates) = (Samples::default(), Samples::default());
    let (mut acks, mut acks_alone) = (Samples::default(), Samples::default());
    let syncs = rivals::metric(port, &operator, "wasmill_journal_syncs_total")?;
    let mut pushes = 0;
    for _ in 0..PHASES {
        crate::say("tenants: all at once");
        let all = load(&server, &requests, phase)?;
        crate::say("tenants: one alone");
        let one = load(&server, &requests[..1], phase)?;
        pushes += all.len() + one.len();
        ratio.push(all.len() as f64 / one.len() as f64);
        rates.push((all.len() * RECORDS) as f64 / phase.as_secs_f64());
        acks.0.extend(all.iter().map(|seconds| seconds * 1e3));
        acks_alone.0.extend(one.iter().map(|seconds| seconds * 1e3));
    }
    let syncs = rivals::metric(port, &operator, "wasmill_journal_syncs_total")? - syncs;
    report.figure("tenants_over_one", &ratio);
    report.figure("tenants_records_per_s", &rates);
    for (name, samples) in [("tenants", &acks), ("tenants_one", &acks_alone)] {
        report.note(&format!("{name}_ack_p50_ms"), samples.median());
        report.note(&format!("{name}_ack_p99_ms"), samples.percentile(99));
    }
    report.note("tenants_syncs_per_push", syncs / pushes as f64);
    report.note("tenants_rss_mb", rivals::status(server.id(), "VmRSS")? / 1024.0);
    report.note("tenants_rss_anon_mb", rivals::status(server.id(), "RssAnon")? / 1024.0);
    report.note("tenants_threads", rivals::status(server.id(), "Threads")?);
    server.stop()
}
