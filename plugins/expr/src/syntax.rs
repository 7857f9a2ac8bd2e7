//! The tree of an expression.

use std::ops::Range;

use crate::function::Function;
use crate::pattern::Pattern;

/// A node and its place in the source, in bytes.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) at: Range<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Comparison {
    /// The comparison with its sides exchanged.
    pub(crate) fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            same => same,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Literal(Literal),
    /// Number of the field in the program's list.
    Field(usize),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Compare {
        op: Comparison,
        left: Box<Node>,
        right: Box<Node>,
    },
    Match {
        text: Box<Node>,
        pattern: Pattern,
        negated: bool,
    },
    In {
        value: Box<Node>,
        list: Vec<Literal>,
        negated: bool,
    },
    Arithmetic {
        op: Operator,
        left: Box<Node>,
        right: Box<Node>,
    },
    Negate(Box<Node>),
    Call {
        function: Function,
        arguments: Vec<Node>,
    },
    If {
        condition: Box<Node>,
        then: Box<Node>,
        otherwise: Box<Node>,
    },
}

/// A type as far as it is known before any record is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Any,
    Bool,
    Number,
    Text,
}

impl Type {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Type::Any => "any value",
            Type::Bool => "a condition",
            Type::Number => "a number",
            Type::Text => "a text",
        }
    }
}

impl Literal {
    pub(crate) fn ty(&self) -> Type {
        match self {
            Literal::Null => Type::Any,
            Literal::Bool(_) => Type::Bool,
            Literal::Int(_) | Literal::Float(_) => Type::Number,
            Literal::Text(_) => Type::Text,
        }
    }
}

impl Node {
    /// The static type.
    pub(crate) fn ty(&self) -> Type {
        match &self.kind {
            Kind::Literal(literal) => literal.ty(),
            Kind::Field(_) => Type::Any,
            Kind::Not(_)
            | Kind::And(..)
            | Kind::Or(..)
            | Kind::Compare { .. }
            | Kind::Match { .. }
            | Kind::In { .. } => Type::Bool,
            Kind::Arithmetic { op: Operator::Add, left, right } => match (left.ty(), right.ty()) {
                (Type::Text, _) | (_, Type::Text) => Type::Text,
                (Type::Number, _) | (_, Type::Number) => Type::Number,
                _ => Type::Any,
            },
            Kind::Arithmetic { .. } | Kind::Negate(_) => Type::Number,
            Kind::Call { function, .. } => function.result(),
            Kind::If { then, otherwise, .. } if then.ty() == otherwise.ty() => then.ty(),
            Kind::If { .. } => Type::Any,
        }
    }
}
