//! Runs the case folders.

use std::path::Path;

#[test]
fn cases_give_what_is_expected() {
    wasmill_sdk::testing::cases::<wasmill_sql::Sql>(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases"));
}
