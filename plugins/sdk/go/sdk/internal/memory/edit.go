package memory

import (
	"bytes"
	"slices"
)

// find is the value at a path, or nil. Of the members with the same key the last one counts.
func find(payload []byte, path []string) []byte {
	value, _, ok := valid(payload)
	if !ok {
		return nil
	}
	for _, key := range path {
		if !isObject(payload, value) {
			return nil
		}
		found := false
		for _, m := range members(payload, value) {
			if unescape(payload[m.key.start:m.key.end]) == key {
				value, found = m.value, true
			}
		}
		if !found {
			return nil
		}
	}
	return payload[value.start:value.end]
}

// replacement of a piece of a text.
type replacement struct {
	span
	by []byte
}

// editor gathers the replacements that set one field of one payload.
type editor struct {
	text []byte
	// value is what is set; nil removes.
	value []byte
	edits []replacement
}

const (
	noObject   = "the record is no JSON object"
	noObjectOn = "a value on the way to the field is no object"
)

// set is a payload with a field set, or removed where the value is nil. An empty reason is success.
func set(payload []byte, path []string, value []byte) (result []byte, reason string) {
	whole, _, ok := valid(payload)
	if !ok || !isObject(payload, whole) {
		if value == nil {
			return payload, ""
		}
		return nil, noObject
	}
	e := editor{text: payload, value: value}
	if !e.object(whole, path, true) {
		return nil, noObjectOn
	}
	return e.applied(), ""
}

// object edits one object on the way. The walked one takes the value; all others that the path reaches lose theirs.
func (e *editor) object(object span, path []string, walked bool) bool {
	all := members(e.text, object)
	var named []int
	for i, m := range all {
		if unescape(e.text[m.key.start:m.key.end]) == path[0] {
			named = append(named, i)
		}
	}
	if len(path) == 1 {
		if e.value != nil && walked && len(named) > 0 {
			last := len(named) - 1
			e.edits = append(e.edits, replacement{all[named[last]].value, e.value})
			named = named[:last]
		} else if e.value != nil && walked {
			e.append(object, all, path)
		}
		e.remove(all, named)
		return true
	}
	for at, i := range named {
		last := walked && at == len(named)-1
		if isObject(e.text, all[i].value) {
			if !e.object(all[i].value, path[1:], last) {
				return false
			}
		} else if last && e.value != nil {
			return false
		}
	}
	if len(named) == 0 && walked && e.value != nil {
		e.append(object, all, path)
	}
	return true
}

// append adds a member behind all others, with the parents that are missing.
func (e *editor) append(object span, all []member, path []string) {
	var text []byte
	at := object.start + 1
	if len(all) > 0 {
		text, at = append(text, ','), all[len(all)-1].value.end
	}
	for i, key := range path {
		if i > 0 {
			text = append(text, '{')
		}
		text = append(append(text, quote([]byte(key))...), ':')
	}
	text = append(text, e.value...)
	text = append(text, bytes.Repeat([]byte{'}'}, len(path)-1)...)
	e.edits = append(e.edits, replacement{span{at, at}, text})
}

// remove takes members away, with the comma and the space before them, the first ones with those after them.
func (e *editor) remove(all []member, gone []int) {
	first := 0
	for first < len(gone) && gone[first] == first {
		first++
	}
	switch {
	case first == 0:
	case first == len(all):
		e.edits = append(e.edits, replacement{span: span{all[0].key.start, all[first-1].value.end}})
	default:
		e.edits = append(e.edits, replacement{span: span{all[0].key.start, all[first].key.start}})
	}
	for _, i := range gone[first:] {
		e.edits = append(e.edits, replacement{span: span{all[i-1].value.end, all[i].value.end}})
	}
}

func (e *editor) applied() []byte {
	slices.SortFunc(e.edits, func(a, b replacement) int { return a.start - b.start })
	var text []byte
	at := 0
	for _, edit := range e.edits {
		text = append(append(text, e.text[at:edit.start]...), edit.by...)
		at = edit.end
	}
	return append(text, e.text[at:]...)
}
