package index_test

import (
	"fmt"
	"runtime"
	"testing"

	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/index"
	"k8s-reloader/reloader/policy"
)

// BenchmarkMemory tells what a workload with three references costs, all of
// its strings included: each is a string of its own, as when it was decoded.
// "one policy" is without the policies, which the index only points to.
func BenchmarkMemory(b *testing.B) {
	const workloads = 10_000
	s := policy.Settings{Keys: annotation.DefaultKeys()}
	shared := policy.Parse(annotations{auto: "true"}, nil, s)
	for name, parse := range map[string]func() *policy.Policy{
		"one policy":          func() *policy.Policy { return shared },
		"a policy each":       func() *policy.Policy { return policy.Parse(annotations{auto: "true"}, nil, s) },
		"a policy with names": func() *policy.Policy { return policy.Parse(annotations{namedCM: "cm-a,cm-b"}, nil, s) },
	} {
		b.Run(name, func(b *testing.B) {
			var bytes uint64
			for b.Loop() {
				before := heap()
				x := index.New(s)
				for i := range workloads {
					w, e := workload(i, 100)
					e.Policy = parse()
					x.Set(w, e)
				}
				bytes = heap() - before
				runtime.KeepAlive(x)
			}
			b.ReportMetric(float64(bytes)/workloads, "B/workload")
			b.ReportMetric(float64(bytes)/(1<<20), "MiB")
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkDepended(b *testing.B) {
	for _, workloads := range []int{1_000, 10_000, 100_000} {
		x := filled(workloads)
		for name, source := range map[string]reloader.Source{
			"yes":           {Kind: reloader.ConfigMap, Namespace: "namespace-7", Name: "web-7-config"},
			"no":            {Kind: reloader.ConfigMap, Namespace: "namespace-7", Name: "leader-election"},
			"no, elsewhere": {Kind: reloader.ConfigMap, Namespace: "kube-system", Name: "leader-election"},
		} {
			b.Run(fmt.Sprintf("%s/%d workloads", name, workloads), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_ = x.Depended(source)
				}
			})
		}
		b.Run(fmt.Sprintf("in parallel/%d workloads", workloads), func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_ = x.Depended(reloader.Source{Kind: reloader.Secret, Namespace: "namespace-7", Name: "web-7-db"})
				}
			})
		})
	}
}

func BenchmarkDependents(b *testing.B) {
	for _, workloads := range []int{1_000, 10_000, 100_000} {
		x := filled(workloads)
		b.Run(fmt.Sprintf("%d workloads", workloads), func(b *testing.B) {
			source := reloader.Source{Kind: reloader.ConfigMap, Namespace: "namespace-7", Name: "web-7-config"}
			b.ReportAllocs()
			for b.Loop() {
				if len(dependents(x, source, nil)) != 1 {
					b.Fatal("one workload depends on it")
				}
			}
		})
	}
	b.Run("5000 dependents of one source", func(b *testing.B) {
		s := policy.Settings{Keys: annotation.DefaultKeys()}
		x, p := index.New(s), policy.Parse(annotations{auto: "true"}, nil, s)
		for i := range 5_000 {
			w, e := workload(i, 1)
			e.Policy = p
			x.Set(w, e)
		}
		b.ReportAllocs()
		for b.Loop() {
			_ = dependents(x, reloader.Source{Kind: reloader.Secret, Namespace: "namespace-0", Name: "shared-ca"}, nil)
		}
	})
}

func BenchmarkSet(b *testing.B) {
	for _, workloads := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("%d workloads", workloads), func(b *testing.B) {
			s := policy.Settings{Keys: annotation.DefaultKeys()}
			p := policy.Parse(annotations{auto: "true"}, nil, s)
			x := filled(workloads)
			w, e := workload(7, namespaces(workloads))
			e.Policy = p
			b.ReportAllocs()
			for b.Loop() {
				x.Set(w, e)
			}
		})
	}
}

func filled(workloads int) *index.Index {
	s := policy.Settings{Keys: annotation.DefaultKeys()}
	x, p := index.New(s), policy.Parse(annotations{auto: "true"}, nil, s)
	for i := range workloads {
		w, e := workload(i, namespaces(workloads))
		e.Policy = p
		x.Set(w, e)
	}
	return x
}

// namespaces returns how many there are in a cluster of that many workloads.
func namespaces(workloads int) int { return max(workloads/100, 10) }

// workload returns the i-th workload of a cluster: two sources of its own and
// one that its namespace shares.
func workload(i, namespaces int) (reloader.Workload, index.Entry) {
	name := fmt.Sprintf("web-%d", i)
	w := reloader.Workload{Kind: reloader.Deployment, Namespace: fmt.Sprintf("namespace-%d", i%namespaces), Name: name}
	container := string([]byte("app"))
	return w, index.Entry{References: []reloader.Reference{
		{Kind: reloader.ConfigMap, Name: name + "-config", Container: container, How: reloader.HowEnvFrom},
		{Kind: reloader.Secret, Name: name + "-db", Container: container, How: reloader.HowEnv, Keys: []string{fmt.Sprintf("pass%s", "word")}},
		{Kind: reloader.Secret, Name: string([]byte("shared-ca")), Container: container, How: reloader.HowVolume},
	}}
}
