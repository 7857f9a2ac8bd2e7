//go:build !wasip1

package sdk

import "wasmill.dev/sdk/internal/abi"

// Nobody calls exports of a program that is no component.
func publish(abi.Plugin) {}
