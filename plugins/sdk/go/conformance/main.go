// Does what plugins/sdk/conformance/README.md asks for, in Go.
package main

import (
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	sdk "wasmill.dev/sdk"
)

func init() { sdk.Export(newConformance) }

func main() {}

func newConformance() sdk.Plugin { return &conformance{} }

// conformance is the plugin that the config's "do" asks for.
type conformance struct{ sdk.Plugin }

func (c *conformance) Configure(text []byte, setup *sdk.Setup) error {
	var config struct {
		Do string `json:"do"`
	}
	if err := sdk.ReadConfig(text, &config); err != nil {
		return err
	}
	switch config.Do {
	case "pass":
		c.Plugin = pass{}
	case "filter":
		c.Plugin = &filter{}
	case "map":
		c.Plugin = &mapped{}
	case "split":
		c.Plugin = &split{}
	case "enrich":
		c.Plugin = &enrich{}
	case "check":
		c.Plugin = &check{}
	case "raise":
		c.Plugin = sdk.ByRecord(raise{})
	case "trap":
		c.Plugin = &now{what: func(*sdk.Chunk, sdk.Field, int) { os.Exit(134) }}
	case "loop":
		c.Plugin = &now{what: func(*sdk.Chunk, sdk.Field, int) {
			for {
			}
		}}
	case "hoard":
		c.Plugin = &now{what: hoard}
	case "flood":
		c.Plugin = &now{what: flood}
	default:
		return fmt.Errorf("do is %q, which is nothing that this plugin does", config.Do)
	}
	return c.Plugin.Configure(text, setup)
}

type pass struct{}

func (pass) Configure([]byte, *sdk.Setup) error { return nil }
func (pass) Process(*sdk.Chunk) error           { return nil }

type filter struct{ n sdk.Field }

func (f *filter) Configure(_ []byte, setup *sdk.Setup) error {
	f.n = setup.Field("n")
	return nil
}

func (f *filter) Process(rows *sdk.Chunk) error {
	numbers := rows.Ints(f.n)
	keep := make([]bool, rows.Len())
	for row := range keep {
		n, ok := numbers.Get(row)
		keep[row] = ok && n%2 == 0
	}
	rows.Keep(keep)
	return nil
}

type mapped struct {
	name, greeting, length, n, x, half sdk.Field
	greetings                          sdk.TextColumn
	lengths, doubles                   sdk.IntColumn
	halves                             sdk.FloatColumn
}

func (m *mapped) Configure(_ []byte, setup *sdk.Setup) error {
	m.name = setup.Field("user", "name")
	m.greeting = setup.Field("greeting")
	m.length = setup.Field("length")
	m.n = setup.Field("n")
	m.x = setup.Field("x")
	m.half = setup.Field("half")
	return nil
}

func (m *mapped) Process(rows *sdk.Chunk) error {
	m.greetings.Reset()
	m.lengths.Reset()
	m.doubles.Reset()
	m.halves.Reset()
	names, numbers, floats := rows.Text(m.name), rows.Ints(m.n), rows.Floats(m.x)
	for row := range rows.Len() {
		if name, ok := names.Get(row); ok {
			m.greetings.Append("hello, ", name)
			m.lengths.Append(int64(utf8.RuneCountInString(name)))
		} else {
			m.greetings.Skip()
			m.lengths.Skip()
		}
		if n, ok := numbers.Get(row); ok {
			m.doubles.Append(n * 2)
		} else {
			m.doubles.Skip()
		}
		if x, ok := floats.Get(row); ok {
			m.halves.Append(x / 2)
		} else {
			m.halves.Skip()
		}
	}
	rows.SetText(m.greeting, &m.greetings)
	rows.SetInts(m.length, &m.lengths)
	rows.SetInts(m.n, &m.doubles)
	rows.SetFloats(m.half, &m.halves)
	return nil
}

type split struct{ text sdk.Field }

func (s *split) Configure(_ []byte, setup *sdk.Setup) error {
	s.text = setup.Field("text")
	return nil
}

func (s *split) Process(rows *sdk.Chunk) error {
	texts := rows.Text(s.text)
	var sources []int
	var words sdk.TextColumn
	keep := make([]bool, rows.Len())
	for row := range keep {
		text, ok := texts.Get(row)
		// Rows that others come of are replaced; what has no word is dropped.
		keep[row] = !ok
		for word := range strings.SplitSeq(text, " ") {
			if word != "" {
				sources = append(sources, row)
				words.Append(word)
				keep[row] = true
			}
		}
	}
	derived := rows.Derive(sources)
	derived.SetText(s.text, &words)
	rows.Keep(keep)
	rows.Emit(derived)
	return nil
}

type enrich struct {
	code, city sdk.Field
	cities     map[string]string
	names      sdk.TextColumn
}

func (e *enrich) Configure(_ []byte, setup *sdk.Setup) error {
	table, err := setup.File("cities.csv")
	if err != nil {
		return err
	}
	e.cities = map[string]string{}
	for line := range strings.Lines(string(table)) {
		if code, name, ok := strings.Cut(strings.TrimSpace(line), ","); ok {
			e.cities[code] = name
		}
	}
	e.code = setup.Field("code")
	e.city = setup.Field("city")
	return nil
}

func (e *enrich) Process(rows *sdk.Chunk) error {
	e.names.Reset()
	codes := rows.Text(e.code)
	for row := range rows.Len() {
		code, _ := codes.Get(row)
		if name, ok := e.cities[code]; ok {
			e.names.Append(name)
		} else {
			e.names.Skip()
		}
	}
	rows.SetText(e.city, &e.names)
	return nil
}

type check struct{ n, double sdk.Field }

func (c *check) Configure(_ []byte, setup *sdk.Setup) error {
	c.n = setup.Field("n")
	c.double = setup.Field("double")
	return nil
}

func (c *check) Process(rows *sdk.Chunk) error {
	var doubles sdk.IntColumn
	numbers := rows.Ints(c.n)
	for row := range rows.Len() {
		if n, ok := numbers.Get(row); ok {
			doubles.Append(n * 2)
		} else {
			rows.Fail(row, "n is no integer")
			doubles.Skip()
		}
	}
	rows.SetInts(c.double, &doubles)
	return nil
}

// raise works over one record at a time.
type raise struct{}

func (raise) Configure([]byte, *sdk.Setup) error { return nil }

func (raise) Record(record map[string]any, _ sdk.Meta) (map[string]any, error) {
	if text, ok := record["text"].(string); ok && strings.HasPrefix(text, "boom") {
		panic("cannot work on " + text)
	}
	return record, nil
}

// now does something at a record whose text is "now".
type now struct {
	text sdk.Field
	what func(rows *sdk.Chunk, text sdk.Field, row int)
}

func (n *now) Configure(_ []byte, setup *sdk.Setup) error {
	n.text = setup.Field("text")
	return nil
}

func (n *now) Process(rows *sdk.Chunk) error {
	texts := rows.Text(n.text)
	for row := range rows.Len() {
		if text, _ := texts.Get(row); text == "now" {
			n.what(rows, n.text, row)
		}
	}
	return nil
}

func hoard(*sdk.Chunk, sdk.Field, int) {
	var all [][]byte
	for {
		more := make([]byte, 1<<20)
		more[len(all)%len(more)] = 1
		all = append(all, more)
	}
}

func flood(rows *sdk.Chunk, text sdk.Field, row int) {
	var texts sdk.TextColumn
	for other := range rows.Len() {
		if other == row {
			texts.Append(strings.Repeat("x", 20<<20))
		} else {
			texts.Skip()
		}
	}
	rows.SetText(text, &texts)
}
