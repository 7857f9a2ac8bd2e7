package sdktest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	sdk "wasmill.dev/sdk"
	"wasmill.dev/sdk/sdktest"
)

// columns is a plugin over columns made of two functions.
type columns struct {
	configure func(*sdk.Setup) error
	process   func(*sdk.Chunk) error
}

func (c columns) Configure(_ []byte, setup *sdk.Setup) error {
	if c.configure == nil {
		return nil
	}
	return c.configure(setup)
}

func (c columns) Process(rows *sdk.Chunk) error { return c.process(rows) }

func processing(process func(*sdk.Chunk) error) func() sdk.Plugin {
	return func() sdk.Plugin { return columns{process: process} }
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

type person struct {
	Name     string `json:"name"`
	Age      int    `json:"age,omitempty"`
	Greeting string `json:"greeting,omitempty"`
}

type greeter struct{}

func (greeter) Configure([]byte, *sdk.Setup) error { return nil }

func (greeter) Record(p person, meta sdk.Meta) (person, error) {
	switch p.Name {
	case "":
		return p, sdk.Drop
	case "nobody":
		return p, fmt.Errorf("nobody is at offset %d", meta.Offset)
	case "index":
		var none []string
		p.Greeting = none[p.Age]
	}
	p.Greeting = "hello <" + p.Name + ">"
	return p, nil
}

func TestByRecordKeepsDropsAndFailsEachRecordAlone(t *testing.T) {
	plugin := func() sdk.Plugin { return sdk.ByRecord(greeter{}) }
	outcome := sdktest.Run(t, plugin, "{}",
		`{"name":"Ada"}`, `{}`, `{"name":"nobody"}`, `{"name":"index","age":3}`, `{"name":7}`, `not json`, `{"name":"B"} {}`, `{"name":"C"}`)
	equal(t, outcome.Rows(), []string{`{"name":"Ada","greeting":"hello <Ada>"}`, `{"name":"C","greeting":"hello <C>"}`})
	for row, parts := range map[int][]string{
		2: {"nobody is at offset 2"},
		3: {"row 3 (offset 3): panic: runtime error: index out of range [3]", "plugins_test.go:", "greeter.Record"},
		4: {"cannot unmarshal number", "name"},
		5: {"not what this plugin reads"},
		6: {"not what this plugin reads", "after top-level value"},
	} {
		for _, part := range parts {
			if !strings.Contains(outcome.Failed[row], part) {
				t.Errorf("row %d: %q lacks %q", row, outcome.Failed[row], part)
			}
		}
	}
	if len(outcome.Failed) != 5 {
		t.Errorf("failed: %v", outcome.Failed)
	}
}

type numbers struct{}

func (numbers) Configure([]byte, *sdk.Setup) error { return nil }

func (numbers) Record(record map[string]any, _ sdk.Meta) (map[string]any, error) { return record, nil }

func TestByRecordOverMapsLosesNoDigits(t *testing.T) {
	record := `{"a":12345678901234567890.123456789,"b":9007199254740993}`
	outcome := sdktest.Run(t, func() sdk.Plugin { return sdk.ByRecord(numbers{}) }, "{}", record, `{} {}`)
	equal(t, outcome.Rows(), []string{record})
	if !strings.Contains(outcome.Failed[1], "behind the JSON value") {
		t.Error(outcome.Failed)
	}
}

// tree refers to itself, and has a number that could be anything.
type tree struct {
	Next  *tree `json:"next,omitempty"`
	Value any   `json:"value"`
}

type trees struct{}

func (trees) Configure([]byte, *sdk.Setup) error { return nil }

func (trees) Record(record tree, _ sdk.Meta) (tree, error) { return record, nil }

func TestByRecordLosesNoDigitsInsideStructs(t *testing.T) {
	record := `{"next":{"value":9007199254740993},"value":1.50}`
	outcome := sdktest.Run(t, func() sdk.Plugin { return sdk.ByRecord(trees{}) }, "{}", record)
	equal(t, outcome.Rows(), []string{record})
}

func TestPanicCostsTheRecordThatCausesIt(t *testing.T) {
	plugin := processing(func(rows *sdk.Chunk) error {
		payloads := rows.Payloads()
		for row := range payloads.Len() {
			if string(payloads.Bytes(row)) == "bad" {
				panic("cannot work on bad")
			}
		}
		return nil
	})
	outcome := sdktest.Run(t, plugin, "", "a", "bad", "b")
	equal(t, outcome.Rows(), []string{"a", "b"})
	if reason := outcome.Failed[1]; !strings.HasPrefix(reason, "panic: cannot work on bad\n  at ") || !strings.Contains(reason, "plugins_test.go:") || strings.Contains(reason, "runtime.") {
		t.Error(reason)
	}
}

func TestWrongNumberOfValuesSaysSo(t *testing.T) {
	plugin := processing(func(rows *sdk.Chunk) error {
		rows.Keep([]bool{true})
		return nil
	})
	outcome := sdktest.Run(t, plugin, "", "a", "b")
	// Alone, each record has as many values as it must.
	equal(t, outcome.Rows(), []string{"a", "b"})
	plugin = processing(func(rows *sdk.Chunk) error {
		rows.Keep(nil)
		return nil
	})
	if reason := sdktest.Run(t, plugin, "", "a").Failed[0]; !strings.Contains(reason, "Chunk.Keep: 0 values for 1 rows") {
		t.Error(reason)
	}
}

func TestChunkOfAnEarlierCallCannotBeUsed(t *testing.T) {
	plugin := func() sdk.Plugin {
		var kept *sdk.Chunk
		return columns{process: func(rows *sdk.Chunk) error {
			if kept != nil {
				kept.Payloads()
			}
			kept = rows
			return nil
		}}
	}
	outcome := sdktest.Host{ChunkRows: 1}.Run(t, plugin, "", "a", "b")
	if !strings.Contains(outcome.Failed[1], "earlier call") {
		t.Error(outcome.Failed)
	}
}

func TestDerivedRowsAreEmittedOrDiscarded(t *testing.T) {
	plugin := processing(func(rows *sdk.Chunk) error {
		twice := rows.Derive([]int{0, 0})
		var payloads sdk.TextColumn
		payloads.Append("x")
		payloads.Append("y", "z")
		twice.SetPayloads(&payloads)
		rows.Derive([]int{1}) // forgotten
		rows.Emit(twice)
		rows.Emit(rows.Fresh(1))
		return nil
	})
	outcome := sdktest.Run(t, plugin, "", "a", "b")
	equal(t, outcome.Rows(), []string{"{}", "x", "yz", "b"})
}

func TestHostGrantsFilesSecretsAndOutputs(t *testing.T) {
	content := strings.Repeat("0123456789", 300_000)
	plugin := func() sdk.Plugin {
		var side sdk.Output
		return columns{
			configure: func(setup *sdk.Setup) (err error) {
				file, err := setup.File("big")
				if err != nil || string(file) != content {
					return fmt.Errorf("%d bytes, %w", len(file), err)
				}
				if secret, err := setup.Secret("key"); secret != "hush" {
					return fmt.Errorf("secret %q, %w", secret, err)
				}
				side, err = setup.Output("side")
				return err
			},
			process: func(rows *sdk.Chunk) error {
				rows.Route([]sdk.Output{{}, side})
				rows.Fail(0, "seen")
				sdk.Warnf("%d rows", rows.Len())
				return nil
			},
		}
	}
	host := sdktest.Host{
		Files:   map[string][]byte{"big": []byte(content)},
		Secrets: map[string]string{"key": "hush"},
		Outputs: []string{"side"},
	}
	outcome := host.Run(t, plugin, "", "a", "b")
	if len(outcome.Emitted) != 1 || outcome.Emitted[0].Output != 1 || outcome.Failed[0] != "seen" {
		t.Errorf("%+v", outcome)
	}
	equal(t, outcome.Log, []string{"warn: 2 rows"})
	if refusal := sdktest.Refusal(t, plugin, ""); !strings.Contains(refusal, `"big" is not granted`) {
		t.Error(refusal)
	}
}

func TestReadConfigNamesTheNearestKey(t *testing.T) {
	type inner struct {
		Width int `json:"width"`
	}
	config := struct {
		Format string `json:"format"`
		Size   inner  `json:"size"`
	}{Format: "as it was"}
	if err := sdk.ReadConfig([]byte(" "), &config); err != nil || config.Format != "as it was" {
		t.Error(config, err)
	}
	for text, part := range map[string]string{
		`{"fromat":"x"}`:           `did you mean "format"?`,
		`{"size":{"widht":1}}`:     `did you mean "width"?`,
		`{"something else":"x"}`:   `unknown field "something else"`,
		`{"format":1}`:             "cannot unmarshal number",
		`{"format":"x"`:            "unexpected EOF",
		`{"format":"x"} something`: "behind",
	} {
		err := sdk.ReadConfig([]byte(text), &config)
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRandomNumbersAreTheSameOnEveryAttempt(t *testing.T) {
	drawn := []uint64{}
	plugin := processing(func(rows *sdk.Chunk) error {
		drawn = append(drawn, rows.Rand().Uint64())
		return nil
	})
	sdktest.Run(t, plugin, "", "a")
	sdktest.Run(t, plugin, "", "a")
	if len(drawn) != 2 || drawn[0] != drawn[1] {
		t.Error(drawn)
	}
}
