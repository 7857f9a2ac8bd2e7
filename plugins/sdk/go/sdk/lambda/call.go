package lambda

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"wasmill.dev/sdk/events"
)

// result is what a function answered for a record.
type result struct {
	result string
	// nil: none
	data []byte
	keys map[string]string
	// Why the record cannot be Ok.
	wrong string
}

// call hands an event to a function and gathers what it answers by record id.
type call func(context.Context, *events.KinesisFirehoseEvent) (map[string][]result, error)

// callOf is a handler as a call. One with the SDK's own types is called as it is, any other by way of JSON.
func callOf(handler any) call {
	type event = events.KinesisFirehoseEvent
	type response = events.KinesisFirehoseResponse
	switch handle := handler.(type) {
	case func(context.Context, event) (response, error):
		return func(ctx context.Context, e *event) (map[string][]result, error) {
			answer, err := handle(ctx, *e)
			return typed(answer), err
		}
	case func(event) (response, error):
		return func(_ context.Context, e *event) (map[string][]result, error) {
			answer, err := handle(*e)
			return typed(answer), err
		}
	}
	return callByJSON(handler)
}

func typed(answer events.KinesisFirehoseResponse) map[string][]result {
	found := make(map[string][]result, len(answer.Records))
	for _, record := range answer.Records {
		found[record.RecordID] = append(found[record.RecordID], result{
			result: record.Result,
			data:   record.Data,
			keys:   record.Metadata.PartitionKeys,
		})
	}
	return found
}

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
)

// callByJSON panics for what is no handler: it is found out when the program starts.
func callByJSON(handler any) call {
	value := reflect.ValueOf(handler)
	wrong := fmt.Sprintf("lambda: a handler is a func(context.Context, event) (response, error), not %T", handler)
	if value.Kind() != reflect.Func {
		panic(wrong)
	}
	kind := value.Type()
	withContext := kind.NumIn() == 2
	if kind.IsVariadic() || kind.NumIn() < 1 || kind.NumIn() > 2 || withContext && kind.In(0) != contextType {
		panic(wrong)
	}
	if kind.NumOut() != 2 || kind.Out(1) != errorType {
		panic(wrong)
	}
	in := kind.In(kind.NumIn() - 1)
	return func(ctx context.Context, e *events.KinesisFirehoseEvent) (map[string][]result, error) {
		text, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		event := reflect.New(in)
		if err := json.Unmarshal(text, event.Interface()); err != nil {
			return nil, err
		}
		arguments := []reflect.Value{event.Elem()}
		if withContext {
			arguments = []reflect.Value{reflect.ValueOf(ctx), event.Elem()}
		}
		answers := value.Call(arguments)
		if err, failed := answers[1].Interface().(error); failed {
			return nil, err
		}
		if text, err = json.Marshal(answers[0].Interface()); err != nil {
			return nil, err
		}
		return read(text), nil
	}
}

// read finds what was answered, whatever else there is in the answer.
func read(answer []byte) map[string][]result {
	found := map[string][]result{}
	var records []json.RawMessage
	if json.Unmarshal(object(answer)["records"], &records) != nil {
		return found
	}
	for _, record := range records {
		members := object(record)
		if id, ok := text(members["recordId"]); ok {
			found[id] = append(found[id], readResult(members))
		}
	}
	return found
}

func readResult(members map[string]json.RawMessage) result {
	var r result
	r.result, _ = text(members["result"])
	data := members["data"]
	if absent(data) {
		return r
	}
	encoded, ok := text(data)
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	// The package reads over line breaks.
	if !ok || err != nil || strings.ContainsAny(encoded, "\r\n") {
		r.wrong = noBase64
		return r
	}
	// Empty is not the same as none.
	r.data = append([]byte{}, decoded...)
	if r.keys, ok = readKeys(members["metadata"]); !ok {
		r.wrong = noKeys
	}
	return r
}

func readKeys(metadata json.RawMessage) (map[string]string, bool) {
	if absent(metadata) {
		return nil, true
	}
	members := object(metadata)
	if members == nil {
		return nil, false
	}
	if absent(members["partitionKeys"]) {
		return nil, true
	}
	named := object(members["partitionKeys"])
	keys := make(map[string]string, len(named))
	for name, value := range named {
		key, ok := text(value)
		if !ok {
			return nil, false
		}
		keys[name] = key
	}
	return keys, named != nil
}

func absent(value json.RawMessage) bool { return len(value) == 0 || bytes.Equal(value, []byte("null")) }

// object is nil where there is none.
func object(value json.RawMessage) map[string]json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil {
		return nil
	}
	return members
}

func text(value json.RawMessage) (string, bool) {
	var found *string
	if json.Unmarshal(value, &found) != nil || found == nil {
		return "", false
	}
	return *found, true
}
