//! From raw keys to what the Firehose API is told.

use std::collections::BTreeMap;

use crate::raw;
use crate::resolve::Resolver;
use crate::settings::{Firehose, SchemaSource};
use crate::tree;

const ACCOUNT_DIGITS: usize = 12;

impl Resolver<'_> {
    pub(crate) fn firehose(&mut self, written: raw::Firehose) -> Firehose {
        let raw::Firehose {
            region,
            account,
            endpoint,
            path_style,
            kinesis_endpoint,
            encrypted_disk,
            schemas: tables,
        } = written;
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=64).contains(&region.len()) || !region.bytes().all(allowed) {
            let message = format!("region {region:?} is not valid, expected a name such as eu-central-1");
            self.problem("firehose.region", message);
        }
        if account.len() != ACCOUNT_DIGITS || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("account {account:?} is not valid, expected {ACCOUNT_DIGITS} digits");
            self.problem("firehose.account", message);
        }
        let mut schemas = BTreeMap::new();
        for (name, columns) in tables {
            let key = format!("firehose.schemas.{}", tree::segment(&name));
            if !name
                .split_once('.')
                .is_some_and(|(database, table)| !database.is_empty() && !table.is_empty())
            {
                self.problem(&key, format!("table {name:?} is not valid, expected \"DATABASE.TABLE\""));
            }
            let source = match columns {
                raw::TableSchema::Plain(columns) => Some(SchemaSource::Columns(columns)),
                raw::TableSchema::From(raw::TableSchemaSource::File(written)) => {
                    self.schema_file(&format!("{key}.file"), &written).map(SchemaSource::Columns)
                }
                raw::TableSchema::From(raw::TableSchemaSource::Infer(true)) => Some(SchemaSource::Infer),
                raw::TableSchema::From(raw::TableSchemaSource::Infer(false)) => {
                    self.problem(&key, "a table without columns is none: expected infer = true, or columns");
                    None
                }
            };
            if let Some(source) = source {
                schemas.insert(name, source);
            }
        }
        Firehose { region, account, endpoint, path_style, kinesis_endpoint, encrypted_disk, schemas }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{Destination, ObjectName, Settings};

    #[test]
    fn output_names_objects_as_firehose_does_or_by_a_template() {
        let read = |more: &str| {
            let text = format!(
                "[streams.s]\nsource = {{ type = \"http\" }}\noutputs = [{{ type = \"directory\", path = \"out\", {more} }}]\n"
            );
            Settings::from_toml(&text, Path::new("wasmill.toml"))
        };
        let names =
            "firehose = { prefix = \"a/!{timestamp:yyyy}/\", version = 3, time_zone = \"Asia/Tokyo\" }";
        let settings = read(names).unwrap();
        let Destination::Directory(directory) = &settings.streams[0].outputs[0].destination else { panic!() };
        let ObjectName::Firehose(names) = &directory.object else { panic!("{directory:?}") };
        assert_eq!((names.prefix.as_str(), names.version), ("a/!{timestamp:yyyy}/", 3));
        assert_eq!(names.time_zone.as_deref(), Some("Asia/Tokyo"));
        // Dots within a step are characters as others.
        assert!(read("firehose = { prefix = \"a..b/.c/!{timestamp:yyyy.MM}/\" }").is_ok());
        for (wrong, part) in [
            ("firehose = { version = 0 }", "version"),
            ("firehose = { version = -1 }", "is the integer -1, expected an integer from 1 to"),
            ("firehose = { version = \"1\" }", "integer"),
            ("firehose = { extension = \"json\" }", "expected a dot"),
            ("firehose = { prefix = \"/a\" }", "must not begin with /"),
            ("firehose = { prefix = \"a/../b\" }", "the step . or .."),
            ("firehose = { prefix = \"./!{timestamp:yyyy}/\" }", "the step . or .."),
            ("firehose = { zone = \"x\" }", "zone"),
            ("firehose = {}, object = \"{batch}\"", "has no effect beside"),
        ] {
            let told = read(wrong).unwrap_err().to_string();
            assert!(told.contains(part), "{wrong}: {told}");
        }
    }

    #[test]
    fn lines_of_errors_name_functions_of_transforms_and_the_table_of_columns() {
        let read = |firehose: &str| {
            let text = format!(
                "[streams.s]\nsource = {{ type = \"http\" }}\ntransforms = [{{ plugin = \"enrich\" }}]\n\
                 outputs = [{{ type = \"stdout\" }}]\n\
                 dead_letters.output = {{ type = \"directory\", path = \"bad\", firehose = {{ {firehose} }} }}\n"
            );
            Settings::from_toml(&text, Path::new("wasmill.toml"))
        };
        let settings = read(
            "prefix = \"bad/\", functions = { enrich = \"arn:x\" }, table = { database = \"lake\", table = \"clicks\" }",
        )
        .unwrap();
        let told = &settings.streams[0].dead_letters.output.as_ref().unwrap().firehose;
        assert_eq!(told.functions["enrich"], "arn:x");
        let table = told.table.as_ref().unwrap();
        assert_eq!(
            (table.database.as_str(), table.table.as_str(), table.version.as_str(), &table.catalog),
            ("lake", "clicks", "LATEST", &None)
        );
        for (wrong, part) in [
            (
                "functions = { enrch = \"arn:x\" }",
                "which is no transform of this stream; did you mean \"enrich\"?",
            ),
            ("table = { database = \"lake\" }", "\"table\""),
            ("table = { database = \"lake\", table = \"t\", zone = 1 }", "zone"),
            ("zone = \"x\"", "zone"),
        ] {
            let told = read(wrong).unwrap_err().to_string();
            assert!(told.contains(part), "{wrong}: {told}");
        }
    }

    #[test]
    fn region_and_account_are_what_arns_can_have() {
        let read = |text: &str| {
            let stream = "[streams.s]\nsource = { type = \"http\" }\noutputs = [{ type = \"stdout\" }]\n";
            Settings::from_toml(&format!("{text}{stream}"), Path::new("wasmill.toml"))
        };
        let firehose = read("").unwrap().firehose;
        assert_eq!((firehose.region.as_str(), firehose.account.as_str()), ("us-east-1", "000000000000"));
        let firehose =
            read("[firehose]\nendpoint = \"http://127.0.0.1:9000\"\npath_style = true\n").unwrap().firehose;
        assert_eq!(
            (firehose.endpoint.as_deref(), firehose.path_style),
            (Some("http://127.0.0.1:9000"), true)
        );
        for (wrong, part) in
            [("region = \"a b\"", "eu-central-1"), ("account = \"12\"", "12 digits"), ("zone = 1", "zone")]
        {
            let told = read(&format!("[firehose]\n{wrong}\n")).unwrap_err().to_string();
            assert!(told.contains(part), "{wrong}: {told}");
        }
    }
}
