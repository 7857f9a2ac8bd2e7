package guest

import "wasmill.dev/sdk/internal/abi"

// chunk is a handle of the host's. Zero is none: it was dropped or emitted.
type chunk struct{ handle int32 }

func (c *chunk) self() int32 {
	if c.handle == 0 {
		panic("this chunk was emitted or dropped already, or belongs to an earlier call of Process")
	}
	return c.handle
}

func takeCells() abi.Cells {
	r := results
	return abi.Cells{
		State:  take[byte](r[0], r[1]),
		Values: abi.Column{Data: take[byte](r[2], r[3]), Ends: take[uint32](r[4], r[5])},
	}
}

func (c *chunk) Len() int     { return int(chunkLen(c.self())) }
func (c *chunk) Seed() uint64 { return chunkSeed(c.self()) }

func (c *chunk) Offsets() []int64 {
	chunkOffsets(c.self(), result())
	return take[int64](results[0], results[1])
}

func (c *chunk) ArrivalTimes() []int64 {
	chunkArrivalTimes(c.self(), result())
	return take[int64](results[0], results[1])
}

func (c *chunk) Keys() abi.Cells {
	chunkKeys(c.self(), result())
	return takeCells()
}

func (c *chunk) Attributes(name string) abi.Cells {
	chunkAttributes(c.self(), name, result())
	return takeCells()
}

func (c *chunk) Payloads() abi.Column {
	chunkPayloads(c.self(), result())
	r := results
	return abi.Column{Data: take[byte](r[0], r[1]), Ends: take[uint32](r[2], r[3])}
}

func (c *chunk) GetText(slot uint32) abi.Cells {
	chunkGetText(c.self(), slot, result())
	return takeCells()
}

func (c *chunk) GetRaw(slot uint32) abi.Cells {
	chunkGetRaw(c.self(), slot, result())
	return takeCells()
}

func (c *chunk) GetFloats(slot uint32) abi.Floats {
	chunkGetFloats(c.self(), slot, result())
	r := results
	return abi.Floats{State: take[byte](r[0], r[1]), Values: take[float64](r[2], r[3])}
}

func (c *chunk) GetInts(slot uint32) abi.Ints {
	chunkGetInts(c.self(), slot, result())
	r := results
	return abi.Ints{State: take[byte](r[0], r[1]), Values: take[int64](r[2], r[3])}
}

func (c *chunk) SetPayloads(v *abi.Cells) {
	chunkSetPayloads(c.self(), at(v.State), size(v.State), at(v.Values.Data), size(v.Values.Data), at(v.Values.Ends), size(v.Values.Ends))
}

func (c *chunk) Clear(rows []byte) { chunkClear(c.self(), at(rows), size(rows)) }

func (c *chunk) SetText(slot uint32, v *abi.Cells) {
	chunkSetText(c.self(), slot, at(v.State), size(v.State), at(v.Values.Data), size(v.Values.Data), at(v.Values.Ends), size(v.Values.Ends))
}

func (c *chunk) SetRaw(slot uint32, v *abi.Cells) {
	chunkSetRaw(c.self(), slot, at(v.State), size(v.State), at(v.Values.Data), size(v.Values.Data), at(v.Values.Ends), size(v.Values.Ends))
}

func (c *chunk) SetFloats(slot uint32, v *abi.Floats) {
	chunkSetFloats(c.self(), slot, at(v.State), size(v.State), at(v.Values), size(v.Values))
}

func (c *chunk) SetInts(slot uint32, v *abi.Ints) {
	chunkSetInts(c.self(), slot, at(v.State), size(v.State), at(v.Values), size(v.Values))
}

func (c *chunk) SetKeys(v *abi.Cells) {
	chunkSetKeys(c.self(), at(v.State), size(v.State), at(v.Values.Data), size(v.Values.Data), at(v.Values.Ends), size(v.Values.Ends))
}

func (c *chunk) SetAttributes(name string, v *abi.Cells) {
	chunkSetAttributes(c.self(), name, at(v.State), size(v.State), at(v.Values.Data), size(v.Values.Data), at(v.Values.Ends), size(v.Values.Ends))
}

func (c *chunk) Partition(name string, v *abi.Cells) {
	chunkPartition(c.self(), name, at(v.State), size(v.State), at(v.Values.Data), size(v.Values.Data), at(v.Values.Ends), size(v.Values.Ends))
}

func (c *chunk) Route(outputs []uint32) { chunkRoute(c.self(), at(outputs), size(outputs)) }
func (c *chunk) Keep(rows []byte)       { chunkKeep(c.self(), at(rows), size(rows)) }

func (c *chunk) Fail(rows []uint32, reasons *abi.Column) {
	chunkFail(c.self(), at(rows), size(rows), at(reasons.Data), size(reasons.Data), at(reasons.Ends), size(reasons.Ends))
}

func (c *chunk) Derive(sources []uint32) abi.Chunk {
	return own(chunkDerive(c.self(), at(sources), size(sources)))
}

func (c *chunk) Fresh(rows uint32) abi.Chunk { return own(chunkFresh(rows)) }

func (c *chunk) Emit(rows abi.Chunk) {
	emitted := rows.(*chunk)
	emit(emitted.self())
	emitted.handle = 0
}

func (c *chunk) Drop() {
	if c.handle != 0 {
		chunkDrop(c.handle)
		c.handle = 0
	}
}

// owned are the chunks that the plugin made in this call; those that it forgot are dropped at the end of it.
var owned []*chunk

func own(handle int32) *chunk {
	made := &chunk{handle}
	owned = append(owned, made)
	return made
}
