package checkpoint

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

const many = 100_000

// BenchmarkMemory reports what a Store holds per 100,000 sources, set one by
// one and loaded.
func BenchmarkMemory(b *testing.B) {
	measure := func(b *testing.B, fill func() *rig) {
		for b.Loop() {
			before := heap()
			r := fill()
			b.ReportMetric(float64(heap()-before)/(1<<20), "MiB/100k")
			runtime.KeepAlive(r)
		}
	}
	fake := newFake()
	full := filled(b, fake)
	require.NoError(b, full.Flush(b.Context()))
	b.Run("set", func(b *testing.B) {
		measure(b, func() *rig { return filled(b, newFake()) })
	})
	b.Run("loaded", func(b *testing.B) {
		measure(b, func() *rig {
			r := newRig(b, fake)
			r.load(b)
			return r
		})
	})
}

func BenchmarkLookup(b *testing.B) {
	r := filled(b, newFake())
	src := source(many / 2)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = r.Lookup(src)
	}
}

func BenchmarkSet(b *testing.B) {
	r := filled(b, newFake())
	src, entries := source(many/2), [2]Entry{entry(1), entry(2)}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.Set(src, entries[n%2])
		n++
	}
}

// BenchmarkFlush writes one shard of 12,500 sources, to a server that takes no
// time but copies.
func BenchmarkFlush(b *testing.B) {
	r := filled(b, newFake())
	require.NoError(b, r.Flush(b.Context()))
	src, entries := inShard(3), [2]Entry{entry(1), entry(2)}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.Set(src, entries[n%2])
		require.NoError(b, r.Flush(b.Context()))
		n++
	}
}

// BenchmarkLoad reads 100,000 sources.
func BenchmarkLoad(b *testing.B) {
	r := filled(b, newFake())
	require.NoError(b, r.Flush(b.Context()))
	b.ReportAllocs()
	for b.Loop() {
		r.load(b)
	}
}

func filled(b *testing.B, fake *fakeConfigMaps) *rig {
	b.Helper()
	r := newRig(b, fake)
	r.load(b)
	for n := range many {
		r.Set(source(n), entry(n))
	}
	return r
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
