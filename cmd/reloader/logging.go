package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/zerologr"
	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime/pkg/log"

	"k8s-reloader/reloader/printable"
)

type logFlags struct {
	format string
	level  string
}

func (f *logFlags) bind(flags *pflag.FlagSet) {
	flags.StringVar(&f.format, "log-format", "", `"" for people, json for machines`)
	flags.StringVar(&f.level, "log-level", "info", "trace, debug, info, warning, error, fatal or panic")
}

// logger returns the logger of the process and makes the libraries use it.
func (f *logFlags) logger(out io.Writer) (logr.Logger, error) {
	level, ok := map[string]zerolog.Level{
		"trace":   zerolog.TraceLevel,
		"debug":   zerolog.DebugLevel,
		"info":    zerolog.InfoLevel,
		"warn":    zerolog.WarnLevel,
		"warning": zerolog.WarnLevel,
		"error":   zerolog.ErrorLevel,
		"fatal":   zerolog.FatalLevel,
		"panic":   zerolog.PanicLevel,
	}[strings.ToLower(f.level)]
	if !ok {
		return logr.Logger{}, fmt.Errorf("--log-level=%s: use trace, debug, info, warning, error, fatal or panic", f.level)
	}
	switch f.format {
	case "json":
	case "":
		// It quotes values, but not messages, and those of libraries may quote others.
		message := func(m any) string {
			if m == nil {
				return ""
			}
			return printable.Line(fmt.Sprint(m))
		}
		out = zerolog.ConsoleWriter{Out: out, NoColor: true, TimeFormat: "2006-01-02T15:04:05.000Z07:00", FormatMessage: message}
	default:
		return logr.Logger{}, fmt.Errorf("--log-format=%s: use json, or leave it out", f.format)
	}
	zerolog.TimeFieldFormat = time.RFC3339Nano
	z := zerolog.New(out).Level(level).With().Timestamp().Logger()
	// Trace is V(2). The libraries log whole responses only from V(8) on, so
	// that no level brings content into the log.
	log := zerologr.New(&z)
	klog.SetLogger(log)
	ctrl.SetLogger(log)
	return log, nil
}
