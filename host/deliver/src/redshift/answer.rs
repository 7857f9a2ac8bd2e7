//! What failures of a load mean: whose fault, what is told, and when to try again.
//!
//! Nothing is refused for ever: a table that is missing, rights, options and even rows that do not fit can be set right at
//! the server, and what the settings say, by a reload. Rows that do not fit wait longest, as with Amazon Data Firehose.

use std::error::Error as _;
use std::time::Duration;

use super::sql::Identifier;
use crate::fault::{DeliverError, Fault, Retry};

/// Before rows that did not fit are tried again, at least; Firehose waits as long.
const UNFIT_PAUSE: Duration = Duration::from_secs(300);
/// Of what the server says.
const TOLD_CHARS_MAX: usize = 400;

/// What a load was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Connect,
    Prepare,
    Lock,
    LookUp,
    Copy,
    Note,
    Commit,
}

/// Why a statement has no answer that says that it was done.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no connection.
    Unreachable(String),
    /// The connection has gone, and with it what was not committed.
    Lost(String),
    /// No answer in time.
    Late,
    /// The server's word.
    Refused {
        /// SQLSTATE.
        code: String,
        /// Message, perhaps with its detail.
        text: String,
    },
}

impl Failure {
    pub(super) fn of(error: &tokio_postgres::Error) -> Failure {
        if let Some(told) = error.as_db_error() {
            let detail = told.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
            return Failure::Refused {
                code: told.code().code().to_owned(),
                text: shortened(&format!("{}{detail}", told.message())),
            };
        }
        let mut detail = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            detail.push_str(": ");
            detail.push_str(&error.to_string());
            cause = error.source();
        }
        Failure::Lost(shortened(&detail))
    }

    /// Whether a table or column is not there.
    pub(super) fn is_missing_table(&self) -> bool {
        matches!(self, Failure::Refused { code, .. } if code == "42P01")
    }

    /// Whether it may be that objects are not there any more: Redshift has one code for all that it finds in S3.
    pub(super) fn is_of_objects(&self) -> bool {
        matches!(self, Failure::Refused { code, .. } if code.starts_with("XX"))
    }

    /// The table in which Redshift has more to say of it.
    pub(super) fn details_table(&self) -> Option<&'static str> {
        let Failure::Refused { text, .. } = self else { return None };
        ["stl_load_errors", "sys_load_error_detail"].into_iter().find(|table| text.contains(table))
    }
}

/// On one line, and no more than is good to read. Quotes stay: names of tables and columns are in them.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short = String::new();
    for character in line.chars().take(TOLD_CHARS_MAX) {
        match character {
            '"' | '\'' => short.push(character),
            _ => short.extend(character.escape_debug()),
        }
    }
    short
}

/// What was to be loaded where, for errors.
pub(super) struct Place<'a> {
    /// `host:port/database`.
    pub(super) server: &'a str,
    pub(super) table: &'a Identifier,
    pub(super) batches: &'a Identifier,
    /// URL of the object.
    pub(super) object: &'a str,
}

/// `why`: what Redshift's table of load errors says.
pub(super) fn told(step: Step, failure: Failure, why: Option<String>, place: &Place<'_>) -> DeliverError {
    let Place { server, table, batches, object } = place;
    let at = |message: String, detail: String| {
        let detail = if detail.is_empty() { server.to_string() } else { format!("{server}: {detail}") };
        DeliverError::later(message, detail)
    };
    let doing = match step {
        Step::Connect => format!("logging in at {server}"),
        Step::Prepare => format!("preparing the table {batches}"),
        Step::Lock => format!("waiting for the lock of {batches}"),
        Step::LookUp => format!("looking into {batches}"),
        Step::Copy => format!("COPY of {object} into {table}"),
        Step::Note => format!("noting the batch in {batches}"),
        Step::Commit => format!("committing the COPY of {object} into {table}"),
    };
    let is_load = step == Step::Copy;
    let (code, text) = match failure {
        Failure::Unreachable(detail) => return at(format!("Redshift cannot be reached at {server}"), detail),
        Failure::Lost(detail) if step == Step::Connect => {
            return at(format!("Redshift cannot be reached at {server}: {detail}"), String::new());
        }
        Failure::Lost(detail) => {
            let message = format!(
                "the connection to Redshift was lost ({doing}); whether the batch was loaded is looked up before the next try"
            );
            return at(message, detail);
        }
        Failure::Late => return at(format!("Redshift did not answer in time ({doing})"), String::new()),
        Failure::Refused { code, text } => (code, text),
    };
    let has_details =
        why.is_some() || ["stl_load_errors", "sys_load_error_detail"].iter().any(|t| text.contains(t));
    match (code.get(..2).unwrap_or_default(), code.as_str()) {
        // What data says may be data.
        ("22" | "23", _) if is_load => unfit(place, &format!("SQLSTATE {code}"), text),
        _ if is_load && has_details => unfit(place, why.as_deref().unwrap_or(&text), text.clone()),
        (_, "57014") if matches!(step, Step::Prepare | Step::Lock | Step::LookUp) => {
            let message = format!("another session holds the lock of {batches}; it is waited for again");
            at(message, text)
        }
        (_, "57014") => at(format!("Redshift ended the statement, which took too long ({doing})"), text),
        (_, "40001" | "40P01" | "55P03") => at(format!("another transaction was in the way ({doing})"), text),
        _ if text.to_ascii_lowercase().contains("serializable isolation violation") => {
            at(format!("another transaction was in the way ({doing})"), text)
        }
        ("28", _) => {
            let message =
                format!("Redshift denies access ({doing}): {text} ({code}); check user, password and rights");
            DeliverError::new(Fault::Destination, Retry::Later { after: None }, message, server.to_string())
        }
        ("42" | "3F" | "3D" | "0A", _) => {
            let message = format!("{doing} is refused: {text} ({code})");
            DeliverError::new(Fault::Client, Retry::Later { after: None }, message, server.to_string())
        }
        _ => at(format!("{doing} failed: {text} ({code})"), String::new()),
    }
}

fn unfit(place: &Place<'_>, why: &str, detail: String) -> DeliverError {
    let message = format!("rows of {} do not fit the table {}: {why}", place.object, place.table);
    let detail = format!("{}: {detail}", place.server);
    DeliverError::new(Fault::Client, Retry::Later { after: Some(UNFIT_PAUSE) }, message, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(step: Step, code: &str, text: &str, why: Option<&str>) -> DeliverError {
        let (table, batches) = (
            Identifier::parse("public.events", 2).unwrap(),
            Identifier::parse("wasmill_batches", 2).unwrap(),
        );
        let place = Place { server: "h:5439/dev", table: &table, batches: &batches, object: "s3://lake/a" };
        let failure = Failure::Refused { code: code.to_owned(), text: text.to_owned() };
        told(step, failure, why.map(str::to_owned), &place)
    }

    #[test]
    fn every_refusal_names_what_and_where_and_is_tried_again() {
        let long = "Load into table 'events' failed. Check 'stl_load_errors' system table for details.";
        for (step, code, text, why, parts) in [
            (
                Step::Copy,
                "42P01",
                "relation \"public.events\" does not exist",
                None,
                &["COPY of s3://lake/a into \"public\".\"events\" is refused", "does not exist", "42P01"][..],
            ),
            (Step::Copy, "42703", "column \"b\" does not exist", None, &["column \"b\" does not exist"]),
            (
                Step::Copy,
                "XX000",
                long,
                Some("line 3, column c: Overflow"),
                &["do not fit", "line 3, column c"],
            ),
            (Step::Copy, "XX000", long, None, &["do not fit", "stl_load_errors"]),
            (Step::Copy, "22P02", "invalid input: \"secret\"", None, &["do not fit", "22P02"]),
            (
                Step::Connect,
                "28P01",
                "password authentication failed",
                None,
                &["denies access", "h:5439/dev", "28P01"],
            ),
            (Step::Lock, "57014", "canceled", None, &["holds the lock of \"wasmill_batches\""]),
            (Step::Copy, "57014", "canceled", None, &["took too long", "s3://lake/a"]),
            (
                Step::Commit,
                "XX000",
                "1023: Serializable isolation violation on table - 1",
                None,
                &["another transaction", "committing"],
            ),
            (Step::Copy, "XX000", "S3ServiceException:Access Denied", None, &["failed: S3ServiceException"]),
        ] {
            let error = of(step, code, text, why);
            for part in parts {
                assert!(error.message.contains(part), "{code} {text}: {} has no {part:?}", error.message);
            }
            assert!(matches!(error.retry, Retry::Later { .. }), "{error:?}");
        }
        let unfit = of(Step::Copy, "22P02", "invalid input: \"secret\"", None);
        assert!(!unfit.message.contains("secret") && unfit.detail.contains("secret"), "{unfit:?}");
        assert_eq!(unfit.retry, Retry::Later { after: Some(UNFIT_PAUSE) });
    }

    #[test]
    fn what_a_server_says_is_short_and_on_one_line() {
        let text = shortened(&format!("a\n b\u{7}{}", "x".repeat(1000)));
        assert!(text.starts_with("a b\\u{7}xxx") && text.len() < 420, "{text}");
        assert_eq!(shortened("column \"v\" isn't there"), "column \"v\" isn't there");
    }
}
