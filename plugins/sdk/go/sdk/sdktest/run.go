// Package sdktest runs a plugin in ordinary tests, without Wasm and without a host: over rows in memory that mean what
// wit/plugin.wit says.
//
// It shows what a host would make of records, one dead letter for each that fails; it refuses nothing that a host
// takes, and knows no limits of time and memory.
package sdktest

import (
	"errors"
	"slices"
	"testing"

	sdk "wasmill.dev/sdk"
	"wasmill.dev/sdk/internal/abi"
	"wasmill.dev/sdk/internal/memory"
	"wasmill.dev/sdk/internal/stack"
)

// Arrival of the first record: 2026-11-22T00:00:00Z. Each record arrives a millisecond after the one before.
const (
	Arrival     int64  = 1_795_305_600_000_000_000
	arrivalStep int64  = 1_000_000
	seed        uint64 = 0x9e37_79b9_7f4a_7c15
	chunkRows          = 500
)

// Host is what a plugin is run on. The zero value grants nothing.
type Host struct {
	// Files and Secrets that are granted, by name.
	Files   map[string][]byte
	Secrets map[string]string
	// Outputs behind the default one.
	Outputs []string
	// ChunkRows is how many records make a chunk [500].
	ChunkRows int
	// Fresh takes a fresh instance for every chunk.
	Fresh bool
}

// Row is what leaves.
type Row struct {
	Payload string
	// Offset of the record that it comes of; -1 where there is none. A run's offsets begin with 0.
	Offset    int64
	Key       string
	Partition [][2]string
	// Output by number: 0 is the default one.
	Output uint32
}

// Outcome is what became of the records.
type Outcome struct {
	// Emitted rows in the order in which they leave.
	Emitted []Row
	// Failed has the reason of each record that failed, by its number.
	Failed map[int]string
	// Log has the lines that the plugin wrote.
	Log []string
}

// Rows are the payloads of the rows that leave, in the order of their records.
func (o *Outcome) Rows() []string {
	ordered := slices.Clone(o.Emitted)
	slices.SortStableFunc(ordered, func(a, b Row) int { return int(a.Offset - b.Offset) })
	rows := []string{}
	for _, row := range ordered {
		rows = append(rows, row.Payload)
	}
	return rows
}

// Run configures a plugin and runs records through it on a host that grants nothing. A refusal ends the test.
func Run(t testing.TB, plugin func() sdk.Plugin, config string, records ...string) *Outcome {
	t.Helper()
	return Host{}.Run(t, plugin, config, records...)
}

// Run configures a plugin and runs records through it. A refusal ends the test.
func (h Host) Run(t testing.TB, plugin func() sdk.Plugin, config string, records ...string) *Outcome {
	t.Helper()
	outcome, err := h.run(plugin, config, records)
	if err != nil {
		t.Fatalf("the plugin refused its config: %v", err)
	}
	return outcome
}

// Refusal is the reason for which Configure refuses a config. A plugin that takes it fails the test.
func Refusal(t testing.TB, plugin func() sdk.Plugin, config string) string {
	t.Helper()
	_, err := Host{}.run(plugin, config, nil)
	if err == nil {
		t.Fatalf("the plugin took the config %s", config)
	}
	return err.Error()
}

func (h Host) run(plugin func() sdk.Plugin, config string, records []string) (*Outcome, error) {
	r := run{host: h, plugin: plugin, config: config, outcome: &Outcome{Failed: map[int]string{}}}
	log := abi.Log
	abi.Log = func(level int, message string) {
		names := [...]string{"debug", "info", "warn", "error"}
		r.outcome.Log = append(r.outcome.Log, names[level]+": "+message)
	}
	defer func() { abi.Log = log }()
	if err := r.configure(); err != nil {
		return nil, err
	}
	size := h.ChunkRows
	if size <= 0 {
		size = chunkRows
	}
	first := 0
	for rows := range slices.Chunk(records, size) {
		if h.Fresh && first > 0 {
			if err := r.configure(); err != nil {
				return nil, err
			}
		}
		if err := r.chunk(first, rows); err != nil {
			return nil, err
		}
		first += len(rows)
	}
	return r.outcome, nil
}

type run struct {
	host      Host
	plugin    func() sdk.Plugin
	config    string
	transform *memory.Transform
	outcome   *Outcome
}

func (r *run) configure() error {
	grants := &memory.Grants{
		Files:   r.host.Files,
		Secrets: r.host.Secrets,
		Outputs: append([]string{"default"}, r.host.Outputs...),
	}
	var err error
	r.transform, err = memory.Configure(faced{r.plugin()}, []byte(r.config), grants)
	return err
}

// chunk runs some records; where the plugin fails as a whole, each alone in a fresh instance, as a host would.
func (r *run) chunk(first int, records []string) error {
	var rows []*memory.Row
	for i, record := range records {
		number := first + i
		rows = append(rows, &memory.Row{
			Payload: []byte(record),
			Source:  number,
			Offset:  int64(number),
			Arrival: Arrival + int64(number)*arrivalStep,
		})
	}
	left, failures, err := r.transform.Run(rows, seed^uint64(first), Arrival+int64(first)*arrivalStep)
	switch {
	case err == nil:
	case len(records) == 1:
		r.outcome.Failed[first] = err.Error()
		return r.configure()
	default:
		for i, record := range records {
			if err := r.configure(); err != nil {
				return err
			}
			if err := r.chunk(first+i, []string{record}); err != nil {
				return err
			}
		}
		return nil
	}
	for _, row := range left {
		r.outcome.Emitted = append(r.outcome.Emitted, Row{
			Payload:   string(row.Payload),
			Offset:    row.Offset,
			Key:       string(row.Key),
			Partition: row.Partition,
			Output:    row.Route,
		})
	}
	for _, failure := range failures {
		if failure.Source >= 0 {
			r.outcome.Failed[failure.Source] = failure.Reason
		}
	}
	return nil
}

// faced is a plugin as the component's glue calls it.
type faced struct{ plugin sdk.Plugin }

func (f faced) Configure(config []byte, setup abi.Setup) (err error) {
	defer recovered(&err)
	return f.plugin.Configure(config, sdk.NewSetup(setup))
}

func (f faced) Process(rows abi.Chunk) (err error) {
	defer recovered(&err)
	chunk := sdk.NewChunk(rows)
	if err := f.plugin.Process(chunk); err != nil {
		return err
	}
	chunk.Flush()
	return nil
}

func recovered(err *error) {
	if reason := recover(); reason != nil {
		*err = errors.New(stack.Described(reason))
	}
}
