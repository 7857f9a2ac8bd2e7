package sdk

import (
	"fmt"
	"math/rand/v2"

	"wasmill.dev/sdk/internal/abi"
)

// Chunk is the rows of one call. Reads never see pending writes; writes are applied together when Process returns nil,
// and of two writes to the same target the last one wins. See wit/plugin.wit for the contract of each method.
type Chunk struct {
	rows   abi.Chunk
	length int
	failed []uint32
	why    abi.Column
}

// NewChunk is for this module's own packages.
func NewChunk(rows abi.Chunk) *Chunk { return &Chunk{rows: rows, length: rows.Len()} }

// Len is the number of rows.
func (c *Chunk) Len() int { return c.length }

// Seed comes from slice, transform and first offset: it is the same on every attempt.
func (c *Chunk) Seed() uint64 { return c.rows.Seed() }

// Rand gives random numbers that are the same on every attempt. Those of math/rand are not.
func (c *Chunk) Rand() *rand.Rand { return rand.New(rand.NewPCG(c.Seed(), 0x9e3779b97f4a7c15)) }

// Offsets of the rows' records in the stream; -1 for fresh rows.
func (c *Chunk) Offsets() []int64 { return c.rows.Offsets() }

// ArrivalTimes of the rows' records in nanoseconds since the epoch.
func (c *Chunk) ArrivalTimes() []int64 { return c.rows.ArrivalTimes() }

// Keys of the rows.
func (c *Chunk) Keys() Text { return newText(c.rows.Keys()) }

// Attributes of the rows by that name.
func (c *Chunk) Attributes(name string) Text { return newText(c.rows.Attributes(name)) }

// Payloads are the records themselves.
func (c *Chunk) Payloads() Payloads { return Payloads{c.rows.Payloads()} }

// Text reads a field's JSON strings, unescaped.
func (c *Chunk) Text(field Field) Text { return newText(c.rows.GetText(field.slot)) }

// Raw reads a field's values of any type as their JSON text, verbatim.
func (c *Chunk) Raw(field Field) Text { return newText(c.rows.GetRaw(field.slot)) }

// Floats reads a field's JSON numbers.
func (c *Chunk) Floats(field Field) Floats { return Floats{c.rows.GetFloats(field.slot)} }

// Ints reads a field's JSON numbers; one that is not exactly an int64 is [Other].
func (c *Chunk) Ints(field Field) Ints { return Ints{c.rows.GetInts(field.slot)} }

// SetPayloads replaces records. Only values and rows that are left alone are allowed.
func (c *Chunk) SetPayloads(values *TextColumn) {
	c.rows.SetPayloads(values.whole(c, "SetPayloads"))
}

// Clear makes the marked rows start from {}: they get only the fields that are set.
func (c *Chunk) Clear(rows []bool) { c.rows.Clear(c.marks(rows, "Clear")) }

// SetText writes texts, which the host escapes.
func (c *Chunk) SetText(field Field, values *TextColumn) {
	c.rows.SetText(field.slot, values.whole(c, "SetText"))
}

// SetRaw writes JSON values, one each.
func (c *Chunk) SetRaw(field Field, values *TextColumn) {
	c.rows.SetRaw(field.slot, values.whole(c, "SetRaw"))
}

// SetFloats writes numbers; NaN or infinite fails that row.
func (c *Chunk) SetFloats(field Field, values *FloatColumn) {
	c.complete(len(values.floats.State), "SetFloats")
	c.rows.SetFloats(field.slot, &values.floats)
}

// SetInts writes integers.
func (c *Chunk) SetInts(field Field, values *IntColumn) {
	c.complete(len(values.ints.State), "SetInts")
	c.rows.SetInts(field.slot, &values.ints)
}

// SetKeys writes the rows' keys.
func (c *Chunk) SetKeys(values *TextColumn) { c.rows.SetKeys(values.whole(c, "SetKeys")) }

// SetAttributes writes an attribute.
func (c *Chunk) SetAttributes(name string, values *TextColumn) {
	c.rows.SetAttributes(name, values.whole(c, "SetAttributes"))
}

// Partition sets a partition value, for names of objects.
func (c *Chunk) Partition(name string, values *TextColumn) {
	c.rows.Partition(name, values.whole(c, "Partition"))
}

// Route sends each row to an output.
func (c *Chunk) Route(outputs []Output) {
	c.complete(len(outputs), "Route")
	numbers := make([]uint32, len(outputs))
	for row, output := range outputs {
		numbers[row] = output.number
	}
	c.rows.Route(numbers)
}

// Keep drops the rows that are false.
func (c *Chunk) Keep(rows []bool) { c.rows.Keep(c.marks(rows, "Keep")) }

// Fail makes a dead letter of a row. The first reason of a row stays.
func (c *Chunk) Fail(row int, reason string) {
	if row < 0 || row >= c.length {
		panic(fmt.Sprintf("Chunk.Fail: row %d of %d", row, c.length))
	}
	c.failed = append(c.failed, uint32(row))
	c.why.PushString(reason)
}

// Derive makes new rows, each a copy of its source row as read. Fill them and [Chunk.Emit] them; a row that others come
// of is replaced by them.
func (c *Chunk) Derive(sources []int) *Chunk {
	numbers := make([]uint32, len(sources))
	for at, row := range sources {
		if row < 0 || row >= c.length {
			panic(fmt.Sprintf("Chunk.Derive: row %d of %d", row, c.length))
		}
		numbers[at] = uint32(row)
	}
	return NewChunk(c.rows.Derive(numbers))
}

// Fresh makes rows without a source: payload {}, arrival time of the slice.
func (c *Chunk) Fresh(rows int) *Chunk { return NewChunk(c.rows.Fresh(uint32(rows))) }

// Emit appends derived or fresh rows to what leaves. They must not be used afterwards. Rows that are never emitted are
// discarded.
func (c *Chunk) Emit(rows *Chunk) {
	rows.Flush()
	c.rows.Emit(rows.rows)
}

// Flush hands over failures that were gathered one by one, so that they cost one call. Process's end does it too.
func (c *Chunk) Flush() {
	if len(c.failed) > 0 {
		c.rows.Fail(c.failed, &c.why)
		c.failed = c.failed[:0]
		c.why.Reset()
	}
}

func (c *Chunk) marks(rows []bool, what string) []byte {
	c.complete(len(rows), what)
	marks := make([]byte, len(rows))
	for row, marked := range rows {
		if marked {
			marks[row] = 1
		}
	}
	return marks
}

// complete panics with what the author has to know; the host would only trap.
func (c *Chunk) complete(values int, what string) {
	if values != c.length {
		panic(fmt.Sprintf("Chunk.%s: %d values for %d rows", what, values, c.length))
	}
}
