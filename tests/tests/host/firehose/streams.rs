//! Delivery streams as a whole: encrypted at rest, and seen by two interfaces.

use serde_json::{Value, json};

use super::{Rig, script, texts};

#[test]
fn encryption_is_started_told_with_each_put_and_stopped_where_the_disk_is_encrypted() {
    let (Some(mut start), Some(mut stop)) = (script("encryption.py"), script("encryption.py")) else {
        return;
    };
    let Some(rig) = Rig::start_with("encrypted_disk = true", &[]) else { return };
    rig.run(start.arg("start"));
    // It is part of what lasts.
    let rig = rig.killed();
    rig.run(stop.arg("stop"));
    rig.program.stop();
    let together: String = texts(&rig.lake, "kept").into_values().collect();
    assert_eq!(together.matches("one\nmore\n").count(), 5, "{together}");
}

#[test]
fn stream_of_one_interface_is_seen_and_changed_by_the_other() {
    let (Some(mut create), Some(mut changed)) = (script("visibility.py"), script("visibility.py")) else {
        return;
    };
    let Some(rig) = Rig::start() else { return };
    rig.run(create.arg("create"));
    let listed = rig.ask("GET", "/v1/streams", &[], "").json();
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|stream| stream["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["filed", "shared"], "{listed}");
    let shown = rig.ask("GET", "/v1/streams/shared", &[], "");
    let told = shown.json();
    assert_eq!((&told["owner"], &told["state"]), (&json!("api"), &json!("running")), "{told}");
    let output = &told["definition"]["outputs"][0];
    assert_eq!(
        (&output["bucket"], &output["size"], &output["interval"]),
        (&json!("lake"), &json!("3MiB"), &json!("600s"))
    );
    assert_eq!(output["compression"], "gzip", "{told}");
    assert_eq!(shown.header("etag"), Some("\"1\""));

    // Changed as whoever read it may change it: by its version.
    let definition: Value = json!({
        "source": { "type": "http" },
        "outputs": [{
            "type": "s3", "bucket": "lake", "prefix": "changed/", "endpoint": output["endpoint"],
            "region": output["region"], "path_style": true, "object": "{batch}{extension}",
            "format": "ndjson", "compression": "none", "size": "2MiB", "interval": "2m",
        }],
    });
    let headers = ["content-type: application/json", "if-match: \"1\""];
    let put = rig.ask("PUT", "/v1/streams/shared", &headers, &definition.to_string());
    assert_eq!((put.status, put.header("etag")), (200, Some("\"2\"")), "{put:?}");
    rig.run(changed.arg("changed"));
    rig.program.stop();
    let delivered: Vec<String> = texts(&rig.lake, "changed").into_values().collect();
    assert_eq!(delivered, ["{\"n\":1}\n"]);
}
