// Greets everybody who has a name: {"name":"Ada"} becomes {"name":"Ada","greeting":"hello, Ada"}.
package main

import sdk "wasmill.dev/sdk"

type config struct {
	Word string `json:"word"`
}

// greet declares the fields that it uses once, then reads and writes them a whole chunk of records at a time.
type greet struct {
	word      string
	name      sdk.Field
	greeting  sdk.Field
	greetings sdk.TextColumn
}

func newGreet() sdk.Plugin { return &greet{} }

func (g *greet) Configure(text []byte, setup *sdk.Setup) error {
	c := config{Word: "hello"}
	if err := sdk.ReadConfig(text, &c); err != nil {
		return err
	}
	g.word = c.Word
	g.name = setup.Field("name")
	g.greeting = setup.Field("greeting")
	return nil
}

func (g *greet) Process(rows *sdk.Chunk) error {
	g.greetings.Reset()
	names := rows.Text(g.name)
	for row := range rows.Len() {
		switch name, ok := names.Get(row); {
		case ok:
			g.greetings.Append(g.word, ", ", name)
		case names.State(row) == sdk.Other:
			// A record that makes no sense becomes a dead letter with this reason; the others go on.
			rows.Fail(row, "name is no text")
			g.greetings.Skip()
		default:
			// No name: the record passes as it is.
			g.greetings.Skip()
		}
	}
	rows.SetText(g.greeting, &g.greetings)
	return nil
}

func init() { sdk.Export(newGreet) }

// The host calls what was exported; main is only there because Go wants it.
func main() {}
