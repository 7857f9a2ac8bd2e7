package guest

import "unsafe"

// handed keeps what cabi_realloc gave to the host until [take] has found it, so that the garbage collector does not.
var handed []([]uint64)

// handing is set while the host waits for memory. Then the component may call nothing, but a goroutine may run that wants
// to, because allocating may start the garbage collector.
var handing bool

// arena is memory for the adapter between Go's WASI and the host's, which wants some before Go can hand out any. What
// makes the component finds it by what it begins with, and hands out the rest.
var arena = [4 * 65536]byte{
	'w', 'a', 's', 'm', 'i', 'l', 'l', '.', 'd', 'e', 'v', '/', 's', 'd', 'k', ':', ' ', 'm', 'e', 'm', 'o', 'r', 'y', ' ', 'f', 'o', 'r', ' ', 'W', 'A', 'S', 'I',
}

// realloc is how the host gets memory for what it hands over. It never enlarges anything: the host knows all sizes.
//
//go:wasmexport cabi_realloc
func realloc(_ unsafe.Pointer, oldSize, _, size uint32) unsafe.Pointer {
	if oldSize != 0 {
		panic("cabi_realloc: asked to enlarge")
	}
	if size == 0 {
		// Any address with that alignment; this one keeps the linker from leaving the array out.
		return unsafe.Pointer(&arena)
	}
	handing = true
	defer func() { handing = false }()
	// Words, because no list of the ABI wants more than eight bytes of alignment.
	block := make([]uint64, (uint64(size)+7)/8)
	handed = append(handed, block)
	return unsafe.Pointer(unsafe.SliceData(block))
}

// take finds the list that the host put at an address which realloc returned, and forgets about it.
func take[T byte | uint32 | int64 | float64](address, length uint32) []T {
	if length == 0 {
		return nil
	}
	for i, block := range handed {
		start := unsafe.Pointer(unsafe.SliceData(block))
		if uint32(uintptr(start)) == address {
			last := len(handed) - 1
			handed[i], handed[last] = handed[last], nil
			handed = handed[:last]
			return unsafe.Slice((*T)(start), length)
		}
	}
	panic("the host returned memory that it was not given")
}

func takeString(address, length uint32) string {
	bytes := take[byte](address, length)
	return unsafe.String(unsafe.SliceData(bytes), len(bytes))
}

// results is where imports put what is more than one number. One is enough: there is one thread, and nothing else runs
// between a call's return and the reading of its result.
var results [6]uint32

func result() unsafe.Pointer { return unsafe.Pointer(&results) }

func at[T any](list []T) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(list)) }

func size[T any](list []T) uint32 { return uint32(len(list)) }
