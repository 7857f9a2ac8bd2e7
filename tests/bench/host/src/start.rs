//! From the start of the process until it is ready, with five plugins whose compiled code is there.

use anyhow::Result;

use crate::http;
use crate::samples::{Report, Samples};
use crate::scene::{JOB, Scene};

const PLUGINS: [&str; 5] = ["parse", "filter", "derive", "redact", "enrich"];

/// With the three of the job, five.
const MORE: &str = r#"
[[streams.access.transforms]]
plugin = "redact"
config = { rules = [{ field = "client", action = "mask" }] }
[[streams.access.transforms]]
plugin = "enrich"
config = { lookups = [{ field = "status", table = { rows = [{ status = "200", text = "ok" }] }, key = "status", copy = ["text"] }] }
"#;

pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    let place = scene.place("start")?;
    let plugins = place.plugins(scene, &PLUGINS)?;
    let port = http::free_port()?;
    let config = place.config(&format!(
        "{}\n[streams.access]\nsource = {{ type = \"http\" }}\n{JOB}\n{MORE}\n\
         [[streams.access.outputs]]\ntype = \"directory\"\npath = \"out\"\n",
        scene.head(Some(port), &plugins)
    ))?;
    // Once before it counts: that start compiles.
    scene.product.serve(&config, &place.log(), port)?.stop()?;
    let mut ready = Samples::default();
    for _ in 0..scene.runs.max(5) {
        let server = scene.product.serve(&config, &place.log(), port)?;
        ready.push(server.ready_s * 1e3);
        server.stop()?;
    }
    report.figure("start_ms", &ready);
    Ok(())
}
