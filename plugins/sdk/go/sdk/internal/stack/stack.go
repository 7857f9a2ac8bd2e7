// Package stack describes a panic: what was said, and where, without the frames of the runtime and of the SDK.
package stack

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

const framesMax = 16

// own are prefixes of functions that tell an author nothing.
var own = []string{"runtime.", "wasmill.dev/sdk.", "wasmill.dev/sdk/internal/", "wasmill.dev/sdk/sdktest."}

func ours(function string) bool {
	return slices.ContainsFunc(own, func(prefix string) bool { return strings.HasPrefix(function, prefix) })
}

// Described is the panic's value and the frames that led to it, innermost first. Call it in the deferred function that
// recovered.
func Described(reason any) string {
	var text strings.Builder
	fmt.Fprintf(&text, "panic: %v", reason)
	counters := make([]uintptr, 64)
	frames := runtime.CallersFrames(counters[:runtime.Callers(2, counters)])
	panicked := false
	for shown := 0; shown < framesMax; {
		frame, more := frames.Next()
		switch {
		case !panicked:
			panicked = frame.Function == "runtime.gopanic"
		case frame.Function != "" && !ours(frame.Function):
			fmt.Fprintf(&text, "\n  at %s (%s:%d)", frame.Function, frame.File, frame.Line)
			shown++
		}
		if !more {
			break
		}
	}
	return text.String()
}
