// Package events has the events of Lambda functions that run as plugins: what such functions import from
// github.com/aws/aws-lambda-go/events, with the same names, shapes and JSON. Of all events there is that of Amazon Data
// Firehose.
package events

import (
	"encoding/json"
	"time"
)

// What may become of a record.
const (
	KinesisFirehoseTransformedStateOk               = "Ok"
	KinesisFirehoseTransformedStateDropped          = "Dropped"
	KinesisFirehoseTransformedStateProcessingFailed = "ProcessingFailed"
)

// KinesisFirehoseEvent is the records of one call.
type KinesisFirehoseEvent struct {
	// InvocationID is the same for every attempt at these records.
	InvocationID           string                       `json:"invocationId"`
	DeliveryStreamArn      string                       `json:"deliveryStreamArn"`
	SourceKinesisStreamArn string                       `json:"sourceKinesisStreamArn"`
	Region                 string                       `json:"region"`
	Records                []KinesisFirehoseEventRecord `json:"records"`
}

// KinesisFirehoseEventRecord is a record as it came.
type KinesisFirehoseEventRecord struct {
	RecordID                    string                `json:"recordId"`
	ApproximateArrivalTimestamp MilliSecondsEpochTime `json:"approximateArrivalTimestamp"`
	Data                        []byte                `json:"data"`
	// Empty: records come from no Kinesis stream.
	KinesisFirehoseRecordMetadata KinesisFirehoseRecordMetadata `json:"kinesisRecordMetadata"`
}

// KinesisFirehoseResponse has an answer for every record.
type KinesisFirehoseResponse struct {
	Records []KinesisFirehoseResponseRecord `json:"records"`
}

// KinesisFirehoseResponseRecord is what becomes of one record.
type KinesisFirehoseResponseRecord struct {
	RecordID string `json:"recordId"`
	// Result is one of the transformed states.
	Result string `json:"result"`
	// Data is the new payload; nil is none.
	Data     []byte                                `json:"data"`
	Metadata KinesisFirehoseResponseRecordMetadata `json:"metadata"`
}

// KinesisFirehoseResponseRecordMetadata has what partitions the record.
type KinesisFirehoseResponseRecordMetadata struct {
	// PartitionKeys become the row's partition values.
	PartitionKeys map[string]string `json:"partitionKeys"`
}

// KinesisFirehoseRecordMetadata is where in a Kinesis stream a record was.
type KinesisFirehoseRecordMetadata struct {
	ShardID                     string                `json:"shardId"`
	PartitionKey                string                `json:"partitionKey"`
	SequenceNumber              string                `json:"sequenceNumber"`
	SubsequenceNumber           int64                 `json:"subsequenceNumber"`
	ApproximateArrivalTimestamp MilliSecondsEpochTime `json:"approximateArrivalTimestamp"`
}

// MilliSecondsEpochTime is a time that is milliseconds since the epoch in JSON.
type MilliSecondsEpochTime struct{ time.Time }

// MarshalJSON writes milliseconds.
func (t MilliSecondsEpochTime) MarshalJSON() ([]byte, error) { return json.Marshal(t.UnixMilli()) }

// UnmarshalJSON reads milliseconds.
func (t *MilliSecondsEpochTime) UnmarshalJSON(text []byte) error {
	var milliseconds int64
	if err := json.Unmarshal(text, &milliseconds); err != nil {
		return err
	}
	t.Time = time.UnixMilli(milliseconds)
	return nil
}
