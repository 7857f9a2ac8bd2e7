//! Signed plugins through the real binary: what is not signed by a key of its tenant does not run, and what ran goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use wasmill_tests::client;
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::numbered;
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;
use wasmill_transform::Digest;

fn run(binary: &Path, arguments: &[&str]) -> Output {
    Command::new(binary).arg("plugin").args(arguments).output().unwrap()
}

/// What the command prints, which must succeed.
fn said(binary: &Path, arguments: &[&str]) -> String {
    let output = run(binary, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What it complains of, which must fail.
fn refused(binary: &Path, arguments: &[&str]) -> String {
    let output = run(binary, arguments);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// A private key in a file, and its public half.
fn key(binary: &Path, scratch: &Scratch, name: &str) -> (PathBuf, String) {
    let file = scratch.path(&format!("{name}.pem"));
    let public = said(binary, &["keygen", "--output", file.to_str().unwrap()]);
    (file, public)
}

/// Puts a plugin file and its signatures below the plugin directory; the signatures first, so that they are there in time.
fn put(binary: &Path, scratch: &Scratch, directory: &str, wasm: &[u8], keys: &[&Path]) {
    let staged = scratch.path("step.wasm");
    let signed = scratch.path("step.wasm.sig");
    fs::write(&staged, wasm).unwrap();
    drop(fs::remove_file(&signed));
    for key in keys {
        let (key, staged) = (key.to_str().unwrap(), staged.to_str().unwrap());
        said(binary, &["sign", "--add", "--key", key, staged]);
    }
    let directory = scratch.plugins().join(directory);
    match keys {
        [] => drop(fs::remove_file(directory.join("step.wasm.sig"))),
        _ => fs::rename(&signed, directory.join("step.wasm.sig")).unwrap(),
    }
    fs::rename(&staged, directory.join("step.wasm")).unwrap();
}

fn configuration(default: &str, acme: &str) -> String {
    let signing = |table: &str, keys: &str| match keys {
        "" => String::new(),
        keys => format!("[{table}]\nkeys = [{keys}]\n"),
    };
    format!(
        r#"
        {}{}
        [streams.events]
        source = {{ type = "http" }}
        transforms = [{{ plugin = "step" }}]
        outputs = [{{ type = "directory", path = "out", interval = "0s" }}]
        [tenants.acme.streams.events]
        source = {{ type = "tcp", listen = "127.0.0.1:0" }}
        transforms = [{{ plugin = "step" }}]
        outputs = [{{ type = "directory", path = "theirs", interval = "0s" }}]
        "#,
        signing("signing", default),
        signing("tenants.acme.signing", acme)
    )
}

/// What the default tenant's plugins are told to be.
fn plugins(program: &Program) -> String {
    client::get(program.address(), "/v1/plugins").unwrap().body
}

/// Pushes a record and says which version took it.
fn taken_by(program: &Program, scratch: &Scratch, n: u64) -> char {
    let answer = client::push(program.address(), "events", &numbered(n, 1)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = format!("\"n\":{n}}}");
    let line = || objects::lines(&scratch.out()).into_iter().find(|line| line.ends_with(&text));
    wait_until("the record is delivered", || line().is_some());
    char::from(line().unwrap().as_bytes()[6])
}

#[test]
fn keys_sign_and_verify_what_they_signed_and_nothing_else() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new("");
    let ((file, public), (_, other)) = (key(&binary, &scratch, "one"), key(&binary, &scratch, "two"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let pem = fs::read_to_string(&file).unwrap();
    let again = refused(&binary, &["keygen", "--output", file.to_str().unwrap()]);
    assert!(again.contains("exists"), "{again}");
    assert_eq!(fs::read_to_string(&file).unwrap(), pem);
    let wasm = scratch.path("step.wasm");
    fs::write(&wasm, Guest::stamp('1').wasm()).unwrap();
    let plugin = wasm.to_str().unwrap();
    let unsigned = refused(&binary, &["verify", "--key", &public, plugin]);
    assert!(unsigned.contains("not signed"), "{unsigned}");
    let signed = said(&binary, &["sign", "--key", file.to_str().unwrap(), plugin]);
    assert!(signed.contains(&public) && !signed.contains(pem.lines().nth(1).unwrap()), "{signed}");
    assert!(said(&binary, &["verify", "--key", &other, "--key", &public, plugin]).contains(&public));
    let foreign = refused(&binary, &["verify", "--key", &other, plugin]);
    assert!(foreign.contains("none of its signatures"), "{foreign}");
    fs::write(&wasm, Guest::stamp('2').wasm()).unwrap();
    let changed = refused(&binary, &["verify", "--key", &public, plugin]);
    assert!(changed.contains("none of its signatures"), "{changed}");
    let no_key = refused(&binary, &["sign", "--key", plugin, plugin]);
    assert!(no_key.contains("step.wasm"), "{no_key}");
}

#[test]
fn only_plugins_that_a_key_of_their_tenant_signed_run_and_a_refused_one_leaves_the_one_before() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new("");
    let keys =
        [key(&binary, &scratch, "ours"), key(&binary, &scratch, "next"), key(&binary, &scratch, "theirs")];
    let [(ours, ours_public), (next, next_public), (theirs, theirs_public)] = &keys;
    let quoted = |keys: &[&String]| keys.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ");
    let configure = |default: &[&String]| {
        scratch.configure(&configuration(&quoted(default), &quoted(&[theirs_public])));
    };
    fs::create_dir(scratch.plugins().join("acme")).unwrap();
    let version = |version: char| Guest::stamp(version).wasm();

    // Nothing has ever run: an unsigned file keeps the host from starting, and says what would be right.
    configure(&[ours_public]);
    put(&binary, &scratch, "", &version('1'), &[]);
    put(&binary, &scratch, "acme", &version('1'), &[theirs]);
    let mut check = Command::new(&binary);
    let output = check.arg("check").arg(scratch.config()).output().unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        !output.status.success() && told.contains("not signed") && told.contains(ours_public.as_str()),
        "{told}"
    );
    // The key of another tenant signs nothing here.
    put(&binary, &scratch, "", &version('1'), &[theirs]);
    let output = check.output().unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && told.contains("none of its signatures"), "{told}");

    put(&binary, &scratch, "", &version('1'), &[ours]);
    let program = Program::start(&binary, &scratch.config());
    assert_eq!(taken_by(&program, &scratch, 0), '1');
    // Bad ones are refused, and the one before goes on.
    let refused = |wasm: Vec<u8>, keys: &[&Path], reason: &str, n: u64| {
        let digest = Digest::of(&wasm).to_string();
        put(&binary, &scratch, "", &wasm, keys);
        wait_until("the file is refused", || {
            let told = plugins(&program);
            told.contains(&digest) && told.contains(reason)
        });
        assert_eq!(taken_by(&program, &scratch, n), '1');
    };
    refused(version('2'), &[], "it is not signed", 1);
    refused(version('3'), &[theirs], "none of its signatures", 2);
    // Of a good file with a bad signature nothing is compiled; and one that is no plugin at all is never looked into.
    refused(b"\0asm evil".to_vec(), &[], "it is not signed", 3);
    // A signature that comes later is enough.
    let wasm = version('4');
    let beside = scratch.plugins().join("step.wasm.sig");
    refused(wasm.clone(), &[next], "none of its signatures", 4);
    let staged = scratch.path("later.wasm");
    fs::write(&staged, &wasm).unwrap();
    said(&binary, &["sign", "--key", ours.to_str().unwrap(), staged.to_str().unwrap()]);
    fs::rename(scratch.path("later.wasm.sig"), &beside).unwrap();
    let digest = Digest::of(&wasm).to_string();
    wait_until("the signed version runs", || {
        let all = client::get(program.address(), "/v1/plugins").unwrap().json();
        let runs = |state: &Value| state["digest"] == digest.as_str() && state["streams"][0] == "events";
        all.as_array().unwrap().iter().any(runs)
    });
    assert_eq!(taken_by(&program, &scratch, 5), '4');
    program.stop();

    // Keys change one after another: signed by both, then by the new one alone.
    put(&binary, &scratch, "", &version('5'), &[ours, next]);
    configure(&[ours_public, next_public]);
    let program = Program::start(&binary, &scratch.config());
    assert_eq!(taken_by(&program, &scratch, 6), '5');
    program.stop();
    configure(&[next_public]);
    let program = Program::start(&binary, &scratch.config());
    assert_eq!(taken_by(&program, &scratch, 7), '5');
    program.stop();

    // A version that only the removed key signed is no way back, although its code and its copy are kept.
    put(&binary, &scratch, "", &version('4'), &[ours]);
    let output = check.output().unwrap();
    assert!(!output.status.success());
    let program = Program::start(&binary, &scratch.config());
    assert_eq!(taken_by(&program, &scratch, 8), '5');
    let pin = format!("{{\"digest\":\"{digest}\"}}");
    let headers = ["content-type: application/json"];
    let answer =
        client::request(program.address(), "POST", "/v1/plugins/step/pin", &headers, pin.as_bytes()).unwrap();
    assert_ne!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("none of its signatures"), "{}", answer.body);
    assert_eq!(taken_by(&program, &scratch, 9), '5');
    program.stop();
}

/// A plugin file beside its signatures by these keys; the lines of the signatures.
fn signed_file(
    binary: &Path,
    scratch: &Scratch,
    name: &str,
    wasm: &[u8],
    keys: &[&Path],
) -> (PathBuf, Vec<String>) {
    let file = scratch.path(name);
    fs::write(&file, wasm).unwrap();
    for key in keys {
        said(binary, &["sign", "--add", "--key", key.to_str().unwrap(), file.to_str().unwrap()]);
    }
    let lines = fs::read_to_string(scratch.path(&format!("{name}.sig"))).unwrap_or_default();
    (file, lines.lines().map(str::to_owned).collect())
}

#[test]
fn upload_needs_a_signature_of_a_key_of_its_tenant_over_http_and_by_the_command() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new("");
    let [(ours, ours_public), (theirs, theirs_public)] =
        ["ours", "theirs"].map(|name| key(&binary, &scratch, name));
    scratch.configure(&format!(
        "#whole\n[http]\nlisten = \"127.0.0.1:0\"\nauth = {{ mode = \"keys\" }}\n[buffer]\njournal_file = \"1MiB\"\n\
         [streams.idle]\nsource = {{ type = \"http\" }}\noutputs = [{{ type = \"directory\", path = \"idle\" }}]\n\
         [signing]\nkeys = [{ours_public:?}]\n[tenants.acme.signing]\nkeys = [{theirs_public:?}]\n"
    ));
    let mut create = Command::new(&binary);
    create.args(["key", "create", "--operator", "--name", "first", "--config"]).arg(scratch.config());
    let output = create.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let operator = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let program = Program::start(&binary, &scratch.config());
    let bearer = format!("authorization: Bearer {operator}");
    let plugins = |tenant: &str| {
        let acting = format!("wasmill-tenant: {tenant}");
        client::request(program.address(), "GET", "/v1/plugins", &[&bearer, &acting], b"").unwrap().body
    };
    let upload = |tenant: &str, wasm: &[u8], signatures: &[String]| {
        let mut headers = vec![
            bearer.clone(),
            format!("wasmill-tenant: {tenant}"),
            "content-type: application/wasm".to_owned(),
        ];
        headers.extend(signatures.iter().map(|line| format!("wasmill-signature: {line}")));
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        client::request(program.address(), "POST", "/v1/plugins?name=step", &headers, wasm).unwrap()
    };

    let (wasm, other) = (Guest::stamp('1').wasm(), Guest::stamp('2').wasm());
    let sign = |name: &str, wasm: &[u8], keys: &[&Path]| signed_file(&binary, &scratch, name, wasm, keys).1;
    let [by_ours, by_theirs] = [&ours, &theirs].map(|key| {
        let name = key.file_stem().unwrap().to_str().unwrap();
        sign(&format!("by-{name}.wasm"), &wasm, &[key])
    });
    let of_another_file = sign("other.wasm", &other, &[&ours]);
    for (tenant, own, foreign) in [("default", &by_ours, &by_theirs), ("acme", &by_theirs, &by_ours)] {
        for (what, signatures, reason) in [
            ("none", vec![], "not signed"),
            ("no signature", vec!["sesame".to_owned()], "signature"),
            ("of another file", of_another_file.clone(), "none of its signatures"),
            ("of another tenant's key", foreign.clone(), "none of its signatures"),
        ] {
            let refused = upload(tenant, &wasm, &signatures);
            assert_eq!(
                (refused.status, refused.json()["error"]["code"].as_str()),
                (422, Some("refused")),
                "{tenant}, {what}: {refused:?}"
            );
            assert!(refused.body.contains(reason), "{tenant}, {what}: {}", refused.body);
            assert_eq!(plugins(tenant), "[]", "{tenant}, {what}");
        }
        // It may have others beside it.
        let taken = upload(tenant, &wasm, &[foreign.clone(), own.clone()].concat());
        assert_eq!(taken.status, 201, "{tenant}: {taken:?}");
        assert!(plugins(tenant).contains(&Digest::of(&wasm).to_string()), "{}", plugins(tenant));
        // What was taken once is no way in for the next version.
        assert_eq!(upload(tenant, &other, own).status, 422, "{tenant}");
    }

    let push = |tenant: &str, file: &Path| {
        let host = format!("http://{}", program.address());
        let mut command = Command::new(&binary);
        command.args(["plugin", "push", "--name", "pushed", "--tenant", tenant, "--host", &host]).arg(file);
        let output = command.env("WASMILL_KEY", &operator).output().unwrap();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        if output.status.success() { Ok(told) } else { Err(told) }
    };
    let wasm = Guest::stamp('3').wasm();
    for (tenant, own, foreign) in [("default", &ours, &theirs), ("acme", &theirs, &ours)] {
        let file = |name: &str, keys: &[&Path]| {
            signed_file(&binary, &scratch, &format!("{tenant}-{name}.wasm"), &wasm, keys).0
        };
        let unsigned = push(tenant, &file("unsigned", &[])).unwrap_err();
        assert!(unsigned.contains("not signed"), "{tenant}: {unsigned}");
        let foreign = push(tenant, &file("foreign", &[foreign])).unwrap_err();
        assert!(foreign.contains("none of its signatures"), "{tenant}: {foreign}");
        assert!(!plugins(tenant).contains("pushed"), "{}", plugins(tenant));
        let pushed = push(tenant, &file("signed", &[own])).unwrap();
        assert!(pushed.contains(&format!("pushed@{}", Digest::of(&wasm))), "{tenant}: {pushed}");
        assert!(plugins(tenant).contains("pushed"), "{}", plugins(tenant));
    }
}

#[test]
fn keys_of_the_file_count_as_soon_as_they_change_and_what_none_of_them_signed_runs_no_more() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new("");
    let keys =
        [key(&binary, &scratch, "ours"), key(&binary, &scratch, "next"), key(&binary, &scratch, "theirs")];
    let [(ours, ours_public), (next, next_public), (theirs, theirs_public)] = &keys;
    let configure = |default: &[&String]| {
        let quoted = default.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ");
        scratch.configure(&configuration(&quoted, &format!("{theirs_public:?}")));
    };
    fs::create_dir(scratch.plugins().join("acme")).unwrap();
    let version = |version: char| Guest::stamp(version).wasm();
    configure(&[ours_public]);
    put(&binary, &scratch, "", &version('1'), &[ours]);
    put(&binary, &scratch, "acme", &version('1'), &[theirs]);
    let program = Program::start(&binary, &scratch.config());
    assert_eq!(taken_by(&program, &scratch, 0), '1');
    let mut reloads = 0;
    let mut reload = |default: &[&String]| {
        configure(default);
        reloads += 1;
        let told = || client::get(program.address(), "/v1/config").unwrap().json();
        wait_until("the file is applied", || told()["reloads"] == reloads);
        assert_eq!(told()["state"], "applied", "{}", told());
    };
    let paused = || {
        let streams = client::get(program.address(), "/v1/streams").unwrap().json();
        streams[0]["paused"].as_str().map(str::to_owned)
    };
    // Of the other tenant's, as metrics say.
    let theirs_goes_on = || {
        let metrics = client::get(program.address(), "/metrics").unwrap().body;
        let paused =
            |line: &&str| line.starts_with("wasmill_stream_paused{") && line.contains("tenant=\"acme\"");
        metrics.lines().find(paused).is_some_and(|line| line.ends_with(" 0"))
    };
    let stops = |reason: &str| {
        wait_until("the stream pauses", || paused().is_some_and(|told| told.contains(reason)));
        assert!(plugins(&program).contains(reason), "{}", plugins(&program));
        assert!(theirs_goes_on(), "the keys of another tenant are its own");
    };
    let push = |n: u64| {
        let answer = client::push(program.address(), "events", &numbered(n, 1)).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    let took = |n: u64, version: char| {
        let text = format!("\"n\":{n}}}");
        let line = || objects::lines(&scratch.out()).into_iter().find(|line| line.ends_with(&text));
        wait_until("the record is delivered", || line().is_some());
        assert_eq!(char::from(line().unwrap().as_bytes()[6]), version, "record {n}");
    };

    // The key is withdrawn: what it signed takes no record more, and none is lost.
    reload(&[next_public]);
    stops("none of its signatures");
    push(1);
    assert_eq!(objects::lines(&scratch.out()).len(), 1);
    put(&binary, &scratch, "", &version('2'), &[next]);
    took(1, '2');
    assert_eq!(paused(), None);
    // A key that comes, or comes back, changes nothing for what is good already.
    reload(&[ours_public, next_public]);
    assert_eq!(taken_by(&program, &scratch, 2), '2');

    // Signatures are not asked for any more, and then again.
    reload(&[]);
    put(&binary, &scratch, "", &version('3'), &[]);
    let digest = Digest::of(&version('3')).to_string();
    wait_until("the unsigned version runs", || {
        let all = client::get(program.address(), "/v1/plugins").unwrap().json();
        let runs = |state: &Value| state["digest"] == digest.as_str() && state["streams"][0] == "events";
        all.as_array().unwrap().iter().any(runs)
    });
    assert_eq!(taken_by(&program, &scratch, 3), '3');
    reload(&[ours_public]);
    stops("it is not signed");
    push(4);
    // The file is the same: its signature alone is what it lacked.
    put(&binary, &scratch, "", &version('3'), &[ours]);
    took(4, '3');
    program.stop();
}
