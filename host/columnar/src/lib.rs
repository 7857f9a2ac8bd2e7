//! Rows of JSON as columns of a Parquet file.
//!
//! A [`Schema`] says which columns there are; [`Schema::infer`] makes one of a sample. A [`Converter`] writes each row
//! that fits as one row of the file, and tells of each that does not which field it was, what the field takes and what
//! was found: a row that does not fit never costs its neighbours anything. What is read as what follows the record
//! format conversion of Amazon Data Firehose (developer guide, "Convert input data format"), where that is documented:
//! see [`Names`] and [`Timestamps`].
//!
//! It opens no file, knows no stream and no destination, and is not asked which rows belong together. Equal rows, schema
//! and options give equal bytes.
//!
//! # Values
//!
//! | type | takes |
//! |---|---|
//! | `boolean` | `true`, `false` |
//! | `int32`, `int64` | a number in range without a fraction; `1.0` and `1e3` have none |
//! | `float`, `double` | a number; for `float` the nearest, if it is finite |
//! | `decimal(p, s)` | a number, or text that is one, with at most `s` digits behind the point that are not 0 |
//! | `date` | text `yyyy-MM-dd` |
//! | `timestamp(...)` | see [`Timestamps`]; digits beyond the unit are cut off |
//! | `string` | text; of anything else its JSON text as it was written |
//! | `binary` | text, base64 of the standard alphabet with padding |
//! | `list<...>` | an array |
//! | `struct<...>` | an object |
//! | `map<string, ...>` | an object without repeated keys |
//!
//! `null` and a missing key are null, or refused where the field is `required`. Keys that no column has are passed over.
//! Of a key that an object has twice, the last value counts. A row is one object, with nothing behind it.
//!
//! # Memory
//!
//! Converting holds decoded rows of at most 4 MiB and one row ([`ROW_BYTES_MAX`] at most), and the encoded pages and
//! dictionaries of one row group, which are seldom more than `row_group_bytes`. Nothing grows with the number of
//! row groups but the file's own footer; refused rows are handed on, or gathered where the caller asks for that.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod column;
mod convert;
mod decimal;
mod infer;
mod keys;
mod options;
mod pattern;
mod plan;
mod row;
mod scalar;
mod schema;
mod text;
mod timestamp;

pub use convert::{Checker, ConvertError, Converter, ROW_BYTES_MAX, Reason, Rejected, Report, Written};
pub use options::{
    Compression, Names, Options, PAGE_BYTES, ROW_GROUP_BYTES, SetupError, Timestamps, WriterVersion,
};
pub use schema::{DEPTH_MAX, FIELDS_MAX, Field, NAME_BYTES_MAX, Schema, SchemaError, TimeUnit, Type};
