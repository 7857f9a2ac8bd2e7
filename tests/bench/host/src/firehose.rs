//! `PutRecordBatch` over loopback: durable, signed, 500 records of 1 KiB per request, on as many connections as `push` has.
//!
//! Requests are signed before they are sent, and sent again and again, as their signature allows for a quarter of an hour:
//! the load generator shares the cores. What signatures cost is told by the same load on a host that needs no keys.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::http;
use crate::push::load;
use crate::rivals;
use crate::samples::{Report, Samples};
use crate::scene::{Place, Scene};

const RECORDS: usize = 500;
const RECORD_BYTES: usize = 1024;
/// Different bodies; each connection begins with another.
const BODIES: usize = 16;
/// Phases of a run on each host.
const PHASES: usize = 3;
const TARGET: &str = "Firehose_20150804.PutRecordBatch";

pub(crate) fn measure(scene: &Scene, report: &mut Report) -> Result<()> {
    let bodies = bodies(scene)?;
    let (mut rate, mut unsigned, mut acks) = (Samples::default(), Samples::default(), Samples::default());
    let (mut share, mut cpu) = (Samples::default(), Samples::default());
    for _ in 0..scene.runs {
        let with = run(scene, &bodies, true)?;
        let without = run(scene, &bodies, false)?;
        rate.push(with.records as f64 / with.seconds);
        unsigned.push(without.records as f64 / without.seconds);
        acks.push(with.acks.percentile(99) * 1e3);
        let per_record = |ran: &Ran| ran.cpu_s / ran.records as f64;
        cpu.push(per_record(&with) * 1e6);
        share.push((1.0 - per_record(&without) / per_record(&with)).max(0.0));
    }
    report.figure("firehose_records_per_s", &rate);
    report.figure("firehose_signature_cpu_share", &share);
    report.figure("firehose_cpu_us_per_record", &cpu);
    report.figure("firehose_ack_p99_ms", &acks);
    report.figure("firehose_unsigned_records_per_s", &unsigned);
    report.note("firehose_request_bytes", bodies.iter().map(String::len).sum::<usize>() / bodies.len());
    Ok(())
}

/// What a host did under load, its warming up left out.
struct Ran {
    records: usize,
    seconds: f64,
    /// Of the host alone.
    cpu_s: f64,
    acks: Samples,
}

fn run(scene: &Scene, bodies: &[String], signed: bool) -> Result<Ran> {
    let phase = Duration::from_millis(if scene.quick { 250 } else { 1000 });
    let place = scene.place("firehose")?;
    let port = http::free_port()?;
    let config = place.config(&format!(
        "{}auth = {{ mode = {:?} }}\n[streams.access]\nsource = {{ type = \"http\" }}\n\
         [[streams.access.outputs]]\ntype = \"directory\"\npath = \"out\"\nformat = \"raw\"\n",
        scene.head(Some(port), &place.plugins(scene, &[])?),
        if signed { "keys" } else { "off" }
    ))?;
    let operator = rivals::operator(scene, &config)?;
    let pair = pair(scene, &place)?;
    let server = scene.product.serve(&config, &place.log(), port)?;
    let requests: Vec<Vec<u8>> =
        bodies.iter().map(|body| request(body, signed.then_some(&pair))).collect::<Result<_>>()?;
    load(&server, &requests, phase)?;
    let spent = || rivals::metric(port, &operator, "process_cpu_seconds_total");
    let mut ran = Ran { records: 0, seconds: 0.0, cpu_s: spent()?, acks: Samples::default() };
    for _ in 0..PHASES {
        let started = Instant::now();
        let acks = load(&server, &requests, phase)?;
        ran.seconds += started.elapsed().as_secs_f64();
        ran.records += acks.len() * RECORDS;
        ran.acks.0.extend(acks);
    }
    ran.cpu_s = spent()? - ran.cpu_s;
    server.stop()?;
    Ok(ran)
}

/// Id and secret of a key that signs, made before the host starts.
fn pair(scene: &Scene, place: &Place) -> Result<(String, String)> {
    let mut command = Command::new(&scene.product.path);
    command.args(["key", "create", "--signs", "--scope", "push", "--data-dir"]).arg(place.dir.join("data"));
    let output = command.output().context("make a key that signs")?;
    ensure!(output.status.success(), "make a key: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let value = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        Ok::<_, anyhow::Error>(value.with_context(|| format!("no {name} in {text}"))?.to_owned())
    };
    Ok((value("AWS_ACCESS_KEY_ID")?, value("AWS_SECRET_ACCESS_KEY")?))
}

/// The log, cut into records of the same length.
fn bodies(scene: &Scene) -> Result<Vec<String>> {
    let records: Vec<String> =
        scene.log.text.chunks_exact(RECORD_BYTES).map(|r| STANDARD.encode(r)).collect();
    ensure!(!records.is_empty(), "the log has less than {RECORD_BYTES} bytes");
    let mut records = records.iter().cycle();
    let body = |_| {
        let entries: Vec<String> =
            records.by_ref().take(RECORDS).map(|record| format!("{{\"Data\":\"{record}\"}}")).collect();
        format!("{{\"DeliveryStreamName\":\"access\",\"Records\":[{}]}}", entries.join(","))
    };
    Ok((0..BODIES).map(body).collect())
}

fn request(body: &str, pair: Option<&(String, String)>) -> Result<Vec<u8>> {
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", TARGET)];
    let mut text = String::from("POST / HTTP/1.1\r\nhost: bench\r\n");
    let mut add = |name: &str, value: &str| text.push_str(&format!("{name}: {value}\r\n"));
    for (name, value) in headers {
        add(name, value);
    }
    add("content-length", &body.len().to_string());
    if let Some((id, secret)) = pair {
        let identity = Credentials::new(id, secret, None, None, "bench").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("firehose")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .context("sign a request")?
            .into();
        let signed = SignableBody::Bytes(body.as_bytes());
        let signable = SignableRequest::new("POST", "http://bench/", headers.into_iter(), signed);
        let (instructions, _signature) = sign(signable?, &params)?.into_parts();
        for (name, value) in instructions.headers() {
            add(name, value);
        }
    }
    text.push_str("\r\n");
    let mut request = text.into_bytes();
    request.extend_from_slice(body.as_bytes());
    Ok(request)
}
