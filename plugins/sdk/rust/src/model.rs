//! Models, for a plugin whose manifest asks for them (`"grants": {"models": ["model"]}`) and whose transform names files for them.
//! What the host runs, over the standard interface `wasi:nn`, is ONNX over rows of numbers; ask for all rows of a chunk at once.
//!
//! A model that changes makes new instances: what `configure` loaded stays the same for as long as the instance lives.
//!
//! Outside a component no model is run: a test answers itself, with [`answering`].

/// A model that is loaded.
pub struct Model(face::Context);

/// What a model gave, of one of its outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name; labels of the columns of an output `NAME` follow it as `NAME/classes`.
    pub name: String,
    /// Its dimensions, the first of which is that of the rows.
    pub shape: Vec<usize>,
    /// Row after row.
    pub values: Values,
}

/// Elements of an output.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Numbers.
    Floats(Vec<f64>),
    /// Integers, such as labels.
    Ints(Vec<i64>),
    /// Texts, such as labels.
    Texts(Vec<String>),
}

impl Values {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Values::Floats(values) => values.len(),
            Values::Ints(values) => values.len(),
            Values::Texts(values) => values.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Model {
    /// The model of this name: in `configure`, so that a transform that does not have it is refused.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn load(name: &str) -> Result<Model, String> {
        face::load(name).map(Model)
    }

    /// Runs the model, which takes one input, over rows of `columns` numbers each. No rows are rows, too: they show whether the
    /// model takes so many columns.
    ///
    /// # Errors
    /// Why it does not take them, for people.
    pub fn run(&self, columns: usize, numbers: &[f32]) -> Result<Vec<Output>, String> {
        face::run(&self.0, columns, numbers)
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub use face::answering;

#[cfg(target_arch = "wasm32")]
mod face {
    use super::{Output, Values};
    use crate::nn::wasi::nn::errors::Error;
    use crate::nn::wasi::nn::graph::load_by_name;
    use crate::nn::wasi::nn::inference::GraphExecutionContext;
    use crate::nn::wasi::nn::tensor::{Tensor, TensorType};

    pub(super) type Context = GraphExecutionContext;

    pub(super) fn load(name: &str) -> Result<Context, String> {
        let told = |error: Error| error.data();
        load_by_name(name).map_err(told)?.init_execution_context().map_err(told)
    }

    pub(super) fn run(context: &Context, columns: usize, numbers: &[f32]) -> Result<Vec<Output>, String> {
        let rows = numbers.len() / columns.max(1);
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let input = Tensor::new(&[length(rows), length(columns)], TensorType::Fp32, &bytes);
        let outputs = context.compute(vec![("0".to_owned(), input)]).map_err(|error| error.data())?;
        Ok(outputs.into_iter().map(|(name, tensor)| output(name, &tensor)).collect())
    }

    fn output(name: String, tensor: &Tensor) -> Output {
        let shape = tensor.dimensions().into_iter().map(|length| length as usize).collect();
        let data = tensor.data();
        let values = match tensor.ty() {
            TensorType::Fp32 => Values::Floats(each(&data, |bytes| f64::from(f32::from_le_bytes(bytes)))),
            TensorType::Fp64 => Values::Floats(each(&data, f64::from_le_bytes)),
            TensorType::I64 => Values::Ints(each(&data, i64::from_le_bytes)),
            TensorType::I32 => Values::Ints(each(&data, |bytes| i64::from(i32::from_le_bytes(bytes)))),
            _ => {
                // Each text ends with a zero.
                let texts = data.split(|byte| *byte == 0);
                let count = data.iter().filter(|byte| **byte == 0).count();
                Values::Texts(
                    texts.take(count).map(|text| String::from_utf8_lossy(text).into_owned()).collect(),
                )
            }
        };
        Output { name, shape, values }
    }

    fn each<const N: usize, T>(data: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
        data.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod face {
    use std::cell::RefCell;

    use super::Output;

    type Answer = Box<dyn FnMut(&str, usize, &[f32]) -> Result<Vec<Output>, String>>;

    thread_local! {
        static ANSWER: RefCell<Option<Answer>> = const { RefCell::new(None) };
    }

    /// The model's name.
    pub(super) type Context = String;

    pub(super) fn load(name: &str) -> Result<Context, String> {
        if ANSWER.with_borrow(Option::is_none) {
            return Err(format!("no model {name:?} is granted"));
        }
        Ok(name.to_owned())
    }

    pub(super) fn run(name: &Context, columns: usize, numbers: &[f32]) -> Result<Vec<Output>, String> {
        ANSWER.with_borrow_mut(|answer| match answer {
            Some(answer) => answer(name, columns, numbers),
            None => Err(format!("no model {name:?} is granted")),
        })
    }

    /// For tests: what models are asked on this thread while `run` runs is answered so, by name, columns and numbers.
    ///
    /// ```
    /// use wasmill_sdk::model::{self, Model, Output, Values};
    ///
    /// let sum = |_: &str, columns: usize, numbers: &[f32]| {
    ///     let sums: Vec<f64> = numbers.chunks(columns).map(|row| row.iter().map(|x| f64::from(*x)).sum()).collect();
    ///     Ok(vec![Output { name: "sum".to_owned(), shape: vec![sums.len(), 1], values: Values::Floats(sums) }])
    /// };
    /// let outputs = model::answering(sum, || Model::load("any").unwrap().run(2, &[1.0, 2.0, 3.0, 4.0]));
    /// assert_eq!(outputs.unwrap()[0].values, Values::Floats(vec![3.0, 7.0]));
    /// assert!(Model::load("any").is_err());
    /// ```
    pub fn answering<T>(
        answer: impl FnMut(&str, usize, &[f32]) -> Result<Vec<Output>, String> + 'static,
        run: impl FnOnce() -> T,
    ) -> T {
        /// Also after a panic: the thread may run another test.
        struct Before(Option<Answer>);
        impl Drop for Before {
            fn drop(&mut self) {
                let before = self.0.take();
                ANSWER.with(|kept| drop(kept.replace(before)));
            }
        }
        let _before = Before(ANSWER.with(|kept| kept.replace(Some(Box::new(answer)))));
        run()
    }
}
