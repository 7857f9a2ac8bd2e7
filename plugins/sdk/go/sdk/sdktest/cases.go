package sdktest

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	sdk "wasmill.dev/sdk"
)

const (
	rowsFile    = "expected.ndjson"
	lettersFile = "dead-letters.ndjson"
	refusalFile = "error.txt"
)

// Cases runs every case folder below a directory as a test of its own.
//
// A case is config.json, the input (input.ndjson or input.txt, one record per line) and either expected.ndjson (the rows
// that leave, in the order of their records) with dead-letters.ndjson (for each record that fails
// {"offset":2,"reason":"…"}, or "reason_contains"), or error.txt (the refusal; ~ in front of a part of it). Files below
// files/ are granted by their name. Each case runs warm, with a fresh instance for every chunk, and cut to single
// records: all three must agree. With BLESS=1 in the environment what is expected is written anew.
// `wasmill plugin test` runs the same folders through the component.
func Cases(t *testing.T, plugin func() sdk.Plugin, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, entry := range entries {
		if entry.IsDir() {
			cases++
			t.Run(entry.Name(), func(t *testing.T) {
				checkCase(t, plugin, filepath.Join(dir, entry.Name()))
			})
		}
	}
	if cases == 0 {
		t.Fatalf("no case in %s", dir)
	}
}

func checkCase(t *testing.T, plugin func() sdk.Plugin, dir string) {
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	host := Host{Files: granted(t, filepath.Join(dir, "files"))}
	records := lines(read(t, dir, "input.ndjson") + read(t, dir, "input.txt"))
	got := describe(host.run(plugin, string(config), records))
	for way, host := range map[string]Host{
		"cut to single records": {Files: host.Files, ChunkRows: 1},
		"fresh":                 {Files: host.Files, ChunkRows: 3, Fresh: true},
	} {
		other := describe(host.run(plugin, string(config), records))
		if !slices.Equal(got.rows, other.rows) || !slices.Equal(got.letters, other.letters) || got.refusal != other.refusal {
			t.Errorf("%s differs\n--- at once\n%s\n--- %s\n%s", way, got, way, other)
		}
	}
	if os.Getenv("BLESS") != "" {
		bless(t, dir, got)
		return
	}
	refusal, rows, letters := read(t, dir, refusalFile), read(t, dir, rowsFile), read(t, dir, lettersFile)
	if !exists(dir, refusalFile) && !exists(dir, rowsFile) && !exists(dir, lettersFile) {
		t.Fatalf("none of %s, %s, %s; BLESS=1 writes them", rowsFile, lettersFile, refusalFile)
	}
	if exists(dir, refusalFile) != (got.refusal != "") || !agrees(strings.TrimSpace(refusal), got.refusal) {
		t.Errorf("%s\n--- expected\n%s\n--- got\n%s", refusalFile, refusal, got.refusal)
	}
	if !slices.Equal(lines(rows), got.rows) {
		t.Errorf("%s\n--- expected\n%s\n--- got\n%s", rowsFile, rows, strings.Join(got.rows, "\n"))
	}
	if !slices.EqualFunc(lines(letters), got.letters, letterAgrees) {
		t.Errorf("%s\n--- expected\n%s\n--- got\n%s", lettersFile, letters, strings.Join(got.letters, "\n"))
	}
}

type described struct {
	rows, letters []string
	refusal       string
}

func (d described) String() string {
	return strings.Join(slices.Concat(d.rows, d.letters, []string{d.refusal}), "\n")
}

func describe(outcome *Outcome, refusal error) described {
	if refusal != nil {
		return described{refusal: refusal.Error()}
	}
	return described{rows: outcome.Rows(), letters: outcome.letters()}
}

func agrees(wanted, got string) bool {
	if part, found := strings.CutPrefix(wanted, "~"); found {
		return strings.Contains(got, strings.TrimSpace(part))
	}
	return wanted == strings.TrimSpace(got)
}

func letterAgrees(wanted, got string) bool {
	var want, have struct {
		Offset   int     `json:"offset"`
		Reason   *string `json:"reason"`
		Contains string  `json:"reason_contains"`
	}
	if json.Unmarshal([]byte(wanted), &want) != nil || json.Unmarshal([]byte(got), &have) != nil {
		return false
	}
	return want.Offset == have.Offset && (want.Reason == nil || *want.Reason == *have.Reason) &&
		strings.Contains(*have.Reason, want.Contains)
}

func bless(t *testing.T, dir string, got described) {
	write := func(name, text string, wanted bool) {
		file := filepath.Join(dir, name)
		var err error
		if wanted {
			err = os.WriteFile(file, []byte(text), 0o644)
		} else if err = os.Remove(file); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil {
			t.Error(err)
		}
	}
	text := func(lines []string) string {
		if len(lines) == 0 {
			return ""
		}
		return strings.Join(lines, "\n") + "\n"
	}
	// Rows are written down also where there are none: then it is said that none must come.
	write(rowsFile, text(got.rows), got.refusal == "")
	write(lettersFile, text(got.letters), len(got.letters) > 0)
	write(refusalFile, got.refusal+"\n", got.refusal != "")
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// read is the content of a file, or nothing where there is none.
func read(t *testing.T, dir, name string) string {
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(content)
}

func lines(text string) []string {
	text = strings.TrimSuffix(text, "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func granted(t *testing.T, dir string) map[string][]byte {
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return files
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = content
	}
	return files
}
