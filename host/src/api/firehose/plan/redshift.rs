//! A table of Redshift as an output: the bucket beside it is where objects go that are loaded.

use serde_json::{Map, Value, json};
use wasmill_firehose::validate::Cluster;
use wasmill_firehose::wire::{ExtendedS3, Redshift, Refusal};

use super::requests::no_manager;
use super::{
    FirehoseSettings, Names, Steps, backup_output, bucket, buffer, compression, letters, names, no_kms,
    not_here, place, steps_are_names, whole,
};

/// Between two tries, at most: Firehose waits as long.
const RETRY_PAUSE_MAX: &str = "300s";

pub(super) fn redshift(
    redshift: &Redshift,
    version: u64,
    firehose: &FirehoseSettings,
) -> Result<Value, Refusal> {
    no_manager(redshift.secrets_manager.as_ref(), "give Username and Password")?;
    let s3 = ExtendedS3::from(redshift.s3.clone().unwrap_or_default());
    no_kms(&s3)?;
    steps_are_names(&s3, "S3Configuration.")?;
    let bucket = bucket(s3.bucket_arn.as_deref().unwrap_or_default())?;
    let url = redshift.jdbc_url.as_deref().unwrap_or_default();
    let cluster = Cluster::of(url).ok_or_else(|| {
        Refusal::invalid(format!("ClusterJDBCURL {url:?}: expected jdbc:redshift://HOST:PORT/DATABASE"))
    })?;
    let command = redshift.copy_command.clone().unwrap_or_default();
    let options = command.options.unwrap_or_default();
    if options.contains(';') {
        return Err(not_here("a COPY with ; in CopyOptions", "write it as an octal escape, '\\073'"));
    }
    let steps = Steps::of(redshift.processing.as_ref())?;
    let Names { prefix, names, errors } = names(&s3, version);
    let mut output: Map<String, Value> = place(bucket, &prefix, firehose);
    output.insert("type".to_owned(), "redshift".into());
    output.insert("firehose".to_owned(), names);
    output.insert("format".to_owned(), steps.format().into());
    output.insert("compression".to_owned(), compression(s3.compression_format.as_deref()).into());
    output.insert("host".to_owned(), cluster.host.into());
    output.insert("port".to_owned(), cluster.port.into());
    output.insert("database".to_owned(), cluster.database.into());
    output.insert("user".to_owned(), redshift.username.clone().unwrap_or_default().into());
    let password = redshift.password.as_ref().map(|password| password.0.as_str()).unwrap_or_default();
    output.insert("password".to_owned(), password.into());
    output.insert("table".to_owned(), command.table_name.unwrap_or_default().into());
    let columns = command.columns.unwrap_or_default();
    let columns: Vec<&str> = columns.split(',').map(str::trim).filter(|column| !column.is_empty()).collect();
    output.insert("columns".to_owned(), columns.into());
    output.insert("copy_options".to_owned(), options.into());
    output.insert("iam_role".to_owned(), redshift.role_arn.clone().unwrap_or_default().into());
    buffer(&mut output, &s3.buffering_hints.clone().unwrap_or_default());
    let seconds = redshift.retry.as_ref().and_then(|retry| retry.duration_in_seconds).unwrap_or(3600);
    let retry = json!({ "initial": "1s", "max": RETRY_PAUSE_MAX, "for": format!("{seconds}s") });
    output.insert("retry".to_owned(), retry);
    let interval = output["interval"].clone();
    let mut stream = whole(steps, output, letters(bucket, errors, interval, firehose));
    if redshift.backup_mode.as_deref() == Some("Enabled") {
        let backup = ExtendedS3::from(redshift.backup.clone().unwrap_or_default());
        steps_are_names(&backup, "S3BackupConfiguration.")?;
        stream["backup"] = backup_output(&backup, version, firehose)?;
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use wasmill_firehose::description::Definition;
    use wasmill_firehose::wire;

    use super::*;

    fn planned(more: Value) -> Result<Value, Refusal> {
        let bucket = json!({ "RoleARN": "arn:aws:iam::1:role/r", "BucketARN": "arn:aws:s3:::lake" });
        let mut members = json!({
            "RoleARN": "arn:aws:iam::1:role/r", "ClusterJDBCURL": "jdbc:redshift://w.example:5439/dev",
            "CopyCommand": {
                "DataTableName": "public.events", "DataTableColumns": "a, b", "CopyOptions": "JSON 'auto' gzip",
            },
            "Username": "u", "Password": "sesame1", "S3Configuration": bucket,
        });
        members["S3Configuration"]["Prefix"] = "in/".into();
        members["S3Configuration"]["CompressionFormat"] = "GZIP".into();
        members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = json!({ "DeliveryStreamName": "clicks", "RedshiftDestinationConfiguration": members });
        let request = wire::parse(request.to_string().as_bytes())?;
        let firehose = FirehoseSettings {
            region: "eu-west-1".to_owned(),
            account: "123456789012".to_owned(),
            endpoint: None,
            path_style: false,
            kinesis_endpoint: None,
            encrypted_disk: false,
            schemas: [].into(),
        };
        super::super::stream(&Definition::create(request, 1)?, &firehose)
    }

    #[test]
    fn table_is_an_output_that_loads_the_objects_of_the_bucket_beside_it() {
        let whole = planned(json!({})).unwrap();
        assert_eq!(
            whole["outputs"],
            json!([{
                "type": "redshift", "bucket": "lake", "prefix": "in/", "region": "eu-west-1", "path_style": false,
                "firehose": { "prefix": "", "version": 1 }, "format": "verbatim", "compression": "gzip",
                "host": "w.example", "port": 5439, "database": "dev", "user": "u", "password": "sesame1",
                "table": "public.events", "columns": ["a", "b"], "copy_options": "JSON 'auto' gzip",
                "iam_role": "arn:aws:iam::1:role/r", "size": "5MiB", "interval": "300s",
                "retry": { "initial": "1s", "max": "300s", "for": "3600s" },
            }])
        );
        assert_eq!(whole.get("backup"), None);
        let backed_up = planned(json!({
            "S3BackupMode": "Enabled", "RetryOptions": { "DurationInSeconds": 0 },
            "S3BackupConfiguration": { "RoleARN": "arn:aws:iam::1:role/r", "BucketARN": "arn:aws:s3:::raw" },
        }))
        .unwrap();
        assert_eq!(
            (&backed_up["backup"]["bucket"], &backed_up["outputs"][0]["retry"]["for"]),
            (&"raw".into(), &"0s".into())
        );
        for (wrong, part) in [
            (
                json!({ "SecretsManagerConfiguration": { "Enabled": true, "SecretARN": "arn:x" } }),
                "SecretsManager",
            ),
            (
                json!({ "CopyCommand": { "DataTableName": "t", "CopyOptions": "CSV; DROP TABLE t" } }),
                "CopyOptions",
            ),
        ] {
            let refusal = planned(wrong.clone()).unwrap_err();
            assert!(refusal.message.contains(part), "{wrong}: {refusal}");
        }
    }
}
