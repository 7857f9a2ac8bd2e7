//! Object names as Amazon Data Firehose gives them: an evaluated prefix, and a suffix that makes them unique.
//!
//! The expressions are those of the `firehose` crate. What is random in a name is drawn from the batch id, so that a batch
//! has one name, however often it is made. Here is only what makes any such name fit for every destination: values of
//! partitions are sanitised as in other templates, empty steps are left out, no step begins with a dot.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use wasmill_firehose::prefix::{
    Compression, Context, ErrorOutputType, Layout, PartitionKeys, Place, Seeded, Template, time_zone,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{NameContext, STEP_BYTES_MAX, TemplateError, sanitise, utc};

/// Of an evaluated prefix, as Firehose has it.
const PREFIX_CHARACTERS_MAX: usize = 512;

/// How names of this kind look, beside their prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirehoseNames {
    /// Of times, by its name in the IANA database; UTC where there is none.
    pub time_zone: Option<String>,
    /// What names end with, in the place of the codec's extension.
    pub extension: Option<String>,
    /// The version of the stream, which stands in the suffix.
    pub version: u64,
    /// Of what failed: the prefix may have the type of error, and names have no extension.
    pub errors: bool,
}

/// A checked prefix with its suffix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    layout: Layout,
    /// For what the prefix cannot be evaluated for, because it gets too long.
    plain: Layout,
    zone: TimeZone,
    version: u64,
    errors: bool,
    has_extension: bool,
    literal: String,
    keys: Vec<String>,
}

impl Names {
    pub(super) fn parse(prefix: &str, names: &FirehoseNames) -> Result<Names, TemplateError> {
        let place = if names.errors { Place::ErrorOutputPrefix } else { Place::Prefix };
        let refused = |message: String| TemplateError::Expression { message };
        let template = Template::parse(prefix, place).map_err(|error| refused(error.to_string()))?;
        let literal = template.literal_characters();
        if literal > PREFIX_CHARACTERS_MAX {
            return Err(refused(format!(
                "{literal} characters of text, of an evaluated prefix at most {PREFIX_CHARACTERS_MAX} are permitted"
            )));
        }
        let zone = time_zone(names.time_zone.as_deref()).map_err(|refusal| refused(refusal.message))?;
        let mut keys: Vec<String> = Vec::new();
        for key in template.query_keys().chain(template.lambda_keys()) {
            if !keys.iter().any(|known| known == key) {
                keys.push(key.to_owned());
            }
        }
        let literal = template.literal_prefix().to_owned();
        let extension = names.extension.as_deref();
        let layout = |template: Template| match names.errors {
            true => Layout::new(Template::default(), template, Compression::None, extension),
            false => Layout::new(template, Template::default(), Compression::None, extension),
        };
        Ok(Names {
            plain: layout(Template::default()),
            layout: layout(template),
            zone,
            version: names.version,
            errors: names.errors,
            has_extension: extension.is_some_and(|extension| !extension.is_empty()),
            literal,
            keys,
        })
    }

    pub(super) fn partitions(&self) -> &[String] {
        &self.keys
    }

    pub(super) fn literal_prefix(&self) -> &str {
        &self.literal
    }

    pub(super) fn render(&self, context: &NameContext<'_>) -> String {
        let value = |key: &String| {
            let found = context.partition.iter().find(|(name, _)| name == key);
            found.map_or(b"".as_slice(), |(_, value)| value)
        };
        let whole = self.keys.iter().map(|key| (key.clone(), sanitise(value(key)))).collect();
        // What is too long together is told apart by its hash.
        let short = |key: &String| (key.clone(), format!("{:016x}", xxh3_64(value(key))));
        let name = self.evaluated(&self.layout, context, &whole);
        let name =
            name.or_else(|| self.evaluated(&self.layout, context, &self.keys.iter().map(short).collect()));
        let name = name.or_else(|| self.evaluated(&self.plain, context, &whole));
        let mut name = fit(&name.unwrap_or_else(|| context.batch_id.to_owned()));
        if !self.errors && !self.has_extension {
            name.push_str(context.codec_extension);
        }
        name
    }

    /// `None`: it gets too long.
    fn evaluated(
        &self,
        layout: &Layout,
        context: &NameContext<'_>,
        keys: &BTreeMap<String, String>,
    ) -> Option<String> {
        let of = Context {
            at: utc(context.arrival).timestamp(),
            zone: &self.zone,
            stream: context.stream,
            version: self.version,
            keys: PartitionKeys { from_query: Some(keys), from_lambda: Some(keys) },
        };
        let error = context.error.unwrap_or(ErrorOutputType::ProcessingFailed);
        let mut random = Seeded(xxh3_64(context.batch_id.as_bytes()));
        let name = match self.errors {
            true => layout.error_object(&of, error, &mut random),
            false => layout.object(&of, &mut random),
        };
        name.ok()
    }
}

/// Steps that every destination can hold.
fn fit(name: &str) -> String {
    let steps = name.split('/').filter(|step| !step.is_empty()).map(|step| {
        let mut fit = String::with_capacity(step.len());
        for (index, character) in step.chars().enumerate() {
            match character {
                '.' if index == 0 => fit.push_str("%2E"),
                '\\' => fit.push_str("%5C"),
                character if character.is_control() => fit.push('_'),
                character => fit.push(character),
            }
        }
        if fit.len() > STEP_BYTES_MAX {
            // The end is what tells objects apart.
            let from = (fit.len() - STEP_BYTES_MAX..).find(|at| fit.is_char_boundary(*at)).unwrap_or(0);
            fit.drain(..from);
        }
        fit
    });
    steps.collect::<Vec<String>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::super::NameTemplate;
    use super::*;

    fn names(prefix: &str, names: &FirehoseNames) -> NameTemplate {
        NameTemplate::firehose(prefix, names).unwrap()
    }

    fn render(template: &NameTemplate, batch_id: &str, partition: &[(&str, &[u8])]) -> String {
        template.render(&NameContext {
            stream: "clicks",
            output: "default",
            batch_id,
            extension: ".ndjson.gz",
            codec_extension: ".gz",
            arrival: 1_772_582_645_000_000_000,
            partition,
            error: Some(ErrorOutputType::MetadataExtractionFailed),
        })
    }

    #[test]
    fn name_is_that_of_firehose_and_the_same_for_the_same_batch() {
        let version = FirehoseNames { version: 3, ..FirehoseNames::default() };
        let template = names("logs/", &version);
        let name = render(&template, "batch-1", &[]);
        assert!(name.starts_with("logs/2026/03/04/00/clicks-3-2026-03-04-00-04-05-"), "{name}");
        assert!(name.ends_with(".gz"), "{name}");
        assert_eq!(name, render(&template, "batch-1", &[]));
        assert_ne!(name, render(&template, "batch-2", &[]));
        assert_eq!(template.literal_prefix(), "logs/");
        let tokyo = FirehoseNames {
            time_zone: Some("Asia/Tokyo".to_owned()),
            extension: Some(".json".to_owned()),
            ..version
        };
        let name = render(&names("", &tokyo), "b", &[]);
        assert!(name.starts_with("2026/03/04/09/clicks-3-2026-03-04-09-04-05-"), "{name}");
        assert!(name.ends_with(".json"), "{name}");
    }

    #[test]
    fn partitions_are_steps_that_lead_nowhere_else() {
        let template = names(
            "c=!{partitionKeyFromQuery:customer}/r=!{partitionKeyFromLambda:region}/",
            &FirehoseNames::default(),
        );
        assert_eq!(template.partitions(), ["customer", "region"]);
        let name = render(&template, "b", &[("customer", b"../a b"), ("region", b"")]);
        assert!(name.starts_with("c=%2E.%2Fa%20b/r=_/clicks-"), "{name}");
        let long = [b'x'; 600];
        let name = render(&template, "b", &[("customer", &long), ("region", b"eu")]);
        assert!(name.len() < 300 && name.contains("/r=eu/"), "{name}");
        // Many long ones together are told apart still.
        let many: String = (0..8).map(|n| format!("!{{partitionKeyFromQuery:k{n}}}/")).collect();
        let template = names(&many, &FirehoseNames::default());
        let keys: Vec<String> = (0..8).map(|n| format!("k{n}")).collect();
        let values = |last: &'static [u8]| -> Vec<(&str, &[u8])> {
            let of = |n: usize| if n == 7 { last } else { &[b'x'; 90][..] };
            keys.iter().enumerate().map(|(n, key)| (key.as_str(), of(n))).collect()
        };
        let (one, other) = (values(b"one"), values(b"other"));
        let (one, other) = (render(&template, "b", &one), render(&template, "b", &other));
        assert_eq!(one.split('/').count(), 9, "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn literal_steps_fit_into_directories() {
        let name = render(&names("!{timestamp:'../'}a//./..b/", &FirehoseNames::default()), "b", &[]);
        assert!(name.starts_with("%2E./a/%2E/%2E.b/clicks-0-"), "{name}");
        let wide = "ä".repeat(300);
        let name = render(&names(&wide, &FirehoseNames::default()), "b", &[]);
        assert!(name.split('/').all(|step| step.len() <= STEP_BYTES_MAX), "{name}");
        assert!(name.contains("clicks-0-2026"), "{name}");
    }

    #[test]
    fn name_of_errors_has_their_type_and_no_extension() {
        let errors = FirehoseNames { errors: true, ..FirehoseNames::default() };
        let template = names("bad/!{firehose:error-output-type}/!{timestamp:yyyy}/", &errors);
        let name = render(&template, "b", &[]);
        assert!(name.starts_with("bad/metadata-extraction-failed/2026/clicks-0-"), "{name}");
        assert!(!name.ends_with(".gz"), "{name}");
        for (wrong, errors) in [
            ("!{firehose:error-output-type}/", false),
            ("!{partitionKeyFromQuery:a}/", true),
            ("!{timestamp:yyyy", false),
            (&"x".repeat(513), false),
        ] {
            let names = FirehoseNames { errors, ..FirehoseNames::default() };
            assert!(NameTemplate::firehose(wrong, &names).is_err(), "{wrong}");
        }
        let nowhere =
            FirehoseNames { time_zone: Some("Mars/Olympus".to_owned()), ..FirehoseNames::default() };
        let refused = NameTemplate::firehose("", &nowhere).unwrap_err().to_string();
        assert!(refused.contains("no time zone"), "{refused}");
    }
}
