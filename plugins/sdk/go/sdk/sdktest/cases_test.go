package sdktest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sdk "wasmill.dev/sdk"
)

const formatDir = "../../../conformance/format"

// format is what the cases of the format are run through.
type format struct{ remembers bool }

func (f *format) Configure(config []byte, setup *sdk.Setup) error {
	var asked struct{ Refuse, File *string }
	if err := json.Unmarshal(config, &asked); err != nil {
		return err
	}
	switch {
	case asked.Refuse != nil:
		return errors.New(*asked.Refuse)
	case asked.File != nil:
		content, err := setup.File(*asked.File)
		return errors.Join(err, errors.New(string(content)))
	}
	return nil
}

func (f *format) Process(rows *sdk.Chunk) error {
	remembered := f.remembers
	payloads := rows.Payloads()
	keep := make([]bool, rows.Len())
	for row := range rows.Len() {
		record := string(payloads.Bytes(row))
		keep[row] = record != "drop"
		if reason, found := strings.CutPrefix(record, "fail "); found {
			rows.Fail(row, reason)
		} else if record == "remember" {
			f.remembers = true
			if remembered {
				rows.Fail(row, "there was one in an earlier call")
			}
		}
	}
	rows.Keep(keep)
	return nil
}

func newFormat() sdk.Plugin { return &format{} }

func folders(t *testing.T, part string) []string {
	found, err := filepath.Glob(filepath.Join(formatDir, part, "*"))
	if err != nil || len(found) < 20 {
		t.Fatal(found, err)
	}
	return found
}

func TestFoldersMeanWhatTheFormatSays(t *testing.T) {
	for _, dir := range folders(t, "pass") {
		if err := checkCase(newFormat, dir, false); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
	for _, dir := range folders(t, "fail") {
		says, err := os.ReadFile(filepath.Join(dir, "says.txt"))
		if err != nil {
			t.Fatal(err)
		}
		err = checkCase(newFormat, filepath.Join(dir, "case"), false)
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(string(says))) {
			t.Errorf("%s: %v, wanted %s", dir, err, says)
		}
	}
}

func TestWhatIsBlessedFitsFromThenOnAndWhatFitsStays(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, given := range [][2]string{
		{`{}`, "a\r\nfail \"so\"\n"}, {`{"refuse":"never"}`, "a\n"}, {`{}`, "drop\n"},
	} {
		write("config.json", given[0])
		write("input.txt", given[1])
		for _, bless := range []bool{true, false} {
			if err := checkCase(newFormat, dir, bless); err != nil {
				t.Errorf("%q, blessing %v: %v", given, bless, err)
			}
		}
	}
	write("input.txt", "fail odd\n")
	write(lettersFile, "{\"offset\":0}\n")
	if err := checkCase(newFormat, dir, true); err != nil {
		t.Error(err)
	}
	if letters, _ := read(dir, lettersFile); content(letters) != "{\"offset\":0}\n" {
		t.Error(content(letters))
	}
	if refusal, _ := read(dir, refusalFile); refusal != nil {
		t.Error(*refusal)
	}
}
