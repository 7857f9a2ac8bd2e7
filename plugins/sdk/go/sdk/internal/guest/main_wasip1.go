package guest

import _ "unsafe" // for go:linkname

// programsMain is main of package main, which nothing calls in a library: Lambda functions say there what they are.
//
//go:linkname programsMain main.main
func programsMain()
