//! Conversion to columnar formats.

use super::{At, Violations};
use crate::wire::{DataFormatConversion, ExtendedS3, Orc, Parquet, Refusal};

const MIB: i64 = 1 << 20;

pub(super) fn constraints(violations: &mut Violations, at: At<'_>, conversion: &DataFormatConversion) {
    let serializer = conversion.output.as_ref().and_then(|output| output.serializer.as_ref());
    let output = at.member("OutputFormatConfiguration");
    let serializer_at = output.member("Serializer");
    if let Some(parquet) = serializer.and_then(|serializer| serializer.parquet.as_ref()) {
        parquet_constraints(violations, serializer_at.member("ParquetSerDe"), parquet);
    }
    if let Some(orc) = serializer.and_then(|serializer| serializer.orc.as_ref()) {
        orc_constraints(violations, serializer_at.member("OrcSerDe"), orc);
    }
}

fn at_least(violations: &mut Violations, at: At<'_>, value: Option<i64>, min: i64) {
    if let Some(value) = value {
        violations.range(at, value, min, i64::MAX);
    }
}

fn one_of(violations: &mut Violations, at: At<'_>, value: Option<&str>, set: &[&str]) {
    if let Some(value) = value {
        violations.one_of(at, value, set);
    }
}

fn parquet_constraints(violations: &mut Violations, at: At<'_>, parquet: &Parquet) {
    at_least(violations, at.member("BlockSizeBytes"), parquet.block_size_bytes, 64 * MIB);
    at_least(violations, at.member("PageSizeBytes"), parquet.page_size_bytes, 64 << 10);
    at_least(violations, at.member("MaxPaddingBytes"), parquet.max_padding_bytes, 0);
    let compressions = &["UNCOMPRESSED", "GZIP", "SNAPPY"];
    one_of(violations, at.member("Compression"), parquet.compression.as_deref(), compressions);
    one_of(violations, at.member("WriterVersion"), parquet.writer_version.as_deref(), &["V1", "V2"]);
}

fn orc_constraints(violations: &mut Violations, at: At<'_>, orc: &Orc) {
    at_least(violations, at.member("StripeSizeBytes"), orc.stripe_size_bytes, 8 * MIB);
    at_least(violations, at.member("BlockSizeBytes"), orc.block_size_bytes, 64 * MIB);
    at_least(violations, at.member("RowIndexStride"), orc.row_index_stride, 1000);
    one_of(violations, at.member("Compression"), orc.compression.as_deref(), &["NONE", "ZLIB", "SNAPPY"]);
    one_of(violations, at.member("FormatVersion"), orc.format_version.as_deref(), &["V0_11", "V0_12"]);
    let shares = [
        ("PaddingTolerance", orc.padding_tolerance),
        ("BloomFilterFalsePositiveProbability", orc.bloom_filter_false_positive_probability),
        ("DictionaryKeyThreshold", orc.dictionary_key_threshold),
    ];
    for (name, value) in shares {
        if let Some(value) = value {
            violations.share(at.member(name), value);
        }
    }
}

/// What must be there when records are converted, and what must not stand beside it.
pub(super) fn rules(s3: &ExtendedS3) -> Result<(), Refusal> {
    let Some(conversion) = s3.conversion.as_ref().filter(|conversion| conversion.is_enabled()) else {
        return Ok(());
    };
    let deserializer = conversion.input.as_ref().and_then(|input| input.deserializer.as_ref());
    let serializer = conversion.output.as_ref().and_then(|output| output.serializer.as_ref());
    let inputs =
        deserializer.map_or(0, |d| usize::from(d.open_x_json.is_some()) + usize::from(d.hive_json.is_some()));
    let outputs = serializer.map_or(0, |s| usize::from(s.parquet.is_some()) + usize::from(s.orc.is_some()));
    let broken = if conversion.schema.is_none() {
        "SchemaConfiguration must be given when DataFormatConversionConfiguration is enabled"
    } else if inputs != 1 {
        "InputFormatConfiguration must have exactly one of OpenXJsonSerDe and HiveJsonSerDe"
    } else if outputs != 1 {
        "OutputFormatConfiguration must have exactly one of ParquetSerDe and OrcSerDe"
    } else if s3.compression_format.as_deref().is_some_and(|format| format != "UNCOMPRESSED") {
        "CompressionFormat must be UNCOMPRESSED when DataFormatConversionConfiguration is enabled"
    } else if s3.buffering_hints.as_ref().and_then(|hints| hints.size_in_mbs).is_some_and(|size| size < 64) {
        "BufferingHints.SizeInMBs must be at least 64 when data format conversion is enabled."
    } else {
        return Ok(());
    };
    Err(Refusal::invalid(broken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    const WHOLE: &str = r#""SchemaConfiguration":{"TableName":"t"},"InputFormatConfiguration":{"Deserializer":{"OpenXJsonSerDe":{}}},
        "OutputFormatConfiguration":{"Serializer":{"ParquetSerDe":{}}}"#;

    #[test]
    fn a_conversion_needs_schema_input_and_output_and_no_compression_beside_it() {
        for (members, conversion, broken) in [
            ("", WHOLE, ""),
            ("", "", "SchemaConfiguration must be given"),
            ("", r#""Enabled":false"#, ""),
            ("", r#""SchemaConfiguration":{}"#, "exactly one of OpenXJsonSerDe"),
            (
                "",
                r#""SchemaConfiguration":{},"InputFormatConfiguration":{"Deserializer":{"HiveJsonSerDe":{}}}"#,
                "exactly one of ParquetSerDe",
            ),
            (r#""CompressionFormat":"GZIP","#, WHOLE, "CompressionFormat must be UNCOMPRESSED"),
            (r#""CompressionFormat":"UNCOMPRESSED","#, WHOLE, ""),
            (r#""BufferingHints":{"SizeInMBs":63,"IntervalInSeconds":60},"#, WHOLE, "must be at least 64"),
            (r#""BufferingHints":{"SizeInMBs":64,"IntervalInSeconds":60},"#, WHOLE, ""),
        ] {
            let body = format!(r#"{{{members}"DataFormatConversionConfiguration":{{{conversion}}}}}"#);
            let result = rules(&parse(body.as_bytes()).unwrap());
            match result {
                Ok(()) => assert_eq!(broken, "", "{body}"),
                Err(refusal) => {
                    assert!(!broken.is_empty() && refusal.message.contains(broken), "{body}: {refusal}")
                }
            }
        }
    }

    #[test]
    fn numbers_of_the_writers_have_floors() {
        let conversion: DataFormatConversion = parse(
            br#"{"OutputFormatConfiguration":{"Serializer":{
                "ParquetSerDe":{"BlockSizeBytes":67108863,"PageSizeBytes":65535,"Compression":"ZSTD","MaxPaddingBytes":-1,"WriterVersion":"V3"},
                "OrcSerDe":{"StripeSizeBytes":8388607,"BlockSizeBytes":1,"RowIndexStride":999,"PaddingTolerance":1.1,"Compression":"GZIP",
                    "BloomFilterFalsePositiveProbability":-0.1,"DictionaryKeyThreshold":2,"FormatVersion":"V1"}}}}"#,
        )
        .unwrap();
        let mut violations = Violations::default();
        constraints(&mut violations, At::Root, &conversion);
        let message = violations.finish().unwrap_err().message;
        assert!(message.starts_with("13 validation errors"), "{message}");
    }
}
