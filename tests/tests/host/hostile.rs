//! The corpus of hostile plugins in the real binary, beside a tenant who knows nothing of it: every attack gets its answer,
//! the neighbour loses nothing, and the memory comes back.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use wasmill_tests::client::{self, Answer as Reply, Connection};
use wasmill_tests::guest::Guest;
use wasmill_tests::hostile::{self, Answer, Case};
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::{wait_for, wait_until};
use wasmill_transform::{CompileLimits, Digest};

/// Attacks that are let loose at once.
const AT_ONCE: usize = 16;
/// Of one push of the neighbour, and the time between two.
const RECORDS: u64 = 5;
const PUSH_EVERY: Duration = Duration::from_millis(10);
const RECORD: &str = "{\"a\":1}";
/// The process may keep this much more than it had before, or a tenth.
const KEPT_MAX: u64 = 20 << 20;
const MEMORY_BACK_WITHIN: Duration = Duration::from_secs(30);

/// What became of a version.
#[derive(Debug, PartialEq)]
enum Fate {
    Refused(String),
    Unfit(String),
    Runs,
}

/// A host with a tenant who attacks and one who is attacked.
struct Scene {
    program: Program,
    scratch: Scratch,
    /// Of the attacker.
    key: String,
    good: Vec<u8>,
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn configuration(cases: &[Case]) -> String {
    let mut text = r#"#whole
        plugin_dir = "plugins"
        [http]
        listen = "127.0.0.1:0"
        [http.auth]
        mode = "keys"
        [buffer]
        journal_file = "4MiB"
        [tenants.neighbour.streams.events]
        source = { type = "http" }
        transforms = [{ plugin = "step" }]
        outputs = [{ type = "directory", path = "neighbour", interval = "1s" }]
        [tenants.mallory.grants]
        state = true
    "#
    .to_owned();
    for case in cases {
        let (name, limits) = (&case.name, hostile::LIMITS);
        write!(
            text,
            "[tenants.mallory.streams.{name}]
             source = {{ type = \"http\" }}
             max_failed_percent = 100
             transforms = [{{ plugin = \"{name}\", limits = {limits} }}]
             outputs = [{{ type = \"directory\", path = \"out/{name}\", format = \"raw\", interval = \"0s\" }}]\n"
        )
        .unwrap();
    }
    text
}

/// `RssAnon` of a process, in bytes.
fn anonymous(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Written elsewhere, then renamed.
fn put(directory: &Path, name: &str, wasm: &[u8]) {
    let part = directory.join(format!(".{name}.part"));
    fs::write(&part, wasm).unwrap();
    fs::rename(&part, directory.join(format!("{name}.wasm"))).unwrap();
}

impl Scene {
    fn start(binary: &Path, cases: &[Case]) -> (Scene, String) {
        let scratch = Scratch::new(&configuration(cases));
        for tenant in ["mallory", "neighbour"] {
            fs::create_dir(scratch.plugins().join(tenant)).unwrap();
        }
        put(&scratch.plugins().join("neighbour"), "step", &Guest::stamp('7').wasm());
        let good = Guest::pass(1).wasm();
        for case in cases {
            put(&scratch.plugins().join("mallory"), &case.name, &good);
        }
        let mut first = Command::new(binary);
        first.args(["key", "create", "--operator", "--name", "first", "--config"]).arg(scratch.config());
        let operator = said(&mut first);
        let mut command = Command::new(binary);
        command.args(["run", "--log-format", "json"]).arg(scratch.config());
        let program = Program::spawn(&mut command);
        let host = format!("http://{}", program.address());
        let make = |tenant: &str| {
            let mut command = Command::new(binary);
            command.args(["key", "create", "--name", "test", "--scope", "push,read", "--tenant", tenant]);
            said(command.args(["--host", &host]).env("WASMILL_KEY", &operator))
        };
        let (key, neighbour) = (make("mallory"), make("neighbour"));
        (Scene { program, scratch, key, good }, neighbour)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        let key = format!("authorization: Bearer {}", self.key);
        let headers = ["content-type: application/x-ndjson", key.as_str()];
        client::request(self.program.address(), method, path, &headers, body.as_bytes()).unwrap()
    }

    fn push(&self, name: &str) {
        let answer = self.ask("POST", &format!("/v1/streams/{name}/records"), RECORD);
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
    }

    fn delivered(&self, name: &str) -> usize {
        objects::lines(&self.scratch.out().join(name)).len()
    }

    /// Every version and refused file of the attacker, by name.
    fn plugins(&self) -> HashMap<String, Vec<Value>> {
        let mut found: HashMap<String, Vec<Value>> = HashMap::new();
        for state in self.ask("GET", "/v1/plugins", "").json().as_array().unwrap() {
            // A file that is refused has whatever name it claims.
            let file = Path::new(state["file"].as_str().unwrap());
            let in_directory = self.scratch.plugins().join("mallory").join(file).exists();
            let stem = file.file_stem().unwrap().to_str().unwrap();
            let name = if in_directory { stem } else { state["name"].as_str().unwrap() };
            found.entry(name.to_owned()).or_default().push(state.clone());
        }
        found
    }

    /// What became of these bytes under this name, if anything did by now.
    fn fate(all: &HashMap<String, Vec<Value>>, name: &str, wasm: &[u8]) -> Option<Fate> {
        let digest = Digest::of(wasm).to_string();
        let states = all.get(name)?;
        for state in states {
            // What is over the limit is refused unread.
            let same = state["digest"] == digest.as_str()
                || (state["digest"].is_null() && state["bytes"].as_u64() == Some(wasm.len() as u64));
            if !same {
                continue;
            }
            if let Some(reason) = state["reason"].as_str() {
                return Some(Fate::Refused(reason.to_owned()));
            }
            if state["streams"].as_array().is_some_and(|streams| streams.iter().any(|stream| stream == name))
            {
                return Some(Fate::Runs);
            }
            let failure = state["probe_failures"].as_array().and_then(|failures| failures.first());
            if let Some(failure) = failure {
                return Some(Fate::Unfit(failure["reason"].as_str().unwrap().to_owned()));
            }
        }
        None
    }

    /// Puts one and the same version into every stream of the attacker, and waits until each has delivered a record with it.
    fn everywhere(&self, cases: &[Case], wasm: &[u8]) {
        for case in cases {
            put(&self.scratch.plugins().join("mallory"), &case.name, wasm);
        }
        wait_until("the version runs everywhere", || {
            let all = self.plugins();
            cases.iter().all(|case| Scene::fate(&all, &case.name, wasm) == Some(Fate::Runs))
        });
        let delivered: Vec<usize> = cases.iter().map(|case| self.delivered(&case.name)).collect();
        for case in cases {
            self.push(&case.name);
        }
        wait_until("every stream delivers", || {
            cases.iter().zip(&delivered).all(|(case, before)| self.delivered(&case.name) > *before)
        });
    }

    /// Puts these in, and waits until something has become of each.
    fn let_loose(&self, cases: &[Case]) -> Vec<Fate> {
        for case in cases {
            put(&self.scratch.plugins().join("mallory"), &case.name, &case.wasm);
        }
        // The last one may be what the compiler takes all of its time for.
        let (begun, longest) = (Instant::now(), CompileLimits::default().wall + MEMORY_BACK_WITHIN);
        let mut fates: Vec<Option<Fate>> = cases.iter().map(|_| None).collect();
        loop {
            let all = self.plugins();
            for (case, fate) in cases.iter().zip(&mut fates).filter(|(_, fate)| fate.is_none()) {
                *fate = Scene::fate(&all, &case.name, &case.wasm);
                if fate.is_some() && begun.elapsed() > Duration::from_secs(10) {
                    println!("{:?} for {}", begun.elapsed(), case.name);
                }
            }
            let missing = cases.iter().zip(&fates).filter(|(_, fate)| fate.is_none());
            let missing: Vec<&str> = missing.map(|(case, _)| case.name.as_str()).collect();
            if missing.is_empty() {
                return fates.into_iter().flatten().collect();
            }
            assert!(begun.elapsed() < longest, "nothing became of {missing:?} in {longest:?}");
            // Nobody unparks this thread: it only looks less often.
            std::thread::park_timeout(PUSH_EVERY);
        }
    }

    /// What is wrong with how an attack went, if anything is.
    fn judge(&self, case: &Case, fate: &Fate, before: usize) -> Option<String> {
        let name = &case.name;
        let told = |reason: &str, wanted: &str| {
            (!reason.contains(wanted))
                .then(|| format!("{name}: expected {wanted:?}, was told {:?}", cut(reason)))
        };
        let wrong = match (&case.answer, fate) {
            (Answer::Refused(wanted), Fate::Refused(reason))
            | (Answer::Unfit(wanted), Fate::Unfit(reason)) => {
                let long = reason.len() > 8 << 10;
                told(reason, wanted)
                    .or_else(|| long.then(|| format!("{name}: a reason of {} bytes", reason.len())))
            }
            (Answer::Letter(_) | Answer::Harmless, Fate::Runs) => None,
            (answer, fate) => {
                return Some(format!("{name}: expected {answer:?}, became {}", cut(&format!("{fate:?}"))));
            }
        };
        // The stream goes on, with the version before if this one was refused.
        let outcome = self.outcome(name, before);
        wrong.or_else(|| match (&case.answer, outcome) {
            (Answer::Letter(wanted), Some(reason)) => told(&reason, wanted),
            (Answer::Letter(_), None) => Some(format!("{name}: the record was delivered")),
            (_, Some(reason)) => Some(format!("{name}: the record became a letter: {}", cut(&reason))),
            (_, None) => None,
        })
    }

    /// What became of the one record that the stream has got: a letter's reason, or none if it is delivered.
    fn outcome(&self, name: &str, before: usize) -> Option<String> {
        wait_for(&format!("a verdict on the record of {name}"), || {
            let letters = self.ask("GET", &format!("/v1/streams/{name}/dead-letters"), "").json();
            match letters["letters"].as_array().and_then(|letters| letters.first()) {
                Some(letter) => Some(Some(letter["reason"].as_str().unwrap().to_owned())),
                None => (self.delivered(name) > before).then_some(None),
            }
        })
    }
}

fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

/// Pushes from this number on for as long as `goes_on` says so, which is told how many pushes there were; the number after
/// the last that was acknowledged, and the longest wait for one.
fn push_from(
    mut next: u64,
    address: SocketAddr,
    key: &str,
    mut goes_on: impl FnMut(u64) -> bool,
) -> (u64, Duration) {
    let mut connection = Connection::open(address).unwrap();
    let key = [format!("authorization: Bearer {key}")];
    let (mut pushes, mut longest) = (0, Duration::ZERO);
    while goes_on(pushes) {
        let lines: Vec<String> =
            (next..next + RECORDS).map(|n| format!("{{\"v\":\"-\",\"n\":{n}}}")).collect();
        let begun = Instant::now();
        let answer = connection.push_as("events", &key, &lines.join("\n")).unwrap();
        longest = longest.max(begun.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.body);
        (next, pushes) = (next + RECORDS, pushes + 1);
        // So that what the host keeps of recent records does not hide what it keeps of attacks. Nobody unparks this thread.
        std::thread::park_timeout(PUSH_EVERY);
    }
    (next, longest)
}

/// Also where something panics: the scope waits for who is to be stopped.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn hostile_plugins_get_their_answers_and_cost_their_neighbour_nothing() {
    let Some(binary) = binary() else { return };
    let cases = hostile::corpus();
    assert!(cases.len() >= 100, "{}", cases.len());
    let (scene, neighbour) = Scene::start(&binary, &cases);
    // What changes of versions cost that harm nobody, is there before.
    for salt in [2, 3] {
        scene.everywhere(&cases, &Guest::pass(salt).wasm());
    }
    scene.everywhere(&cases, &scene.good);
    let address = scene.program.address();
    let (first, _) = push_from(0, address, &neighbour, |pushes| pushes < 300);
    let before = anonymous(&scene.program);
    let stop = AtomicBool::new(false);
    let (problems, (sent, longest)) = std::thread::scope(|scope| {
        let at_the_end = StopAtTheEnd(&stop);
        let (key, stopped) = (&neighbour, &stop);
        let pushing =
            scope.spawn(move || push_from(first, address, key, |_| !stopped.load(Ordering::Relaxed)));
        let mut problems = Vec::new();
        for cases in cases.chunks(AT_ONCE) {
            let begun = Instant::now();
            let fates = scene.let_loose(cases);
            let delivered: Vec<usize> = cases.iter().map(|case| scene.delivered(&case.name)).collect();
            for case in cases {
                scene.push(&case.name);
            }
            let judged = cases.iter().zip(fates.iter().zip(&delivered));
            problems.extend(judged.filter_map(|(case, (fate, before))| scene.judge(case, fate, *before)));
            println!("{:?} for {} to {}", begun.elapsed(), cases[0].name, cases[cases.len() - 1].name);
        }
        // The good version is back everywhere.
        scene.everywhere(&cases, &scene.good);
        drop(at_the_end);
        (problems, pushing.join().unwrap())
    });
    assert!(problems.is_empty(), "{} answers are wrong:\n{}", problems.len(), problems.join("\n"));
    let allowed = before + KEPT_MAX.max(before / 10);
    let until = Instant::now() + MEMORY_BACK_WITHIN;
    let mut now = anonymous(&scene.program);
    while now > allowed && Instant::now() < until {
        // Streams go on, so that every thread gets to run the version that is back.
        for case in &cases {
            scene.push(&case.name);
        }
        now = anonymous(&scene.program);
    }
    let took = MEMORY_BACK_WITHIN.saturating_sub(until.saturating_duration_since(Instant::now()));
    println!(
        "{} attacks; memory {} MiB before and {} MiB {took:?} after; the neighbour sent {sent} records and waited {longest:?} at most",
        cases.len(),
        before >> 20,
        now >> 20
    );
    assert!(now <= allowed, "{} MiB before, {} MiB after", before >> 20, now >> 20);
    let arrived = scene.scratch.path("neighbour");
    wait_until("the neighbour has everything", || objects::lines(&arrived).len() as u64 >= sent);
    assert_eq!(objects::numbers(&arrived, "n"), (0..sent).collect::<Vec<_>>());
    assert!(objects::lines(&arrived).iter().all(|line| line.starts_with("{\"v\":\"7\"")));
    assert!(!Path::new("/tmp/escaped").exists());
    scene.program.stop();
}
