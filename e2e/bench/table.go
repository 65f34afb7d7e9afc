package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// table is what a run has measured.
type table struct{ rows []row }

type row struct {
	what   string
	figure string
	floor  string
	ratio  string
	goal   string
}

// duration adds a row whose figures are times.
func (t *table) duration(what string, figure, floor time.Duration, goal string) {
	t.rows = append(t.rows, row{what, show(figure), show(floor), ratio(float64(figure), float64(floor)), goal})
}

// size adds a row whose figures are in bytes.
func (t *table) size(what string, figure, floor int64, goal string) {
	t.rows = append(t.rows, row{what, mebibytes(figure), mebibytes(floor), ratio(float64(figure), float64(floor)), goal})
}

// count adds a row whose figures are numbers.
func (t *table) count(what string, figure, floor int, goal string) {
	t.rows = append(t.rows, row{what, strconv.Itoa(figure), strconv.Itoa(floor), ratio(float64(figure), float64(floor)), goal})
}

func ratio(figure, floor float64) string {
	if floor <= 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", figure/floor)
}

func show(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func (t *table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s with %d cores, %s, %s/%s.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), processor(), runtime.GOOS, runtime.GOARCH)
	b.WriteString("| what | figure | floor | ratio | goal |\n|---|---:|---:|---:|---|\n")
	for _, r := range t.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.what, r.figure, r.floor, r.ratio, r.goal)
	}
	return b.String()
}

// processor names the CPU, where the system tells.
func processor() string {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

const (
	beginMarker = "<!-- begin: written by make bench -->\n"
	endMarker   = "<!-- end -->\n"
)

// replaceBetweenMarkers writes text into a file that says where it belongs.
func replaceBetweenMarkers(path, text string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	before, rest, ok := strings.Cut(string(raw), beginMarker)
	_, after, closed := strings.Cut(rest, endMarker)
	if !ok || !closed {
		return fmt.Errorf("%s has no lines %q and %q to write between", path, strings.TrimSpace(beginMarker), strings.TrimSpace(endMarker))
	}
	page := before + beginMarker + "\n" + text + "\n" + endMarker + after
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// quantile returns the value below which the share q of the samples lies.
func quantile(samples []time.Duration, q float64) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
