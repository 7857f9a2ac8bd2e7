//! Bodies that are not signed, or chunk by chunk, and signatures in the query, on the port of a host.

use super::{Rig, script, texts};

#[test]
fn bodies_that_are_unsigned_in_chunks_or_presigned_are_stored_and_tampered_ones_are_not() {
    let Some(mut client) = script("signatures.py") else { return };
    let Some(rig) = Rig::start() else { return };
    rig.run(&mut client);
    // Each is told to whoever reads the audit log.
    let audit = rig.ask("GET", "/v1/audit", &[], "").body;
    assert_eq!(audit.matches("wrong signature").count(), 7, "{audit}");
    rig.program.stop();
    let together: String = texts(&rig.lake, "signed").into_values().collect();
    let mut lines: Vec<(usize, &str)> =
        together.lines().map(|line| (line.len(), line.get(..9).unwrap_or(line))).collect();
    lines.sort_unstable();
    assert_eq!(lines, [(7, "chunked"), (8, "unsigned"), (9, "presigned"), (1000 * 1024 - 1, "xxxxxxxxx")]);
}
