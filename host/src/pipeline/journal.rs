//! How the journal is opened, and what its opening found, told once.

use wasmill_buffer::{Damage, Durability, Options, Recovery, StreamKey};
use wasmill_config::{self as config, Settings};

use super::opening::key_of;
use super::stats::label;

pub(super) fn journal_options(buffer: &config::Buffer) -> Options {
    Options {
        durability: match buffer.durability {
            config::Durability::Fsync => Durability::Fsync,
            config::Durability::Os => Durability::Os,
        },
        file_bytes: buffer.journal_file,
        ..Options::default()
    }
}

/// Says what opening the journal found. `defined` are streams that are not in the file.
pub(super) fn report(recovery: &Recovery, settings: &Settings, defined: &dyn Fn(&StreamKey) -> bool) {
    for torn in &recovery.torn {
        tracing::warn!(
            file = %torn.file.display(), at = torn.at, bytes = torn.bytes, records = torn.records,
            "a torn tail was cut, as a crash leaves it; nothing says that it was acknowledged"
        );
    }
    for corrupt in &recovery.corrupt {
        let what = match corrupt.damage {
            Damage::Content => "corrupt bytes in the journal were set aside",
            Damage::Cut => "records may have been lost: the file was cut from outside",
            Damage::Missing => "records may have been lost: a journal file was removed from outside",
        };
        let offsets = corrupt.offsets.as_ref();
        tracing::error!(
            file = %corrupt.file.display(), at = corrupt.at, bytes = corrupt.bytes,
            from = offsets.map(|offsets| offsets.start), to = offsets.map(|offsets| offsets.end),
            stream = corrupt.stream.as_ref().map(|stream| label(&stream.tenant, &stream.name)),
            set_aside = corrupt.set_aside.as_ref().map(|copy| tracing::field::display(copy.display())), "{what}"
        );
    }
    // A stream that runs says itself what it does not find.
    let runs =
        |stream: &StreamKey| defined(stream) || settings.streams.iter().any(|known| key_of(known) == *stream);
    for (stream, lost) in recovery.lost.iter().filter(|(stream, _)| !runs(stream)) {
        tracing::error!(
            stream = %label(&stream.tenant, &stream.name), from = lost.start, to = lost.end, "acknowledged records are lost to corruption"
        );
    }
    for stream in &recovery.streams {
        if !runs(stream) {
            tracing::warn!(
                stream = %label(&stream.tenant, &stream.name),
                "the data directory holds a stream that the configuration does not have; its records are kept"
            );
        }
    }
}
