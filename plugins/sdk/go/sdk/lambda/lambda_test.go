package lambda_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"wasmill.dev/sdk/events"
	"wasmill.dev/sdk/lambda"
	"wasmill.dev/sdk/lambdacontext"
	"wasmill.dev/sdk/sdktest"
)

// The cases that all SDKs share: see there what they mean.
type shared struct {
	Name      string            `json:"name"`
	Config    json.RawMessage   `json:"config"`
	Records   []string          `json:"records"`
	ChunkRows int               `json:"chunk_rows"`
	Events    *[]any            `json:"events"`
	Answer    any               `json:"answer"`
	ThrowsAt  string            `json:"throws_at"`
	Rows      [][]any           `json:"rows"`
	Failed    map[string]string `json:"failed"`
}

func load(t *testing.T) []shared {
	text, err := os.ReadFile("../../../conformance/lambda.json")
	if err != nil {
		t.Fatal(err)
	}
	var table struct{ Cases []shared }
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Cases) == 0 {
		t.Fatal("there are no cases")
	}
	return table.Cases
}

// withIDs puts the ids in that stand for "#0" and so on.
func withIDs(value any, records []any) any {
	switch value := value.(type) {
	case string:
		if number, found := strings.CutPrefix(value, "#"); found {
			row, _ := strconv.Atoi(number)
			return records[row].(map[string]any)["recordId"]
		}
	case []any:
		made := []any{}
		for _, item := range value {
			made = append(made, withIDs(item, records))
		}
		return made
	case map[string]any:
		made := map[string]any{}
		for key, item := range value {
			made[key] = withIDs(item, records)
		}
		return made
	}
	return value
}

// Of what is written of an event only what Firehose has for records that are put directly.
func plain(event map[string]any) map[string]any {
	made := map[string]any{}
	for key, value := range event {
		made[key] = value
	}
	delete(made, "sourceKinesisStreamArn")
	records := []any{}
	for _, record := range event["records"].([]any) {
		copied := map[string]any{}
		for key, value := range record.(map[string]any) {
			if key != "kinesisRecordMetadata" {
				copied[key] = value
			}
		}
		records = append(records, copied)
	}
	made["records"] = records
	return made
}

func (c *shared) check(t *testing.T, handler any, seen *[]any) {
	config := string(c.Config)
	if config == "" {
		config = "{}"
	}
	outcome := sdktest.Host{ChunkRows: c.ChunkRows}.Run(t, lambda.New(handler), config, c.Records...)
	if c.Events != nil && (len(*c.Events) != len(*seen) || len(*seen) > 0 && !reflect.DeepEqual(*c.Events, *seen)) {
		t.Errorf("events: got %v, want %v", *seen, *c.Events)
	}
	rows := [][]any{}
	for _, row := range outcome.Emitted {
		one := []any{float64(row.Offset), string([]rune(row.Payload))}
		if len(row.Partition) > 0 {
			keys := map[string]any{}
			for _, pair := range row.Partition {
				keys[pair[0]] = pair[1]
			}
			one = append(one, keys)
		}
		rows = append(rows, one)
	}
	if len(rows)+len(c.Rows) > 0 && !reflect.DeepEqual(rows, c.Rows) {
		t.Errorf("rows: got %v, want %v", rows, c.Rows)
	}
	if len(outcome.Failed) != len(c.Failed) {
		t.Errorf("failed: got %q, want %q", outcome.Failed, c.Failed)
	}
	for number, want := range c.Failed {
		row, _ := strconv.Atoi(number)
		reason := outcome.Failed[row]
		if start, open := strings.CutSuffix(want, "..."); open {
			want = start + "cannot work on " + c.ThrowsAt
			if !strings.HasPrefix(reason, want) {
				t.Errorf("row %d: got %q, want the beginning %q", row, reason, want)
			}
		} else if reason != want {
			t.Errorf("row %d: got %q, want %q", row, reason, want)
		}
	}
}

func TestAllCasesByJSON(t *testing.T) {
	for _, c := range load(t) {
		t.Run(c.Name, func(t *testing.T) {
			var seen []any
			c.check(t, func(ctx context.Context, event map[string]any) (any, error) {
				if lc, ok := lambdacontext.FromContext(ctx); !ok || lc.AwsRequestID != event["invocationId"] {
					t.Errorf("context: %v", lc)
				}
				seen = append(seen, any(plain(event)))
				records := event["records"].([]any)
				if c.ThrowsAt == "" {
					return withIDs(c.Answer, records), nil
				}
				for _, record := range records {
					record := record.(map[string]any)
					var data []byte
					text, _ := json.Marshal(record["data"])
					if err := json.Unmarshal(text, &data); err != nil || string(data) == c.ThrowsAt {
						return nil, errors.Join(err, fmt.Errorf("cannot work on %s", data))
					}
					record["result"] = "Ok"
				}
				return event, nil
			}, &seen)
		})
	}
}

// Those cases whose answers fit into the types of package events.
func TestCasesByTypes(t *testing.T) {
	tried := 0
	for _, c := range load(t) {
		text, err := json.Marshal(c.Answer)
		if err != nil {
			t.Fatal(err)
		}
		strict := json.NewDecoder(bytes.NewReader(text))
		strict.DisallowUnknownFields()
		if strict.Decode(new(events.KinesisFirehoseResponse)) != nil {
			continue
		}
		tried++
		t.Run(c.Name, func(t *testing.T) {
			var seen []any
			c.check(t, func(_ context.Context, event events.KinesisFirehoseEvent) (events.KinesisFirehoseResponse, error) {
				var response events.KinesisFirehoseResponse
				var asJSON map[string]any
				text, _ := json.Marshal(event)
				if err := json.Unmarshal(text, &asJSON); err != nil {
					return response, err
				}
				seen = append(seen, any(plain(asJSON)))
				if c.ThrowsAt == "" {
					text, _ = json.Marshal(withIDs(c.Answer, asJSON["records"].([]any)))
					return response, json.Unmarshal(text, &response)
				}
				for _, record := range event.Records {
					if string(record.Data) == c.ThrowsAt {
						return response, errors.New("cannot work on " + c.ThrowsAt)
					}
					response.Records = append(response.Records, events.KinesisFirehoseResponseRecord{
						RecordID: record.RecordID,
						Result:   events.KinesisFirehoseTransformedStateOk,
						Data:     record.Data,
					})
				}
				return response, nil
			}, &seen)
		})
	}
	if tried < 10 {
		t.Errorf("only %d cases fit into types", tried)
	}
}

// clean is a function as most are: decode, change, encode.
func clean(ctx context.Context, event events.KinesisFirehoseEvent) (events.KinesisFirehoseResponse, error) {
	var response events.KinesisFirehoseResponse
	for _, record := range event.Records {
		transformed := events.KinesisFirehoseResponseRecord{
			RecordID: record.RecordID,
			Result:   events.KinesisFirehoseTransformedStateOk,
			Data:     record.Data,
		}
		var visit map[string]any
		if err := json.Unmarshal(record.Data, &visit); err != nil {
			transformed.Result = events.KinesisFirehoseTransformedStateProcessingFailed
		} else if visit["internal"] == true {
			transformed.Result = events.KinesisFirehoseTransformedStateDropped
		} else {
			visit["year"] = record.ApproximateArrivalTimestamp.UTC().Format("2006")
			visit["by"] = lambdacontext.FunctionName
			text, err := json.Marshal(visit)
			if err != nil {
				return response, err
			}
			transformed.Data = append(text, '\n')
			transformed.Metadata.PartitionKeys = map[string]string{"year": visit["year"].(string)}
		}
		response.Records = append(response.Records, transformed)
	}
	return response, ctx.Err()
}

func TestFunctionAsTheyAreRunsUnchanged(t *testing.T) {
	records := []string{`{"n":1}`, `{"internal":true}`, "nonsense"}
	outcome := sdktest.Run(t, lambda.New(clean), `{"function_name":"clean"}`, records...)
	want := sdktest.Row{Payload: `{"by":"clean","n":1,"year":"2026"}` + "\n", Partition: [][2]string{{"year", "2026"}}}
	if len(outcome.Emitted) != 1 || !reflect.DeepEqual(outcome.Emitted[0], want) {
		t.Errorf("got %v, want %v", outcome.Emitted, want)
	}
	failed := map[int]string{2: "Lambda.ProcessingFailedStatus: ProcessingFailed status set for record"}
	if !reflect.DeepEqual(outcome.Failed, failed) {
		t.Errorf("failed: %v", outcome.Failed)
	}
}

func TestPanicNamesTheLineOfTheFunction(t *testing.T) {
	handlers := map[string]any{
		"typed": func(event events.KinesisFirehoseEvent) (events.KinesisFirehoseResponse, error) {
			panic(event.Region)
		},
		"by JSON": func(event struct{ Region string }) (any, error) { panic(event.Region) },
	}
	for name, handler := range handlers {
		reason := sdktest.Run(t, lambda.New(handler), "", "a").Failed[0]
		lines := strings.Split(reason, "\n")
		if lines[0] != "Lambda.FunctionError: panic: us-east-1" || !strings.Contains(reason, "lambda_test.go:") {
			t.Errorf("%s: %s", name, reason)
		}
		if len(lines) < 2 || !strings.Contains(lines[1], "lambda_test.go:") {
			t.Errorf("%s: %s", name, reason)
		}
	}
}

func TestWhatIsNoHandlerIsRefusedAtTheStart(t *testing.T) {
	for _, handler := range []any{
		7,
		nil,
		func() {},
		func(int) error { return nil },
		func(string, int) (int, error) { return 0, nil },
		func(...int) (int, error) { return 0, nil },
	} {
		func() {
			defer func() {
				if reason := fmt.Sprint(recover()); !strings.Contains(reason, "a handler is a func") {
					t.Errorf("%T: %s", handler, reason)
				}
			}()
			lambda.New(handler)
		}()
	}
	refusal := sdktest.Refusal(t, lambda.New(clean), `{"stream_anr":"x"}`)
	if !strings.Contains(refusal, `did you mean "stream_arn"?`) {
		t.Error(refusal)
	}
}
