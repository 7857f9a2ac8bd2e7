//! What plugins write into the log of the real binary, and what the host says of them: each line says whose plugin it was.

use std::collections::BTreeSet;

use serde_json::Value;
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

#[test]
fn line_of_a_plugin_says_whose_it_is_where_streams_and_transforms_have_the_same_names() {
    let Some(binary) = binary() else { return };
    let stream = |table: &str, tenant: &str| {
        format!(
            "[{table}streams.events]\nsource = {{ type = \"file\", paths = [\"{tenant}.ndjson\"], follow = true }}\nmax_failed_percent = 100\n\
             transforms = [{{ plugin = \"talker\" }}]\n\
             outputs = [{{ type = \"directory\", path = \"{tenant}\", interval = \"0s\" }}]\n"
        )
    };
    let scratch = Scratch::new(&format!(
        "{}[tenants.acme]\nplugin_dir = \"plugins\"\n{}[tenants.quiet]\nplugin_dir = \"plugins\"\n{}",
        stream("", "default"),
        stream("tenants.acme.", "acme"),
        stream("tenants.quiet.", "quiet"),
    ));
    scratch.deploy("talker", &Guest::talkative());
    for tenant in ["default", "acme", "quiet"] {
        let record = if tenant == "quiet" { "" } else { "{\"n\":1}\n" };
        std::fs::write(scratch.path(&format!("{tenant}.ndjson")), record).unwrap();
    }
    let program = Program::start(&binary, &scratch.config());
    let said = || -> BTreeSet<(String, String, String)> {
        let lines = program.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let of_plugins = lines.filter(|line| line["target"] == "plugin" && line["line"] == "I was here");
        let field = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
        of_plugins
            .map(|line| (field(&line, "tenant"), field(&line, "stream"), field(&line, "transform")))
            .collect()
    };
    let expected = [("default", "events"), ("acme", "acme/events")]
        .map(|(tenant, stream)| (tenant.to_owned(), stream.to_owned(), "talker".to_owned()));
    wait_until("both have said it", || said().len() >= 2);
    wait_until("both are delivered", || {
        ["default", "acme"].iter().all(|tenant| objects::lines(&scratch.path(tenant)).len() == 1)
    });
    assert_eq!(said(), BTreeSet::from(expected));
    // And of what the host itself says of it.
    scratch.deploy("talker", &Guest::pass(2));
    let of_host = |message: &str| -> BTreeSet<String> {
        let lines = program.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let lines = lines.filter(|line| line["message"] == message);
        lines.map(|line| line["stream"].as_str().unwrap_or_default().to_owned()).collect()
    };
    wait_until("all have taken the other one", || of_host("plugins reloaded").len() >= 3);
    let expected = ["events", "acme/events", "quiet/events"].map(str::to_owned);
    assert_eq!(of_host("plugins reloaded"), BTreeSet::from(expected));
    // A file that no stream can take is told by each.
    scratch.deploy("talker", &Guest::unconfigurable());
    wait_until("all have refused it", || {
        of_host("new plugin version refused, the one before goes on").len() >= 3
    });
    program.stop();
}
