//! The columns of a file beside those of a table: which are which, and what does not fit.
//!
//! Source: the Iceberg table specification, "Schemas and Data Types", "Schema Evolution" (types that are read as wider
//! ones) and appendix A, "Parquet". A file's columns are found in the table by name, and get the table's field ids.

use std::sync::Arc;

use ::iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type,
};
use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::{Type as Column, TypePtr};

/// What a column of a file is.
enum Shape<'c> {
    Primitive(PrimitiveType),
    /// The group that repeats, and what is in it.
    List(&'c Column, &'c TypePtr),
    /// The group that repeats, and keys and values in it.
    Map(&'c Column, &'c TypePtr, &'c TypePtr),
    Struct(&'c [TypePtr]),
}

/// The schema of a table for files with these columns. A catalog numbers its fields anew.
pub(super) fn schema_for(root: &Column) -> Result<Schema, String> {
    let mut next_id = 1;
    let fields = fields_for("", root.get_fields(), &mut next_id)?;
    Schema::builder().with_fields(fields).build().map_err(|error| error.message().to_owned())
}

/// The columns with the field ids that they have in the table.
pub(super) fn numbered(root: &Column, table: &Schema) -> Result<Column, String> {
    let fields = numbered_fields("", root.get_fields(), table.as_struct())?;
    let made = Column::group_type_builder(root.name()).with_fields(fields).build();
    made.map_err(|error| error.to_string())
}

fn shape<'c>(path: &str, column: &'c Column) -> Result<Shape<'c>, String> {
    if column.is_primitive() {
        return primitive(path, column).map(Shape::Primitive);
    }
    let inner = || {
        let repeated = column.get_fields().first().filter(|inner| !inner.is_primitive())?;
        Some((&**repeated, repeated.get_fields()))
    };
    match (column.get_basic_info().logical_type_ref(), inner()) {
        (Some(LogicalType::List), Some((repeated, [element]))) => Ok(Shape::List(repeated, element)),
        (Some(LogicalType::Map), Some((repeated, [key, value]))) => Ok(Shape::Map(repeated, key, value)),
        (None, _) => Ok(Shape::Struct(column.get_fields())),
        _ => Err(format!("column {path:?} of the file is of a kind that tables do not have")),
    }
}

fn primitive(path: &str, column: &Column) -> Result<PrimitiveType, String> {
    let of_time = |is_utc: bool, unit: &TimeUnit| match unit {
        TimeUnit::MICROS if is_utc => Ok(PrimitiveType::Timestamptz),
        TimeUnit::MICROS => Ok(PrimitiveType::Timestamp),
        TimeUnit::MILLIS | TimeUnit::NANOS => Err(format!(
            "column {path:?} is in milliseconds or nanoseconds, and tables keep microseconds: expected timestamp(us) or \
             timestamp(us, utc)"
        )),
    };
    match (column.get_physical_type(), column.get_basic_info().logical_type_ref()) {
        (_, Some(LogicalType::Decimal { .. })) => {
            let of = |number: i32| u32::try_from(number).unwrap_or(0);
            let (precision, scale) = (of(column.get_precision()), of(column.get_scale()));
            Ok(PrimitiveType::Decimal { precision, scale })
        }
        (Physical::BOOLEAN, None) => Ok(PrimitiveType::Boolean),
        (Physical::INT32, Some(LogicalType::Date)) => Ok(PrimitiveType::Date),
        (Physical::INT32, None | Some(LogicalType::Integer { bit_width: 32, is_signed: true })) => {
            Ok(PrimitiveType::Int)
        }
        (Physical::INT64, Some(LogicalType::Timestamp { is_adjusted_to_u_t_c, unit })) => {
            of_time(*is_adjusted_to_u_t_c, unit)
        }
        (Physical::INT64, None | Some(LogicalType::Integer { bit_width: 64, is_signed: true })) => {
            Ok(PrimitiveType::Long)
        }
        (Physical::FLOAT, None) => Ok(PrimitiveType::Float),
        (Physical::DOUBLE, None) => Ok(PrimitiveType::Double),
        (Physical::BYTE_ARRAY, Some(LogicalType::String)) => Ok(PrimitiveType::String),
        (Physical::BYTE_ARRAY, None) => Ok(PrimitiveType::Binary),
        _ => Err(format!("column {path:?} of the file is of a type that tables do not have")),
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn next(id: &mut i32) -> i32 {
    *id += 1;
    *id - 1
}

fn fields_for(path: &str, columns: &[TypePtr], next_id: &mut i32) -> Result<Vec<NestedFieldRef>, String> {
    let field = |column: &TypePtr| -> Result<NestedFieldRef, String> {
        let path = below(path, column.name());
        let id = next(next_id);
        let kind = type_for(&path, column, next_id)?;
        Ok(Arc::new(NestedField::new(id, column.name(), kind, !column.is_optional())))
    };
    columns.iter().map(field).collect()
}

fn type_for(path: &str, column: &Column, next_id: &mut i32) -> Result<Type, String> {
    Ok(match shape(path, column)? {
        Shape::Primitive(primitive) => Type::Primitive(primitive),
        Shape::List(_, element) => {
            let id = next(next_id);
            let kind = type_for(&format!("{path}[]"), element, next_id)?;
            let element = NestedField::list_element(id, kind, !element.is_optional());
            Type::List(ListType::new(Arc::new(element)))
        }
        Shape::Map(_, key, value) => {
            let (key_id, value_id) = (next(next_id), next(next_id));
            let key = NestedField::map_key_element(key_id, type_for(path, key, next_id)?);
            let kind = type_for(&format!("{path}{{}}"), value, next_id)?;
            let value = NestedField::map_value_element(value_id, kind, !value.is_optional());
            Type::Map(MapType::new(Arc::new(key), Arc::new(value)))
        }
        Shape::Struct(fields) => Type::Struct(StructType::new(fields_for(path, fields, next_id)?)),
    })
}

fn numbered_fields(path: &str, columns: &[TypePtr], table: &StructType) -> Result<Vec<TypePtr>, String> {
    let missing =
        table.fields().iter().find(|field| field.required && columns.iter().all(|c| c.name() != field.name));
    if let Some(field) = missing {
        return Err(format!(
            "the table's column {:?} must have a value, and the output has no such column",
            below(path, &field.name)
        ));
    }
    let field = |column: &TypePtr| -> Result<TypePtr, String> {
        let path = below(path, column.name());
        let Some(field) = table.fields().iter().find(|field| field.name == column.name()) else {
            let kind = match shape(&path, column)? {
                Shape::Primitive(primitive) => primitive.to_string(),
                Shape::List(..) => "list".to_owned(),
                Shape::Map(..) => "map".to_owned(),
                Shape::Struct(_) => "struct".to_owned(),
            };
            return Err(format!(
                "the table has no column {path:?} (here of type {kind}): add it to the table, or take it out of \"parquet\""
            ));
        };
        numbered_column(&path, column, field).map(Arc::new)
    };
    columns.iter().map(field).collect()
}

/// A column, or what is in one, as the field of the table.
fn numbered_column(path: &str, column: &Column, field: &NestedField) -> Result<Column, String> {
    if field.required && column.is_optional() {
        return Err(format!(
            "column {path:?} must have a value in the table, and need not here: write `required` behind its type"
        ));
    }
    let other = |found: &str| -> Result<Column, String> {
        let wanted = match &*field.field_type {
            Type::Primitive(primitive) => primitive.to_string(),
            Type::List(_) => "list".to_owned(),
            Type::Map(_) => "map".to_owned(),
            Type::Struct(_) => "struct".to_owned(),
        };
        Err(format!("column {path:?} is of type {found} here, and of type {wanted} in the table"))
    };
    match (shape(path, column)?, &*field.field_type) {
        (Shape::Primitive(here), Type::Primitive(there)) if is_read_as(&here, there) => {
            leaf(column, field.id).map_err(|error| error.to_string())
        }
        (Shape::Primitive(here), _) => other(&here.to_string()),
        (Shape::List(repeated, element), Type::List(of)) => {
            let element = numbered_column(&format!("{path}[]"), element, &of.element_field)?;
            group(column, Some(field.id), vec![group(repeated, None, vec![element])?])
        }
        (Shape::List(..), _) => other("list"),
        (Shape::Map(repeated, key, value), Type::Map(of)) => {
            let key = numbered_column(&format!("{path}, its keys"), key, &of.key_field)?;
            let value = numbered_column(&format!("{path}{{}}"), value, &of.value_field)?;
            group(column, Some(field.id), vec![group(repeated, None, vec![key, value])?])
        }
        (Shape::Map(..), _) => other("map"),
        (Shape::Struct(fields), Type::Struct(of)) => {
            let fields = numbered_fields(path, fields, of)?;
            group_of(column, Some(field.id), fields)
        }
        (Shape::Struct(_), _) => other("struct"),
    }
}

/// Whether readers make the table's type of what is in the file.
fn is_read_as(file: &PrimitiveType, table: &PrimitiveType) -> bool {
    match (file, table) {
        (PrimitiveType::Int, PrimitiveType::Long) | (PrimitiveType::Float, PrimitiveType::Double) => true,
        (
            PrimitiveType::Decimal { precision, scale },
            PrimitiveType::Decimal { precision: wider, scale: same },
        ) => precision <= wider && scale == same,
        _ => file == table,
    }
}

fn group(column: &Column, id: Option<i32>, fields: Vec<Column>) -> Result<Column, String> {
    group_of(column, id, fields.into_iter().map(Arc::new).collect())
}

fn group_of(column: &Column, id: Option<i32>, fields: Vec<TypePtr>) -> Result<Column, String> {
    let info = column.get_basic_info();
    let made = Column::group_type_builder(column.name())
        .with_repetition(repetition(column))
        .with_converted_type(info.converted_type())
        .with_logical_type(info.logical_type_ref().cloned())
        .with_fields(fields)
        .with_id(id)
        .build();
    made.map_err(|error| error.to_string())
}

fn leaf(column: &Column, id: i32) -> Result<Column, parquet::errors::ParquetError> {
    let Column::PrimitiveType { basic_info, physical_type, type_length, scale, precision } = column else {
        return Ok(column.clone());
    };
    Column::primitive_type_builder(column.name(), *physical_type)
        .with_repetition(repetition(column))
        .with_converted_type(basic_info.converted_type())
        .with_logical_type(basic_info.logical_type_ref().cloned())
        .with_length(*type_length)
        .with_precision(*precision)
        .with_scale(*scale)
        .with_id(Some(id))
        .build()
}

fn repetition(column: &Column) -> Repetition {
    let info = column.get_basic_info();
    if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED }
}
