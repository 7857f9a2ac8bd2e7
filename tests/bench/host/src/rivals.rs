//! Tenants on one host, as measurements need them: keys, pushes of a tenant, plugins whose digests all differ.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use wasmill_transform::{embed_manifest, read_manifest};

use crate::http::Client;
use crate::scene::Scene;

/// An operator's key for a host that has not started yet.
pub(crate) fn operator(scene: &Scene, config: &Path) -> Result<String> {
    let mut command = Command::new(&scene.product.path);
    command.args(["key", "create", "--operator", "--name", "bench", "--config"]).arg(config);
    let output = command.output().context("make a key")?;
    ensure!(output.status.success(), "make a key: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A key with which a tenant may push.
pub(crate) fn push_key(client: &mut Client, operator: &str, tenant: &str) -> Result<String> {
    let body = "{\"name\":\"bench\",\"scopes\":[\"push\"]}";
    let request = format!(
        "POST /v1/keys HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {operator}\r\nWasmill-Tenant: {tenant}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(request.as_bytes())?;
    let answer = client.answer()?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    ensure!(answer.status == 201 || answer.status == 200, "status {}: {text}", answer.status);
    let answer: serde_json::Value = serde_json::from_str(&text)?;
    let key = answer["key"].as_str().or_else(|| answer["secret"].as_str());
    Ok(key.with_context(|| format!("no key in {text}"))?.to_owned())
}

/// The same plugin with another digest: its description names whose it is.
pub(crate) fn variant(wasm: &[u8], whose: &str) -> Result<Vec<u8>> {
    let mut manifest = read_manifest(wasm)?.context("a plugin without a manifest")?;
    manifest.description = format!("{} (of {whose})", manifest.description);
    Ok(embed_manifest(wasm, &manifest)?)
}

/// A number of `/proc/PID/status`, in its own unit.
pub(crate) fn status(pid: u32, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {name} in /proc/{pid}/status"))
}

/// The sum of a metric's samples.
pub(crate) fn metric(port: u16, operator: &str, name: &str) -> Result<f64> {
    metric_with(port, operator, name, "")
}

/// The same of those samples that have this label (`name="value"`). Asks over a connection of its own: one that was idle
/// meanwhile is closed.
pub(crate) fn metric_with(port: u16, operator: &str, name: &str, label: &str) -> Result<f64> {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {operator}\r\n\r\n");
    let text = String::from_utf8(Client::connect(port)?.call(request.as_bytes())?)?;
    let of_metric = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    let wanted = text.lines().filter(of_metric).filter(|line| line.contains(label));
    let values = wanted.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Ok(values.sum())
}
