//! What plugins of a tenant are handed: only what their manifest asks for, the tenant's policy grants and the transform names.

use std::fs;
use std::os::unix::fs::symlink;

use wasmill::pipeline::StartError;
use wasmill_config::Settings;
use wasmill_tests::objects;
use wasmill_tests::running::Running;
use wasmill_tests::scratch::Scratch;

use crate::COMPILER;

const SECRET: &str = "sesame-that-nobody-may-see";

/// A tenant with first-party plugins, a table below its root, a file outside of it, and a policy.
fn scratch(policy: &str, transforms: &str) -> Option<Scratch> {
    let Some(plugins) = std::env::var_os("WASMILL_PLUGINS") else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return None;
    };
    let scratch = Scratch::new(&format!(
        r#"
        [tenants.acme.grants]
        root = "granted"
        {policy}
        [tenants.acme.streams.events]
        source = {{ type = "file", paths = ["in.ndjson"] }}
        transforms = [{transforms}]
        outputs = [{{ type = "directory", path = "out", interval = "0s" }}]
        "#
    ));
    fs::create_dir(scratch.plugins().join("acme")).unwrap();
    for plugin in ["enrich.wasm", "redact.wasm"] {
        let from = std::path::Path::new(&plugins).join(plugin);
        fs::copy(from, scratch.plugins().join("acme").join(plugin)).unwrap();
    }
    fs::create_dir(scratch.path("granted")).unwrap();
    fs::write(scratch.path("granted/countries.csv"), "x,n\nde,Germany\n").unwrap();
    fs::write(scratch.path("outside.csv"), "x,n\nde,stolen\n").unwrap();
    symlink("../outside.csv", scratch.path("granted/way-out.csv")).unwrap();
    fs::write(scratch.path("key"), format!("{SECRET}\n")).unwrap();
    fs::write(scratch.path("in.ndjson"), "{\"x\":\"de\",\"who\":\"alice\"}\n").unwrap();
    Some(scratch)
}

const POLICY: &str = r#"files = { countries = "countries.csv", way-out = "way-out.csv" }
        secrets = { pepper = { file = "key" } }"#;
const CONFIG: &str = r#"config = { lookups = [{ field = "x", table = { file = "table" }, copy = ["n"] }] }"#;

fn enrich(files: &str) -> String {
    format!("{{ plugin = \"enrich\", {CONFIG}, files = {files} }}")
}

fn redact(secrets: &str) -> String {
    let config = r#"config = { rules = [{ field = "who", action = "hash" }], secret = "key" }"#;
    format!("{{ plugin = \"redact\", {config}, secrets = {secrets} }}")
}

/// Why the configuration alone is refused.
fn refused(scratch: &Scratch) -> String {
    Settings::load(&scratch.config()).unwrap_err().to_string()
}

/// Why the plugins cannot start with it.
fn unfit(scratch: &Scratch) -> String {
    match Running::try_start(&scratch.config(), COMPILER) {
        Err(StartError::Invalid(problems)) => {
            problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("\n")
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
}

#[test]
fn what_all_three_sides_name_is_handed_over_and_the_secret_is_seen_nowhere() {
    let transforms = [enrich("{ table = \"countries\" }"), redact("{ key = { granted = \"pepper\" } }")];
    let Some(scratch) = scratch(POLICY, &transforms.join(", ")) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    host.ended();
    host.drain();
    let lines = objects::lines(&scratch.out());
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("\"n\":\"Germany\"") && !lines[0].contains("alice"), "{lines:?}");
    for file in objects::files(&scratch.path("data")) {
        let bytes = fs::read(&file).unwrap();
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "the secret is in {}", file.display());
    }
    let settings = Settings::load(&scratch.config()).unwrap();
    assert!(!format!("{settings:?}").contains(SECRET));
}

#[test]
fn what_the_policy_does_not_name_is_refused_with_the_place() {
    let cases = [
        (enrich("{ table = \"countries\" }"), "", "grants none"),
        (enrich("{ table = \"countrys\" }"), POLICY, "countries, way-out"),
        // A path is a name that the policy does not have.
        (enrich("{ table = \"outside.csv\" }"), POLICY, "outside.csv"),
        (redact("{ key = { granted = \"salt\" } }"), POLICY, "\"salt\" is not granted"),
        (redact("{ key = { file = \"key\" } }"), POLICY, "[tenants.acme.grants.secrets] has pepper"),
        (redact("{ key = { env = \"PATH\" } }"), POLICY, "[tenants.acme.grants.secrets] has pepper"),
    ];
    for (transform, policy, part) in cases {
        let Some(scratch) = scratch(policy, &transform) else { return };
        let told = refused(&scratch);
        assert!(
            told.contains(part) && told.contains("not granted") && !told.contains(SECRET),
            "{part}: {told}"
        );
    }
    for bad in ["files = { a = \"../outside.csv\" }", "files = { a = \"/etc/hostname\" }"] {
        let Some(scratch) = scratch(bad, "") else { return };
        let told = refused(&scratch);
        assert!(told.contains("must be a path below \"root\""), "{bad}: {told}");
    }
    let Some(scratch) = scratch("files = { a = \"nothing\" }", &enrich("{ table = \"a\" }")) else { return };
    let told = unfit(&scratch);
    assert!(told.contains("granted file \"table\": read") && told.contains("granted/nothing"), "{told}");
}

#[test]
fn what_the_manifest_or_the_transform_leaves_out_is_refused_and_all_sides_are_told() {
    // The transform does not name what the manifest asks for.
    let Some(unnamed) = scratch(POLICY, &enrich("{}")) else { return };
    let told = unfit(&unnamed);
    for part in [
        "no file `table` is granted",
        "manifest asks for the file \"table\"",
        "do not name",
        "grants \"countries\"",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // The manifest does not ask for what transform and policy agree upon.
    let Some(unasked) = scratch(POLICY, &enrich("{ table = \"countries\", other = \"countries\" }")) else {
        return;
    };
    let told = unfit(&unasked);
    assert!(told.contains("\"other\", which the plugin's manifest does not ask for"), "{told}");
    // What a plugin refuses for another reason is no matter of grants, whatever else it might ask for.
    let bad = enrich("{}").replace("field = \"x\"", "felt = \"x\"");
    let Some(other) = scratch(POLICY, &bad) else { return };
    let told = unfit(&other);
    assert!(told.contains("`felt`") && !told.contains("manifest asks"), "{told}");
    // No link leads out of the root.
    let Some(link) = scratch(POLICY, &enrich("{ table = \"way-out\" }")) else { return };
    let told = unfit(&link);
    assert!(told.contains("way-out.csv is not below"), "{told}");
}
