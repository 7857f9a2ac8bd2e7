package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"wasmill.dev/sdk/internal/stack"
)

// RecordPlugin works over one record at a time. In and Out are what encoding/json makes of a record: a struct, or
// map[string]any (its numbers are json.Number, so that none loses digits; it writes keys in alphabetical order).
type RecordPlugin[In, Out any] interface {
	// Configure is that of [Plugin].
	Configure(config []byte, setup *Setup) error
	// Record transforms one record. [Drop] drops it; any other error or a panic fails that record alone, with the
	// error's text, or the stack, as the reason.
	Record(record In, meta Meta) (Out, error)
}

// Drop is what [RecordPlugin] returns for a record that is to be dropped.
var Drop = errors.New("drop this record")

// Meta is what is known of a record besides its content.
type Meta struct {
	// Row in the chunk.
	Row int
	// Offset in the stream.
	Offset int64
	// ArrivalTime in nanoseconds since the epoch.
	ArrivalTime int64
}

// ByRecord makes a [Plugin] that hands records one by one to a plugin over records. A record that is not JSON of the
// wanted shape fails with what is wrong with it.
func ByRecord[In, Out any](plugin RecordPlugin[In, Out]) Plugin {
	b := &byRecord[In, Out]{plugin: plugin, open: open(reflect.TypeFor[In](), nil)}
	b.encoder = json.NewEncoder(&b.buffer)
	// Nothing here ends up in a web page.
	b.encoder.SetEscapeHTML(false)
	return b
}

// open tells whether numbers can end up in an interface, where they would become floats and lose digits.
func open(t reflect.Type, above []reflect.Type) bool {
	if slices.Contains(above, t) {
		return false
	}
	above = append(above, t)
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return open(t.Elem(), above)
	case reflect.Struct:
		for i := range t.NumField() {
			if open(t.Field(i).Type, above) {
				return true
			}
		}
	}
	return false
}

type byRecord[In, Out any] struct {
	plugin   RecordPlugin[In, Out]
	open     bool
	payloads TextColumn
	buffer   bytes.Buffer
	encoder  *json.Encoder
}

func (b *byRecord[In, Out]) Configure(config []byte, setup *Setup) error {
	return b.plugin.Configure(config, setup)
}

func (b *byRecord[In, Out]) Process(rows *Chunk) error {
	payloads, offsets, times := rows.Payloads(), rows.Offsets(), rows.ArrivalTimes()
	keep := make([]bool, rows.Len())
	b.payloads.Reset()
	for row := range rows.Len() {
		err := b.record(payloads.Bytes(row), Meta{row, offsets[row], times[row]})
		switch {
		case err == nil:
			keep[row] = true
		case errors.Is(err, Drop):
			b.payloads.Skip()
		default:
			b.payloads.Skip()
			rows.Fail(row, err.Error())
		}
	}
	rows.SetPayloads(&b.payloads)
	rows.Keep(keep)
	return nil
}

// record appends what becomes of one record, or says why nothing does.
func (b *byRecord[In, Out]) record(payload []byte, meta Meta) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("row %d (offset %d): %s", meta.Row, meta.Offset, stack.Described(reason))
		}
	}()
	var in In
	if err := b.read(payload, &in); err != nil {
		return fmt.Errorf("the record is not what this plugin reads: %w", err)
	}
	out, err := b.plugin.Record(in, meta)
	if err != nil {
		return err
	}
	b.buffer.Reset()
	if err := b.encoder.Encode(out); err != nil {
		return fmt.Errorf("what the plugin made of the record cannot be written as JSON: %w", err)
	}
	b.payloads.AppendBytes(bytes.TrimSuffix(b.buffer.Bytes(), []byte("\n")))
	return nil
}

func (b *byRecord[In, Out]) read(payload []byte, in *In) error {
	if !b.open {
		return json.Unmarshal(payload, in)
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	if err := decoder.Decode(in); err != nil {
		return err
	}
	if decoder.More() {
		return errors.New("there is something behind the JSON value")
	}
	return nil
}
