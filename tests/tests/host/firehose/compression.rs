//! Objects of every compression, as readers of others find them in the bucket.

use super::{Rig, ended, script};

#[test]
fn objects_of_every_compression_are_read_back_by_others_under_names_of_another_time_zone() {
    let (Some(mut put), Some(mut read)) = (script("compression.py"), script("compression.py")) else {
        return;
    };
    let Some(rig) = Rig::start() else { return };
    rig.run(put.arg("put"));
    read.arg("read").env("ENDPOINT", &rig.url).envs(rig.store());
    rig.program.stop();
    ended(&mut read).unwrap_or_else(|told| panic!("{told}"));
}
