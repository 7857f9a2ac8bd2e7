package sdktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

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
// {"offset":2,"reason":"…"}; "reason_contains" asks for a part, neither for any reason), or error.txt (the refusal; ~ in
// front of a part of it). Files below files/ are granted by their name. Each case runs warm, with a fresh instance for
// every chunk, and cut to single records: all three must agree. With BLESS=1 in the environment, what came is written as
// what is expected, where it does not fit. `wasmill plugin test` runs the same folders through the component.
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
				if err := checkCase(plugin, filepath.Join(dir, entry.Name()), os.Getenv("BLESS") != ""); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if cases == 0 {
		t.Fatalf("no case in %s", dir)
	}
}

func checkCase(plugin func() sdk.Plugin, dir string, bless bool) error {
	config, err := read(dir, "config.json")
	if err != nil {
		return err
	}
	if config == nil {
		return errors.New("no config.json")
	}
	records, err := input(dir)
	if err != nil {
		return err
	}
	files, err := granted(filepath.Join(dir, "files"))
	if err != nil {
		return err
	}
	got := describe(Host{Files: files}.run(plugin, *config, records))
	for way, host := range map[string]Host{
		"cut to single records": {Files: files, ChunkRows: 1},
		"fresh":                 {Files: files, ChunkRows: 3, Fresh: true},
	} {
		if other := describe(host.run(plugin, *config, records)); !reflect.DeepEqual(got, other) {
			return fmt.Errorf("%s differs\n--- at once\n%s\n--- %s\n%s", way, got, way, other)
		}
	}
	err = got.compare(dir)
	// What fits stays as it is written: it may ask for a part of a reason.
	if err != nil && bless {
		return got.bless(dir)
	}
	return err
}

func input(dir string) ([]string, error) {
	records, err := read(dir, "input.ndjson")
	if err != nil {
		return nil, err
	}
	texts, err := read(dir, "input.txt")
	if err != nil {
		return nil, err
	}
	if records != nil && texts != nil {
		return nil, errors.New("input.ndjson and input.txt; only one can be")
	}
	return append(lines(records), lines(texts)...), nil
}

// described is what came of a case: refused, or rows and letters in the order of their records.
type described struct {
	refusal *string
	rows    []string
	letters []failure
}

type failure struct {
	offset int64
	reason string
}

func (d described) String() string {
	if d.refusal != nil {
		return "refused: " + *d.refusal
	}
	return text(d.rows) + d.written()
}

// written are the letters as lines of their file.
func (d described) written() string {
	var lines []string
	for _, letter := range d.letters {
		reason, _ := json.Marshal(letter.reason)
		lines = append(lines, fmt.Sprintf(`{"offset":%d,"reason":%s}`, letter.offset, reason))
	}
	return text(lines)
}

func describe(outcome *Outcome, refusal error) described {
	if refusal != nil {
		reason := refusal.Error()
		return described{refusal: &reason}
	}
	came := described{rows: outcome.Rows()}
	for _, row := range slices.Sorted(maps.Keys(outcome.Failed)) {
		came.letters = append(came.letters, failure{int64(row), outcome.Failed[row]})
	}
	return came
}

func (d described) compare(dir string) error {
	var wanted [3]*string
	for at, name := range [...]string{rowsFile, lettersFile, refusalFile} {
		var err error
		if wanted[at], err = read(dir, name); err != nil {
			return err
		}
	}
	rows, letters, refusal := wanted[0], wanted[1], wanted[2]
	switch {
	case refusal != nil && (rows != nil || letters != nil):
		return fmt.Errorf("%s, and expects records too; only one can be", refusalFile)
	case refusal != nil && d.refusal == nil:
		return fmt.Errorf("the config must be refused (%s), and was taken", strings.TrimSpace(*refusal))
	case refusal != nil && !agrees(*refusal, *d.refusal):
		return differs(refusalFile, *refusal, *d.refusal+"\n")
	case refusal != nil:
		return nil
	case rows == nil && letters == nil:
		return fmt.Errorf("none of %s, %s, %s; BLESS=1 writes them", rowsFile, lettersFile, refusalFile)
	case d.refusal != nil:
		return fmt.Errorf("the config was refused: %s", *d.refusal)
	case !slices.Equal(lines(rows), d.rows):
		return differs(rowsFile, content(rows), text(d.rows))
	}
	expected := lines(letters)
	fits := len(expected) == len(d.letters)
	for at, line := range expected {
		letter, err := readLetter(line)
		if err != nil {
			return fmt.Errorf(`%s:%d: %w; a line is {"offset":2,"reason":"…"}`, lettersFile, at+1, err)
		}
		fits = fits && letter.fits(d.letters[at])
	}
	if !fits {
		return differs(lettersFile, content(letters), d.written())
	}
	return nil
}

func differs(file, wanted, got string) error {
	return fmt.Errorf("%s\n--- expected\n%s--- got\n%s", file, wanted, got)
}

func agrees(wanted, got string) bool {
	if part, found := strings.CutPrefix(wanted, "~"); found {
		return strings.Contains(got, strings.TrimSpace(part))
	}
	return strings.TrimRightFunc(wanted, unicode.IsSpace) == strings.TrimRightFunc(got, unicode.IsSpace)
}

// letter is a record that is expected to fail.
type letter struct {
	offset       *int64
	reason, part *string
}

func readLetter(line string) (letter, error) {
	var l letter
	// A struct would take keys in other cases too.
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(line), &members); err != nil {
		return l, err
	}
	for key, value := range members {
		into, known := map[string]any{"offset": &l.offset, "reason": &l.reason, "reason_contains": &l.part}[key]
		if !known {
			return l, fmt.Errorf("unknown key %q", key)
		}
		if err := json.Unmarshal(value, into); err != nil {
			return l, err
		}
	}
	if l.offset == nil {
		return l, errors.New("no offset")
	}
	return l, nil
}

func (l letter) fits(got failure) bool {
	return *l.offset == got.offset && (l.reason == nil || *l.reason == got.reason) &&
		(l.part == nil || strings.Contains(got.reason, *l.part))
}

func (d described) bless(dir string) error {
	write := func(name, text string, wanted bool) error {
		file := filepath.Join(dir, name)
		if wanted {
			return os.WriteFile(file, []byte(text), 0o644)
		}
		if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	refusal := strings.TrimRightFunc(content(d.refusal), unicode.IsSpace) + "\n"
	return errors.Join(
		// Rows are written down also where there are none: then it is said that none must come.
		write(rowsFile, text(d.rows), d.refusal == nil),
		write(lettersFile, d.written(), len(d.letters) > 0),
		write(refusalFile, refusal, d.refusal != nil),
	)
}

// read is the content of a file, or nil where there is none.
func read(dir, name string) (*string, error) {
	content, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && !utf8.Valid(content) {
		err = fmt.Errorf("read %s: it is not UTF-8", name)
	}
	text := string(content)
	return &text, err
}

func content(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// lines end with \n or \r\n.
func lines(text *string) []string {
	found := []string{}
	for line := range strings.Lines(content(text)) {
		if whole, ended := strings.CutSuffix(line, "\n"); ended {
			line = strings.TrimSuffix(whole, "\r")
		}
		found = append(found, line)
	}
	return found
}

func text(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

func granted(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		files[entry.Name()] = content
	}
	return files, nil
}
