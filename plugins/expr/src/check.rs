//! Types of an expression before any record is seen: refuses what can never make sense, and notes in which view
//! each field is needed.

use crate::columns::{Fields, SOURCE};
use crate::error::Fault;
use crate::function::Function;
use crate::syntax::{Comparison, Kind, Literal, Node, Operator, Type};

/// Checks `node` where a value of type `wanted` is needed.
pub(crate) fn check(node: &Node, wanted: Type, fields: &mut Fields) -> Result<(), Fault> {
    let ty = node.ty();
    if wanted != Type::Any && ty != Type::Any && ty != wanted {
        return Err(Fault::new(
            format!("expected {}, this is {}", wanted.name(), ty.name()),
            node.at.clone(),
        ));
    }
    match &node.kind {
        Kind::Literal(_) => {}
        Kind::Field(field) => note(*field, wanted, fields),
        Kind::Not(inner) => check(inner, Type::Bool, fields)?,
        Kind::And(left, right) | Kind::Or(left, right) => {
            check(left, Type::Bool, fields)?;
            check(right, Type::Bool, fields)?;
        }
        Kind::Compare { op, left, right } => compare(*op, left, right, fields)?,
        Kind::Match { text, .. } => check(text, Type::Text, fields)?,
        Kind::In { value, list, .. } => {
            let mut types = list.iter().filter(|literal| **literal != Literal::Null).map(Literal::ty);
            let first = types.next().unwrap_or(Type::Any);
            let wanted = if types.all(|ty| ty == first) { first } else { Type::Any };
            if value.ty() != Type::Any && wanted != Type::Any && value.ty() != wanted {
                return Err(Fault::new(
                    format!("{} is never in a list of {}", value.ty().name(), wanted.name()),
                    value.at.clone(),
                ));
            }
            check(value, wanted, fields)?;
        }
        Kind::Arithmetic { op: Operator::Add, left, right } => add(left, right, fields)?,
        Kind::Arithmetic { left, right, .. } => {
            check(left, Type::Number, fields)?;
            check(right, Type::Number, fields)?;
        }
        Kind::Negate(inner) => check(inner, Type::Number, fields)?,
        Kind::Call { function, arguments } => call(*function, arguments, fields)?,
        Kind::If { condition, then, otherwise } => {
            check(condition, Type::Bool, fields)?;
            check(then, wanted, fields)?;
            check(otherwise, wanted, fields)?;
        }
    }
    Ok(())
}

fn note(field: usize, wanted: Type, fields: &mut Fields) {
    let noted = &mut fields.uses[field];
    match wanted {
        Type::Any => noted.any = true,
        Type::Text => noted.text = true,
        Type::Number => noted.number = true,
        Type::Bool => noted.raw = true,
    }
}

fn compare(op: Comparison, left: &Node, right: &Node, fields: &mut Fields) -> Result<(), Fault> {
    let is_null = |node: &Node| matches!(node.kind, Kind::Literal(Literal::Null));
    for (side, other) in [(left, right), (right, left)] {
        let ty = other.ty();
        match (&side.kind, ty) {
            // Null can be told apart in every view.
            (Kind::Field(_), _) if is_null(other) => {}
            (_, Type::Any) => check(side, Type::Any, fields)?,
            _ if side.ty() != Type::Any && side.ty() != ty => {
                let message = format!("compares {} with {}", left.ty().name(), right.ty().name());
                return Err(Fault::new(message, left.at.start..right.at.end));
            }
            _ => check(side, ty, fields)?,
        }
    }
    let ordered = !matches!(op, Comparison::Equal | Comparison::NotEqual);
    if ordered && (is_null(left) || is_null(right)) {
        return Err(Fault::new("nothing is less or greater than null", left.at.start..right.at.end));
    }
    Ok(())
}

/// `+` adds numbers and joins texts; with a text on one side the other may be a number too.
fn add(left: &Node, right: &Node, fields: &mut Fields) -> Result<(), Fault> {
    for (side, other) in [(left, right), (right, left)] {
        if side.ty() == Type::Bool {
            return Err(Fault::new("a condition cannot be added", side.at.clone()));
        }
        let wanted =
            if other.ty() == Type::Number && side.ty() != Type::Text { Type::Number } else { Type::Any };
        check(side, wanted, fields)?;
    }
    Ok(())
}

fn call(function: Function, arguments: &[Node], fields: &mut Fields) -> Result<(), Fault> {
    match function {
        Function::Now => fields.times = true,
        Function::Offset => fields.offsets = true,
        Function::Source => fields.attribute(SOURCE),
        Function::Attribute => match arguments.first().map(|argument| (&argument.kind, &argument.at)) {
            Some((Kind::Literal(Literal::Text(name)), _)) => fields.attribute(name),
            other => {
                let at = other.map_or(0..0, |(_, at)| at.clone());
                return Err(Fault::new("`attribute` takes a name in quotes", at));
            }
        },
        _ => {}
    }
    for (number, argument) in arguments.iter().enumerate() {
        let state_only = matches!(function, Function::Exists | Function::IsNull);
        if state_only && matches!(argument.kind, Kind::Field(_)) {
            continue;
        }
        check(argument, function.argument(number), fields)?;
    }
    Ok(())
}
