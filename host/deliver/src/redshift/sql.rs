//! The text of every statement.
//!
//! Nothing of it comes from records: identifiers and literals are of the settings, and a batch is told by its id, which
//! is of `[0-9a-f-]`. Statements are of the kind that Redshift and PostgreSQL read alike: no functions, times as
//! literals, no backslashes in literals (Redshift reads them as escapes, PostgreSQL does not).

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Longest identifier that Redshift knows, in bytes.
const IDENTIFIER_BYTES_MAX: usize = 127;
/// Rows that one statement takes away, so that it never holds its lock for long.
const PRUNED_MAX: usize = 1000;

/// A name of a table or column as SQL has it, with its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identifier(String);

impl Identifier {
    /// A name of one to `parts_max` parts with dots between them. A part is letters, digits, `_` and `$` and is read in
    /// lower case, or stands in double quotes and is read as it is, as in SQL.
    ///
    /// # Errors
    /// It is no such name; says what would be right.
    pub(super) fn parse(written: &str, parts_max: usize) -> Result<Identifier, String> {
        let refused = || {
            let parts = if parts_max > 1 {
                format!(", up to {parts_max} with dots between them")
            } else {
                String::new()
            };
            format!(
                "{written:?} is no name of a table or column: expected letters, digits, _ and $, not beginning with a \
                 digit, or \"anything\" in double quotes{parts}, each of at most {IDENTIFIER_BYTES_MAX} bytes"
            )
        };
        let (mut quoted, mut rest) = (Vec::new(), written);
        loop {
            let (part, after) = part(rest).ok_or_else(refused)?;
            if part.is_empty() || part.len() > IDENTIFIER_BYTES_MAX || part.chars().any(char::is_control) {
                return Err(refused());
            }
            quoted.push(format!("\"{}\"", part.replace('"', "\"\"")));
            match after.strip_prefix('.') {
                Some(next) => rest = next,
                None if after.is_empty() => break,
                None => return Err(refused()),
            }
        }
        if quoted.len() > parts_max {
            return Err(refused());
        }
        Ok(Identifier(quoted.join(".")))
    }
}

impl std::fmt::Display for Identifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first part of a name, and what follows it.
fn part(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let end = text.find(|c| !plain(c)).unwrap_or(text.len());
        let (part, after) = text.split_at(end);
        let begins = |c: char| !c.is_ascii_digit() && c != '$';
        return part.starts_with(begins).then(|| (part.to_lowercase(), after));
    };
    let mut part = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                part.push('"');
                rest = next;
            }
            None => return Some((part, after)),
        }
    }
}

/// A text between single quotes. It has no backslashes and control characters: the settings hold to that.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// By what Redshift may read the objects.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorization {
    /// The role that the cluster has by default.
    DefaultRole,
    /// ARNs of one role, or of several that are assumed one after another.
    Role(String),
    /// What stands behind `CREDENTIALS`; a secret.
    Credentials(String),
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Authorization::DefaultRole => f.write_str("DefaultRole"),
            Authorization::Role(role) => write!(f, "Role({role:?})"),
            Authorization::Credentials(_) => f.write_str("Credentials(..)"),
        }
    }
}

/// What of a COPY is the same for all batches.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) table: Identifier,
    /// Columns that are loaded; empty: all, in their order.
    pub(super) columns: Vec<Identifier>,
    pub(super) authorization: Authorization,
    /// Behind everything else; without `;`.
    pub(super) options: String,
}

impl Load {
    /// The statement that loads what the manifest at this URL lists.
    pub(super) fn copy(&self, manifest: &str) -> String {
        let columns: Vec<String> = self.columns.iter().map(Identifier::to_string).collect();
        let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
        let authorization = match &self.authorization {
            Authorization::DefaultRole => "IAM_ROLE default".to_owned(),
            Authorization::Role(role) => format!("IAM_ROLE {}", literal(role)),
            Authorization::Credentials(credentials) => format!("CREDENTIALS {}", literal(credentials)),
        };
        // Options are last: whatever they are, nothing of ours stands behind them.
        format!(
            "COPY {}{columns} FROM {} {authorization} MANIFEST {}",
            self.table,
            literal(manifest),
            self.options
        )
    }
}

/// The table of batches that were loaded.
#[derive(Clone, Debug)]
pub(super) struct Batches(pub(super) Identifier);

impl Batches {
    /// Nothing, unless the table is not there.
    pub(super) fn is_there(&self) -> String {
        format!("SELECT batch FROM {} LIMIT 0", self.0)
    }

    /// Redshift takes the key as a hint alone; it is the lock that keeps a batch from being loaded twice.
    pub(super) fn create(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (batch varchar(128) NOT NULL PRIMARY KEY, stream varchar(128) NOT NULL, \
             output varchar(128) NOT NULL, records bigint NOT NULL, loaded timestamp NOT NULL)",
            self.0
        )
    }

    /// First in a transaction: who has it sees what all before have committed, and nobody else loads until it ends.
    pub(super) fn lock(&self) -> String {
        format!("LOCK TABLE {}", self.0)
    }

    pub(super) fn look_up(&self, batch: &str) -> String {
        format!("SELECT batch FROM {} WHERE batch = {}", self.0, literal(batch))
    }

    pub(super) fn note(&self, batch: &str, owner: (&str, &str), records: u64, now: Timestamp) -> String {
        let (stream, output) = owner;
        format!(
            "INSERT INTO {} (batch, stream, output, records, loaded) VALUES ({}, {}, {}, {records}, {})",
            self.0,
            literal(batch),
            literal(stream),
            literal(output),
            moment(now)
        )
    }

    /// Rows of this output that are older, the oldest first, so many at once.
    pub(super) fn prune(&self, (stream, output): (&str, &str), before: Timestamp) -> String {
        format!(
            "DELETE FROM {0} WHERE batch IN (SELECT batch FROM {0} WHERE stream = {1} AND output = {2} AND loaded < {3} \
             ORDER BY loaded LIMIT {PRUNED_MAX})",
            self.0,
            literal(stream),
            literal(output),
            moment(before)
        )
    }
}

/// In UTC.
fn moment(at: Timestamp) -> String {
    format!("'{}'", at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_read_as_sql_reads_them_and_quoted_whole() {
        for (written, sql) in [
            ("events", r#""events""#),
            ("Public.Events", r#""public"."events""#),
            (r#"dev."My Table".x"#, r#""dev"."My Table"."x""#),
            (r#""a""; DROP TABLE b; --""#, r#""a""; DROP TABLE b; --""#),
            (r#""a.b""#, r#""a.b""#),
            ("größe", r#""größe""#),
        ] {
            assert_eq!(Identifier::parse(written, 3).unwrap().to_string(), sql, "{written}");
        }
        let long = "x".repeat(128);
        for written in [
            "", ".", "a.", ".a", "1a", "a b", "a;b", "a\"b", "\"a", "\"\"", "a.b.c.d", "\"a\nb\"", "a'b",
            "$a", &long,
        ] {
            let told = Identifier::parse(written, 3).unwrap_err();
            assert!(told.contains("no name of a table"), "{written}: {told}");
        }
        assert!(Identifier::parse("a.b", 1).is_err());
    }

    #[test]
    fn copy_has_nothing_behind_the_options_and_quotes_the_rest() {
        let mut load = Load {
            table: Identifier::parse("public.events", 3).unwrap(),
            columns: vec![Identifier::parse("a", 1).unwrap(), Identifier::parse("\"B\"", 1).unwrap()],
            authorization: Authorization::Role("arn:aws:iam::1:role/r".to_owned()),
            options: "GZIP JSON 'auto'".to_owned(),
        };
        assert_eq!(
            load.copy("s3://lake/it's/m"),
            "COPY \"public\".\"events\" (\"a\", \"B\") FROM 's3://lake/it''s/m' IAM_ROLE 'arn:aws:iam::1:role/r' MANIFEST \
             GZIP JSON 'auto'"
        );
        load.columns.clear();
        load.authorization =
            Authorization::Credentials("aws_access_key_id=a;aws_secret_access_key=b".to_owned());
        assert!(!format!("{load:?}").contains("secret_access_key"));
        assert!(
            load.copy("s3://l/m").contains("\"events\" FROM 's3://l/m' CREDENTIALS 'aws_access_key_id=a;")
        );
        load.authorization = Authorization::DefaultRole;
        assert!(load.copy("s3://l/m").contains(" IAM_ROLE default MANIFEST "));
    }

    #[test]
    fn literals_are_those_that_all_servers_read_alike() {
        assert_eq!(literal("it's"), "'it''s'");
        let batches = Batches(Identifier::parse("wasmill_batches", 2).unwrap());
        let at: Timestamp = "2026-02-03T04:05:06Z".parse().unwrap();
        assert!(
            batches
                .note("00-1", ("s", "o"), 7, at)
                .ends_with("VALUES ('00-1', 's', 'o', 7, '2026-02-03 04:05:06')")
        );
        assert!(
            batches
                .prune(("s", "o"), at)
                .contains("loaded < '2026-02-03 04:05:06' ORDER BY loaded LIMIT 1000")
        );
    }
}
