//! `wasmill plugin dev` beside a running host, on components that need no toolchain.

use std::fs::{self, File};
use std::process::Command;

use wasmill_tests::client;
use wasmill_tests::guest::Guest;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::numbered;
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

const STREAM: &str = r#"
    [streams.events]
    source = { type = "http" }
    transforms = [{ plugin = "step" }]
    outputs = [{ type = "directory", path = "out", interval = "0s" }]
"#;

#[test]
fn what_is_saved_goes_live_at_once_and_records_are_shown_before_and_after() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(STREAM);
    scratch.deploy("step", &Guest::stamp('1'));
    let host = Program::start(&binary, &scratch.config());
    let work = tempfile::tempdir().unwrap();
    let (component, shown) = (work.path().join("step.wasm"), scratch.path("shown"));
    // As an editor saves: another file takes the place of the one before.
    let save = |bytes: &[u8]| {
        fs::write(work.path().join("part"), bytes).unwrap();
        fs::rename(work.path().join("part"), &component).unwrap();
    };
    save(&Guest::stamp('2').wasm());
    let mut command = Command::new(&binary);
    command.args(["plugin", "dev", "--records", "2", "--component"]).arg(&component);
    command.arg("--config").arg(scratch.config()).arg("--host").arg(format!("http://{}", host.address()));
    let dev = Program::spawn(command.stdout(File::create(&shown).unwrap()));
    dev.wait_for_log("step: live in events");

    let mut from = 0;
    let mut shows = |what: &str| {
        wait_until(what, || {
            assert_eq!(client::push(host.address(), "events", &numbered(from, 3)).unwrap().status, 200);
            from += 3;
            fs::read_to_string(&shown).unwrap().contains(what)
        });
    };
    shows("default: {\"v\":\"2\"");
    let text = fs::read_to_string(&shown).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("-- offset ") && lines[0].ends_with(": kept"), "{text}");
    let (before, after) = lines[1].split_once(" | ").unwrap_or_else(|| panic!("{text}"));
    assert!(before.contains("{\"v\":\"-\"") && after.contains("{\"v\":\"2\""), "{text}");
    // Two records at a time.
    assert!(lines[2].starts_with("-- offset ") && lines.len() >= 4, "{text}");

    save(&Guest::stamp('3').wasm());
    shows("default: {\"v\":\"3\"");
    save(b"no component");
    dev.wait_for_log("a host would refuse this component");
    save(&Guest::unconfigurable().wasm());
    dev.wait_for_log("the host refuses this version: ");
    // The version before goes on.
    save(&Guest::stamp('4').wasm());
    shows("default: {\"v\":\"4\"");
    drop(dev.kill());
    host.stop();
}

#[test]
fn what_dev_cannot_do_is_told_before_anything_is_built() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(STREAM);
    let work = tempfile::tempdir().unwrap();
    let said = |name: &str, more: &[&str]| {
        let component = work.path().join(name);
        fs::write(&component, Guest::stamp('1').wasm()).unwrap();
        let mut command = Command::new(&binary);
        command.args(["plugin", "dev", "--component"]).arg(component).arg("--config").arg(scratch.config());
        let output = command.args(more).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = said("other.wasm", &[]);
    assert!(text.contains("no stream has a transform with the plugin \"other\""), "{text}");
    let text = said("step.wasm", &["--stream", "none"]);
    assert!(text.contains("stream \"none\" has no transform with the plugin \"step\""), "{text}");
    // A port that nobody is given.
    let text = said("step.wasm", &["--host", "http://127.0.0.1:1"]);
    assert!(text.contains("ask the host"), "{text}");
    assert!(!scratch.plugins().join("step.wasm").exists());
}

#[test]
fn host_that_takes_nothing_is_waited_for_aloud_and_a_newer_save_wins() {
    let Some(binary) = binary() else { return };
    let (scratch, elsewhere) = (Scratch::new(STREAM), Scratch::new(STREAM));
    scratch.deploy("step", &Guest::stamp('1'));
    let host = Program::start(&binary, &scratch.config());
    let work = tempfile::tempdir().unwrap();
    let component = work.path().join("step.wasm");
    let save = |bytes: &[u8]| {
        fs::write(work.path().join("part"), bytes).unwrap();
        fs::rename(work.path().join("part"), &component).unwrap();
    };
    save(&Guest::stamp('2').wasm());
    // Its configuration names another plugin directory than the host's.
    let mut command = Command::new(&binary);
    command.args(["plugin", "dev", "--records", "0", "--component"]).arg(&component);
    command.arg("--config").arg(elsewhere.config()).arg("--host").arg(format!("http://{}", host.address()));
    let dev = Program::spawn(&mut command);
    dev.wait_for_log("waiting for the host to take sha256:");
    dev.wait_for_log(elsewhere.plugins().join("step.wasm").to_str().unwrap());
    dev.wait_for_log("is that its plugin directory?");
    save(&Guest::stamp('3').wasm());
    dev.wait_for_log("there is a newer change");
    dev.wait_for_log("changed: ");
    wait_until("the newer version is there", || {
        let there = fs::read(elsewhere.plugins().join("step.wasm"));
        there.is_ok_and(|there| there == Guest::stamp('3').wasm())
    });
    drop(dev.kill());
    host.stop();
}
