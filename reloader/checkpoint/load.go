package checkpoint

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/reloader/guard"
)

// The entries of the ConfigMaps.
const (
	storedEntry = "checkpoint"
	asideEntry  = "damaged"
)

// Summary is what Load has found.
type Summary struct {
	Entries int
	// Fresh is true if all shards could be read and none holds anything: the
	// first start.
	Fresh bool
	// Written is the time of the last write of any shard; zero if there was
	// none.
	Written time.Time
	// Version1 is true if that write was made by an engine of version 1, whose
	// marks were the fingerprints themselves.
	Version1 bool
	// Problems are the shards that could not be used: one line each, with what
	// is lost by it and how to mend it.
	Problems []string
}

// found is a ConfigMap that was read.
type found struct {
	object *corev1.ConfigMap // without the entries; they may be set aside in it
	hash   [32]byte          // of the stored bytes
	blank  bool              // there are none
	// flaw is why the stored bytes are not used.
	flaw    error
	header  header
	entries map[id]packed
}

// Load reads all shards and replaces the entries in memory. It may be called again,
// by a new leader. A shard that cannot be used is a problem in the Summary and
// counts as empty. The error means that the API server did not answer or ctx is
// done; the memory is then as it was, and the call is worth repeating.
func (s *Store) Load(ctx context.Context) (Summary, error) {
	giveBack, err := s.take(ctx)
	if err != nil {
		return Summary{}, fmt.Errorf("load the checkpoint: %w", err)
	}
	defer giveBack()

	var all [Shards]found
	for n, sh := range s.shards {
		all[n], err = s.read(ctx, sh)
		if err != nil && !refusal(err) {
			return Summary{}, fmt.Errorf("load the checkpoint: %w", err)
		}
		if err != nil {
			all[n].flaw = err
		}
	}
	fresh := !slices.ContainsFunc(all[:], func(f found) bool { return !f.blank })
	summary := Summary{Fresh: fresh}
	for n, sh := range s.shards {
		f := &all[n]
		if f.blank && !fresh {
			// The first flush writes all shards.
			f.flaw = errLost
		}
		summary.Entries += len(f.entries)
		if f.header.written.After(summary.Written) {
			summary.Written = f.header.written
			summary.Version1 = !bytes.HasPrefix(f.header.writer[:], []byte(writerTag))
		}
		s.adopt(sh, f)
	}
	summary.Problems = s.problems(&all)
	return summary, nil
}

// problems describes the problems of the shards. One that all shards have is
// reported once.
func (s *Store) problems(all *[Shards]found) []string {
	var problems []string
	alike := true
	for n := range all {
		if flaw := all[n].flaw; flaw != nil {
			problems = append(problems, s.problem(s.shards[n].name, fmt.Sprintf("one in %d sources", Shards), flaw))
		}
		alike = alike && all[n].flaw != nil && remedy(all[n].flaw) == remedy(all[0].flaw)
	}
	if alike {
		return []string{s.problem(fmt.Sprintf("%s-0 to -%d", s.options.Name, Shards-1), "all sources", all[0].flaw)}
	}
	return problems
}

var errLost = errors.New("it is empty, unlike others")

// adopt takes over a shard as it was read. The turn is held.
func (s *Store) adopt(sh *shard, f *found) {
	sh.loaded, sh.refused, sh.rest = true, false, time.Time{}
	sh.take(f)
	if f.object == nil {
		sh.refuse(s.clock.Now())
	}
	entries := f.entries
	if entries == nil {
		entries = map[id]packed{}
	}
	// Written once even if empty, so that a shard that is lost later shows.
	sh.replace(entries, f.blank || f.flaw != nil)
}

// take remembers what a write has to build on.
func (sh *shard) take(f *found) {
	sh.object, sh.seen, sh.stale = f.object, f.hash, f.object == nil
	sh.flushes = max(sh.flushes, f.header.flushes)
}

// refuse delays the next attempt, since a user has to fix the cause first.
func (sh *shard) refuse(now time.Time) {
	sh.refused, sh.rest = true, now.Add(refusedRetry)
}

// read gets a shard. Data that cannot be used is set aside in the returned object.
func (s *Store) read(ctx context.Context, sh *shard) (found, error) {
	object, err := s.client.Get(ctx, sh.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return s.create(ctx, sh)
	}
	if err != nil {
		return found{}, fmt.Errorf("read ConfigMap %s/%s: %w", s.options.Namespace, sh.name, err)
	}
	stored, ok := object.BinaryData[storedEntry]
	if text, inData := object.Data[storedEntry]; !ok && inData {
		stored, ok = []byte(text), true
	}
	f := found{object: strip(object), hash: sha256.Sum256(stored), blank: !ok}
	if f.blank {
		return f, nil
	}
	f.header, f.entries, f.flaw = s.decoded(stored, sh.number)
	if f.flaw != nil {
		setAside(f.object, stored)
	}
	return f, nil
}

// decoded decodes what a shard holds. A panic is a flaw like any other, so that a
// start goes on without the shard.
func (s *Store) decoded(stored []byte, number int) (h header, entries map[id]packed, flaw error) {
	err := guard.Call(func() (err error) {
		h, entries, err = s.decode(stored, number, s.key)
		return err
	})
	if guard.Panicked(err) {
		s.log.Error(err, "internal error; please report it with the stack", "shard", number, "stack", guard.Stack(err))
		return header{}, nil, err
	}
	return h, entries, err
}

// create makes a shard that does not exist.
func (s *Store) create(ctx context.Context, sh *shard) (found, error) {
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.options.Namespace, Name: sh.name}}
	object, err := s.client.Create(ctx, object, metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil {
		// A ConfigMap that was created meanwhile is found by the next attempt.
		return found{}, missingError{fmt.Errorf("create ConfigMap %s/%s: %w", s.options.Namespace, sh.name, err)}
	}
	return found{object: strip(object), hash: sha256.Sum256(nil), blank: true}, nil
}

// missingError is a shard that does not exist and could not be created.
type missingError struct{ error }

func (e missingError) Unwrap() error { return e.error }

// strip takes from the object what a Store does not need to keep: an update
// without managed fields leaves them as they are.
func strip(object *corev1.ConfigMap) *corev1.ConfigMap {
	object.ManagedFields = nil
	delete(object.Data, storedEntry)
	delete(object.BinaryData, storedEntry)
	return object
}

// setAside replaces the data that was set aside before, so that it does not grow.
func setAside(object *corev1.ConfigMap, stored []byte) {
	if object.BinaryData == nil {
		object.BinaryData = map[string][]byte{}
	}
	delete(object.Data, asideEntry)
	object.BinaryData[asideEntry] = slices.Clone(stored[:min(len(stored), asideSize)])
}

// problem describes in one line the problem, its consequence and the remedy.
func (s *Store) problem(name, lost string, flaw error) string {
	return fmt.Sprintf("checkpoint %s/%s: %s: changes made while no engine was running are not noticed for %s; %s",
		s.options.Namespace, name, cause(flaw), lost, remedy(flaw))
}

func cause(flaw error) string {
	var missing missingError
	switch {
	case errors.As(flaw, &missing):
		return fmt.Sprintf("the ConfigMap does not exist and cannot be created (%v)", errors.Unwrap(missing.error))
	case apierrors.IsForbidden(flaw), apierrors.IsUnauthorized(flaw):
		return "the ConfigMap may not be read"
	}
	return flaw.Error()
}

func remedy(flaw error) string {
	var missing missingError
	switch {
	case errors.As(flaw, &missing):
		return "let the service account create it, or create it empty"
	case refusal(flaw):
		return "let the service account get and update it"
	case errors.Is(flaw, errOtherKey):
		return "it is written anew; next time restore the key's Secret together with it"
	case errors.Is(flaw, errLost):
		return "it is written anew"
	}
	return fmt.Sprintf("it is written anew, and what was there is kept in its entry %q", asideEntry)
}

// refusal reports whether the API server refused for a reason that a user has to
// fix, so that an early retry is useless.
func refusal(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	switch code := status.Status().Code; code {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return false
	default:
		return code >= 400 && code < 500
	}
}
