// Package memory is a chunk without a host, for tests: the semantics of wit/plugin.wit, written to be read.
//
// It runs every case of the project's vectors. It refuses what the host would trap at, with a panic that says what was
// wrong.
package memory

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"wasmill.dev/sdk/internal/abi"
)

// Row is a record, or what it became.
type Row struct {
	Payload []byte
	// Source is the number of the input record; -1 for fresh rows.
	Source     int
	Offset     int64
	Arrival    int64
	Key        []byte
	Attributes map[string][]byte
	// Partition has names and values in the order in which names were set first.
	Partition [][2]string
	Route     uint32
}

func (r *Row) copied() *Row {
	made := *r
	made.Attributes = make(map[string][]byte, len(r.Attributes))
	for name, value := range r.Attributes {
		made.Attributes[name] = value
	}
	made.Partition = slices.Clone(r.Partition)
	return &made
}

// write is one call that sets a field.
type write struct {
	states []byte
	// text of a row's value as JSON, or why it cannot be written.
	text func(row int) (json []byte, reason string)
}

type named struct {
	name  string
	cells abi.Cells
}

// Chunk is the rows that a transform sees, and what it wants to become of them.
type Chunk struct {
	call *Call
	rows []*Row
	// parent and sources: where derived rows come from.
	parent  *Chunk
	sources []uint32
	gone    bool

	clear, keep []byte
	payloads    *abi.Cells
	// clearLater tells which of clear and payloads was called later.
	clearLater bool
	fields     map[uint32]write
	keys       *abi.Cells
	attributes []named
	partition  []named
	route      []uint32
	failed     map[int]string
	order      []int
	replaced   []bool
}

// Call is one call of a transform.
type Call struct {
	fields  [][]string
	seed    uint64
	arrival int64
	main    *Chunk
	emitted []*Chunk
}

func (c *Call) chunk(rows []*Row) *Chunk {
	return &Chunk{call: c, rows: rows, fields: map[uint32]write{}, failed: map[int]string{}, replaced: make([]bool, len(rows))}
}

func (c *Chunk) Len() int { return len(c.here().rows) }

func (c *Chunk) Seed() uint64 { return c.here().call.seed }

// here is the chunk, if it may still be used.
func (c *Chunk) here() *Chunk {
	if c.gone {
		panic("this chunk was emitted or dropped already, or belongs to an earlier call of Process")
	}
	return c
}

func (c *Chunk) Offsets() []int64 {
	var offsets []int64
	for _, row := range c.here().rows {
		offsets = append(offsets, row.Offset)
	}
	return offsets
}

func (c *Chunk) ArrivalTimes() []int64 {
	var times []int64
	for _, row := range c.here().rows {
		times = append(times, row.Arrival)
	}
	return times
}

// cells of any bytes, nil where there are none.
func (c *Chunk) cells(value func(*Row) []byte) abi.Cells {
	var cells abi.Cells
	for _, row := range c.here().rows {
		found, state := value(row), abi.Missing
		if found != nil {
			state = abi.Value
		}
		cells.State = append(cells.State, state)
		cells.Values.Push(found)
	}
	return cells
}

func (c *Chunk) Keys() abi.Cells { return c.cells(func(row *Row) []byte { return row.Key }) }

func (c *Chunk) Attributes(name string) abi.Cells {
	return c.cells(func(row *Row) []byte { return row.Attributes[name] })
}

func (c *Chunk) Payloads() abi.Column {
	return c.cells(func(row *Row) []byte { return row.Payload }).Values
}

func (c *Chunk) path(slot uint32) []string {
	if int(slot) >= len(c.here().call.fields) {
		panic(fmt.Sprintf("field %d was not declared in Configure", slot))
	}
	return c.call.fields[slot]
}

// GetText reads strings.
func (c *Chunk) GetText(slot uint32) abi.Cells {
	return c.read(slot, `"`, func(value []byte) []byte { return []byte(unescape(value)) })
}

// GetRaw reads any value.
func (c *Chunk) GetRaw(slot uint32) abi.Cells {
	return c.read(slot, "", func(value []byte) []byte { return value })
}

func (c *Chunk) read(slot uint32, letters string, text func([]byte) []byte) abi.Cells {
	var cells abi.Cells
	path := c.path(slot)
	for _, row := range c.rows {
		value := find(row.Payload, path)
		state := kind(value, letters)
		cells.State = append(cells.State, state)
		if state == abi.Value {
			cells.Values.Push(text(value))
		} else {
			cells.Values.Push(nil)
		}
	}
	return cells
}

const numbers = "-0123456789"

// GetFloats reads numbers; one beyond the largest is of another type.
func (c *Chunk) GetFloats(slot uint32) abi.Floats {
	var floats abi.Floats
	raw := c.read(slot, numbers, func(value []byte) []byte { return value })
	for row, state := range raw.State {
		number := 0.0
		if state == abi.Value {
			var err error
			if number, err = strconv.ParseFloat(string(raw.Values.At(row)), 64); err != nil {
				number, state = 0, abi.Other
			}
		}
		floats.State, floats.Values = append(floats.State, state), append(floats.Values, number)
	}
	return floats
}

// GetInts reads numbers that are integers, however written.
func (c *Chunk) GetInts(slot uint32) abi.Ints {
	var ints abi.Ints
	raw := c.read(slot, numbers, func(value []byte) []byte { return value })
	for row, state := range raw.State {
		number := int64(0)
		if state == abi.Value {
			var exact bool
			if number, exact = integer(string(raw.Values.At(row))); !exact {
				number, state = 0, abi.Other
			}
		}
		ints.State, ints.Values = append(ints.State, state), append(ints.Values, number)
	}
	return ints
}

// complete panics where the host traps.
func (c *Chunk) complete(values int, what string) {
	if values != len(c.here().rows) {
		panic(fmt.Sprintf("%s: %d values for %d rows", what, values, len(c.rows)))
	}
}

// staged is a copy of cells, because the caller uses its memory again.
func (c *Chunk) staged(cells *abi.Cells, what string) *abi.Cells {
	c.complete(len(cells.State), what)
	c.complete(len(cells.Values.Ends), what)
	return &abi.Cells{
		State:  slices.Clone(cells.State),
		Values: abi.Column{Data: slices.Clone(cells.Values.Data), Ends: slices.Clone(cells.Values.Ends)},
	}
}

func (c *Chunk) SetPayloads(values *abi.Cells) {
	for row, state := range values.State {
		if state != abi.Leave && state != abi.Set {
			panic(fmt.Sprintf("set-payloads: state %d in row %d; a payload can be set or left alone", state, row))
		}
	}
	c.payloads, c.clearLater = c.staged(values, "set-payloads"), false
}

func (c *Chunk) Clear(rows []byte) {
	c.complete(len(rows), "clear")
	c.clear, c.clearLater = slices.Clone(rows), true
}

// SetText stages strings.
func (c *Chunk) SetText(slot uint32, values *abi.Cells) {
	c.path(slot)
	cells := c.staged(values, "set-text")
	c.fields[slot] = write{cells.State, func(row int) ([]byte, string) {
		if text := cells.Values.At(row); utf8.Valid(text) {
			return quote(text), ""
		}
		return nil, "the text is no UTF-8"
	}}
}

// SetRaw stages JSON values.
func (c *Chunk) SetRaw(slot uint32, values *abi.Cells) {
	path := c.path(slot)
	cells := c.staged(values, "set-raw")
	c.fields[slot] = write{cells.State, func(row int) ([]byte, string) {
		text := cells.Values.At(row)
		value, depth, ok := valid(text)
		switch {
		case !ok:
			return nil, "the raw value is not one JSON value"
		case depth+len(path) > depthMax:
			return nil, "the raw value nests too deep"
		}
		return text[value.start:value.end], ""
	}}
}

// SetFloats stages numbers.
func (c *Chunk) SetFloats(slot uint32, values *abi.Floats) {
	c.path(slot)
	c.complete(len(values.State), "set-floats")
	c.complete(len(values.Values), "set-floats")
	floats := slices.Clone(values.Values)
	c.fields[slot] = write{slices.Clone(values.State), func(row int) ([]byte, string) {
		if math.IsNaN(floats[row]) || math.IsInf(floats[row], 0) {
			return nil, "the number is not finite"
		}
		return writeFloat(floats[row]), ""
	}}
}

// SetInts stages numbers.
func (c *Chunk) SetInts(slot uint32, values *abi.Ints) {
	c.path(slot)
	c.complete(len(values.State), "set-ints")
	c.complete(len(values.Values), "set-ints")
	ints := slices.Clone(values.Values)
	c.fields[slot] = write{slices.Clone(values.State), func(row int) ([]byte, string) {
		return strconv.AppendInt(nil, ints[row], 10), ""
	}}
}

func (c *Chunk) SetKeys(values *abi.Cells) { c.keys = c.staged(values, "set-keys") }

func (c *Chunk) SetAttributes(name string, values *abi.Cells) {
	c.attributes = stage(c.attributes, name, c.staged(values, "set-attributes"))
}

func (c *Chunk) Partition(name string, values *abi.Cells) {
	c.partition = stage(c.partition, name, c.staged(values, "partition"))
}

func stage(calls []named, name string, cells *abi.Cells) []named {
	for i := range calls {
		if calls[i].name == name {
			calls[i].cells = *cells
			return calls
		}
	}
	return append(calls, named{name, *cells})
}

func (c *Chunk) Route(outputs []uint32) {
	c.complete(len(outputs), "route")
	c.route = slices.Clone(outputs)
}

func (c *Chunk) Keep(rows []byte) {
	c.complete(len(rows), "keep")
	c.keep = slices.Clone(rows)
}

func (c *Chunk) Fail(rows []uint32, reasons *abi.Column) {
	if len(rows) != reasons.Len() {
		panic(fmt.Sprintf("fail: %d rows and %d reasons", len(rows), reasons.Len()))
	}
	for i, row := range rows {
		if int(row) >= len(c.here().rows) {
			panic(fmt.Sprintf("fail: row %d of %d", row, len(c.rows)))
		}
		c.fail(int(row), string(reasons.At(i)))
	}
}

// fail notes the first reason of a row.
func (c *Chunk) fail(row int, reason string) {
	if _, already := c.failed[row]; !already {
		c.failed[row] = reason
		c.order = append(c.order, row)
	}
}

func (c *Chunk) Derive(sources []uint32) abi.Chunk {
	var rows []*Row
	for _, source := range sources {
		if int(source) >= len(c.here().rows) {
			panic(fmt.Sprintf("derive: row %d of %d", source, len(c.rows)))
		}
		rows = append(rows, c.rows[source].copied())
	}
	derived := c.here().call.chunk(rows)
	derived.parent, derived.sources = c, slices.Clone(sources)
	return derived
}

func (c *Chunk) Fresh(count uint32) abi.Chunk {
	rows := make([]*Row, count)
	for i := range rows {
		rows[i] = &Row{Payload: []byte("{}"), Source: -1, Offset: -1, Arrival: c.here().call.arrival}
	}
	return c.call.chunk(rows)
}

func (c *Chunk) Emit(rows abi.Chunk) {
	emitted := rows.(*Chunk).here()
	if emitted == c.call.main {
		panic("emit: the chunk of the call cannot be emitted")
	}
	c.call.emitted = append(c.call.emitted, emitted)
	emitted.gone = true
}

func (c *Chunk) Drop() { c.gone = true }
