package memory

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"strconv"
	"testing"

	"wasmill.dev/sdk/internal/abi"
)

// Every case of the project's vectors. Of failures the row, the transform and, where given, the reason are compared; the
// number of a failed child is the host's business.

type object = map[string]any

func load(t *testing.T) []any {
	text, err := os.ReadFile("../../../../../../wit/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var vectors object
	if err := decoder.Decode(&vectors); err != nil {
		t.Fatal(err)
	}
	return vectors["cases"].([]any)
}

func list(value any) []any {
	found, _ := value.([]any)
	return found
}

func number(value any) int64 {
	digits, _ := value.(json.Number)
	parsed, _ := strconv.ParseInt(string(digits), 10, 64)
	return parsed
}

func float(value any) float64 {
	switch value := value.(type) {
	case string:
		return map[string]float64{"NaN": math.NaN(), "inf": math.Inf(1), "-inf": math.Inf(-1)}[value]
	case json.Number:
		parsed, _ := value.Float64()
		return parsed
	}
	return 0
}

func raw(value any) []byte {
	switch value := value.(type) {
	case string:
		return []byte(value)
	case object:
		decoded, _ := hex.DecodeString(value["hex"].(string))
		return decoded
	}
	return nil
}

// cells as the vectors write them: [state] or [state, value].
func cells(given any) *abi.Cells {
	var made abi.Cells
	for _, cell := range list(given) {
		parts := list(cell)
		made.State = append(made.State, byte(number(parts[0])))
		var value []byte
		if len(parts) > 1 {
			value = raw(parts[1])
		}
		made.Values.Push(value)
	}
	return &made
}

func second(cell any) any {
	if parts := list(cell); len(parts) > 1 {
		return parts[1]
	}
	return nil
}

func uints(given any) (made []uint32) {
	for _, value := range list(given) {
		made = append(made, uint32(number(value)))
	}
	return made
}

func marks(given any) (made []byte) {
	for _, value := range list(given) {
		made = append(made, byte(number(value)))
	}
	return made
}

func name(op object) string {
	text, _ := op["name"].(string)
	return text
}

// plugin makes the calls that a transform of a case lists.
type plugin struct {
	t         *testing.T
	transform object
	slots     []uint32
}

func (p *plugin) Configure(_ []byte, setup abi.Setup) error {
	for _, path := range list(p.transform["fields"]) {
		var keys []string
		for _, key := range list(path) {
			keys = append(keys, key.(string))
		}
		p.slots = append(p.slots, setup.Field(keys))
	}
	for want, output := range list(p.transform["outputs"]) {
		if got, err := setup.Output(output.(string)); err != nil || int(got) != want {
			return fmt.Errorf("output %v: %d, %v", output, got, err)
		}
	}
	return nil
}

func (p *plugin) Process(rows abi.Chunk) error {
	made := map[string]abi.Chunk{}
	for _, each := range list(p.transform["ops"]) {
		op := each.(object)
		on, target := "", rows
		if given, ok := op["on"].(string); ok {
			on, target = given, made[given]
		}
		switch op["call"] {
		case "emit":
			rows.Emit(made[on])
		case "drop":
			made[on].Drop()
		case "fresh":
			made[op["as"].(string)] = rows.Fresh(uint32(number(op["rows"])))
		case "derive":
			made[op["as"].(string)] = target.Derive(uints(op["sources"]))
		default:
			p.call(target, op)
		}
	}
	return nil
}

func (p *plugin) call(rows abi.Chunk, op object) {
	slot := uint32(0)
	if given, ok := op["slot"]; ok {
		slot = p.slots[number(given)]
	}
	given := op["cells"]
	switch op["call"] {
	case "len":
		p.same(op, int64(rows.Len()), number(op["expect"]))
	case "offsets", "arrival-times":
		got := rows.Offsets()
		if op["call"] != "offsets" {
			got = rows.ArrivalTimes()
		}
		var want []int64
		for _, value := range list(op["expect"]) {
			want = append(want, number(value))
		}
		p.same(op, got, want)
	case "payloads":
		var want abi.Column
		for _, value := range list(op["expect"]) {
			want.Push(raw(value))
		}
		got := rows.Payloads()
		p.same(op, got, want)
	case "keys":
		p.same(op, rows.Keys(), *cells(op["expect"]))
	case "attributes":
		p.same(op, rows.Attributes(name(op)), *cells(op["expect"]))
	case "get-text":
		p.same(op, rows.GetText(slot), *cells(op["expect"]))
	case "get-raw":
		p.same(op, rows.GetRaw(slot), *cells(op["expect"]))
	case "get-strings":
		got := rows.GetText(slot)
		for row, want := range list(op["expect"]) {
			p.same(op, got.State[row] == abi.Value, want != nil)
			p.same(op, string(got.Values.At(row)), string(raw(want)))
		}
	case "get-floats":
		var want abi.Floats
		for _, cell := range list(op["expect"]) {
			want.State = append(want.State, byte(number(list(cell)[0])))
			want.Values = append(want.Values, float(second(cell)))
		}
		p.same(op, rows.GetFloats(slot), want)
	case "get-ints":
		var want abi.Ints
		for _, cell := range list(op["expect"]) {
			want.State = append(want.State, byte(number(list(cell)[0])))
			want.Values = append(want.Values, number(second(cell)))
		}
		p.same(op, rows.GetInts(slot), want)
	case "set-payloads":
		rows.SetPayloads(cells(given))
	case "set-text":
		rows.SetText(slot, cells(given))
	case "set-raw":
		rows.SetRaw(slot, cells(given))
	case "set-keys":
		rows.SetKeys(cells(given))
	case "set-attributes":
		rows.SetAttributes(name(op), cells(given))
	case "partition":
		rows.Partition(name(op), cells(given))
	case "clear":
		rows.Clear(marks(op["marks"]))
	case "keep":
		rows.Keep(marks(op["marks"]))
	case "route":
		rows.Route(uints(op["outputs"]))
	case "set-strings":
		var made abi.Cells
		for _, text := range list(given) {
			state := abi.Leave
			if text != nil {
				state = abi.Set
			}
			made.State = append(made.State, state)
			made.Values.Push(raw(text))
		}
		rows.SetText(slot, &made)
	case "set-floats":
		var made abi.Floats
		for _, cell := range list(given) {
			made.State = append(made.State, byte(number(list(cell)[0])))
			made.Values = append(made.Values, float(second(cell)))
		}
		rows.SetFloats(slot, &made)
	case "set-ints":
		var made abi.Ints
		for _, cell := range list(given) {
			made.State = append(made.State, byte(number(list(cell)[0])))
			made.Values = append(made.Values, number(second(cell)))
		}
		rows.SetInts(slot, &made)
	case "fail":
		var reasons abi.Column
		for _, reason := range list(op["reasons"]) {
			reasons.Push(raw(reason))
		}
		rows.Fail(uints(op["rows"]), &reasons)
	default:
		p.t.Errorf("unknown call %v", op["call"])
	}
}

func (p *plugin) same(op object, got, want any) {
	p.t.Helper()
	if shown, wanted := fmt.Sprintf("%v", got), fmt.Sprintf("%v", want); shown != wanted {
		p.t.Errorf("%v\n got %v\nwant %v", op, shown, wanted)
	}
}

type failure struct {
	source, transform int
	reason            string
}

func TestVectors(t *testing.T) {
	cases := load(t)
	if len(cases) < 80 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, each := range cases {
		vector := each.(object)
		t.Run(vector["name"].(string), func(t *testing.T) { run(t, vector) })
	}
}

func run(t *testing.T, vector object) {
	input := vector["input"].(object)
	rows, arrival := inputs(input)
	records := len(rows)
	var failures []failure
	transforms := list(vector["transforms"])
	for number, each := range transforms {
		if len(rows) == 0 {
			break
		}
		outputs := []string{}
		for _, output := range list(each.(object)["outputs"]) {
			outputs = append(outputs, output.(string))
		}
		transform, err := Configure(&plugin{t: t, transform: each.(object)}, nil, &Grants{Outputs: outputs})
		if err != nil {
			t.Fatal(err)
		}
		left, failed, err := transform.Run(rows, 1, arrival)
		if err != nil {
			t.Fatal(err)
		}
		rows = left
		for _, f := range failed {
			failures = append(failures, failure{f.Source, number, f.Reason})
		}
	}
	if required, _ := vector["require_json"].(bool); required {
		var left []*Row
		for _, row := range rows {
			if _, _, ok := valid(row.Payload); ok {
				left = append(left, row)
			} else {
				failures = append(failures, failure{row.Source, len(transforms), "no JSON"})
			}
		}
		rows = left
	}
	compareRows(t, rows, list(vector["output"]))
	compareFailures(t, failures, list(vector["failed"]))
	fate := map[int]bool{}
	for _, row := range rows {
		fate[row.Source] = true
	}
	for _, f := range failures {
		fate[f.source] = true
	}
	delete(fate, -1)
	if got, want := records-len(fate), int(number(vector["dropped"])); got != want {
		t.Errorf("%d dropped, want %d", got, want)
	}
}

func inputs(input object) (rows []*Row, arrival int64) {
	arrival = number(input["arrival"])
	deltas, keys := list(input["arrival_deltas"]), cells(input["keys"])
	attributes, _ := input["attributes"].(object)
	for i, payload := range list(input["payloads"]) {
		row := &Row{Payload: raw(payload), Source: i, Offset: number(input["first_offset"]) + int64(i), Arrival: arrival}
		if i < len(deltas) {
			row.Arrival += number(deltas[i])
		}
		if i < len(keys.State) && keys.State[i] == abi.Value {
			row.Key = keys.Values.At(i)
		}
		row.Attributes = map[string][]byte{}
		for name, values := range attributes {
			if column := cells(values); column.State[i] == abi.Value {
				row.Attributes[name] = column.Values.At(i)
			}
		}
		rows = append(rows, row)
	}
	return rows, arrival
}

func compareRows(t *testing.T, rows []*Row, want []any) {
	if len(rows) != len(want) {
		t.Errorf("%d rows leave, want %d", len(rows), len(want))
		return
	}
	children := map[int]int{}
	for i, row := range rows {
		wanted := want[i].(object)
		if !bytes.Equal(row.Payload, raw(wanted["payload"])) {
			t.Errorf("row %d\n got %s\nwant %s", i, row.Payload, raw(wanted["payload"]))
		}
		got := object{"offset": row.Offset, "route": int64(row.Route), "key": string(row.Key), "child": int64(0)}
		if row.Source >= 0 {
			got["child"] = int64(children[row.Source])
			children[row.Source]++
		}
		expected := object{"offset": number(wanted["offset"]), "route": number(wanted["route"]), "key": string(raw(wanted["key"])), "child": number(wanted["child"])}
		if _, fresh := wanted["child"]; row.Source < 0 && fresh {
			got["child"] = expected["child"]
		}
		if !reflect.DeepEqual(got, expected) {
			t.Errorf("row %d\n got %v\nwant %v", i, got, expected)
		}
		var partition [][2]string
		for _, pair := range list(wanted["partition"]) {
			partition = append(partition, [2]string{list(pair)[0].(string), string(raw(list(pair)[1]))})
		}
		if len(partition)+len(row.Partition) > 0 && !reflect.DeepEqual(row.Partition, partition) {
			t.Errorf("row %d: partition %v, want %v", i, row.Partition, partition)
		}
	}
}

func compareFailures(t *testing.T, failures []failure, want []any) {
	if len(failures) != len(want) {
		t.Errorf("failed %v, want %v", failures, want)
		return
	}
	for i, each := range want {
		wanted := each.(object)
		source := int64(-1)
		if wanted["row"] != "fresh" {
			source = number(wanted["row"])
		}
		reason, given := wanted["reason"].(string)
		got := failures[i]
		if int64(got.source) != source || int64(got.transform) != number(wanted["transform"]) || given && got.reason != reason {
			t.Errorf("failure %d: got %+v, want %v", i, got, wanted)
		}
	}
}
