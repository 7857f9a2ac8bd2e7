//! How many values a manifest has, told before any of it is built: a few bytes of JSON can be much memory.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::ManifestError;

/// A manifest of more values is refused, whatever their bytes: each costs memory for as long as the version may come back.
const MANIFEST_VALUES_MAX: usize = 1 << 15;

/// An error if it is no JSON, or too much of it.
pub(super) fn check(json: &[u8]) -> Result<(), ManifestError> {
    let mut count = 0;
    let mut json = serde_json::Deserializer::from_slice(json);
    let counted = Values(&mut count).deserialize(&mut json);
    if count > MANIFEST_VALUES_MAX {
        return Err(ManifestError::TooMany { max: MANIFEST_VALUES_MAX });
    }
    counted.map_err(ManifestError::Json)
}

/// Counts the values of a document and the names of its objects, and keeps none; an error once they are too many.
struct Values<'a>(&'a mut usize);

impl Values<'_> {
    fn one<E: serde::de::Error>(&mut self) -> Result<(), E> {
        *self.0 += 1;
        if *self.0 > MANIFEST_VALUES_MAX { Err(E::custom("too many values")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E: serde::de::Error>(mut self) -> Result<(), E> {
        self.one()
    }

    fn visit_bool<E: serde::de::Error>(mut self, _: bool) -> Result<(), E> {
        self.one()
    }

    fn visit_i64<E: serde::de::Error>(mut self, _: i64) -> Result<(), E> {
        self.one()
    }

    fn visit_u64<E: serde::de::Error>(mut self, _: u64) -> Result<(), E> {
        self.one()
    }

    fn visit_f64<E: serde::de::Error>(mut self, _: f64) -> Result<(), E> {
        self.one()
    }

    fn visit_str<E: serde::de::Error>(mut self, _: &str) -> Result<(), E> {
        self.one()
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.one()?;
        while items.next_element_seed(Values(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        self.one()?;
        while entries.next_key_seed(Values(self.0))?.is_some() {
            entries.next_value_seed(Values(self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Manifest, SECTION, Sample, embed_manifest, read_manifest};

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn manifest_of_few_bytes_and_many_values_is_refused_before_it_is_built() {
        let with = |records: usize| Manifest {
            sample: Some(Sample { records: vec![String::new(); records], ..Sample::default() }),
            name: "parse".to_owned(),
            version: "1.0.0".to_owned(),
            ..Manifest::default()
        };
        // The object, its names and what they name, but for the records.
        let json = serde_json::to_string(&with(0)).unwrap();
        let mut rest = 0;
        Values(&mut rest).deserialize(&mut serde_json::Deserializer::from_str(&json)).unwrap();
        let most = MANIFEST_VALUES_MAX - rest;
        let wasm = embed_manifest(MODULE, &with(most)).unwrap();
        assert_eq!(read_manifest(&wasm).unwrap(), Some(with(most)));
        assert!(matches!(embed_manifest(MODULE, &with(most + 1)), Err(ManifestError::TooMany { .. })));
        let by_hand = |rest: &str| {
            let json = format!("{{\"name\":\"p\",\"version\":\"1.0.0\",{rest}}}");
            let mut wasm = MODULE.to_vec();
            wasm.push(0);
            let data = json.as_bytes().into();
            wasm_encoder::Encode::encode(
                &wasm_encoder::CustomSection { name: SECTION.into(), data },
                &mut wasm,
            );
            read_manifest(&wasm)
        };
        for many in [
            format!("\"config_schema\":{{\"enum\":[0{}]}}", ",0".repeat(40_000)),
            format!("\"grants\":{{\"files\":[\"\"{}]}}", ",\"\"".repeat(40_000)),
            format!("\"sample\":{{\"config\":[[]{}]}}", ",[]".repeat(40_000)),
        ] {
            assert!(matches!(by_hand(&many), Err(ManifestError::TooMany { .. })), "{}", &many[..40]);
        }
        assert!(by_hand("\"description\":\"few\"").is_ok());
    }
}
