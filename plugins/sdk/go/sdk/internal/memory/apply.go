package memory

import "wasmill.dev/sdk/internal/abi"

// Failure is a record that failed.
type Failure struct {
	// Source is the number of the input record; -1 for a fresh row, which fails alone.
	Source int
	Reason string
}

// Apply is what leaves a transform, and what failed in it.
func (c *Call) Apply() (rows []*Row, failures []Failure) {
	chunks := append([]*Chunk{c.main}, c.emitted...)
	for _, chunk := range c.emitted {
		chunk.replace()
	}
	for _, chunk := range chunks {
		chunk.apply()
	}
	failed := map[int]bool{}
	for _, chunk := range chunks {
		for _, row := range chunk.order {
			source := chunk.rows[row].Source
			if source < 0 || !failed[source] {
				failures = append(failures, Failure{source, chunk.failed[row]})
			}
			failed[source] = source >= 0
		}
	}
	for _, chunk := range chunks {
		for i, row := range chunk.rows {
			_, alone := chunk.failed[i]
			dropped := chunk.replaced[i] || chunk.keep != nil && chunk.keep[i] == 0
			if !alone && !dropped && !(row.Source >= 0 && failed[row.Source]) {
				rows = append(rows, row)
			}
		}
	}
	return rows, failures
}

// replace marks the rows that an emitted chunk comes of.
func (c *Chunk) replace() {
	for _, source := range c.sources {
		row := source
		for from, parent := c, c.parent; parent != nil; from, parent = parent, parent.parent {
			if from != c {
				row = from.sources[row]
			}
			parent.replaced[row] = true
		}
	}
}

// apply does what was staged, in the order that the WIT states. Rows change in place: reading is over.
func (c *Chunk) apply() {
	for i, row := range c.rows {
		cleared := c.clear != nil && c.clear[i] != 0
		replaced := c.payloads != nil && c.payloads.State[i] == abi.Set
		switch {
		case cleared && (c.clearLater || !replaced):
			row.Payload = []byte("{}")
		case replaced:
			row.Payload = c.payloads.Values.At(i)
		}
	}
	for slot, path := range c.call.fields {
		write, written := c.fields[uint32(slot)]
		for i, row := range c.rows {
			if written {
				c.set(i, row, path, write)
			}
		}
	}
	for i, row := range c.rows {
		if c.keys != nil {
			row.Key = changed(row.Key, c.keys, i)
		}
		for _, call := range c.attributes {
			if value := changed(row.Attributes[call.name], &call.cells, i); value != nil {
				if row.Attributes == nil {
					row.Attributes = map[string][]byte{}
				}
				row.Attributes[call.name] = value
			} else {
				delete(row.Attributes, call.name)
			}
		}
		for _, call := range c.partition {
			row.partition(call, i)
		}
		if c.route != nil {
			row.Route = c.route[i]
		}
	}
}

func (c *Chunk) set(i int, row *Row, path []string, write write) {
	var value []byte
	var reason string
	switch write.states[i] {
	case abi.Leave:
		return
	case abi.SetNull:
		value = []byte("null")
	case abi.Set:
		value, reason = write.text(i)
	}
	if reason == "" {
		var payload []byte
		if payload, reason = set(row.Payload, path, value); reason == "" {
			row.Payload = payload
			return
		}
	}
	c.fail(i, reason)
}

// changed is any bytes after a write; nil is none.
func changed(value []byte, cells *abi.Cells, row int) []byte {
	switch cells.State[row] {
	case abi.Leave:
		return value
	case abi.Set:
		return append([]byte{}, cells.Values.At(row)...)
	}
	return nil
}

func (r *Row) partition(call named, row int) {
	state, value := call.cells.State[row], string(call.cells.Values.At(row))
	for i := range r.Partition {
		if r.Partition[i][0] == call.name {
			switch state {
			case abi.Leave:
			case abi.Set:
				r.Partition[i][1] = value
			default:
				r.Partition = append(r.Partition[:i], r.Partition[i+1:]...)
			}
			return
		}
	}
	if state == abi.Set {
		r.Partition = append(r.Partition, [2]string{call.name, value})
	}
}
