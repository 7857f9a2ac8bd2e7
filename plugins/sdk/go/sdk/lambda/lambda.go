// Package lambda runs Lambda functions of Amazon Data Firehose as plugins: a chunk is an invocation. It takes the place
// of github.com/aws/aws-lambda-go/lambda, package events that of its events.
//
// Event and answer are those of "Transform source data in Amazon Data Firehose" in its developer guide. Everything in an
// event comes from the chunk, so that a chunk that is run again gives the function the same.
package lambda

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	sdk "wasmill.dev/sdk"
	"wasmill.dev/sdk/events"
	"wasmill.dev/sdk/internal/stack"
	"wasmill.dev/sdk/lambdacontext"
)

// Why records fail: the code that Firehose has for it, and a text.
const (
	missing          = "Lambda.MissingRecordId: the function answered nothing with the recordId of this record"
	duplicated       = "Lambda.DuplicatedRecordId: the function answered more than once with the recordId of this record"
	processingFailed = "Lambda.ProcessingFailedStatus: ProcessingFailed status set for record"
	noData           = "Lambda.JsonProcessingException: The data field cannot be null when the SourceType is DirectPut"
	noResult         = "Lambda.JsonProcessingException: result is none of Ok, Dropped and ProcessingFailed"
	noBase64         = "Lambda.JsonProcessingException: data is not base64"
	noKeys           = "Lambda.JsonProcessingException: metadata.partitionKeys is not an object of texts"
	functionError    = "Lambda.FunctionError: "
)

// Start says that handler is the plugin of this program. Call it once, in main or in an init function. It returns at
// once.
//
// A handler is a func(context.Context, events.KinesisFirehoseEvent) (events.KinesisFirehoseResponse, error). The context
// may be missing, and event and response may be other types with the same JSON.
func Start(handler any) { sdk.Export(New(handler)) }

// StartWithContext is [Start], with what the contexts of calls are made of.
func StartWithContext(ctx context.Context, handler any) { sdk.Export(with(ctx, handler)) }

// New makes the plugin that a handler is, for tests: sdktest.Run(t, lambda.New(handler), "{}", records...).
func New(handler any) func() sdk.Plugin { return with(context.Background(), handler) }

func with(ctx context.Context, handler any) func() sdk.Plugin {
	call := callOf(handler)
	return func() sdk.Plugin { return &function{call: call, ctx: ctx} }
}

type config struct {
	StreamArn    string `json:"stream_arn"`
	Region       string `json:"region"`
	FunctionName string `json:"function_name"`
}

type function struct {
	config
	call     call
	ctx      context.Context
	payloads sdk.TextColumn
}

func (f *function) Configure(text []byte, _ *sdk.Setup) error {
	f.FunctionName = "function"
	if err := sdk.ReadConfig(text, &f.config); err != nil {
		return err
	}
	if parts := strings.Split(f.StreamArn, ":"); f.Region == "" && len(parts) > 3 {
		f.Region = parts[3]
	}
	if f.Region == "" {
		f.Region = "us-east-1"
	}
	if f.StreamArn == "" {
		f.StreamArn = "arn:aws:firehose:" + f.Region + ":000000000000:deliverystream/unknown"
	}
	lambdacontext.FunctionName = f.FunctionName
	lambdacontext.LogGroupName = "/aws/lambda/" + f.FunctionName
	return nil
}

func (f *function) Process(rows *sdk.Chunk) error {
	if rows.Len() == 0 {
		return nil
	}
	event := f.event(rows)
	// The function may do with its event what it likes.
	ids := make([]string, rows.Len())
	for row := range ids {
		ids[row] = event.Records[row].RecordID
	}
	results, err := f.invoke(event)
	if err != nil {
		return err
	}
	f.apply(rows, ids, results)
	return nil
}

func (f *function) event(rows *sdk.Chunk) *events.KinesisFirehoseEvent {
	payloads, offsets, times := rows.Payloads(), rows.Offsets(), rows.ArrivalTimes()
	number := fmt.Sprintf("%016x%016x", rows.Seed(), uint64(offsets[0]))
	records := make([]events.KinesisFirehoseEventRecord, rows.Len())
	for row := range records {
		records[row] = events.KinesisFirehoseEventRecord{
			// Rows that were derived share an offset.
			RecordID:                    fmt.Sprintf("%020d%010d", uint64(offsets[row]), row),
			ApproximateArrivalTimestamp: events.MilliSecondsEpochTime{Time: time.UnixMilli(milliseconds(times[row]))},
			Data:                        bytes.Clone(payloads.Bytes(row)),
		}
	}
	return &events.KinesisFirehoseEvent{
		InvocationID:      strings.Join([]string{number[:8], number[8:12], number[12:16], number[16:20], number[20:]}, "-"),
		DeliveryStreamArn: f.StreamArn,
		Region:            f.Region,
		Records:           records,
	}
}

func milliseconds(nanoseconds int64) int64 { return nanoseconds / int64(time.Millisecond) }

// invoke calls the function. Its error, or what it panicked with, is the error of the call.
func (f *function) invoke(event *events.KinesisFirehoseEvent) (results map[string][]result, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%s%s", functionError, stack.Described(reason))
		}
	}()
	results, err = f.call(lambdacontext.NewContext(f.ctx, &lambdacontext.LambdaContext{
		AwsRequestID:       event.InvocationID,
		InvokedFunctionArn: "arn:aws:lambda:" + f.Region + ":000000000000:function:" + f.FunctionName,
	}), event)
	if err != nil {
		return nil, fmt.Errorf("%s%w", functionError, err)
	}
	return results, nil
}

func (f *function) apply(rows *sdk.Chunk, ids []string, results map[string][]result) {
	f.payloads.Reset()
	keep := make([]bool, len(ids))
	partitions := map[string][]*string{}
	for row, id := range ids {
		made, reason := madeOf(results[id])
		keep[row] = made != nil || reason != ""
		if made == nil {
			f.payloads.Skip()
			if reason != "" {
				rows.Fail(row, reason)
			}
			continue
		}
		f.payloads.AppendBytes(made.data)
		for name, value := range made.keys {
			if partitions[name] == nil {
				partitions[name] = make([]*string, len(ids))
			}
			partitions[name][row] = &value
		}
	}
	rows.SetPayloads(&f.payloads)
	rows.Keep(keep)
	for _, name := range slices.Sorted(maps.Keys(partitions)) {
		var column sdk.TextColumn
		for _, value := range partitions[name] {
			if value == nil {
				column.Skip()
			} else {
				column.Append(*value)
			}
		}
		rows.Partition(name, &column)
	}
}

// madeOf is the one result that a record may have. Neither a result nor a reason: the record is dropped.
func madeOf(results []result) (*result, string) {
	switch len(results) {
	case 0:
		return nil, missing
	case 1:
	default:
		return nil, duplicated
	}
	made := &results[0]
	switch made.result {
	case events.KinesisFirehoseTransformedStateOk:
	case events.KinesisFirehoseTransformedStateDropped:
		return nil, ""
	case events.KinesisFirehoseTransformedStateProcessingFailed:
		return nil, processingFailed
	default:
		return nil, noResult
	}
	if made.wrong != "" {
		return nil, made.wrong
	}
	if made.data == nil {
		return nil, noData
	}
	return made, ""
}
