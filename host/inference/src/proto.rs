//! The parts of an ONNX file (onnx.proto of the ONNX project, IR version 3 and later) that this host looks at, read in place.
//! Numbers of fields are those of that file. What would lead outside of the file, such as external data, is refused.

use crate::error::ModelError;
use crate::limits::{NODES_MAX, PARTS_MAX, PARTS_PER_NODE_MAX, RANK_MAX};
use crate::wire::{Damaged, Fields, Value, packed_varints, varint};

/// Element types of ONNX (TensorProto.DataType).
pub(crate) mod element {
    pub(crate) const FLOAT: i64 = 1;
    pub(crate) const UINT8: i64 = 2;
    pub(crate) const INT8: i64 = 3;
    pub(crate) const INT32: i64 = 6;
    pub(crate) const INT64: i64 = 7;
    pub(crate) const STRING: i64 = 8;
    pub(crate) const BOOL: i64 = 9;
    pub(crate) const DOUBLE: i64 = 11;

    /// In words, for refusals.
    pub(crate) fn name(element: i64) -> String {
        match element {
            FLOAT => "float32".to_owned(),
            UINT8 => "uint8".to_owned(),
            INT8 => "int8".to_owned(),
            INT32 => "int32".to_owned(),
            INT64 => "int64".to_owned(),
            STRING => "texts".to_owned(),
            BOOL => "bool".to_owned(),
            10 => "float16".to_owned(),
            DOUBLE => "float64".to_owned(),
            16 => "bfloat16".to_owned(),
            other => format!("type {other}"),
        }
    }
}

/// A graph, without what its nodes say.
pub(crate) struct Graph<'a> {
    /// Version of the operators of `ai.onnx`.
    pub(crate) opset: i64,
    pub(crate) nodes: Vec<Node<'a>>,
    pub(crate) constants: Vec<&'a [u8]>,
    pub(crate) inputs: Vec<Port<'a>>,
    pub(crate) outputs: Vec<&'a str>,
}

/// One application of an operator.
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    pub(crate) operator: &'a str,
    pub(crate) domain: &'a str,
    /// An empty name is an input that is left out.
    pub(crate) inputs: Vec<&'a str>,
    pub(crate) outputs: Vec<&'a str>,
    attributes: Vec<(&'a str, &'a [u8])>,
}

/// What a graph takes.
pub(crate) struct Port<'a> {
    pub(crate) name: &'a str,
    /// `None`: it is no tensor.
    pub(crate) element: Option<i64>,
    /// A dimension without a number is one of any length. `None`: nothing is said of them.
    pub(crate) shape: Option<Vec<Option<u64>>>,
}

fn damaged(what: &'static str) -> impl Fn(Damaged) -> ModelError {
    move |Damaged| ModelError::Damaged { what }
}

fn bounded<T>(what: &'static str, list: &mut Vec<T>, item: T, max: usize) -> Result<(), ModelError> {
    if list.len() >= max {
        return Err(ModelError::TooMany { what, count: list.len() + 1, max });
    }
    list.push(item);
    Ok(())
}

/// The graph of a model.
pub(crate) fn graph(model: &[u8]) -> Result<Graph<'_>, ModelError> {
    let (mut body, mut opset) = (None, None);
    for field in Fields::of(model) {
        let (number, value) = field.map_err(damaged("the model"))?;
        match number {
            7 => body = Some(value.bytes().map_err(damaged("the graph"))?),
            8 => {
                let (mut domain, mut version) = ("", 0);
                for field in Fields::of(value.bytes().map_err(damaged("an operator set"))?) {
                    match field.map_err(damaged("an operator set"))? {
                        (1, value) => domain = value.text().map_err(damaged("an operator set"))?,
                        (2, value) => version = value.int().map_err(damaged("an operator set"))?,
                        _ => {}
                    }
                }
                if matches!(domain, "" | "ai.onnx") {
                    opset = Some(version);
                }
            }
            25 => return Err(ModelError::Graph("it has functions of its own; export it without".to_owned())),
            _ => {}
        }
    }
    let body = body.ok_or(ModelError::Damaged { what: "there is no graph in it" })?;
    // Models of `ai.onnx.ml` alone may leave it out.
    let mut graph = Graph {
        opset: opset.unwrap_or(1),
        nodes: Vec::new(),
        constants: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    let mut parts = 0;
    for field in Fields::of(body) {
        let (number, value) = field.map_err(damaged("the graph"))?;
        match number {
            1 => {
                let node = node(value)?;
                parts += node.inputs.len() + node.outputs.len() + node.attributes.len();
                if parts > PARTS_MAX {
                    let what = "inputs, outputs and attributes of nodes";
                    return Err(ModelError::TooMany { what, count: parts, max: PARTS_MAX });
                }
                bounded("nodes", &mut graph.nodes, node, NODES_MAX)?;
            }
            5 => {
                let constant = value.bytes().map_err(damaged("a constant"))?;
                bounded("constants", &mut graph.constants, constant, NODES_MAX)?;
            }
            11 => bounded("inputs", &mut graph.inputs, port(value).map_err(damaged("an input"))?, NODES_MAX)?,
            12 => {
                let output = port(value).map_err(damaged("an output"))?.name;
                bounded("outputs", &mut graph.outputs, output, NODES_MAX)?;
            }
            15 => {
                return Err(ModelError::Graph(
                    "it has sparse constants; export it with dense ones".to_owned(),
                ));
            }
            _ => {}
        }
    }
    Ok(graph)
}

fn node(value: Value<'_>) -> Result<Node<'_>, ModelError> {
    let broken = damaged("a node");
    let mut node =
        Node { name: "", operator: "", domain: "", inputs: vec![], outputs: vec![], attributes: vec![] };
    for field in Fields::of(value.bytes().map_err(&broken)?) {
        let (number, value) = field.map_err(&broken)?;
        match number {
            1 => {
                let input = value.text().map_err(&broken)?;
                bounded("inputs of a node", &mut node.inputs, input, PARTS_PER_NODE_MAX)?;
            }
            2 => {
                let output = value.text().map_err(&broken)?;
                bounded("outputs of a node", &mut node.outputs, output, PARTS_PER_NODE_MAX)?;
            }
            3 => node.name = value.text().map_err(&broken)?,
            4 => node.operator = value.text().map_err(&broken)?,
            5 => {
                let body = value.bytes().map_err(&broken)?;
                let name = Fields::of(body).find_map(|field| match field {
                    Ok((1, name)) => Some(name.text()),
                    Ok(_) => None,
                    Err(damaged) => Some(Err(damaged)),
                });
                let name = name.unwrap_or(Err(Damaged)).map_err(&broken)?;
                bounded("attributes of a node", &mut node.attributes, (name, body), PARTS_PER_NODE_MAX)?;
            }
            7 => node.domain = value.text().map_err(&broken)?,
            _ => {}
        }
    }
    Ok(node)
}

fn port(value: Value<'_>) -> Result<Port<'_>, Damaged> {
    let mut port = Port { name: "", element: None, shape: None };
    for field in Fields::of(value.bytes()?) {
        match field? {
            (1, value) => port.name = value.text()?,
            (2, value) => {
                for field in Fields::of(value.bytes()?) {
                    if let (1, tensor) = field? {
                        (port.element, port.shape) = tensor_type(tensor.bytes()?)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(port)
}

type TensorType = (Option<i64>, Option<Vec<Option<u64>>>);

fn tensor_type(body: &[u8]) -> Result<TensorType, Damaged> {
    let (mut element, mut shape) = (None, None);
    for field in Fields::of(body) {
        match field? {
            (1, value) => element = Some(value.int()?),
            (2, value) => {
                let mut dimensions = Vec::new();
                for field in Fields::of(value.bytes()?) {
                    let (1, dimension) = field? else { continue };
                    if dimensions.len() >= RANK_MAX {
                        return Err(Damaged);
                    }
                    let mut length = None;
                    for field in Fields::of(dimension.bytes()?) {
                        if let (1, value) = field? {
                            // Some exporters write 0 or -1 for any length.
                            length = u64::try_from(value.int()?).ok().filter(|length| *length > 0);
                        }
                    }
                    dimensions.push(length);
                }
                shape = Some(dimensions);
            }
            _ => {}
        }
    }
    Ok((element, shape))
}

/// A node's attribute is missing, or not what the operator takes.
pub(crate) type AttributeError = String;

impl<'a> Node<'a> {
    /// How errors name it.
    pub(crate) fn shown(&self) -> &'a str {
        if self.name.is_empty() { self.outputs.first().copied().unwrap_or_default() } else { self.name }
    }

    fn attribute(&self, name: &str) -> Option<Fields<'a>> {
        let found = self.attributes.iter().find(|(known, _)| *known == name);
        found.map(|(_, body)| Fields::of(body))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    fn one<T>(
        &self,
        name: &str,
        number: u64,
        read: impl Fn(Value<'a>) -> Result<T, Damaged>,
    ) -> Result<Option<T>, AttributeError> {
        let Some(fields) = self.attribute(name) else { return Ok(None) };
        let broken = |Damaged| format!("attribute {name:?} is damaged");
        for field in fields {
            let (found, value) = field.map_err(broken)?;
            if found == number {
                return read(value).map(Some).map_err(broken);
            }
        }
        // Zero and empty values may be left out of the file.
        Ok(None)
    }

    pub(crate) fn int(&self, name: &str) -> Result<Option<i64>, AttributeError> {
        let value = self.one(name, 3, Value::int)?;
        Ok(value.or_else(|| self.has(name).then_some(0)))
    }

    pub(crate) fn float(&self, name: &str) -> Result<Option<f32>, AttributeError> {
        let value = self.one(name, 2, Value::float)?;
        Ok(value.or_else(|| self.has(name).then_some(0.0)))
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, AttributeError> {
        self.one(name, 4, Value::text)
    }

    /// The body of a tensor.
    pub(crate) fn tensor(&self, name: &str) -> Result<Option<&'a [u8]>, AttributeError> {
        self.one(name, 5, Value::bytes)
    }

    /// At most so many; empty where there is none.
    pub(crate) fn ints(&self, name: &str, max: usize) -> Result<Vec<i64>, AttributeError> {
        let broken = |Damaged| format!("attribute {name:?} is damaged, or has more than {max} numbers");
        self.attribute(name).map_or_else(|| Ok(Vec::new()), |fields| ints(fields, 8, max).map_err(broken))
    }

    /// What its attributes take of the file.
    pub(crate) fn attribute_bytes(&self) -> usize {
        self.attributes.iter().map(|(_, body)| body.len()).sum()
    }

    pub(crate) fn floats(&self, name: &str) -> Result<Vec<f32>, AttributeError> {
        let broken = |Damaged| format!("attribute {name:?} is damaged");
        self.attribute(name).map_or_else(|| Ok(Vec::new()), |fields| floats(fields, 7).map_err(broken))
    }

    /// Texts one after another, none of them kept.
    pub(crate) fn texts(
        &self,
        name: &str,
        mut each: impl FnMut(&'a str) -> Result<(), AttributeError>,
    ) -> Result<(), AttributeError> {
        let broken = |Damaged| format!("attribute {name:?} is damaged");
        for field in self.attribute(name).into_iter().flatten() {
            let (number, value) = field.map_err(broken)?;
            if number == 9 {
                each(value.text().map_err(broken)?)?;
            }
        }
        Ok(())
    }

    /// Texts of labels.
    pub(crate) fn labels(&self, name: &str) -> Result<Vec<&'a str>, AttributeError> {
        let mut labels = Vec::new();
        self.texts(name, |text| {
            if labels.len() >= NODES_MAX {
                return Err(format!("attribute {name:?} has more than {NODES_MAX} labels"));
            }
            labels.push(text);
            Ok(())
        })?;
        Ok(labels)
    }

    /// An attribute that holds a graph, such as a loop's body.
    pub(crate) fn has_graph(&self) -> bool {
        let graphs = |(number, _): (u64, Value<'_>)| number == 6 || number == 11;
        self.attributes.iter().any(|(_, body)| Fields::of(body).flatten().any(graphs))
    }
}

/// Numbers of a repeated field, packed or one by one. Each takes eight times what it may take of the file, so that more than
/// `max` are damage before they are read.
pub(crate) fn ints(fields: Fields<'_>, number: u64, max: usize) -> Result<Vec<i64>, Damaged> {
    let mut numbers = Vec::new();
    for field in fields {
        match field? {
            (found, Value::Bytes(mut packed)) if found == number => {
                let more = packed_varints(packed);
                if numbers.len() + more > max {
                    return Err(Damaged);
                }
                numbers.reserve(more);
                while !packed.is_empty() {
                    numbers.push(varint(&mut packed)?.cast_signed());
                }
            }
            (found, value) if found == number && numbers.len() < max => numbers.push(value.int()?),
            (found, _) if found == number => return Err(Damaged),
            _ => {}
        }
    }
    Ok(numbers)
}

pub(crate) fn floats(fields: Fields<'_>, number: u64) -> Result<Vec<f32>, Damaged> {
    let mut numbers = Vec::new();
    for field in fields {
        match field? {
            (found, Value::Bytes(packed)) if found == number => {
                let (chunks, rest) = packed.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(Damaged);
                }
                numbers.extend(chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            (found, value) if found == number => numbers.push(value.float()?),
            _ => {}
        }
    }
    Ok(numbers)
}
