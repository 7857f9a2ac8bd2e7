//! From raw keys to outputs that are tables, and what such outputs cannot have.

use crate::raw;
use crate::requests;
use crate::resolve::Resolver;
use crate::settings::{Destination, Format, Iceberg, Output, RestCatalog};
use crate::tree;

/// Longest name of a table or of a step of its namespace.
const NAME_BYTES_MAX: usize = 255;

pub(crate) fn iceberg(
    resolver: &mut Resolver<'_>,
    key: &str,
    of: raw::IcebergOutput,
) -> (Destination, Option<raw::Parquet>, raw::Batching) {
    let raw::IcebergOutput { catalog, namespace, table, create, path, endpoint, region, path_style, .. } = of;
    let namespace: Vec<String> = namespace.split('.').map(str::to_owned).collect();
    if namespace.iter().any(|step| !is_name(step)) {
        let message = format!(
            "namespace {:?} is not valid, expected names with dots between, {NAME_EXPECTED}",
            namespace.join(".")
        );
        resolver.problem(&format!("{key}.namespace"), message);
    }
    if !is_name(&table) {
        let message = format!("table {table:?} is not valid, expected a name {NAME_EXPECTED}");
        resolver.problem(&format!("{key}.table"), message);
    }
    let path = path.map(|written| resolver.directory(&format!("{key}.path"), &written));
    let raw::Catalog::Rest(catalog) = catalog;
    let catalog = rest(resolver, &format!("{key}.catalog"), catalog);
    let table = Iceberg { catalog, namespace, table, create, path, endpoint, region, path_style };
    (Destination::Iceberg(Box::new(table)), of.parquet, of.batching)
}

const NAME_EXPECTED: &str = "of letters, digits, `_` and `-`";

/// Names become parts of URLs and paths.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(allowed)
}

fn rest(resolver: &mut Resolver<'_>, key: &str, of: raw::RestCatalog) -> RestCatalog {
    let raw::RestCatalog { place, warehouse, token, credential, oauth2_url, scope } = of;
    if token.is_some() && credential.is_some() {
        let message = "\"token\" and \"credential\" exclude each other: keep one";
        resolver.problem(&format!("{key}.token"), message);
    }
    let without_credential = [("oauth2_url", oauth2_url.is_some()), ("scope", scope.is_some())];
    for (name, _) in without_credential.iter().filter(|(_, is_given)| *is_given && credential.is_none()) {
        let message = format!("\"{name}\" has an effect with \"credential\" alone");
        resolver.problem(&format!("{key}.{name}"), message);
    }
    RestCatalog {
        post: requests::post(resolver, key, place),
        warehouse,
        token: token.map(|value| requests::secret(resolver, &format!("{key}.token"), value)),
        credential: credential.map(|source| resolver.secret(&format!("{key}.credential"), &source)),
        oauth2_url,
        scope,
    }
}

/// The format of an output: tables have one that need not be written.
pub(crate) fn format(
    resolver: &mut Resolver<'_>,
    key: &str,
    destination: &Destination,
    found: Format,
) -> Format {
    if !matches!(destination, Destination::Iceberg(_)) || found == Format::Parquet {
        return found;
    }
    let key = format!("{key}.format");
    if tree::value(resolver.root, &key, resolver.aliases).is_some() {
        resolver.problem(&key, "output \"iceberg\" writes format \"parquet\" alone");
    }
    Format::Parquet
}

/// Whether this output can take what others give up.
pub(crate) fn as_fallback(resolver: &mut Resolver<'_>, key: &str, output: &Output) {
    if matches!(output.destination, Destination::Iceberg(_)) {
        let name = &output.name;
        let message = format!("output {name:?} is a table, and cannot take objects that others give up");
        resolver.problem(key, message);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::settings::{Destination, Format};
    use crate::{Secret, Settings};

    fn read(output: &str) -> Result<Settings, String> {
        let text = format!("[streams.s]\nsource = {{ type = \"http\" }}\noutputs = [{{ {output} }}]\n");
        let environment = |name: &str| (name == "SET").then(|| "sesame".to_owned());
        Settings::from_toml_with(&text, Path::new("wasmill.toml"), &environment)
            .map_err(|error| error.to_string())
    }

    const PLACE: &str =
        "type = \"iceberg\", namespace = \"a.b\", table = \"t\", parquet = { schema = \"n: int64\" }";

    fn with(catalog: &str, more: &str) -> String {
        format!(
            "{PLACE}, catalog = {{ type = \"rest\", url = \"https://c.example/x?k=s3cr3t\"{catalog} }}{more}"
        )
    }

    #[test]
    fn table_has_a_catalog_whose_secrets_are_not_shown() {
        let settings =
            read(&with(", warehouse = \"w\", credential = { env = \"SET\" }, scope = \"all\"", "")).unwrap();
        let output = &settings.streams[0].outputs[0];
        let Destination::Iceberg(table) = &output.destination else { panic!() };
        assert_eq!((output.format, output.destination.kind()), (Format::Parquet, "iceberg"));
        assert_eq!(
            (table.namespace.join("/"), table.table.as_str(), table.create),
            ("a/b".to_owned(), "t", false)
        );
        assert_eq!(table.catalog.credential.as_ref().map(Secret::reveal), Some("sesame"));
        assert_eq!(output.destination.shown(), "https://c.example/x?*** a.b.t");
        let shown = format!("{table:?}");
        assert!(!shown.contains("sesame") && !shown.contains("s3cr3t"), "{shown}");
    }

    #[test]
    fn what_a_table_cannot_have_is_told() {
        for (catalog, more, part) in [
            (", token = \"t\", credential = { env = \"SET\" }", "", "exclude each other"),
            (", scope = \"all\"", "", "with \"credential\" alone"),
            ("", ", format = \"ndjson\"", "\"parquet\" alone"),
            ("", ", compression = \"zip\"", "pages of Parquet"),
            (", timeout = \"0s\"", "", "above zero"),
        ] {
            let told = read(&with(catalog, more)).unwrap_err();
            assert!(told.contains(part), "{catalog}{more}: {told}");
        }
        for (from, to, part) in [
            ("\"a.b\"", "\"a..b\"", "namespace"),
            ("\"t\"", "\"../t\"", "letters, digits"),
            ("parquet = { schema = \"n: int64\" }", "create = true", "needs columns"),
        ] {
            let told = read(&with("", "").replace(from, to)).unwrap_err();
            assert!(told.contains(part), "{to}: {told}");
        }
    }
}
