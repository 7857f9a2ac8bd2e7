//! `wasi:nn`: tensors, graphs and what is computed, for a plugin that is granted models.
//!
//! Its interfaces are those of `wit/inference/scorer.wit`. Bytes of a model are taken from nobody but the operator: a guest
//! loads by name.

use std::sync::Arc;

use wasmill_inference::{Classes, Data, RunError, Tensor};
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, ResourceType, WasmList};
use wasmtime::{AsContext, StoreContextMut};

use super::{AbiCause, AbiError};
use crate::instance::Guest;
use crate::models::{Code, Failure, Held};

/// The version of the interfaces.
pub(crate) const VERSION: &str = "0.2.0-rc-2024-10-28";
/// Names of inputs and of models; longer ones are nobody's.
const NAME_BYTES_MAX: usize = 1024;
/// Inputs of one call.
const INPUTS_MAX: usize = 1024;

type Store<'a> = StoreContextMut<'a, Guest>;

/// Host types behind the resources.
struct TensorOf;
struct GraphOf;
struct ContextOf;
struct ErrorOf;

/// As in the WIT, in its order; cases that no host function makes are there for the order.
#[expect(dead_code, reason = "made by lifting only")]
#[derive(Clone, Copy, PartialEq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum TensorType {
    #[component(name = "FP16")]
    Fp16,
    #[component(name = "FP32")]
    Fp32,
    #[component(name = "FP64")]
    Fp64,
    #[component(name = "BF16")]
    Bf16,
    #[component(name = "U8")]
    U8,
    #[component(name = "I32")]
    I32,
    #[component(name = "I64")]
    I64,
}

#[expect(dead_code, reason = "the order of the WIT has all of them")]
#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum ErrorCode {
    #[component(name = "invalid-argument")]
    InvalidArgument,
    #[component(name = "invalid-encoding")]
    InvalidEncoding,
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "runtime-error")]
    RuntimeError,
    #[component(name = "unsupported-operation")]
    UnsupportedOperation,
    #[component(name = "too-large")]
    TooLarge,
    #[component(name = "not-found")]
    NotFound,
    #[component(name = "security")]
    Security,
    #[component(name = "unknown")]
    Unknown,
}

#[expect(dead_code, reason = "made by lifting only")]
#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
enum Encoding {
    #[component(name = "openvino")]
    Openvino,
    #[component(name = "onnx")]
    Onnx,
    #[component(name = "tensorflow")]
    Tensorflow,
    #[component(name = "pytorch")]
    Pytorch,
    #[component(name = "tensorflowlite")]
    Tensorflowlite,
    #[component(name = "ggml")]
    Ggml,
    #[component(name = "autodetect")]
    Autodetect,
}

#[expect(dead_code, reason = "made by lifting only")]
#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
enum Target {
    #[component(name = "cpu")]
    Cpu,
    #[component(name = "gpu")]
    Gpu,
    #[component(name = "tpu")]
    Tpu,
}

fn interface(name: &str) -> String {
    format!("wasi:nn/{name}@{VERSION}")
}

fn trap(function: &'static str, text: &'static str) -> wasmtime::Error {
    AbiError::trap(function, AbiCause::Text(text))
}

const GONE: &str = "a handle of nothing";
const TOO_MANY: &str = "too many tensors, graphs or errors at once";

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    add_tensor(linker)?;
    add_errors(linker)?;
    let mut graph = linker.instance(&interface("graph"))?;
    graph.resource("graph", ResourceType::host::<GraphOf>(), |mut store, rep| {
        let _gone = store.data_mut().inference.models.take(rep);
        Ok(())
    })?;
    type Loaded = (WasmList<WasmList<u8>>, Encoding, Target);
    graph.func_wrap("load", |mut store: Store<'_>, (_bytes, _encoding, _target): Loaded| {
        let text = "bytes of a model are not taken from a plugin; load-by-name loads what the transform's \"models\" name";
        let refused = refuse::<GraphOf>(&mut store, Code::Security, text.to_owned())?;
        Ok((refused,))
    })?;
    graph.func_wrap("load-by-name", |mut store: Store<'_>, (name,): (String,)| {
        let guest = store.data_mut();
        let found = guest.granted_model(&name);
        match found {
            Ok(model) => {
                let place = guest.inference.models.put(model);
                let place = place.ok_or_else(|| trap("graph.load-by-name", TOO_MANY))?;
                Ok((Ok(Resource::<GraphOf>::new_own(place)),))
            }
            Err(text) => Ok((refuse(&mut store, Code::NotFound, text)?,)),
        }
    })?;
    graph.func_wrap(
        "[method]graph.init-execution-context",
        |mut store: Store<'_>, (graph,): (Resource<GraphOf>,)| {
            let models = &mut store.data_mut().inference.models;
            let model = models.get(graph.rep()).cloned();
            let model = model.ok_or_else(|| trap("graph.init-execution-context", GONE))?;
            let place = models.put(model).ok_or_else(|| trap("graph.init-execution-context", TOO_MANY))?;
            let context: Result<Resource<ContextOf>, Resource<ErrorOf>> = Ok(Resource::new_own(place));
            Ok((context,))
        },
    )?;
    let mut inference = linker.instance(&interface("inference"))?;
    inference.resource("graph-execution-context", ResourceType::host::<ContextOf>(), |mut store, rep| {
        let _gone = store.data_mut().inference.models.take(rep);
        Ok(())
    })?;
    type Asked = (Resource<ContextOf>, Vec<(String, Resource<TensorOf>)>);
    inference.func_wrap(
        "[method]graph-execution-context.compute",
        |mut store: Store<'_>, (context, inputs): Asked| Ok((compute(&mut store, &context, inputs)?,)),
    )
}

fn refuse<T>(
    store: &mut Store<'_>,
    code: Code,
    text: String,
) -> wasmtime::Result<Result<Resource<T>, Resource<ErrorOf>>> {
    Ok(Err(error(store, code, text)?))
}

fn error(store: &mut Store<'_>, code: Code, text: String) -> wasmtime::Result<Resource<ErrorOf>> {
    let text = crate::fault::cut_text(&text, crate::fault::REASON_BYTES_MAX);
    let place = store.data_mut().inference.failures.put(Failure { code, text });
    place.map(Resource::new_own).ok_or_else(|| trap("errors.error", TOO_MANY))
}

fn add_errors(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut errors = linker.instance(&interface("errors"))?;
    errors.resource("error", ResourceType::host::<ErrorOf>(), |mut store, rep| {
        let _gone = store.data_mut().inference.failures.take(rep);
        Ok(())
    })?;
    errors.func_wrap("[method]error.code", |store: Store<'_>, (error,): (Resource<ErrorOf>,)| {
        let failure = store.data().inference.failures.get(error.rep());
        let failure = failure.ok_or_else(|| trap("error.code", GONE))?;
        Ok((match failure.code {
            Code::InvalidArgument => ErrorCode::InvalidArgument,
            Code::RuntimeError => ErrorCode::RuntimeError,
            Code::TooLarge => ErrorCode::TooLarge,
            Code::NotFound => ErrorCode::NotFound,
            Code::Security => ErrorCode::Security,
            Code::Unknown => ErrorCode::Unknown,
        },))
    })?;
    errors.func_wrap("[method]error.data", |store: Store<'_>, (error,): (Resource<ErrorOf>,)| {
        let failure = store.data().inference.failures.get(error.rep());
        Ok((failure.map(|failure| failure.text.clone()).ok_or_else(|| trap("error.data", GONE))?,))
    })
}

fn add_tensor(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut tensor = linker.instance(&interface("tensor"))?;
    tensor.resource("tensor", ResourceType::host::<TensorOf>(), |mut store, rep| {
        let _gone = store.data_mut().inference.take(rep);
        Ok(())
    })?;
    type Made = (Vec<u32>, TensorType, WasmList<u8>);
    tensor.func_wrap("[constructor]tensor", |mut store: Store<'_>, (dimensions, kind, data): Made| {
        let data = {
            let store = store.as_context();
            let bytes = data.as_le_slice(&store);
            // Numbers of 64 bits of what comes in as less.
            store
                .data()
                .has_room(bytes.len().saturating_mul(8))
                .map_err(|cause| AbiError::trap("tensor", cause))?;
            data_of(kind, bytes).ok_or_else(|| {
                trap("tensor", "the host takes FP32, FP64, I32, I64 and U8, in whole elements")
            })?
        };
        let shape: Vec<usize> = dimensions.iter().map(|length| *length as usize).collect();
        let count = shape.iter().try_fold(1_usize, |product, length| product.checked_mul(*length));
        if shape.len() > 8 || count != Some(data.len()) {
            return Err(trap("tensor", "the data is not as long as dimensions and type say"));
        }
        let tensor = Tensor { shape, data, rows: true, classes: None };
        let place = store.data_mut().inference.hold(Held { tensor, kind: kind as u8 });
        Ok((place.map(Resource::<TensorOf>::new_own).ok_or_else(|| trap("tensor", TOO_MANY))?,))
    })?;
    fn held<'a>(store: &'a Store<'_>, tensor: &Resource<TensorOf>) -> wasmtime::Result<&'a Held> {
        store.data().inference.tensors.get(tensor.rep()).ok_or_else(|| trap("tensor", GONE))
    }
    tensor.func_wrap("[method]tensor.dimensions", |store: Store<'_>, (tensor,): (Resource<TensorOf>,)| {
        let shape = &held(&store, &tensor)?.tensor.shape;
        Ok((shape.iter().map(|length| u32::try_from(*length).unwrap_or(u32::MAX)).collect::<Vec<u32>>(),))
    })?;
    tensor.func_wrap("[method]tensor.ty", |store: Store<'_>, (tensor,): (Resource<TensorOf>,)| {
        let held = held(&store, &tensor)?;
        let kinds = [TensorType::Fp32, TensorType::Fp64, TensorType::U8, TensorType::I32, TensorType::I64];
        let kind = kinds.into_iter().find(|kind| *kind as u8 == held.kind);
        Ok((kind.unwrap_or(TensorType::U8),))
    })?;
    tensor.func_wrap("[method]tensor.data", |store: Store<'_>, (tensor,): (Resource<TensorOf>,)| {
        let held = held(&store, &tensor)?;
        // A copy of it is made on the way.
        let bytes = held.tensor.data.bytes();
        store.data().has_room(bytes).map_err(|cause| AbiError::trap("tensor.data", cause))?;
        Ok((bytes_of(held),))
    })
}

/// `None`: no such elements are taken, or the last one is cut.
fn data_of(kind: TensorType, bytes: &[u8]) -> Option<Data> {
    fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let (chunks, rest) = bytes.as_chunks::<N>();
        rest.is_empty().then(|| chunks.iter().map(|bytes| read(*bytes)).collect())
    }
    match kind {
        TensorType::Fp32 => each(bytes, f32::from_le_bytes).map(Data::F32),
        TensorType::Fp64 => each(bytes, f64::from_le_bytes).map(Data::F64),
        TensorType::I64 => each(bytes, i64::from_le_bytes).map(Data::I64),
        TensorType::I32 => each(bytes, |bytes| i64::from(i32::from_le_bytes(bytes))).map(Data::I64),
        TensorType::U8 => Some(Data::I64(bytes.iter().map(|byte| i64::from(*byte)).collect())),
        TensorType::Fp16 | TensorType::Bf16 => None,
    }
}

fn bytes_of(held: &Held) -> Vec<u8> {
    match &held.tensor.data {
        Data::F32(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::F64(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        // What came in as less goes out as it came; it fitted then.
        Data::I64(data) if held.kind == TensorType::I32 as u8 => {
            data.iter().flat_map(|x| i32::try_from(*x).unwrap_or(0).to_le_bytes()).collect()
        }
        Data::I64(data) if held.kind == TensorType::U8 as u8 => {
            data.iter().map(|x| u8::try_from(*x).unwrap_or(0)).collect()
        }
        Data::I64(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::Bool(data) => data.iter().map(|x| u8::from(*x)).collect(),
        Data::Text(_) => Vec::new(),
    }
}

/// What a value takes as the guest gets it: each byte of a text becomes a number.
fn given_bytes(tensor: &Tensor) -> usize {
    match &tensor.data {
        Data::Text(texts) => texts.iter().map(|text| 8 * (text.len() + 1)).sum(),
        data => data.bytes(),
    }
}

/// A value of the model as the guest gets it.
fn given(tensor: Tensor) -> Held {
    let kind = match &tensor.data {
        Data::F32(_) => TensorType::Fp32,
        Data::F64(_) => TensorType::Fp64,
        Data::I64(_) => TensorType::I64,
        Data::Bool(_) | Data::Text(_) => TensorType::U8,
    };
    let tensor = match &tensor.data {
        Data::Text(texts) => {
            let bytes = texts.iter().flat_map(|text| text.bytes().filter(|byte| *byte != 0).chain([0]));
            let bytes: Vec<i64> = bytes.map(i64::from).collect();
            Tensor { shape: vec![bytes.len()], data: Data::I64(bytes), rows: true, classes: None }
        }
        _ => tensor,
    };
    Held { tensor, kind: kind as u8 }
}

type Computed = Result<Vec<(String, Resource<TensorOf>)>, Resource<ErrorOf>>;

fn compute(
    store: &mut Store<'_>,
    context: &Resource<ContextOf>,
    inputs: Vec<(String, Resource<TensorOf>)>,
) -> wasmtime::Result<Computed> {
    const FUNCTION: &str = "graph-execution-context.compute";
    let guest = store.data_mut();
    let model = guest.inference.models.get(context.rep()).cloned();
    let model = model.ok_or_else(|| trap(FUNCTION, GONE))?;
    let mut given_inputs = Vec::with_capacity(inputs.len().min(INPUTS_MAX));
    for (name, tensor) in inputs {
        // They are the host's now, whatever comes of it.
        let held = guest.inference.take(tensor.rep()).ok_or_else(|| trap(FUNCTION, GONE))?;
        if given_inputs.len() < INPUTS_MAX && name.len() <= NAME_BYTES_MAX {
            given_inputs.push((name, held.tensor));
        }
    }
    let taken: usize = given_inputs.iter().map(|(_, tensor)| tensor.data.bytes()).sum();
    let room = guest.room().saturating_sub(taken);
    let allowance = guest.allowance();
    let mut over = None;
    let outputs = model.run(&given_inputs, room, &mut || match allowance() {
        Ok(()) => true,
        Err(interrupted) => {
            over = Some(interrupted);
            false
        }
    });
    let outputs = match outputs {
        Ok(outputs) => outputs,
        Err(RunError::Overdue) => {
            let cause = over.map_or(AbiCause::Text("the time of the call is over"), AbiCause::Overdue);
            return Err(AbiError::trap(FUNCTION, cause));
        }
        Err(failed) => {
            let code = match failed {
                RunError::Input(_) => Code::InvalidArgument,
                RunError::Memory { .. } => Code::TooLarge,
                RunError::Node { .. } => Code::RuntimeError,
                RunError::Overdue | RunError::Panicked(_) => Code::Unknown,
            };
            return Ok(Err(error(store, code, failed.to_string())?));
        }
    };
    let mut given_outputs = Vec::with_capacity(outputs.len());
    for (name, mut tensor) in outputs {
        let labels = tensor.classes.take().map(|classes| (format!("{name}/classes"), labels(&classes)));
        given_outputs.extend([Some((name, tensor)), labels].into_iter().flatten());
    }
    // Texts grow on their way: before any is held it shows whether all have room.
    let bytes = given_outputs.iter().map(|(_, tensor)| given_bytes(tensor)).fold(0, usize::saturating_add);
    if bytes > room {
        return Ok(Err(error(store, Code::TooLarge, RunError::Memory { max: room }.to_string())?));
    }
    let mut results = Vec::with_capacity(given_outputs.len());
    for (name, tensor) in given_outputs {
        let place = guest.inference.hold(given(tensor)).ok_or_else(|| trap(FUNCTION, TOO_MANY))?;
        results.push((name, Resource::new_own(place)));
    }
    Ok(Ok(results))
}

fn labels(classes: &Arc<Classes>) -> Tensor {
    let data = match classes.as_ref() {
        Classes::Numbers(numbers) => Data::I64(numbers.clone()),
        Classes::Names(names) => Data::Text(names.clone()),
    };
    Tensor { shape: vec![data.len()], data, rows: false, classes: None }
}
