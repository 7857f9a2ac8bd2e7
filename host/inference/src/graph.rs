//! A model: its graph, checked and ready, and how rows go through it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{ModelError, RunError, Stop};
use crate::limits::{
    COLUMNS_MAX, LOT_BYTES, LOT_ROWS_MAX, MODEL_BYTES_MAX, MODEL_MEMORY_BYTES_MAX, NODES_MAX, WORK_BYTES_MAX,
    WORK_PER_LOOK,
};
use crate::ops;
use crate::proto::{self, element};
use crate::tensor::{Data, Tensor, constant};

/// Rows of zeros that a new model must take. More than one, so that a graph for one row alone is known.
const TRIAL_ROWS: usize = 3;
/// What a node takes of memory beside its attributes.
const STEP_BYTES: usize = 256;

/// An operator with its attributes.
pub(crate) trait Operator: Send + Sync {
    /// Inputs that are left out are `None`.
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop>;

    /// What it has made for itself of constants, once it ran.
    fn more_bytes(&self) -> usize {
        0
    }
}

/// What the rows in hand may still take.
pub(crate) struct Work<'a> {
    left: usize,
    since: u64,
    in_time: &'a mut dyn FnMut() -> bool,
}

impl Work<'_> {
    /// So many elements of so many bytes are about to be made.
    pub(crate) fn take(&mut self, elements: usize, width: usize) -> Result<(), Stop> {
        let bytes = elements.checked_mul(width).ok_or(Stop::Memory)?;
        self.left = self.left.checked_sub(bytes).ok_or(Stop::Memory)?;
        self.worked(elements as u64)
    }

    /// So much was or is about to be done.
    pub(crate) fn worked(&mut self, units: u64) -> Result<(), Stop> {
        self.since = self.since.saturating_add(units);
        if self.since < WORK_PER_LOOK {
            return Ok(());
        }
        self.since = 0;
        if (self.in_time)() { Ok(()) } else { Err(Stop::Overdue) }
    }
}

/// What a model takes or gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    /// Numbers of a row.
    pub columns: usize,
}

struct Taken {
    port: Port,
    slot: usize,
    element: i64,
    /// It has no dimension but that of the rows.
    flat: bool,
}

struct Step {
    operator: Box<dyn Operator>,
    node: String,
    kind: String,
    inputs: Vec<Option<usize>>,
    outputs: Vec<Option<usize>>,
}

/// A model that can run. Shared by all who use it.
pub struct Model {
    inputs: Vec<Taken>,
    outputs: Vec<(String, usize)>,
    constants: Vec<Option<Tensor>>,
    steps: Vec<Step>,
    /// Of everything between input and output.
    row_bytes: usize,
    memory_bytes: usize,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("inputs", &self.inputs().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

impl Model {
    /// Reads a model and tries it. `in_time` is asked now and then whether that may go on.
    ///
    /// # Errors
    /// Where the file is none that runs here, and what would be right.
    pub fn load(bytes: &[u8], in_time: &mut dyn FnMut() -> bool) -> Result<Model, ModelError> {
        if bytes.len() as u64 > MODEL_BYTES_MAX {
            return Err(ModelError::TooLarge { bytes: bytes.len() as u64, max: MODEL_BYTES_MAX });
        }
        let load = AssertUnwindSafe(|| {
            let mut model = read(bytes)?;
            model.attempt(in_time)?;
            let more = model.steps.iter().map(|step| step.operator.more_bytes()).sum();
            model.memory_bytes = model.memory_bytes.saturating_add(more);
            if model.memory_bytes > MODEL_MEMORY_BYTES_MAX {
                return Err(ModelError::Memory { max: MODEL_MEMORY_BYTES_MAX });
            }
            Ok(model)
        });
        catch_unwind(load).unwrap_or_else(|panic| Err(ModelError::Panicked(said(&*panic))))
    }

    /// What it takes.
    pub fn inputs(&self) -> impl Iterator<Item = &Port> {
        self.inputs.iter().map(|taken| &taken.port)
    }

    /// Names of what it gives.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|(name, _)| name.as_str())
    }

    /// What it takes of memory while it is loaded, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Runs the model over rows. Inputs are known by their names or their numbers, from 0. All have the same number of rows. `max`
    /// is how many bytes the outputs may take.
    ///
    /// # Errors
    /// When the inputs do not go with the model, or time or memory are over.
    pub fn run(
        &self,
        inputs: &[(String, Tensor)],
        max: usize,
        in_time: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<(String, Tensor)>, RunError> {
        let run = AssertUnwindSafe(|| self.run_here(inputs, max, in_time));
        catch_unwind(run).unwrap_or_else(|panic| Err(RunError::Panicked(said(&*panic))))
    }

    fn run_here(
        &self,
        inputs: &[(String, Tensor)],
        max: usize,
        in_time: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<(String, Tensor)>, RunError> {
        let (given, rows) = self.match_up(inputs)?;
        let lot = (LOT_BYTES / self.row_bytes.max(1)).clamp(1, LOT_ROWS_MAX);
        let mut results: Vec<(String, Tensor)> = Vec::new();
        let mut taken = 0_usize;
        let mut start = 0;
        // Of no rows something of the right shape comes all the same, so that whoever asks learns what it is.
        while start < rows.max(1) {
            let count = lot.min(rows - start);
            let mut values = self.values();
            for (port, tensor) in self.inputs.iter().zip(&given) {
                let lot = port.lot(tensor, start, count.max(1))?;
                if let Some(value) = values.get_mut(port.slot) {
                    *value = Some(lot);
                }
            }
            let mut work = Work { left: WORK_BYTES_MAX, since: 0, in_time: &mut *in_time };
            self.execute(&mut values, &mut work).map_err(|(step, stop)| self.stopped(step, stop, max))?;
            if !(work.in_time)() {
                return Err(RunError::Overdue);
            }
            for (place, (name, slot)) in self.outputs.iter().enumerate() {
                let mut part = self.output(&mut values, *slot, name, count.max(1))?;
                if count == 0 {
                    part.shape.iter_mut().take(1).for_each(|first| *first = 0);
                    part.data = part.data.part(0, 0);
                }
                taken = taken.saturating_add(part.data.bytes());
                if taken > max {
                    return Err(RunError::Memory { max });
                }
                match results.get_mut(place) {
                    None => results.push((name.clone(), part)),
                    Some((_, result)) => {
                        let first = part.first();
                        if !result.data.append(part.data) {
                            return Err(RunError::Input(format!(
                                "output {name:?} changes its type from row to row"
                            )));
                        }
                        result.shape.iter_mut().take(1).for_each(|rows| *rows += first);
                    }
                }
            }
            start += count.max(1);
        }
        Ok(results)
    }

    /// The inputs in the model's order, and how many rows they have.
    fn match_up<'a>(&self, inputs: &'a [(String, Tensor)]) -> Result<(Vec<&'a Tensor>, usize), RunError> {
        let wants = || {
            let ports = self.inputs().map(|port| format!("{:?} of {} columns", port.name, port.columns));
            ports.collect::<Vec<_>>().join(", ")
        };
        if inputs.len() != self.inputs.len() {
            return Err(RunError::Input(format!(
                "{} inputs are given; the model takes {}",
                inputs.len(),
                wants()
            )));
        }
        let mut rows = None;
        let mut given = Vec::with_capacity(inputs.len());
        for (number, taken) in self.inputs.iter().enumerate() {
            let port = &taken.port;
            let named = inputs.iter().find(|(name, _)| *name == port.name);
            let named = named.or_else(|| inputs.iter().find(|(name, _)| *name == number.to_string()));
            let (_, tensor) = named.ok_or_else(|| {
                RunError::Input(format!("no input {:?} is given; the model takes {}", port.name, wants()))
            })?;
            let right = match tensor.shape.as_slice() {
                [_, columns] => *columns == port.columns,
                [_] => port.columns == 1,
                _ => false,
            };
            let count = tensor.first().checked_mul(port.columns);
            if !right || count != Some(tensor.data.len()) {
                let shape = &tensor.shape;
                return Err(RunError::Input(format!(
                    "input {:?} has the shape {shape:?}; the model takes [rows, {}]",
                    port.name, port.columns
                )));
            }
            if rows.replace(tensor.first()).is_some_and(|before| before != tensor.first()) {
                return Err(RunError::Input("the inputs have different numbers of rows".to_owned()));
            }
            given.push(tensor);
        }
        Ok((given, rows.unwrap_or(0)))
    }

    fn values(&self) -> Vec<Option<Tensor>> {
        vec![None; self.constants.len()]
    }

    /// An `Err` has the number of the step.
    fn execute(&self, values: &mut [Option<Tensor>], work: &mut Work<'_>) -> Result<(), (usize, Stop)> {
        for (number, step) in self.steps.iter().enumerate() {
            let results = {
                let find = |slot: usize| {
                    let computed = values.get(slot).and_then(Option::as_ref);
                    computed.or_else(|| self.constants.get(slot).and_then(Option::as_ref))
                };
                let inputs: Vec<Option<&Tensor>> = step.inputs.iter().map(|slot| find((*slot)?)).collect();
                step.operator.run(&inputs, work).map_err(|stop| (number, stop))?
            };
            for (slot, result) in step.outputs.iter().zip(results) {
                if let Some(value) = slot.and_then(|slot| values.get_mut(slot)) {
                    *value = Some(result);
                }
            }
        }
        Ok(())
    }

    fn output(
        &self,
        values: &mut [Option<Tensor>],
        slot: usize,
        name: &str,
        rows: usize,
    ) -> Result<Tensor, RunError> {
        // Two outputs may be the same value.
        let value = values.get(slot).and_then(Option::as_ref).cloned();
        match value.filter(|value| value.rows && value.first() == rows) {
            Some(value) => Ok(value),
            None => Err(RunError::Input(format!("output {name:?} has not one row for each of the input"))),
        }
    }

    fn stopped(&self, step: usize, stop: Stop, max: usize) -> RunError {
        match stop {
            Stop::Overdue => RunError::Overdue,
            Stop::Memory => RunError::Memory { max: max.min(WORK_BYTES_MAX) },
            Stop::Wrong(reason) => {
                let (node, operator) = self.named(step);
                RunError::Node { node, operator, reason }
            }
        }
    }

    fn named(&self, step: usize) -> (String, String) {
        self.steps.get(step).map(|step| (step.node.clone(), step.kind.clone())).unwrap_or_default()
    }

    /// Rows of zeros must pass, and say what a row takes.
    fn attempt(&mut self, in_time: &mut dyn FnMut() -> bool) -> Result<(), ModelError> {
        let mut values = self.values();
        for taken in &self.inputs {
            let zeros = Tensor::rows(taken.port.columns, vec![0.0; TRIAL_ROWS * taken.port.columns]);
            let lot =
                taken.lot(&zeros, 0, TRIAL_ROWS).map_err(|error| ModelError::Graph(error.to_string()))?;
            if let Some(value) = values.get_mut(taken.slot) {
                *value = Some(lot);
            }
        }
        let mut work = Work { left: WORK_BYTES_MAX, since: 0, in_time };
        self.execute(&mut values, &mut work).map_err(|(step, stop)| {
            let (node, operator) = self.named(step);
            let reason = match stop {
                Stop::Overdue => return ModelError::Overdue,
                Stop::Memory => format!("{TRIAL_ROWS} rows take more than {WORK_BYTES_MAX} bytes up to here"),
                Stop::Wrong(reason) => reason,
            };
            ModelError::Node { node, operator, reason }
        })?;
        self.row_bytes = (WORK_BYTES_MAX - work.left).div_ceil(TRIAL_ROWS);
        for (name, slot) in &self.outputs {
            let value = values.get(*slot).and_then(Option::as_ref);
            let right = value.is_some_and(|value| value.rows && value.first() == TRIAL_ROWS);
            if !right {
                let shown = value.map_or_else(|| "a constant".to_owned(), Tensor::shown);
                return Err(ModelError::Output {
                    output: name.clone(),
                    reason: format!(
                        "{TRIAL_ROWS} rows give {shown}, which is not one row for each; export the model with a first \
                         dimension of any length, for batches"
                    ),
                });
            }
        }
        Ok(())
    }
}

impl Taken {
    /// Some of the rows, as the graph wants them.
    fn lot(&self, tensor: &Tensor, start: usize, count: usize) -> Result<Tensor, RunError> {
        let columns = self.port.columns;
        let mut data = tensor.data.part(start * columns, count * columns);
        if data.is_empty() {
            data = Data::F32(vec![0.0; columns]);
        }
        let data = match (self.element, data) {
            (element::FLOAT, data @ Data::F32(_))
            | (element::DOUBLE, data @ Data::F64(_))
            | (element::INT64, data @ Data::I64(_)) => data,
            (element::DOUBLE, Data::F32(data)) => Data::F64(data.into_iter().map(f64::from).collect()),
            (element::INT64, Data::F32(data)) if data.iter().all(|number| number.fract() == 0.0) => {
                Data::I64(data.into_iter().map(|number| number as i64).collect())
            }
            (wanted, data) => {
                return Err(RunError::Input(format!(
                    "input {:?} is {}; the model takes {}",
                    self.port.name,
                    data.kind(),
                    element::name(wanted)
                )));
            }
        };
        let shape = if self.flat { vec![count] } else { vec![count, columns] };
        Ok(Tensor::new(shape, data, true))
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn read(bytes: &[u8]) -> Result<Model, ModelError> {
    let graph = proto::graph(bytes)?;
    let mut memory = MODEL_MEMORY_BYTES_MAX;
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut constants: Vec<Option<Tensor>> = Vec::new();
    for body in &graph.constants {
        let (name, tensor) = constant(body, &mut memory)?;
        names.insert(name, constants.len());
        constants.push(Some(tensor));
    }
    let mut inputs = Vec::new();
    for port in &graph.inputs {
        // Old exporters list constants among the inputs.
        if names.contains_key(port.name) {
            continue;
        }
        inputs.push(taken(port, constants.len())?);
        names.insert(port.name, constants.len());
        constants.push(None);
    }
    if inputs.is_empty() {
        return Err(ModelError::Graph("it has no input".to_owned()));
    }
    let mut steps = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        // Trees and tensors have their own reckoning.
        let plain = !matches!(node.operator, "Constant" | "TreeEnsembleClassifier" | "TreeEnsembleRegressor");
        let charge = STEP_BYTES + if plain { node.attribute_bytes() } else { 0 };
        memory = memory.checked_sub(charge).ok_or(ModelError::Memory { max: MODEL_MEMORY_BYTES_MAX })?;
        let at = |reason: String| ModelError::Node {
            node: node.shown().to_owned(),
            operator: node.operator.to_owned(),
            reason,
        };
        if constants.len() > 8 * NODES_MAX {
            return Err(ModelError::TooMany { what: "values", count: constants.len(), max: 8 * NODES_MAX });
        }
        let mut slots = Vec::with_capacity(node.inputs.len());
        for input in &node.inputs {
            slots.push(match (*input, names.get(input)) {
                ("", _) => None,
                (_, Some(slot)) => Some(*slot),
                (input, None) => {
                    return Err(at(format!("its input {input:?} comes from no node before it")));
                }
            });
        }
        let made = ops::build(node, graph.opset, &mut memory).ok_or_else(|| ModelError::Operator {
            node: node.shown().to_owned(),
            operator: ops::full_name(node),
            known: ops::KNOWN.join(", "),
        })?;
        let mut outputs = Vec::with_capacity(node.outputs.len());
        for output in &node.outputs {
            if output.is_empty() {
                outputs.push(None);
                continue;
            }
            if names.insert(output, constants.len()).is_some() {
                return Err(at(format!("its output {output:?} is there already")));
            }
            outputs.push(Some(constants.len()));
            constants.push(None);
        }
        match made.map_err(at)? {
            ops::Built::Constant(tensor) => {
                if let Some(slot) =
                    outputs.first().copied().flatten().and_then(|slot| constants.get_mut(slot))
                {
                    *slot = Some(tensor);
                }
            }
            ops::Built::Operator(operator) => steps.push(Step {
                operator,
                node: node.shown().to_owned(),
                kind: node.operator.to_owned(),
                inputs: slots,
                outputs,
            }),
        }
    }
    let mut outputs = Vec::new();
    for output in &graph.outputs {
        let slot = names.get(output).copied().ok_or_else(|| ModelError::Output {
            output: (*output).to_owned(),
            reason: "no node makes it".to_owned(),
        })?;
        outputs.push(((*output).to_owned(), slot));
    }
    if outputs.is_empty() {
        return Err(ModelError::Graph("it has no output".to_owned()));
    }
    let memory_bytes = MODEL_MEMORY_BYTES_MAX - memory;
    Ok(Model { inputs, outputs, constants, steps, row_bytes: 0, memory_bytes })
}

fn taken(port: &proto::Port<'_>, slot: usize) -> Result<Taken, ModelError> {
    let refused = |reason: String| ModelError::Input { input: port.name.to_owned(), reason };
    let element = port.element.ok_or_else(|| refused("it is no tensor".to_owned()))?;
    if !matches!(element, element::FLOAT | element::DOUBLE | element::INT64) {
        let is = element::name(element);
        return Err(refused(format!("it takes {is}; numbers of float32, float64 or int64 are taken here")));
    }
    let (columns, flat) = match port.shape.as_deref() {
        Some([_, Some(columns)]) => (*columns, false),
        Some([_]) => (1, true),
        Some([_, None]) | None => {
            return Err(refused(
                "it does not say how many columns it has; export the model with a fixed number, such as [None, 20]".to_owned(),
            ));
        }
        Some(other) => {
            let rank = other.len();
            return Err(refused(format!("it has {rank} dimensions; [rows, columns] is what is taken here")));
        }
    };
    let columns = usize::try_from(columns).ok().filter(|columns| (1..=COLUMNS_MAX).contains(columns));
    let columns = columns.ok_or_else(|| refused(format!("it has no columns, or more than {COLUMNS_MAX}")))?;
    Ok(Taken { port: Port { name: port.name.to_owned(), columns }, slot, element, flat })
}
