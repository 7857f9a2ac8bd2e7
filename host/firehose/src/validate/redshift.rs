//! Constraints and rules of tables of Redshift.

use super::destination::{beside, logging, required, retry, s3, secrets_manager};
use super::member::{arn, one_line};
use super::requests::secret;
use super::rule::{backup, no_partition_keys};
use super::violation::Pattern;
use super::{At, Given, Violations, processing};
use crate::wire::{CopyCommand, Redshift, Refusal};

/// AWS has its own names of hosts in it; here the cluster may be anywhere.
const JDBC_URL: Pattern = Pattern {
    shown: r"jdbc:(redshift|postgresql)://[^/:]+:\d{1,5}/[a-zA-Z0-9_$-]+",
    matches: |text| Cluster::of(text).is_some(),
};
const NOT_BLANK: Pattern =
    Pattern { shown: r"^(?!\s*$).+", matches: |text| one_line(text) && !text.trim().is_empty() };

/// What a URL of JDBC says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster<'a> {
    pub host: &'a str,
    pub port: u16,
    pub database: &'a str,
}

impl Cluster<'_> {
    /// Out of `jdbc:redshift://HOST:PORT/DATABASE`.
    pub fn of(url: &str) -> Option<Cluster<'_>> {
        let rest = url.strip_prefix("jdbc:redshift://").or_else(|| url.strip_prefix("jdbc:postgresql://"))?;
        let (place, database) = rest.split_once('/')?;
        let (host, port) = place.rsplit_once(':')?;
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_database = |c: char| c.is_ascii_alphanumeric() || "_$-".contains(c);
        let is_one = !host.is_empty()
            && host.chars().all(is_host)
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && !database.is_empty()
            && database.chars().all(is_database);
        is_one.then_some(Cluster { host, port: port.parse().ok()?, database })
    }
}

pub(super) fn redshift(violations: &mut Violations, at: At<'_>, redshift: &Redshift, given: Given) {
    required(violations, at.member("RoleARN"), redshift.role_arn.is_some(), given);
    arn(violations, at.member("RoleARN"), redshift.role_arn.as_deref(), 512);
    let url_at = at.member("ClusterJDBCURL");
    required(violations, url_at, redshift.jdbc_url.is_some(), given);
    if let Some(url) = &redshift.jdbc_url {
        violations.length(url_at, url, 1, 512);
        violations.pattern(url_at, url, &JDBC_URL);
    }
    let command_at = at.member("CopyCommand");
    required(violations, command_at, redshift.copy_command.is_some(), given);
    if let Some(CopyCommand { table_name, columns, options }) = &redshift.copy_command {
        let table_at = command_at.member("DataTableName");
        violations.required(table_at, table_name.is_some());
        if let Some(name) = table_name {
            violations.length(table_at, name, 1, 512);
            violations.pattern(table_at, name, &NOT_BLANK);
        }
        for (name, text) in [("DataTableColumns", columns), ("CopyOptions", options)] {
            if let Some(text) = text {
                violations.length(command_at.member(name), text, 0, 204_800);
            }
        }
    }
    if let Some(user) = &redshift.username {
        violations.length(at.member("Username"), user, 1, 512);
    }
    if let Some(password) = &redshift.password {
        violations.length_of_secret(at.member("Password"), &password.0, 512);
    }
    retry(violations, at, redshift.retry.as_ref());
    beside(violations, at, (redshift.s3.as_ref(), redshift.s3_update.as_ref()), given);
    if let Some(processing) = &redshift.processing {
        processing::constraints(violations, at.member("ProcessingConfiguration"), processing);
    }
    if let Some(mode) = &redshift.backup_mode {
        violations.one_of(at.member("S3BackupMode"), mode, &["Disabled", "Enabled"]);
    }
    let backups = match given {
        Given::Whole => ("S3BackupConfiguration", &redshift.backup),
        Given::Part => ("S3BackupUpdate", &redshift.backup_update),
    };
    if let (name, Some(backup)) = backups {
        s3(violations, at.member(name), backup, given);
    }
    logging(violations, at, redshift.logging.as_ref());
    secrets_manager(violations, at, redshift.secrets_manager.as_ref());
}

/// # Errors
/// `InvalidArgumentException`.
pub fn redshift_rules(redshift: &Redshift) -> Result<(), Refusal> {
    let manager = redshift.secrets_manager.as_ref();
    secret(manager)?;
    let has_log_in = redshift.username.is_some() && redshift.password.is_some();
    if !has_log_in && manager.is_none_or(|manager| manager.enabled != Some(true)) {
        return Err(Refusal::invalid(
            "Username and Password must be given unless SecretsManagerConfiguration is enabled",
        ));
    }
    if let Some(processing) = &redshift.processing {
        processing::rules(processing)?;
        no_partition_keys(processing)?;
    }
    if let Some(given) = &redshift.s3 {
        super::s3(given)
            .map_err(|refusal| Refusal::invalid(format!("S3Configuration: {}", refusal.message)))?;
        if !matches!(given.compression_format.as_deref(), None | Some("UNCOMPRESSED" | "GZIP")) {
            return Err(Refusal::invalid(
                "S3Configuration: Redshift loads CompressionFormat UNCOMPRESSED and GZIP",
            ));
        }
        let has_expression =
            |prefix: &Option<String>| prefix.as_ref().is_some_and(|prefix| prefix.contains("!{"));
        if has_expression(&given.prefix) {
            return Err(Refusal::invalid(
                "S3Configuration: Prefix has no expressions where Redshift loads the objects",
            ));
        }
    }
    let is_backed_up = redshift.backup_mode.as_deref() == Some("Enabled");
    match &redshift.backup {
        Some(given) => backup(given, "S3BackupConfiguration"),
        None if is_backed_up => {
            Err(Refusal::invalid("S3BackupConfiguration must be given when S3BackupMode is Enabled"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    fn told(check: impl FnOnce(&mut Violations)) -> String {
        let mut violations = Violations::default();
        check(&mut violations);
        violations.finish().map_or_else(|refusal| refusal.message, |()| String::new())
    }

    #[test]
    fn each_member_of_a_table_has_its_constraint() {
        let whole = told(|v| redshift(v, At::Root, &Redshift::default(), Given::Whole));
        for part in
            ["4 validation errors", "'roleARN'", "'clusterJDBCURL'", "'copyCommand'", "'s3Configuration'"]
        {
            assert!(whole.contains(part), "{part}: {whole}");
        }
        assert_eq!(told(|v| redshift(v, At::Root, &Redshift::default(), Given::Part)), "");
        for (members, expected) in [
            (r#""ClusterJDBCURL":"postgres://h/d""#, "'clusterJDBCURL'"),
            (r#""ClusterJDBCURL":"jdbc:redshift://h:5439/d;x""#, "'clusterJDBCURL'"),
            (r#""CopyCommand":{}"#, "'copyCommand.dataTableName'"),
            (r#""CopyCommand":{"DataTableName":" "}"#, "'copyCommand.dataTableName'"),
            (r#""RetryOptions":{"DurationInSeconds":7201}"#, "less than or equal to 7200"),
            (r#""S3BackupMode":"AllData""#, "[Disabled, Enabled]"),
            (r#""S3BackupUpdate":{"RoleARN":"x"}"#, "'s3BackupUpdate.roleARN'"),
        ] {
            let parsed: Redshift = parse(format!("{{{members}}}").as_bytes()).unwrap();
            let told = told(|v| redshift(v, At::Root, &parsed, Given::Part));
            assert!(told.contains(expected), "{members}: {told}");
        }
        let cluster = Cluster::of("jdbc:redshift://w.abc.eu-west-1.redshift.amazonaws.com:5439/dev").unwrap();
        assert_eq!(
            (cluster.host, cluster.port, cluster.database),
            ("w.abc.eu-west-1.redshift.amazonaws.com", 5439, "dev")
        );
    }

    #[test]
    fn members_must_agree() {
        const LOG_IN: &str = r#""Username":"u","Password":"sesame1""#;
        let of = |members: &str| redshift_rules(&parse(format!("{{{members}}}").as_bytes()).unwrap());
        assert_eq!(of(LOG_IN), Ok(()));
        for (members, part) in [
            (r#""Username":"u""#.to_owned(), "Username and Password"),
            (
                format!(r#"{LOG_IN},"S3Configuration":{{"CompressionFormat":"Snappy"}}"#),
                "UNCOMPRESSED and GZIP",
            ),
            (
                format!(
                    r#"{LOG_IN},"S3Configuration":{{"Prefix":"!{{timestamp:yyyy}}/","ErrorOutputPrefix":"!{{firehose:error-output-type}}/"}}"#
                ),
                "no expressions",
            ),
            (format!(r#"{LOG_IN},"S3BackupMode":"Enabled""#), "S3BackupConfiguration must be given"),
        ] {
            let told = of(&members).unwrap_err().message;
            assert!(told.contains(part), "{members}: {told}");
        }
    }
}
