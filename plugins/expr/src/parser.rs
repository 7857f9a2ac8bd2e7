//! Tokens to a tree, by recursive descent with bounds on length, depth and size.

use std::ops::Range;

use wasmill_sdk::config::nearest;

use crate::error::Fault;
use crate::function::Function;
use crate::lexer::{Token, tokens};
use crate::pattern::Pattern;
use crate::syntax::{Comparison, Kind, Literal, Node, Operator};

/// Bytes of one expression.
pub(crate) const SOURCE_MAX: usize = 64 << 10;
/// Nesting; bounds the evaluator's stack too.
const DEPTH_MAX: usize = 64;
/// Nodes of one expression.
const NODES_MAX: usize = 10_000;
/// Values of one `in` list.
const LIST_MAX: usize = 10_000;

const KEYWORDS: [&str; 10] = ["if", "then", "else", "and", "or", "not", "in", "true", "false", "null"];

/// Numbers the fields that expressions of one transform name.
pub(crate) trait Names {
    /// The number of the field at this path.
    fn number(&mut self, path: Vec<String>) -> usize;
}

pub(crate) fn parse(source: &str, names: &mut dyn Names) -> Result<Node, Fault> {
    if source.len() > SOURCE_MAX {
        return Err(Fault::new(format!("an expression of more than {SOURCE_MAX} bytes"), 0..0));
    }
    let mut parser = Parser { tokens: tokens(source)?, at: 0, depth: 0, nodes: 0, names };
    let node = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(node),
        Token::Sign("=") => Err(parser.fault("unexpected `=`; comparison is `==`")),
        Token::Sign("|") => Err(parser.fault("unexpected `|`; or is `||`")),
        Token::Sign("&") => Err(parser.fault("unexpected `&`; and is `&&`")),
        _ => Err(parser.fault("expected an operator or the end")),
    }
}

struct Parser<'a> {
    tokens: Vec<(Token, Range<usize>)>,
    at: usize,
    depth: usize,
    nodes: usize,
    names: &'a mut dyn Names,
}

type Parsed = Result<Node, Fault>;

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn place(&self) -> Range<usize> {
        self.tokens[self.at].1.clone()
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].0.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(message, self.place())
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        if found {
            self.next();
        }
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(found) if found == word);
        if found {
            self.next();
        }
        found
    }

    fn expect_word(&mut self, word: &str) -> Result<(), Fault> {
        if self.take_word(word) { Ok(()) } else { Err(self.fault(format!("expected `{word}`"))) }
    }

    fn expect_sign(&mut self, sign: &str) -> Result<(), Fault> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.fault(format!("expected `{sign}`"))) }
    }

    fn node(&mut self, kind: Kind, from: usize) -> Parsed {
        self.nodes += 1;
        let end = self.tokens[self.at.saturating_sub(1)].1.end;
        if self.nodes > NODES_MAX {
            return Err(Fault::new(format!("an expression of more than {NODES_MAX} parts"), from..end));
        }
        Ok(Node { kind, at: from..end.max(from) })
    }

    fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fault(format!("nested deeper than {DEPTH_MAX}")));
        }
        let node = if self.take_word("if") { self.conditional() } else { self.or() };
        self.depth -= 1;
        node
    }

    fn conditional(&mut self) -> Parsed {
        let from = self.tokens[self.at - 1].1.start;
        let condition = Box::new(self.expression()?);
        self.expect_word("then")?;
        let then = Box::new(self.expression()?);
        self.expect_word("else")?;
        let otherwise = Box::new(self.expression()?);
        self.node(Kind::If { condition, then, otherwise }, from)
    }

    fn or(&mut self) -> Parsed {
        let mut left = self.and()?;
        // A long chain nests to the left: it is deep for the evaluator, so it counts as depth.
        let depth = self.depth;
        while self.take_sign("||") || self.take_word("or") {
            self.deeper()?;
            let right = Box::new(self.and()?);
            let from = left.at.start;
            left = self.node(Kind::Or(Box::new(left), right), from)?;
        }
        self.depth = depth;
        Ok(left)
    }

    fn and(&mut self) -> Parsed {
        let mut left = self.not()?;
        let depth = self.depth;
        while self.take_sign("&&") || self.take_word("and") {
            self.deeper()?;
            let right = Box::new(self.not()?);
            let from = left.at.start;
            left = self.node(Kind::And(Box::new(left), right), from)?;
        }
        self.depth = depth;
        Ok(left)
    }

    fn deeper(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        // Chains may be longer than nesting is deep, but not without end.
        if self.depth > 4 * DEPTH_MAX {
            return Err(self.fault(format!("a chain of more than {} operators", 4 * DEPTH_MAX)));
        }
        Ok(())
    }

    fn not(&mut self) -> Parsed {
        let from = self.place().start;
        if self.take_sign("!") || self.take_word("not") {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(self.fault(format!("nested deeper than {DEPTH_MAX}")));
            }
            let inner = Box::new(self.not()?);
            self.depth -= 1;
            return self.node(Kind::Not(inner), from);
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parsed {
        let left = self.sum()?;
        let from = left.at.start;
        let op = match self.peek() {
            Token::Sign("==") => Comparison::Equal,
            Token::Sign("!=") => Comparison::NotEqual,
            Token::Sign("<") => Comparison::Less,
            Token::Sign("<=") => Comparison::LessEqual,
            Token::Sign(">") => Comparison::Greater,
            Token::Sign(">=") => Comparison::GreaterEqual,
            Token::Sign(sign @ ("=~" | "~" | "!~")) => {
                let negated = *sign == "!~";
                self.next();
                return self.matching(left, negated);
            }
            Token::Word(word) if word == "in" => {
                self.next();
                return self.list(left, false);
            }
            Token::Word(word) if word == "not" => {
                self.next();
                self.expect_word("in")?;
                return self.list(left, true);
            }
            _ => return Ok(left),
        };
        self.next();
        let right = Box::new(self.sum()?);
        let node = self.node(Kind::Compare { op, left: Box::new(left), right }, from)?;
        if let Token::Sign("==" | "!=" | "<" | "<=" | ">" | ">=") = self.peek() {
            return Err(self.fault("comparisons do not chain; join them with `&&`"));
        }
        Ok(node)
    }

    fn matching(&mut self, text: Node, negated: bool) -> Parsed {
        let place = self.place();
        let Token::Text(source) = self.next() else {
            return Err(Fault::new("expected a pattern in quotes", place));
        };
        let pattern = Pattern::new(&source).map_err(|message| Fault::new(message, place))?;
        let from = text.at.start;
        self.node(Kind::Match { text: Box::new(text), pattern, negated }, from)
    }

    fn list(&mut self, value: Node, negated: bool) -> Parsed {
        self.expect_sign("[")?;
        let mut list = Vec::new();
        while !self.take_sign("]") {
            let place = self.place();
            let minus = self.take_sign("-");
            list.push(match (self.next(), minus) {
                (Token::Int(number), _) => Literal::Int(if minus { -number } else { number }),
                (Token::Float(number), _) => Literal::Float(if minus { -number } else { number }),
                (Token::Text(text), false) => Literal::Text(text),
                (Token::Word(word), false) if word == "null" => Literal::Null,
                (Token::Word(word), false) if word == "true" => Literal::Bool(true),
                (Token::Word(word), false) if word == "false" => Literal::Bool(false),
                _ => return Err(Fault::new("expected a literal", place)),
            });
            if list.len() > LIST_MAX {
                return Err(Fault::new(format!("a list of more than {LIST_MAX} values"), place));
            }
            if !self.take_sign(",") {
                self.expect_sign("]")?;
                break;
            }
        }
        let from = value.at.start;
        self.node(Kind::In { value: Box::new(value), list, negated }, from)
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        let depth = self.depth;
        loop {
            let op = match self.peek() {
                Token::Sign("+") => Operator::Add,
                Token::Sign("-") => Operator::Subtract,
                _ => break,
            };
            self.next();
            self.deeper()?;
            let right = Box::new(self.product()?);
            let from = left.at.start;
            left = self.node(Kind::Arithmetic { op, left: Box::new(left), right }, from)?;
        }
        self.depth = depth;
        Ok(left)
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        let depth = self.depth;
        loop {
            let op = match self.peek() {
                Token::Sign("*") => Operator::Multiply,
                Token::Sign("/") => Operator::Divide,
                Token::Sign("%") => Operator::Remainder,
                _ => break,
            };
            self.next();
            self.deeper()?;
            let right = Box::new(self.unary()?);
            let from = left.at.start;
            left = self.node(Kind::Arithmetic { op, left: Box::new(left), right }, from)?;
        }
        self.depth = depth;
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let from = self.place().start;
        if !self.take_sign("-") {
            return self.primary();
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fault(format!("nested deeper than {DEPTH_MAX}")));
        }
        let inner = self.unary()?;
        self.depth -= 1;
        match inner.kind {
            Kind::Literal(Literal::Int(number)) => self.node(Kind::Literal(Literal::Int(-number)), from),
            Kind::Literal(Literal::Float(number)) => self.node(Kind::Literal(Literal::Float(-number)), from),
            _ => self.node(Kind::Negate(Box::new(inner)), from),
        }
    }

    fn primary(&mut self) -> Parsed {
        let place = self.place();
        let from = place.start;
        match self.next() {
            Token::Int(number) => self.node(Kind::Literal(Literal::Int(number)), from),
            Token::Float(number) => self.node(Kind::Literal(Literal::Float(number)), from),
            Token::Text(text) => self.node(Kind::Literal(Literal::Text(text)), from),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect_sign(")")?;
                Ok(inner)
            }
            Token::Word(word) => match word.as_str() {
                "true" => self.node(Kind::Literal(Literal::Bool(true)), from),
                "false" => self.node(Kind::Literal(Literal::Bool(false)), from),
                "null" => self.node(Kind::Literal(Literal::Null), from),
                "if" => self.conditional(),
                keyword if KEYWORDS.contains(&keyword) => {
                    Err(Fault::new(format!("expected a value, not `{keyword}`"), place))
                }
                _ if self.take_sign("(") => self.call(&word, place),
                _ => self.path(word, from),
            },
            Token::Name(name) => self.path(name, from),
            Token::End => Err(Fault::new("expected a value, the expression ends here", place)),
            Token::Sign(sign) => Err(Fault::new(format!("expected a value, not `{sign}`"), place)),
        }
    }

    fn path(&mut self, first: String, from: usize) -> Parsed {
        let mut path = vec![first];
        while self.take_sign(".") {
            let place = self.place();
            match self.next() {
                Token::Word(segment) | Token::Name(segment) | Token::Text(segment) => path.push(segment),
                _ => return Err(Fault::new("expected a name after `.`", place)),
            }
        }
        if path.len() > DEPTH_MAX {
            return Err(Fault::new(format!("a path deeper than {DEPTH_MAX}"), from..self.place().start));
        }
        let field = self.names.number(path);
        self.node(Kind::Field(field), from)
    }

    fn call(&mut self, name: &str, place: Range<usize>) -> Parsed {
        let Some(function) = Function::find(name) else {
            let hint = nearest(name, Function::NAMES.iter().copied());
            let hint = hint.map(|hint| format!("; did you mean `{hint}`?")).unwrap_or_default();
            return Err(Fault::new(format!("unknown function `{name}`{hint}"), place));
        };
        let mut arguments = Vec::new();
        while !self.take_sign(")") {
            let argument = self.expression()?;
            arguments.push(argument);
            if !self.take_sign(",") {
                self.expect_sign(")")?;
                break;
            }
        }
        let (least, most) = function.arity();
        if arguments.len() < least || arguments.len() > most {
            let wanted = if least == most { least.to_string() } else { format!("{least} to {most}") };
            let got = arguments.len();
            return Err(Fault::new(format!("`{name}` takes {wanted} arguments, not {got}"), place));
        }
        if matches!(function, Function::Exists) && !matches!(arguments[0].kind, Kind::Field(_)) {
            return Err(Fault::new("`exists` takes a field", arguments[0].at.clone()));
        }
        self.node(Kind::Call { function, arguments }, place.start)
    }
}
