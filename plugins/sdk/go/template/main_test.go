package main

import (
	"slices"
	"strings"
	"testing"

	"wasmill.dev/sdk/sdktest"
)

func TestWhoHasANameIsGreeted(t *testing.T) {
	outcome := sdktest.Run(t, newGreet, `{"word":"good day"}`, `{"name":"Ada"}`, `{}`, `{"name":7}`)
	want := []string{`{"name":"Ada","greeting":"good day, Ada"}`, `{}`}
	if !slices.Equal(outcome.Rows(), want) {
		t.Errorf("got %q, want %q", outcome.Rows(), want)
	}
	if outcome.Failed[2] != "name is no text" {
		t.Errorf("failed: %v", outcome.Failed)
	}
}

func TestWordThatIsMisspeltIsRefused(t *testing.T) {
	refusal := sdktest.Refusal(t, newGreet, `{"wrod":"x"}`)
	if !strings.Contains(refusal, `did you mean "word"`) {
		t.Error(refusal)
	}
}

func TestCases(t *testing.T) { sdktest.Cases(t, newGreet, "cases") }
