package sdk

import (
	"wasmill.dev/sdk/internal/abi"
	"wasmill.dev/sdk/internal/guest"
)

func publish(plugin abi.Plugin) { guest.Plugin = plugin }
