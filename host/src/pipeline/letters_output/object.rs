//! From letters in the store to an object that is decided: which letters, their lines, encoded and named.
//!
//! An object takes letters from one file of the store, which has at most about 8 MiB, so that what is held is bounded; a
//! single letter may be larger than an object is meant to be. Lines leave as they stand in the file. What could not be
//! delivered leaves beside them, where objects have names; nobody could tell it from letters elsewhere. Everything here blocks.

use std::borrow::Cow;
use std::io;
use std::sync::PoisonError;

use wasmill_deliver::{ErrorOutputType, FRAMED_CONTENT_TYPE, NameContext, ObjectMeta, batch_id};
use wasmill_encode::{Compression, DEFAULT_GZIP_LEVEL, DEFAULT_ZSTD_LEVEL, Encoder, Format, extension};

use super::{LettersOutput, OWNER, firehose};
use crate::pipeline::context::{Output, StreamContext};
use crate::pipeline::dead_letters::{DeadLetter, KeptObject, StoreError, Underway};

/// Objects of letters that leave with one object of letters.
const KEPT_MAX: usize = 64;

/// Letters that leave together.
pub(super) struct Gathered {
    pub(super) first: u64,
    pub(super) last: u64,
    /// When the first became a letter.
    pub(super) failed: i64,
    letters: u64,
    /// Of all of them, where that is in the object's name.
    error: Option<ErrorOutputType>,
    lines: Vec<u8>,
    kept: Vec<Kept>,
    /// No others will join them.
    pub(super) full: bool,
}

/// The object of a letter.
struct Kept {
    number: u64,
    failed: i64,
    object: KeptObject,
}

/// The first letters that have not been delivered.
pub(super) fn gather(context: &StreamContext, own: &LettersOutput) -> Result<Option<Gathered>, StoreError> {
    let mut after = own.delivered_to();
    let as_firehose = own.output.template.is_firehose();
    loop {
        let found = context.letters.lock().unwrap_or_else(PoisonError::into_inner).snapshot(after)?;
        let Some(file) = found else { return Ok(None) };
        let mut gathered: Option<Gathered> = None;
        file.each(after, |line, letter| {
            let error = as_firehose.then(|| firehose::error_type(&letter, of_output(context, &letter)));
            let line = match as_firehose {
                true => Cow::Owned(of_firehose(context, own, &letter)),
                false => Cow::Borrowed(line),
            };
            let gathered = gathered.get_or_insert_with(|| Gathered {
                first: letter.number,
                last: letter.number,
                failed: letter.failed,
                letters: 0,
                error,
                lines: Vec::new(),
                kept: Vec::new(),
                full: false,
            });
            let bytes = (gathered.lines.len() + line.len()) as u64;
            if gathered.letters > 0 && (bytes > own.output.seal.size || gathered.error != error) {
                gathered.full = true;
                return false;
            }
            gathered.last = letter.number;
            gathered.letters += 1;
            gathered.lines.extend_from_slice(&line);
            let is_told = |object: &KeptObject| {
                as_firehose && object.meta.content_type.starts_with(FRAMED_CONTENT_TYPE)
            };
            let leaves = |object: &KeptObject| own.takes_objects() && !is_told(object);
            if let Some(object) = letter.object.filter(leaves) {
                gathered.kept.push(Kept { number: letter.number, failed: letter.failed, object });
            }
            gathered.full = bytes >= own.output.seal.size || gathered.kept.len() >= KEPT_MAX;
            !gathered.full
        })?;
        if let Some(mut gathered) = gathered {
            gathered.full |= !file.last;
            return Ok(Some(gathered));
        }
        // All of its letters above are gone.
        after = file.last_number;
    }
}

/// Whose letter it is, if there still is such an output.
fn output<'c>(context: &'c StreamContext, letter: &DeadLetter) -> Option<&'c Output> {
    context.outputs.iter().find(|output| Some(&output.name) == letter.output.as_ref())
}

fn of_output(context: &StreamContext, letter: &DeadLetter) -> Option<ErrorOutputType> {
    output(context, letter).map(|output| firehose::type_of(&output.destination))
}

/// The lines of a letter, in the manner of Firehose. What could not be delivered of records has one for each: as many bytes
/// as a batch of their output has, and a half.
fn of_firehose(context: &StreamContext, own: &LettersOutput, letter: &DeadLetter) -> Vec<u8> {
    let output = output(context, letter);
    let object = letter.object.as_ref().map(|object| own.cursor().kept(object));
    firehose::lines(
        letter,
        &firehose::Known {
            errors: &own.firehose,
            of_output: of_output(context, letter),
            object: object.as_deref(),
            document: &|meta, row, arrival| {
                output.and_then(|output| output.destination.document(meta, row, arrival))
            },
        },
    )
}

/// Makes the object and notes, durably, that it leaves next.
pub(super) fn decide(
    context: &StreamContext,
    own: &LettersOutput,
    gathered: &Gathered,
) -> Result<(), StoreError> {
    let output = &own.output;
    own.cursor().decide(|file| {
        let framed = Some(gathered.lines.len() as u64);
        let pieces = std::iter::once(Ok::<_, io::Error>(&gathered.lines[..]));
        let encoded = Encoder::new().encode(output.format, output.compression, framed, pieces, file)?;
        // Other letters under the same number (an older copy of the directory was put back) make another object.
        let id = identity(context, gathered.first, ("\0digest", format!("{:032x}", encoded.digest)));
        let when = (gathered.failed, gathered.error);
        let name = name(context, output, &id, when, &extension(output.format, output.compression));
        Ok(Underway {
            first: gathered.first,
            last: gathered.last,
            failed: gathered.failed,
            meta: ObjectMeta {
                name,
                content_type: output.format.content_type().to_owned(),
                content_encoding: output.compression.content_encoding().map(str::to_owned),
                batch_id: id,
                digest: encoded.digest,
                body_digest: encoded.body_digest,
                raw_bytes: encoded.raw_bytes,
                bytes: encoded.bytes,
                records: gathered.letters,
                stream: context.name.clone(),
                output: output.name.clone(),
                arrival: gathered.failed,
                first_row: 0,
            },
            objects: gathered
                .kept
                .iter()
                .map(|kept| leaving(context, output, kept, gathered.error))
                .collect(),
        })
    })
}

/// The object of a letter as it leaves: the same bytes under a name of their own.
fn leaving(
    context: &StreamContext,
    output: &Output,
    kept: &Kept,
    error: Option<ErrorOutputType>,
) -> KeptObject {
    let KeptObject { file, meta } = kept.object.clone();
    let id = identity(context, kept.number, ("\0object", meta.batch_id.clone()));
    let name = beside(&name(context, output, &id, (kept.failed, error), &extension_of(&meta)));
    KeptObject { file, meta: ObjectMeta { name, batch_id: id, output: output.name.clone(), ..meta } }
}

/// A batch id that begins with the number of a letter and has something of its own as its partition.
fn identity(context: &StreamContext, number: u64, own: (&str, String)) -> String {
    batch_id(context.buffer.incarnation(), context.buffer.epoch(), OWNER, number, &[own])
}

fn name(
    context: &StreamContext,
    output: &Output,
    id: &str,
    (failed, error): (i64, Option<ErrorOutputType>),
    extension: &str,
) -> String {
    output.template.render(&NameContext {
        stream: &context.name,
        output: &output.name,
        batch_id: id,
        extension,
        codec_extension: output.codec_extension(),
        arrival: failed,
        partition: &[],
        error,
    })
}

/// `objects/` beside the letters.
fn beside(name: &str) -> String {
    match name.rsplit_once('/') {
        Some((directory, file)) => format!("{directory}/objects/{file}"),
        None => format!("objects/{name}"),
    }
}

/// Of an object whose output may be another one by now.
fn extension_of(meta: &ObjectMeta) -> String {
    let format = [Format::Verbatim, Format::Raw, Format::Ndjson, Format::JsonArray, Format::Parquet]
        .into_iter()
        .find(|format| format.content_type() == meta.content_type);
    let codecs = [
        Compression::None,
        Compression::Gzip { level: DEFAULT_GZIP_LEVEL },
        Compression::Zstd { level: DEFAULT_ZSTD_LEVEL },
        Compression::SnappyJava,
        Compression::HadoopSnappy,
    ];
    // These have no content encoding: their objects tell by their name.
    let unencoded = [Compression::Snappy, Compression::Zip]
        .into_iter()
        .find(|codec| meta.content_encoding.is_none() && meta.name.ends_with(codec.extension()));
    let codec = unencoded.or_else(|| {
        codecs.into_iter().find(|codec| codec.content_encoding() == meta.content_encoding.as_deref())
    });
    let format = format.map_or("", Format::extension);
    format!("{format}{}", codec.map_or("", Compression::extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(name: &str, content_type: &str, content_encoding: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: name.into(),
            content_type: content_type.into(),
            content_encoding: content_encoding.map(str::to_owned),
            batch_id: String::new(),
            digest: 0,
            body_digest: 0,
            raw_bytes: 0,
            bytes: 0,
            records: 0,
            stream: String::new(),
            output: String::new(),
            arrival: 0,
            first_row: 0,
        }
    }

    #[test]
    fn object_of_a_letter_has_the_extension_of_what_it_is() {
        for (name, content_type, encoding, expected) in [
            ("a", "application/x-ndjson", Some("zstd"), ".ndjson.zst"),
            ("a", "application/json", Some("gzip"), ".json.gz"),
            ("a.log.sz", "text/plain; charset=utf-8", None, ".log.sz"),
            ("a", "text/plain; charset=utf-8", None, ".log"),
            ("a.ndjson.zip", "application/x-ndjson", None, ".ndjson.zip"),
            ("a", "application/octet-stream", Some("hadoop-snappy"), ".snappy"),
            ("a", "application/x-ndjson", Some("snappy-java"), ".ndjson.snappy"),
            ("a", "application/octet-stream", None, ""),
            ("a", "application/vnd.apache.parquet", None, ".parquet"),
            ("a", "image/png", Some("br"), ""),
        ] {
            assert_eq!(extension_of(&meta(name, content_type, encoding)), expected, "{name} {content_type}");
        }
    }

    #[test]
    fn object_of_a_letter_stands_beside_the_letters() {
        assert_eq!(beside("a/b/c.ndjson"), "a/b/objects/c.ndjson");
        assert_eq!(beside("c.ndjson"), "objects/c.ndjson");
    }
}
