//! A Lambda function of Amazon Data Firehose as it would run there: the field `answer` of a record says what it answers of it;
//! without that the record is `Ok`, and its field `area` a partition key. The field `event` gets what the function was told of its
//! invocation.

use serde_json::{Value, json};
use wasmill_sdk::lambda::{
    Base64Data, Error, KinesisFirehoseEvent, KinesisFirehoseResponse, KinesisFirehoseResponseRecord,
    KinesisFirehoseResponseRecordMetadata, LambdaEvent,
};

async fn handler(event: LambdaEvent<KinesisFirehoseEvent>) -> Result<KinesisFirehoseResponse, Error> {
    let (event, context) = event.into_parts();
    let mut response = KinesisFirehoseResponse::default();
    for record in event.records {
        let mut row: Value = serde_json::from_slice(&record.data)?;
        let mut answer = KinesisFirehoseResponseRecord {
            record_id: record.record_id,
            result: Some("Ok".to_owned()),
            data: record.data,
            metadata: KinesisFirehoseResponseRecordMetadata::default(),
        };
        match row["answer"].as_str() {
            None => {
                if let Some(area) = row["area"].as_str() {
                    answer.metadata.partition_keys.insert("area".to_owned(), area.to_owned());
                }
                if row["event"] == true {
                    row["event"] = json!({
                        "invocation": event.invocation_id,
                        "stream": event.delivery_stream_arn,
                        "region": event.region,
                        "function": context.invoked_function_arn,
                    });
                }
                row["arrived"] = json!(record.approximate_arrival_timestamp.0);
                answer.data = Base64Data(format!("{row}\n").into_bytes());
            }
            Some(result @ ("Dropped" | "ProcessingFailed")) => answer.result = Some(result.to_owned()),
            Some("nothing") => continue,
            Some("twice") => response.records.push(answer.clone()),
            Some(other) => return Err(format!("no answer is called {other}").into()),
        }
        response.records.push(answer);
    }
    Ok(response)
}

wasmill_sdk::export_lambda!(handler);
