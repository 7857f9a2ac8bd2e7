//! The case folders, natively: warm, with fresh instances, and cut to single records.

use std::path::Path;

#[test]
fn cases_all_folders_agree() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    wasmill_sdk::testing::cases::<wasmill_rolling::Rolling>(&folder);
}
