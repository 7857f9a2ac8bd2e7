package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// ReadConfig reads a transform's config into a pointer to a struct. A key that the struct does not have is refused, with
// the nearest one that it has; what the config does not mention keeps its value.
func ReadConfig(config []byte, into any) error {
	if len(bytes.TrimSpace(config)) == 0 {
		config = []byte("{}")
	}
	decoder := json.NewDecoder(bytes.NewReader(config))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if decoder.More() {
			return errors.New("config: there is something behind the JSON value")
		}
		return nil
	}
	message := strings.TrimPrefix(err.Error(), "json: ")
	if _, quoted, found := strings.Cut(message, "unknown field "); found {
		if near := nearest(strings.Trim(quoted, `"`), keys(reflect.TypeOf(into), nil)); near != "" {
			return fmt.Errorf("config: %s; did you mean %q?", message, near)
		}
	}
	return fmt.Errorf("config: %s", message)
}

// keys of a struct and of the structs in it.
func keys(t reflect.Type, into []string) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return keys(t.Elem(), into)
	case reflect.Struct:
		for i := range t.NumField() {
			field := t.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if !field.IsExported() || name == "-" {
				continue
			}
			if name == "" {
				name = field.Name
			}
			into = append(into, name)
			if field.Type != t && field.Type.Kind() == reflect.Struct {
				into = keys(field.Type, into)
			}
		}
	}
	return into
}

// nearest is the candidate that differs least, if the difference is small enough to be a slip.
func nearest(name string, candidates []string) string {
	best, bound := "", max(len(name)/3, 1)+2
	for _, candidate := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(candidate)); d < bound {
			best, bound = candidate, d
		}
	}
	return best
}

// distance counts inserted, deleted, replaced and swapped letters.
func distance(left, right string) int {
	var before []int
	previous := make([]int, len(right)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(left); i++ {
		row := make([]int, len(right)+1)
		row[0] = i
		for j := 1; j <= len(right); j++ {
			replace := previous[j-1]
			if left[i-1] != right[j-1] {
				replace++
			}
			row[j] = min(replace, previous[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && left[i-1] == right[j-2] && left[i-2] == right[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, previous = previous, row
	}
	return previous[len(right)]
}
