//! Which operation a request asks for.

use super::{Kind, Refusal};

/// The header that says which operation is asked.
pub const TARGET_HEADER: &str = "x-amz-target";
/// Of requests and of replies.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

const TARGET: &str = "Firehose_20150804.";

macro_rules! operations {
    ($($name:ident),+) => {
        /// An operation of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operation { $($name),+ }

        impl Operation {
            pub const ALL: &'static [Operation] = &[$(Operation::$name),+];

            /// As in the API Reference, which is also how policies and metrics call it.
            pub fn name(self) -> &'static str {
                match self { $(Operation::$name => stringify!($name)),+ }
            }
        }
    };
}

operations!(
    CreateDeliveryStream,
    DeleteDeliveryStream,
    DescribeDeliveryStream,
    ListDeliveryStreams,
    ListTagsForDeliveryStream,
    PutRecord,
    PutRecordBatch,
    StartDeliveryStreamEncryption,
    StopDeliveryStreamEncryption,
    TagDeliveryStream,
    UntagDeliveryStream,
    UpdateDestination
);

impl Operation {
    /// By the value of [`TARGET_HEADER`].
    ///
    /// # Errors
    /// `UnknownOperationException`: there is none, or it names nothing of this API.
    pub fn of(target: Option<&str>) -> Result<Operation, Refusal> {
        let target = target.ok_or_else(|| {
            Refusal::new(
                Kind::UnknownOperation,
                format!("the header X-Amz-Target is missing, expected {TARGET}<operation>"),
            )
        })?;
        let name = target.strip_prefix(TARGET);
        let found = name.and_then(|name| Operation::ALL.iter().find(|operation| operation.name() == name));
        found.copied().ok_or_else(|| {
            let shown: String = target.chars().take(128).collect();
            Refusal::new(Kind::UnknownOperation, format!("{shown:?} is no operation of {TARGET}*"))
        })
    }

    /// Whether records come with it: the path that is to be fast.
    pub fn is_put(self) -> bool {
        matches!(self, Operation::PutRecord | Operation::PutRecordBatch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_target() {
        for operation in Operation::ALL {
            assert_eq!(
                Operation::of(Some(&format!("Firehose_20150804.{}", operation.name()))),
                Ok(*operation)
            );
        }
        assert_eq!(Operation::ALL.len(), 12);
    }

    #[test]
    fn a_target_of_another_service_or_none_is_an_unknown_operation() {
        for target in [
            None,
            Some(""),
            Some("PutRecord"),
            Some("Kinesis_20131202.PutRecord"),
            Some("Firehose_20150804.putRecord"),
        ] {
            let refusal = Operation::of(target).unwrap_err();
            assert_eq!((refusal.kind, refusal.status()), (Kind::UnknownOperation, 400), "{target:?}");
        }
    }
}
