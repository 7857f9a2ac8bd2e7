// Package abi is the interface wasmill:plugin/records and its neighbours in Go's types: what a chunk is to the SDK,
// whether the host stands behind it or memory.
//
// It refuses to interpret anything: states, lengths and order are those of wit/plugin.wit.
package abi

import "strings"

// Column holds values one after the other: value i is Data[Ends[i-1]:Ends[i]].
type Column struct {
	Data []byte
	Ends []uint32
}

// Len is the number of values.
func (c *Column) Len() int { return len(c.Ends) }

// At is the value at a row. It must not be written.
func (c *Column) At(row int) []byte {
	start := uint32(0)
	if row > 0 {
		start = c.Ends[row-1]
	}
	end := c.Ends[row]
	return c.Data[start:end:end]
}

// Push appends a value.
func (c *Column) Push(value []byte) {
	c.Data = append(c.Data, value...)
	c.Ends = append(c.Ends, uint32(len(c.Data)))
}

// PushString appends a value.
func (c *Column) PushString(value string) {
	c.Data = append(c.Data, value...)
	c.Ends = append(c.Ends, uint32(len(c.Data)))
}

// Reset forgets all values and keeps the memory.
func (c *Column) Reset() { c.Data, c.Ends = c.Data[:0], c.Ends[:0] }

// States of a cell that is read.
const (
	Missing byte = iota
	Null
	Other
	Value
)

// States of a cell that is written.
const (
	Leave byte = iota
	SetNull
	Remove
	Set
)

// Cells has a state and a value for each row.
type Cells struct {
	State  []byte
	Values Column
}

// Floats has a state and a number for each row.
type Floats struct {
	State  []byte
	Values []float64
}

// Ints has a state and a number for each row.
type Ints struct {
	State  []byte
	Values []int64
}

// Chunk is the resource of the same name.
type Chunk interface {
	Len() int
	Seed() uint64
	Offsets() []int64
	ArrivalTimes() []int64
	Keys() Cells
	Attributes(name string) Cells
	Payloads() Column
	GetText(slot uint32) Cells
	GetRaw(slot uint32) Cells
	GetFloats(slot uint32) Floats
	GetInts(slot uint32) Ints
	SetPayloads(values *Cells)
	Clear(rows []byte)
	SetText(slot uint32, values *Cells)
	SetRaw(slot uint32, values *Cells)
	SetFloats(slot uint32, values *Floats)
	SetInts(slot uint32, values *Ints)
	SetKeys(values *Cells)
	SetAttributes(name string, values *Cells)
	Partition(name string, values *Cells)
	Route(outputs []uint32)
	Keep(rows []byte)
	Fail(rows []uint32, reasons *Column)
	Derive(sources []uint32) Chunk
	Fresh(rows uint32) Chunk
	// Emit hands the chunk over; it must not be used afterwards.
	Emit(rows Chunk)
	// Drop gives the chunk up. It may be called more than once.
	Drop()
}

// Setup is the interface of the same name.
type Setup interface {
	Field(path []string) uint32
	Output(name string) (uint32, error)
	Secret(name string) (string, error)
	File(name string, offset uint64, length uint32) ([]byte, error)
}

// HostError is what the host refuses with.
type HostError string

func (e HostError) Error() string { return strings.TrimSpace(string(e)) }

// Plugin is what the host calls.
type Plugin interface {
	Configure(config []byte, setup Setup) error
	Process(rows Chunk) error
}

// Log writes a line to the plugin's log: 0 debug, 1 info, 2 warn, 3 error.
var Log = func(level int, message string) {}
