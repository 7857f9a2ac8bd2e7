package memory

import (
	"fmt"
	"slices"

	"wasmill.dev/sdk/internal/abi"
)

// Grants is what a transform may ask for in Configure.
type Grants struct {
	Files   map[string][]byte
	Secrets map[string]string
	Outputs []string
}

// Transform is a plugin that was configured.
type Transform struct {
	Plugin abi.Plugin
	fields [][]string
}

// Configure lets a plugin read its config and declare its fields.
func Configure(plugin abi.Plugin, config []byte, grants *Grants) (*Transform, error) {
	transform := &Transform{Plugin: plugin}
	if err := plugin.Configure(config, &setup{transform, grants}); err != nil {
		return nil, err
	}
	return transform, nil
}

// Run calls the plugin once. After an error nothing became of the rows.
func (t *Transform) Run(rows []*Row, seed uint64, arrival int64) ([]*Row, []Failure, error) {
	call := &Call{fields: t.fields, seed: seed, arrival: arrival}
	var copies []*Row
	for _, row := range rows {
		copies = append(copies, row.copied())
	}
	call.main = call.chunk(copies)
	err := t.Plugin.Process(call.main)
	call.main.gone = true
	if err != nil {
		return nil, nil, err
	}
	left, failures := call.Apply()
	return left, failures, nil
}

type setup struct {
	transform *Transform
	grants    *Grants
}

func (s *setup) Field(path []string) uint32 {
	for slot, known := range s.transform.fields {
		if slices.Equal(known, path) {
			return uint32(slot)
		}
	}
	s.transform.fields = append(s.transform.fields, slices.Clone(path))
	return uint32(len(s.transform.fields) - 1)
}

func (s *setup) Output(name string) (uint32, error) {
	if number := slices.Index(s.grants.Outputs, name); number >= 0 {
		return uint32(number), nil
	}
	return 0, abi.HostError(fmt.Sprintf("the stream has no output %q", name))
}

func (s *setup) Secret(name string) (string, error) {
	if value, granted := s.grants.Secrets[name]; granted {
		return value, nil
	}
	return "", abi.HostError(fmt.Sprintf("secret %q is not granted", name))
}

func (s *setup) File(name string, offset uint64, length uint32) ([]byte, error) {
	content, granted := s.grants.Files[name]
	if !granted {
		return nil, abi.HostError(fmt.Sprintf("file %q is not granted", name))
	}
	start := min(offset, uint64(len(content)))
	end := min(start+uint64(length), uint64(len(content)))
	return slices.Clone(content[start:end]), nil
}
