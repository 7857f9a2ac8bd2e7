//! JSON objects as msgpack maps and back, without a tree of what a guest claims to have written.
//!
//! Bytes that are no UTF-8 become U+FFFD, as everywhere; numbers that JSON does not have become null.

use super::bytes::Reader;

/// Deeper is refused, as deeper JSON is.
const DEPTH_MAX: usize = 128;
const CUT: &str = "msgpack that is cut off";

/// A JSON object as a msgpack map, its keys in their order.
pub(super) fn of_json(payload: &[u8]) -> Option<Vec<u8>> {
    let value: rmpv::Value = serde_json::from_slice(payload).ok().filter(rmpv::Value::is_map)?;
    let mut record = Vec::with_capacity(payload.len());
    rmpv::encode::write_value(&mut record, &value).ok()?;
    Some(record)
}

/// The msgpack map at the start of `bytes` as JSON text of at most `max` bytes; `Err` is what it is instead.
pub(super) fn to_json(bytes: &[u8], max: usize) -> Result<Vec<u8>, String> {
    if !matches!(bytes.first(), Some(0x80..=0x8f | 0xde | 0xdf)) {
        return Err("something other than a msgpack map".to_owned());
    }
    let mut json = Json { reader: Reader(bytes), out: Vec::new(), max };
    json.value(0)?;
    Ok(json.out)
}

struct Json<'a> {
    reader: Reader<'a>,
    out: Vec<u8>,
    max: usize,
}

impl<'a> Json<'a> {
    fn value(&mut self, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("msgpack that is nested deeper than {DEPTH_MAX}"));
        }
        let marker = self.reader.u8().ok_or(CUT)?;
        match marker {
            0x00..=0x7f => self.write(&marker),
            0xe0..=0xff => self.write(&marker.cast_signed()),
            0xc0 => self.write(&()),
            0xc2 | 0xc3 => self.write(&(marker == 0xc3)),
            0xca => {
                let bits = self.reader.u32().ok_or(CUT)?;
                self.write(&f32::from_bits(bits))
            }
            0xcb => {
                let bits = self.reader.i64().ok_or(CUT)?;
                self.write(&f64::from_bits(bits.cast_unsigned()))
            }
            0xcc..=0xcf => {
                let number = self.number(1 << (marker - 0xcc))?;
                self.write(&number)
            }
            0xd0..=0xd3 => {
                let bytes = 1 << (marker - 0xd0);
                // The sign is that of the highest of these bytes.
                let shift = 64 - 8 * bytes;
                let number = (self.number(bytes)? << shift).cast_signed() >> shift;
                self.write(&number)
            }
            0x80..=0x8f => self.map(u64::from(marker & 0x0f), depth),
            0xde | 0xdf => {
                let len = self.number(2 << (marker - 0xde))?;
                self.map(len, depth)
            }
            0x90..=0x9f => self.array(u64::from(marker & 0x0f), depth),
            0xdc | 0xdd => {
                let len = self.number(2 << (marker - 0xdc))?;
                self.array(len, depth)
            }
            _ => {
                let text = self.text(marker)?;
                self.write(&String::from_utf8_lossy(text))
            }
        }
    }

    /// An unsigned number of so many bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, String> {
        let bytes = self.reader.take(bytes).ok_or(CUT)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The bytes of a string or binary, whose marker was read.
    fn text(&mut self, marker: u8) -> Result<&'a [u8], String> {
        let len = match marker {
            0xa0..=0xbf => u64::from(marker & 0x1f),
            0xc4..=0xc6 => self.number(1 << (marker - 0xc4))?,
            0xd9..=0xdb => self.number(1 << (marker - 0xd9))?,
            _ => {
                return Err(format!(
                    "msgpack with a value of type {marker:#x}, which JSON does not have there"
                ));
            }
        };
        Ok(self.reader.take(usize::try_from(len).unwrap_or(usize::MAX)).ok_or(CUT)?)
    }

    fn map(&mut self, len: u64, depth: usize) -> Result<(), String> {
        self.out.push(b'{');
        for index in 0..len {
            if index > 0 {
                self.out.push(b',');
            }
            let marker = self.reader.u8().ok_or(CUT)?;
            let key = self.text(marker)?;
            self.write(&String::from_utf8_lossy(key))?;
            self.out.push(b':');
            self.value(depth + 1)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn array(&mut self, len: u64, depth: usize) -> Result<(), String> {
        self.out.push(b'[');
        for index in 0..len {
            if index > 0 {
                self.out.push(b',');
            }
            self.value(depth + 1)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn write(&mut self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), String> {
        serde_json::to_writer(&mut self.out, value).map_err(|error| format!("what is no JSON: {error}"))?;
        if self.out.len() > self.max {
            return Err(format!("more than {} bytes", self.max));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_through_msgpack_and_back_is_the_same() {
        let text = r#"{"z":1,"a":[true,false,null,-1,-129,-40000,-3000000000,127,128,65536,4294967296,18446744073709551615,1.5],"long":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","ü":{"é":"\n"}}"#;
        let msgpack = of_json(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(to_json(&msgpack, 1000).unwrap()).unwrap(), text);
        // Behind the value there may be anything; a part of it is an error, and never a panic.
        let longer = [msgpack.as_slice(), b"\0\0rest"].concat();
        assert!(to_json(&longer, 1000).is_ok());
        for len in 0..msgpack.len() {
            assert!(to_json(&msgpack[..len], 1000).is_err(), "{len}");
        }
        assert!(to_json(&msgpack, 100).unwrap_err().contains("more than 100 bytes"));
        assert!(of_json(b"[1]").is_none());
    }

    #[test]
    fn msgpack_that_lies_or_is_no_json_is_refused() {
        let refused = |bytes: &[u8]| to_json(bytes, 1 << 20).unwrap_err();
        assert!(refused(&[0x93, 1, 2, 3]).contains("other than a msgpack map"));
        assert!(refused(&[0xdf, 0xff, 0xff, 0xff, 0xff, 0xa1, b'a', 1]).contains("cut off"));
        assert!(refused(&[0x81, 0xa1, b'a', 0xdb, 0xff, 0xff, 0xff, 0xff]).contains("cut off"));
        assert!(refused(&[0x81, 1, 1]).contains("type 0x1"));
        assert!(refused(&[0x81, 0xa1, b'a', 0xd4, 1, 1]).contains("type 0xd4"));
        let deep = [&[0x81, 0xa1, b'a'][..], &[0x91; 200]].concat();
        assert!(refused(&deep).contains("deeper than 128"));
        assert_eq!(
            to_json(&[0x81, 0xc4, 1, 0xff, 0xca, 0x7f, 0xc0, 0, 0], 100).unwrap(),
            "{\"\u{fffd}\":null}".as_bytes()
        );
    }
}
