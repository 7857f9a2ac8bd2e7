//! A schema as rows are read by it: each field with its path, the text of its type, and the keys of its parts.

use crate::keys::{Keys, Rules};
use crate::options::{Names, SetupError};
use crate::schema::{Field, Schema, TimeUnit, Type};

/// One field, or the row itself.
#[derive(Debug)]
pub(crate) struct Node {
    /// `place.zip`, `tags[]`, `attributes{}`; empty for the row.
    pub(crate) path: String,
    /// Its type in words, for who is told that something does not fit.
    pub(crate) expected: String,
    pub(crate) required: bool,
    /// Bytes that a value takes in memory, what is in it left out.
    pub(crate) width: u64,
    pub(crate) shape: Shape,
}

#[derive(Debug)]
pub(crate) enum Shape {
    Scalar(Scalar),
    List(Box<Node>),
    Map(Box<Node>),
    Struct(Keys, Vec<Node>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar {
    Boolean,
    Int32,
    Int64,
    Float,
    Double,
    /// Below this many units, of 10 to the minus `scale`.
    Decimal {
        bound: i128,
        scale: u32,
    },
    Date,
    Timestamp(TimeUnit),
    String,
    Binary,
}

impl Node {
    /// The row of a schema.
    pub(crate) fn root(schema: &Schema, names: &Names) -> Result<Node, SetupError> {
        let unknown = names.keys.keys().find(|column| schema.fields().iter().all(|f| f.name != **column));
        if let Some(column) = unknown {
            return Err(SetupError::NoSuchColumn { column: column.clone() });
        }
        let keys = Keys::new(schema.fields(), Rules::of(names), |column| names.keys.get(column).cloned())?;
        let nodes = members("", schema.fields(), Rules::of(names))?;
        Ok(Node {
            path: String::new(),
            expected: "an object".to_owned(),
            required: true,
            width: nodes.iter().map(|node| node.width).sum(),
            shape: Shape::Struct(keys, nodes),
        })
    }
}

fn members(path: &str, fields: &[Field], rules: Rules) -> Result<Vec<Node>, SetupError> {
    let path = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    fields.iter().map(|field| node(path(&field.name), field, rules)).collect()
}

fn node(path: String, field: &Field, rules: Rules) -> Result<Node, SetupError> {
    let (width, shape) = match &field.kind {
        Type::Boolean => (1, Shape::Scalar(Scalar::Boolean)),
        Type::Int32 => (4, Shape::Scalar(Scalar::Int32)),
        Type::Int64 => (8, Shape::Scalar(Scalar::Int64)),
        Type::Float => (4, Shape::Scalar(Scalar::Float)),
        Type::Double => (8, Shape::Scalar(Scalar::Double)),
        Type::Decimal { precision, scale } => {
            let bound = 10_i128.pow(u32::from(*precision));
            (16, Shape::Scalar(Scalar::Decimal { bound, scale: u32::from(*scale) }))
        }
        Type::Date => (4, Shape::Scalar(Scalar::Date)),
        Type::Timestamp { unit, .. } => (8, Shape::Scalar(Scalar::Timestamp(*unit))),
        Type::String => (4, Shape::Scalar(Scalar::String)),
        Type::Binary => (4, Shape::Scalar(Scalar::Binary)),
        Type::List(element) => (4, Shape::List(Box::new(node(format!("{path}[]"), element, rules)?))),
        Type::Map(value) => (4, Shape::Map(Box::new(node(format!("{path}{{}}"), value, rules)?))),
        Type::Struct(fields) => {
            let nodes = members(&path, fields, rules)?;
            let width = nodes.iter().map(|node| node.width).sum();
            (width, Shape::Struct(Keys::new(fields, rules, |_| None)?, nodes))
        }
    };
    Ok(Node { path, expected: field.kind.to_string(), required: field.required, width, shape })
}
