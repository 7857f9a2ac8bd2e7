// Package lambdacontext is what Lambda functions import from github.com/aws/aws-lambda-go/lambdacontext, as far as it can
// be had without AWS and a clock: contexts have no deadline.
package lambdacontext

import "context"

// Set before a function is first called.
var (
	FunctionName    = "function"
	FunctionVersion = "$LATEST"
	MemoryLimitInMB = 64
	LogGroupName    = "/aws/lambda/function"
	LogStreamName   = "wasmill"
)

// LambdaContext is what a function can ask of its invocation.
type LambdaContext struct {
	// AwsRequestID is the event's invocation id.
	AwsRequestID       string
	InvokedFunctionArn string
}

type key struct{}

// NewContext returns a context that has lc.
func NewContext(parent context.Context, lc *LambdaContext) context.Context {
	return context.WithValue(parent, key{}, lc)
}

// FromContext returns what NewContext put there.
func FromContext(ctx context.Context) (*LambdaContext, bool) {
	lc, ok := ctx.Value(key{}).(*LambdaContext)
	return lc, ok
}
