package sdk

import (
	"unsafe"

	"wasmill.dev/sdk/internal/abi"
)

// State tells what a row has in a field that is read.
type State byte

const (
	// Missing: there is no such field, or the record is no JSON object.
	Missing = State(abi.Missing)
	// Null: the field is null.
	Null = State(abi.Null)
	// Other: the field has a value of another type.
	Other = State(abi.Other)
	// Value: there is a value.
	Value = State(abi.Value)
)

// Text is a column as read. Strings that come of it share its memory: keep a copy ([strings.Clone]) of one that lives
// longer than the call, or the whole column lives on.
type Text struct {
	cells abi.Cells
	all   string
}

func newText(cells abi.Cells) Text {
	data := cells.Values.Data
	// The column is never written again, so it can be a string without a copy.
	return Text{cells, unsafe.String(unsafe.SliceData(data), len(data))}
}

// Len is the number of rows.
func (t Text) Len() int { return len(t.cells.State) }

// State of a row.
func (t Text) State(row int) State { return State(t.cells.State[row]) }

// Get is the text of a row, and whether there is one.
func (t Text) Get(row int) (string, bool) {
	if t.cells.State[row] != abi.Value {
		return "", false
	}
	start := uint32(0)
	if row > 0 {
		start = t.cells.Values.Ends[row-1]
	}
	return t.all[start:t.cells.Values.Ends[row]], true
}

// Or is the text of a row, or what is given where there is none.
func (t Text) Or(row int, otherwise string) string {
	if text, ok := t.Get(row); ok {
		return text
	}
	return otherwise
}

// Payloads are records as they are.
type Payloads struct{ column abi.Column }

// Len is the number of rows.
func (p Payloads) Len() int { return p.column.Len() }

// Bytes of a row. They must not be written to.
func (p Payloads) Bytes(row int) []byte { return p.column.At(row) }

// Ints is a column as read.
type Ints struct{ ints abi.Ints }

// Len is the number of rows.
func (i Ints) Len() int { return len(i.ints.State) }

// State of a row.
func (i Ints) State(row int) State { return State(i.ints.State[row]) }

// Get is the number of a row, and whether there is one.
func (i Ints) Get(row int) (int64, bool) {
	return i.ints.Values[row], i.ints.State[row] == abi.Value
}

// Floats is a column as read.
type Floats struct{ floats abi.Floats }

// Len is the number of rows.
func (f Floats) Len() int { return len(f.floats.State) }

// State of a row.
func (f Floats) State(row int) State { return State(f.floats.State[row]) }

// Get is the number of a row, and whether there is one.
func (f Floats) Get(row int) (float64, bool) {
	return f.floats.Values[row], f.floats.State[row] == abi.Value
}

// TextColumn is a column to write: append one value per row. Keep it and [TextColumn.Reset] it, and it keeps its memory.
type TextColumn struct{ cells abi.Cells }

// Len is the number of rows so far.
func (t *TextColumn) Len() int { return len(t.cells.State) }

// Reset forgets all rows and keeps the memory.
func (t *TextColumn) Reset() {
	t.cells.State = t.cells.State[:0]
	t.cells.Values.Reset()
}

// Append sets the next row to the parts, one after the other.
func (t *TextColumn) Append(parts ...string) {
	data := t.cells.Values.Data
	for _, part := range parts {
		data = append(data, part...)
	}
	t.cells.Values.Data = data
	t.end(abi.Set)
}

// AppendBytes sets the next row.
func (t *TextColumn) AppendBytes(value []byte) {
	t.cells.Values.Data = append(t.cells.Values.Data, value...)
	t.end(abi.Set)
}

// Skip leaves the next row alone.
func (t *TextColumn) Skip() { t.end(abi.Leave) }

// AppendNull sets the next row to null.
func (t *TextColumn) AppendNull() { t.end(abi.SetNull) }

// Remove removes the field from the next row.
func (t *TextColumn) Remove() { t.end(abi.Remove) }

func (t *TextColumn) end(state byte) {
	t.cells.State = append(t.cells.State, state)
	t.cells.Values.Ends = append(t.cells.Values.Ends, uint32(len(t.cells.Values.Data)))
}

func (t *TextColumn) whole(rows *Chunk, what string) *abi.Cells {
	rows.complete(len(t.cells.State), what)
	return &t.cells
}

// IntColumn is a column to write: append one value per row.
type IntColumn struct{ ints abi.Ints }

// Len is the number of rows so far.
func (i *IntColumn) Len() int { return len(i.ints.State) }

// Reset forgets all rows and keeps the memory.
func (i *IntColumn) Reset() { i.ints.State, i.ints.Values = i.ints.State[:0], i.ints.Values[:0] }

// Append sets the next row.
func (i *IntColumn) Append(value int64) { i.end(abi.Set, value) }

// Skip leaves the next row alone.
func (i *IntColumn) Skip() { i.end(abi.Leave, 0) }

// AppendNull sets the next row to null.
func (i *IntColumn) AppendNull() { i.end(abi.SetNull, 0) }

// Remove removes the field from the next row.
func (i *IntColumn) Remove() { i.end(abi.Remove, 0) }

func (i *IntColumn) end(state byte, value int64) {
	i.ints.State = append(i.ints.State, state)
	i.ints.Values = append(i.ints.Values, value)
}

// FloatColumn is a column to write: append one value per row.
type FloatColumn struct{ floats abi.Floats }

// Len is the number of rows so far.
func (f *FloatColumn) Len() int { return len(f.floats.State) }

// Reset forgets all rows and keeps the memory.
func (f *FloatColumn) Reset() {
	f.floats.State, f.floats.Values = f.floats.State[:0], f.floats.Values[:0]
}

// Append sets the next row.
func (f *FloatColumn) Append(value float64) { f.end(abi.Set, value) }

// Skip leaves the next row alone.
func (f *FloatColumn) Skip() { f.end(abi.Leave, 0) }

// AppendNull sets the next row to null.
func (f *FloatColumn) AppendNull() { f.end(abi.SetNull, 0) }

// Remove removes the field from the next row.
func (f *FloatColumn) Remove() { f.end(abi.Remove, 0) }

func (f *FloatColumn) end(state byte, value float64) {
	f.floats.State = append(f.floats.State, state)
	f.floats.Values = append(f.floats.Values, value)
}
