package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTheMemoryOfANamespace(t *testing.T) {
	assert.Equal(t, 64<<20, namespaceMemory(512<<20), "an eighth of the limit")
	assert.Zero(t, namespaceMemory(math.MaxInt64), "without a limit, what the engine takes for one")
	assert.Equal(t, 1, namespaceMemory(0), "never none at all")
}
