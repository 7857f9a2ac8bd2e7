package sdk

import (
	"fmt"

	"wasmill.dev/sdk/internal/abi"
)

// The plugin's log on the host. Lines are capped and rate-limited; what is printed to standard output and error goes
// there too.

// Debugf logs for authors.
func Debugf(format string, values ...any) { abi.Log(0, fmt.Sprintf(format, values...)) }

// Infof logs what an operator may want to know.
func Infof(format string, values ...any) { abi.Log(1, fmt.Sprintf(format, values...)) }

// Warnf logs what is unexpected.
func Warnf(format string, values ...any) { abi.Log(2, fmt.Sprintf(format, values...)) }

// Errorf logs what an operator should look into.
func Errorf(format string, values ...any) { abi.Log(3, fmt.Sprintf(format, values...)) }
