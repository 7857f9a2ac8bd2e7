// Package sdk is what plugins for Wasmill are written with.
//
// A plugin implements [Plugin] over the columns of a chunk (fast) or [RecordPlugin] over one record at a time (simple),
// and package main hands it to [Export] in an init function. Built for GOOS=wasip1 GOARCH=wasm with
// -buildmode=c-shared, which `wasmill plugin build` does, that is a component; everywhere else the same [Chunk] and
// [Setup] are backed by memory, so that package sdktest runs the same code in ordinary tests.
//
// It refuses to hide a failure: a panic becomes the error of the call with its stack, an error of Process makes the
// host look for the guilty record, and a record that cannot be understood is failed by name.
package sdk

import (
	"fmt"

	"wasmill.dev/sdk/internal/abi"
)

// Plugin works over columns.
//
// The host makes one instance per worker, calls Configure once and then Process once per chunk. What a plugin keeps in
// memory is a cache, never state: the host may use a fresh instance at any call.
type Plugin interface {
	// Configure reads the transform's config (JSON, see [ReadConfig]) and declares every field and output that Process
	// uses. Every instance must declare the same, in the same order. An error refuses the plugin with this text.
	Configure(config []byte, setup *Setup) error
	// Process transforms one chunk. Writes are staged and applied together when it returns nil. After an error nothing
	// of the chunk is applied, and the host splits it until the guilty record is alone.
	//
	// The chunk ends with the call. Goroutines that use it must have ended too.
	Process(rows *Chunk) error
}

// Export says what makes the plugin of this program. Call it once, in an init function of package main.
func Export(make func() Plugin) {
	if exported != nil {
		panic("sdk.Export was called twice; a program is one plugin")
	}
	exported = make
	publish(adapter{})
}

var exported func() Plugin

// adapter is the exported plugin as the ABI calls it.
type adapter struct{}

var configured Plugin

func (adapter) Configure(config []byte, setup abi.Setup) error {
	plugin := exported()
	if err := plugin.Configure(config, NewSetup(setup)); err != nil {
		return err
	}
	configured = plugin
	return nil
}

func (adapter) Process(rows abi.Chunk) error {
	if configured == nil {
		return fmt.Errorf("process was called before configure")
	}
	chunk := NewChunk(rows)
	if err := configured.Process(chunk); err != nil {
		return err
	}
	chunk.Flush()
	return nil
}
