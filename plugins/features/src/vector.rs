//! The feature vector of one record: filled position by position, written as dense array, sparse object or named
//! object.
//!
//! Whole numbers are written without a fraction, others as the shortest text that reads back the same; minus zero is
//! written as zero.

use crate::config::{Form, Precision};

/// A vector under construction. Kept and refilled.
#[derive(Debug)]
pub struct Vector {
    form: Form,
    precision: Precision,
    size: u32,
    /// Dense and named: every position; NaN is null.
    values: Vec<f64>,
    /// Sparse: what was added.
    pairs: Vec<(u32, f64)>,
    /// Named: `"name":` of each position.
    labels: Vec<Vec<u8>>,
}

impl Vector {
    /// An empty vector. `names` is only used where the form is named.
    #[must_use]
    pub fn new(form: Form, precision: Precision, size: u32, names: &[String]) -> Self {
        let dense = if form == Form::Sparse { 0 } else { size as usize };
        let label = |name: &String| format!("{}:", serde_json::Value::from(name.as_str())).into_bytes();
        let labels = if form == Form::Named { names.iter().map(label).collect() } else { Vec::new() };
        Self { form, precision, size, values: vec![0.0; dense], pairs: Vec::new(), labels }
    }

    /// Starts the next record.
    pub fn clear(&mut self) {
        self.values.fill(0.0);
        self.pairs.clear();
    }

    /// Adds to a position.
    #[inline]
    pub fn add(&mut self, position: u32, value: f64) {
        match self.form {
            Form::Sparse => self.pairs.push((position, value)),
            Form::Dense | Form::Named => self.values[position as usize] += value,
        }
    }

    /// Makes a position null.
    pub fn null(&mut self, position: u32) {
        self.add(position, f64::NAN);
    }

    /// Appends the vector as JSON.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        match self.form {
            Form::Dense => {
                out.push(b'[');
                for (position, value) in self.values.iter().enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    number(*value, self.precision, out);
                }
                out.push(b']');
            }
            Form::Named => {
                out.push(b'{');
                for (position, (label, value)) in self.labels.iter().zip(&self.values).enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(label);
                    number(*value, self.precision, out);
                }
                out.push(b'}');
            }
            Form::Sparse => {
                gather(&mut self.pairs);
                out.extend_from_slice(b"{\"size\":");
                integer(i64::from(self.size), out);
                out.extend_from_slice(b",\"indices\":[");
                for (at, (position, _)) in self.pairs.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    integer(i64::from(*position), out);
                }
                out.extend_from_slice(b"],\"values\":[");
                for (at, (_, value)) in self.pairs.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    number(*value, self.precision, out);
                }
                out.extend_from_slice(b"]}");
            }
        }
    }
}

/// Sorts by position, adds up what falls together, and removes zeros.
pub fn gather(pairs: &mut Vec<(u32, f64)>) {
    pairs.sort_by_key(|(position, _)| *position);
    pairs.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    pairs.retain(|(_, value)| *value != 0.0);
}

fn integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn number(value: f64, precision: Precision, out: &mut Vec<u8>) {
    /// Whole numbers below this are exact and written without a fraction.
    const WHOLE: f64 = 1e15;
    match precision {
        _ if value.is_nan() => out.extend_from_slice(b"null"),
        // In range, and whole in both precisions if small.
        _ if value == libm::trunc(value) && value.abs() < 16_777_216.0 => integer(value as i64, out),
        Precision::F64 if value == libm::trunc(value) && value.abs() < WHOLE => integer(value as i64, out),
        Precision::F64 => out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes()),
        Precision::F32 => {
            let narrow = (value as f32).clamp(f32::MIN, f32::MAX);
            let mut buffer = ryu::Buffer::new();
            let text = buffer.format_finite(narrow);
            out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(form: Form, adds: &[(u32, f64)]) -> String {
        let names = ["a", "b\"", "c"].map(str::to_owned);
        let mut vector = Vector::new(form, Precision::F64, 3, &names);
        let mut out = Vec::new();
        for _ in 0..2 {
            // The second time shows that nothing of the first is left.
            out.clear();
            vector.clear();
            for (position, value) in adds {
                vector.add(*position, *value);
            }
            vector.write(&mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn write_every_form_says_the_same() {
        let adds = [(2, 1.0), (0, 0.25), (2, 2.0)];
        assert_eq!(written(Form::Dense, &adds), "[0.25,0,3]");
        assert_eq!(written(Form::Named, &adds), r#"{"a":0.25,"b\"":0,"c":3}"#);
        assert_eq!(written(Form::Sparse, &adds), r#"{"size":3,"indices":[0,2],"values":[0.25,3]}"#);
        assert_eq!(written(Form::Sparse, &[(1, 1.0), (1, -1.0)]), r#"{"size":3,"indices":[],"values":[]}"#);
    }

    #[test]
    fn number_texts_are_json_and_short() {
        let text = |value, precision| {
            let mut out = Vec::new();
            number(value, precision, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (value, want) in
            [(-0.0, "0"), (1e20, "1e20"), (123_456_789.0, "123456789"), (0.1, "0.1"), (f64::NAN, "null")]
        {
            assert_eq!(text(value, Precision::F64), want);
            assert!(serde_json::from_str::<serde_json::Value>(want).is_ok());
        }
        assert_eq!(text(1.0 / 3.0, Precision::F32), "0.33333334");
        assert_eq!(text(1e300, Precision::F32), "3.4028235e38");
    }
}
