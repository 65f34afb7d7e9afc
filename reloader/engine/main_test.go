package engine

import (
	"testing"

	"go.uber.org/goleak"
)

// Every queue, server and engine of these tests ends with its test.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
