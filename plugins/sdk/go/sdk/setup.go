package sdk

import (
	"fmt"
	"slices"

	"wasmill.dev/sdk/internal/abi"
)

// Field is a field that the plugin declared: the handle by which it reads and writes it.
type Field struct{ slot uint32 }

// Output is an output of the stream, for [Chunk.Route]. The zero value is the first one, where rows go that nobody
// routed.
type Output struct{ number uint32 }

// Setup is what Configure may ask the host for. It ends with that call.
type Setup struct {
	host  abi.Setup
	known []declared
}

type declared struct {
	path []string
	slot uint32
}

// NewSetup is for this module's own packages.
func NewSetup(host abi.Setup) *Setup { return &Setup{host: host} }

// Field declares a field by its object keys, outermost first, verbatim: keys with dots work.
func (s *Setup) Field(path ...string) Field {
	if len(path) == 0 {
		panic("Setup.Field: a field has at least one key")
	}
	for _, known := range s.known {
		if slices.Equal(known.path, path) {
			return Field{known.slot}
		}
	}
	slot := s.host.Field(path)
	s.known = append(s.known, declared{slices.Clone(path), slot})
	return Field{slot}
}

// Output is an output of the stream by name.
func (s *Setup) Output(name string) (Output, error) {
	number, err := s.host.Output(name)
	return Output{number}, err
}

// Secret is the value of a secret that the transform's config grants.
func (s *Setup) Secret(name string) (string, error) { return s.host.Secret(name) }

// filePiece is below the host's cap on what one call may hand over.
const filePiece = 1 << 20

// File is the whole content of a granted file.
func (s *Setup) File(name string) ([]byte, error) {
	var content []byte
	for {
		piece, err := s.FilePart(name, uint64(len(content)), filePiece)
		if err != nil {
			return nil, err
		}
		content = append(content, piece...)
		if len(piece) < filePiece {
			return content, nil
		}
	}
}

// FilePart is a piece of a granted file: shorter than length at its end, empty behind it.
func (s *Setup) FilePart(name string, offset uint64, length uint32) ([]byte, error) {
	piece, err := s.host.File(name, offset, length)
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", name, err)
	}
	return piece, nil
}
