package guest

import "unsafe"

// The imports of world transformer as the canonical ABI flattens them: a list or string is its address and length, a
// record its fields, and a result that is more than one number goes to the address in the last parameter.

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.len
func chunkLen(self int32) uint32

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.seed
func chunkSeed(self int32) uint64

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.offsets
func chunkOffsets(self int32, result unsafe.Pointer)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.arrival-times
func chunkArrivalTimes(self int32, result unsafe.Pointer)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.keys
func chunkKeys(self int32, result unsafe.Pointer)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.attributes
func chunkAttributes(self int32, name string, result unsafe.Pointer)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.payloads
func chunkPayloads(self int32, result unsafe.Pointer)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.get-text
func chunkGetText(self int32, slot uint32, result unsafe.Pointer)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.get-raw
func chunkGetRaw(self int32, slot uint32, result unsafe.Pointer)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.get-floats
func chunkGetFloats(self int32, slot uint32, result unsafe.Pointer)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.get-ints
func chunkGetInts(self int32, slot uint32, result unsafe.Pointer)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.set-payloads
func chunkSetPayloads(self int32, state unsafe.Pointer, states uint32, data unsafe.Pointer, bytes uint32, ends unsafe.Pointer, rows uint32)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.clear
func chunkClear(self int32, marks unsafe.Pointer, rows uint32)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.set-text
func chunkSetText(self int32, slot uint32, state unsafe.Pointer, states uint32, data unsafe.Pointer, bytes uint32, ends unsafe.Pointer, rows uint32)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.set-raw
func chunkSetRaw(self int32, slot uint32, state unsafe.Pointer, states uint32, data unsafe.Pointer, bytes uint32, ends unsafe.Pointer, rows uint32)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.set-floats
func chunkSetFloats(self int32, slot uint32, state unsafe.Pointer, states uint32, values unsafe.Pointer, rows uint32)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.set-ints
func chunkSetInts(self int32, slot uint32, state unsafe.Pointer, states uint32, values unsafe.Pointer, rows uint32)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.set-keys
func chunkSetKeys(self int32, state unsafe.Pointer, states uint32, data unsafe.Pointer, bytes uint32, ends unsafe.Pointer, rows uint32)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.set-attributes
func chunkSetAttributes(self int32, name string, state unsafe.Pointer, states uint32, data unsafe.Pointer, bytes uint32, ends unsafe.Pointer, rows uint32)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.partition
func chunkPartition(self int32, name string, state unsafe.Pointer, states uint32, data unsafe.Pointer, bytes uint32, ends unsafe.Pointer, rows uint32)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.route
func chunkRoute(self int32, outputs unsafe.Pointer, rows uint32)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.keep
func chunkKeep(self int32, marks unsafe.Pointer, rows uint32)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.fail
func chunkFail(self int32, rows unsafe.Pointer, count uint32, data unsafe.Pointer, bytes uint32, ends unsafe.Pointer, reasons uint32)

//go:wasmimport wasmill:plugin/records@0.1.3 [method]chunk.derive
func chunkDerive(self int32, sources unsafe.Pointer, rows uint32) int32

//go:wasmimport wasmill:plugin/records@0.1.3 [static]chunk.fresh
func chunkFresh(rows uint32) int32

//go:wasmimport wasmill:plugin/records@0.1.3 [resource-drop]chunk
func chunkDrop(self int32)

//go:wasmimport wasmill:plugin/records@0.1.3 emit
func emit(rows int32)

//go:wasmimport wasmill:plugin/setup@0.1.3 field
func setupField(path unsafe.Pointer, keys uint32) uint32

//go:wasmimport wasmill:plugin/setup@0.1.3 output
func setupOutput(name string, result unsafe.Pointer)

//go:wasmimport wasmill:plugin/setup@0.1.3 secret
func setupSecret(name string, result unsafe.Pointer)

//go:wasmimport wasmill:plugin/setup@0.1.3 file
func setupFile(name string, offset uint64, length uint32, result unsafe.Pointer)

//go:wasmimport wasmill:plugin/log@0.1.3 write
func logWrite(level int32, message string)
