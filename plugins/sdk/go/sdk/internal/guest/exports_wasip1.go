// Package guest is the component's side of wit/plugin.wit: imports, exports and memory, by hand over the canonical ABI.
//
// Handles end with the call that they were made in, whatever the plugin does with them. A panic of the plugin becomes
// the error of the call, with its stack. It exists for GOOS=wasip1 only.
package guest

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"unsafe"

	"wasmill.dev/sdk/internal/abi"
	"wasmill.dev/sdk/internal/stack"
)

// Plugin is what the host calls; the package that has the plugin sets it when it is initialised.
var Plugin abi.Plugin

// memoryLimit is what the manifest asks for in bytes; the build sets it. The collector must know, because it would else
// let garbage grow as large as what lives.
var memoryLimit string

func init() {
	abi.Log = log
	if limit, err := strconv.ParseInt(memoryLimit, 10, 64); err == nil {
		debug.SetMemoryLimit(limit / 4 * 3)
	}
}

type line struct {
	level   int
	message string
}

// waiting are lines that could not be written at once.
var waiting []line

func log(level int, message string) {
	waiting = append(waiting, line{level, message})
	if handing {
		return
	}
	for _, line := range waiting {
		logWrite(int32(line.level), line.message)
	}
	waiting = waiting[:0]
}

// answer is the result of the last export: its error's text must live until the host has read it, which is at the
// latest when the next one is called.
var answer struct {
	fields [3]uint32
	text   string
}

// outcome is where the host finds result<_, string>.
func outcome(err error) unsafe.Pointer {
	answer.fields, answer.text = [3]uint32{}, ""
	if err != nil {
		answer.text = err.Error()
		answer.fields = [3]uint32{1, uint32(uintptr(unsafe.Pointer(unsafe.StringData(answer.text)))), uint32(len(answer.text))}
	}
	return unsafe.Pointer(&answer.fields)
}

// guarded turns a panic into an error.
func guarded(call func() error) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%s", stack.Described(reason))
		}
	}()
	if Plugin == nil {
		programsMain()
	}
	if Plugin == nil {
		panic("there is no plugin: call sdk.Export in an init function of package main, or lambda.Start in main")
	}
	return call()
}

//go:wasmexport wasmill:plugin/transform@0.1.3#configure
func configure(address, length uint32) unsafe.Pointer {
	config := take[byte](address, length)
	return outcome(guarded(func() error { return Plugin.Configure(config, setup{}) }))
}

//go:wasmexport wasmill:plugin/transform@0.1.3#process
func process(handle int32) unsafe.Pointer {
	rows := &chunk{handle}
	err := guarded(func() error { return Plugin.Process(rows) })
	for i, forgotten := range owned {
		forgotten.Drop()
		owned[i] = nil
	}
	owned = owned[:0]
	rows.Drop()
	return outcome(err)
}

type setup struct{}

func (setup) Field(path []string) uint32 {
	list := make([]uint32, 0, 2*len(path))
	for _, key := range path {
		list = append(list, uint32(uintptr(unsafe.Pointer(unsafe.StringData(key)))), uint32(len(key)))
	}
	slot := setupField(at(list), size(path))
	runtime.KeepAlive(path)
	return slot
}

func (setup) Output(name string) (uint32, error) {
	setupOutput(name, result())
	if results[0]&0xff == 0 {
		return results[1], nil
	}
	return 0, refusal()
}

func (setup) Secret(name string) (string, error) {
	setupSecret(name, result())
	if results[0]&0xff == 0 {
		return takeString(results[1], results[2]), nil
	}
	return "", refusal()
}

func (setup) File(name string, offset uint64, length uint32) ([]byte, error) {
	setupFile(name, offset, length, result())
	if results[0]&0xff == 0 {
		return take[byte](results[1], results[2]), nil
	}
	return nil, refusal()
}

func refusal() error { return abi.HostError(takeString(results[1], results[2])) }
