//! Destinations that are servers: Splunk, clusters of OpenSearch and Elasticsearch, tables of Redshift.
//!
//! What the host cannot do without and AWS does not show is filled with something that cannot work, and said: what is made is
//! whole, and nothing is sent until it is set.

use serde_json::{Map, Value};

use super::{Left, SUFFIX, beside, leave, object_in, taken};

const SPLUNK: [&str; 9] = [
    "HECEndpoint",
    "HECEndpointType",
    "HECToken",
    "HECAcknowledgmentTimeoutInSeconds",
    "RetryOptions",
    "S3BackupMode",
    "ProcessingConfiguration",
    "CloudWatchLoggingOptions",
    "BufferingHints",
];
const CLUSTER: [&str; 10] = [
    "RoleARN",
    "ClusterEndpoint",
    "IndexName",
    "IndexRotationPeriod",
    "BufferingHints",
    "RetryOptions",
    "S3BackupMode",
    "ProcessingConfiguration",
    "CloudWatchLoggingOptions",
    "DocumentIdOptions",
];
const REDSHIFT: [&str; 8] = [
    "RoleARN",
    "ClusterJDBCURL",
    "CopyCommand",
    "Username",
    "ProcessingConfiguration",
    "RetryOptions",
    "S3BackupMode",
    "CloudWatchLoggingOptions",
];
/// In the place of a secret that is not shown.
const SET_AGAIN: &str = "set-it-again";
/// In the place of an address that is not shown; no name is ever found for it.
const NOWHERE: &str = "https://set-it-again.invalid";
const BESIDE: (&str, &str) = ("S3DestinationDescription", "S3Configuration");
const BACKUP: (&str, &str) = ("S3BackupDescription", "S3BackupConfiguration");

/// How descriptions name those that are here.
pub(super) fn is_known(kind: &str) -> bool {
    ["Splunk", "Amazonopensearchservice", "Elasticsearch", "Redshift"].contains(&kind)
}

/// The member of a request and what stands in it, if the destination is one of these.
pub(super) fn destination(
    given: &Map<String, Value>,
    left: &mut Vec<Left>,
) -> Option<(&'static str, Map<String, Value>)> {
    let of = |kind: &str| object_in(given, &format!("{kind}{SUFFIX}"));
    if let Some(splunk) = of("Splunk") {
        return Some(("SplunkDestinationConfiguration", of_splunk(splunk, left)));
    }
    if let Some(cluster) = of("Amazonopensearchservice") {
        return Some(("AmazonopensearchserviceDestinationConfiguration", of_cluster(cluster, left)));
    }
    if let Some(cluster) = of("Elasticsearch") {
        return Some(("ElasticsearchDestinationConfiguration", of_cluster(cluster, left)));
    }
    of("Redshift").map(|table| ("RedshiftDestinationConfiguration", of_redshift(table, left)))
}

fn of_splunk(splunk: &Map<String, Value>, left: &mut Vec<Left>) -> Map<String, Value> {
    let mut made = taken(splunk, &SPLUNK, &[BESIDE.0, "SecretsManagerConfiguration"], left);
    without_manager(splunk, "HECToken", left);
    let is_shown = made.get("HECToken").and_then(Value::as_str).is_some_and(|token| !token.is_empty());
    if !is_shown {
        leave(left, "HECToken", "", "AWS does not show it: set \"token\" again");
        made.insert("HECToken".to_owned(), SET_AGAIN.into());
    }
    beside(&mut made, splunk, BESIDE, left);
    made
}

fn of_cluster(cluster: &Map<String, Value>, left: &mut Vec<Left>) -> Map<String, Value> {
    let elsewhere = [BESIDE.0, "DomainARN", "TypeName", "VpcConfigurationDescription"];
    let mut made = taken(cluster, &CLUSTER, &elsewhere, left);
    let text = |name: &str| cluster.get(name).and_then(Value::as_str).unwrap_or_default();
    leave(
        left,
        "RoleARN",
        text("RoleARN"),
        "no role is taken: put user and password into \"url\", or let the cluster take requests of the host unsigned",
    );
    if text("ClusterEndpoint").is_empty() {
        leave(
            left,
            "DomainARN",
            text("DomainARN"),
            "AWS does not show the domain's address: set \"url\" to it",
        );
        made.insert("ClusterEndpoint".to_owned(), NOWHERE.into());
    }
    if !text("TypeName").is_empty() {
        leave(left, "TypeName", text("TypeName"), "clusters have no types any more");
    }
    let vpc = object_in(cluster, "VpcConfigurationDescription");
    if let Some(vpc) = vpc {
        let id = vpc.get("VpcId").and_then(Value::as_str).unwrap_or_default();
        leave(left, "VpcConfiguration", id, "the host connects from where it is");
    }
    beside(&mut made, cluster, BESIDE, left);
    made
}

fn of_redshift(table: &Map<String, Value>, left: &mut Vec<Left>) -> Map<String, Value> {
    let elsewhere = [BESIDE.0, BACKUP.0, "SecretsManagerConfiguration"];
    let mut made = taken(table, &REDSHIFT, &elsewhere, left);
    without_manager(table, "Username and Password", left);
    let role = table.get("RoleARN").and_then(Value::as_str).unwrap_or_default();
    let why = "the host has no role; the cluster reads the bucket by it, so it must be one of the cluster's";
    leave(left, "RoleARN", role, why);
    if !made.contains_key("Username") {
        leave(left, "Username", "", "AWS does not show it: set \"user\" again");
        made.insert("Username".to_owned(), SET_AGAIN.into());
    }
    leave(left, "Password", "", "AWS does not show it: set \"password\" again");
    made.insert("Password".to_owned(), SET_AGAIN.into());
    beside(&mut made, table, BESIDE, left);
    beside(&mut made, table, BACKUP, left);
    made
}

fn without_manager(destination: &Map<String, Value>, what: &str, left: &mut Vec<Left>) {
    let Some(manager) = object_in(destination, "SecretsManagerConfiguration") else { return };
    if manager.get("Enabled") == Some(&Value::Bool(true)) {
        let arn = manager.get("SecretARN").and_then(Value::as_str).unwrap_or_default();
        let why = format!("{what} are not looked up there; give them as a secret of the configuration");
        leave(left, "SecretsManagerConfiguration", arn, &why);
    }
}
