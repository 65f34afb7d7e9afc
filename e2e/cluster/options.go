package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Options describe a cluster. The zero value is a cluster of one node without
// a pod runner and without an audit log.
type Options struct {
	// Dir is the state folder. What an earlier cluster left in it is replaced,
	// and it is kept after Stop. Default: a temporary folder that is removed by
	// Stop, or when this process dies.
	Dir string
	// Log receives progress for humans, a line at a time; nil is silent.
	Log io.Writer

	// Nodes is the number of kwok nodes; default 1. PodsPerNode is how many pods
	// each takes; default 100 000.
	Nodes       int
	PodsPerNode int
	// CompleteJobs ends the pods of Jobs with success as soon as they run.
	// Without it they run until they are deleted.
	CompleteJobs bool

	// Images maps a container image to the program on this machine that stands
	// for it. Pods with such a container are left alone by kwok and run by
	// package podrunner.
	Images map[string]string
	// PodEnv is added to the environment of each such program, as NAME=value.
	PodEnv []string

	// AuditUsers are the users each of whose requests is logged, at level
	// Metadata. A ServiceAccount's is system:serviceaccount:NAMESPACE:NAME.
	AuditUsers []string
	// AuditPolicy is an audit.k8s.io/v1 Policy as YAML, in place of the one made
	// from AuditUsers.
	AuditPolicy string

	// APIServerArgs are appended to the API server's arguments, and so win over
	// the defaults.
	APIServerArgs []string
	// StartTimeout is how long each part may take to become ready, building not
	// included; default 1 minute.
	StartTimeout time.Duration
}

// Validate reports everything that is wrong at once.
func (o Options) Validate() error {
	var errs []error
	if o.Nodes < 0 || o.PodsPerNode < 0 {
		errs = append(errs, fmt.Errorf("nodes (%d) and pods per node (%d) cannot be negative", o.Nodes, o.PodsPerNode))
	}
	for image, program := range o.Images {
		info, err := os.Stat(program)
		switch {
		case image == "" || strings.ContainsAny(image, "\"'\\ \n"):
			errs = append(errs, fmt.Errorf("image %q is not the name of an image", image))
		case err != nil:
			errs = append(errs, fmt.Errorf("image %s: %w", image, err))
		case info.IsDir() || info.Mode()&0o111 == 0:
			errs = append(errs, fmt.Errorf("image %s: %s is not a program", image, program))
		}
	}
	for _, pair := range o.PodEnv {
		if !strings.Contains(pair, "=") {
			errs = append(errs, fmt.Errorf("pod environment %q is not NAME=value", pair))
		}
	}
	if o.AuditPolicy != "" && len(o.AuditUsers) > 0 {
		errs = append(errs, errors.New("an audit policy and audit users exclude each other"))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() (Options, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	if o.PodsPerNode == 0 {
		o.PodsPerNode = 100_000
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = time.Minute
	}
	if o.Dir != "" {
		dir, err := filepath.Abs(o.Dir)
		if err != nil {
			return o, fmt.Errorf("find the state folder: %w", err)
		}
		o.Dir = dir
	}
	images := make(map[string]string, len(o.Images))
	for image, program := range o.Images {
		absolute, err := filepath.Abs(program)
		if err != nil {
			return o, fmt.Errorf("find the program of image %s: %w", image, err)
		}
		images[image] = absolute
	}
	o.Images = images
	return o, nil
}
