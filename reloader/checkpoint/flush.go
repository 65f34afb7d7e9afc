package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

const (
	fieldManager = "Reloader"
	// restSize is how much a write costs one flush interval of rest: etcd
	// keeps every version for some minutes.
	restSize = 64 << 10
)

var errNotLoaded = errors.New("flush the checkpoint: it has not been loaded")

// result is the outcome of one shard in a flush.
type result struct {
	wrote bool
	err   error
}

// Run flushes what has changed at every flush interval, and once more when ctx
// ends. A write that fails is tried again at the next interval, one that the
// API server refuses every minute; both are logged when they begin and when
// they end.
//
// It returns ErrConflict as soon as another engine turns out to write the
// checkpoint: the caller, if it is still the leader, may Run again, and its
// memory then overwrites what the other wrote; or Load first. Otherwise it
// returns when ctx has ended, with the errors of the last flush.
func (s *Store) Run(ctx context.Context) error {
	ticker := s.clock.NewTicker(s.options.FlushInterval)
	defer ticker.Stop()
	var failing [Shards]bool
	for {
		select {
		case <-ctx.Done():
			return s.lastFlush(ctx)
		case <-ticker.C():
			results, err := s.flush(ctx, false)
			if errors.Is(err, ErrConflict) || errors.Is(err, errNotLoaded) {
				return err
			}
			if ctx.Err() != nil {
				return s.lastFlush(ctx)
			}
			s.logChanges(results, &failing)
		}
	}
}

// Flush writes all that has changed, without regard to intervals. The error
// joins what could not be written; those shards stay dirty. A shard that the
// API server refuses is not tried more often than every minute, and is no error
// in between.
func (s *Store) Flush(ctx context.Context) error {
	_, err := s.flush(ctx, true)
	return err
}

// lastFlush gives the flush after the end of ctx a limited time.
func (s *Store) lastFlush(ctx context.Context) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	timer := s.clock.NewTimer(s.options.Grace)
	defer timer.Stop()
	// The flush stays in this goroutine: whoever called recovers from its panic.
	var limit sync.WaitGroup
	defer limit.Wait()
	flushed := make(chan struct{})
	defer close(flushed)
	limit.Go(func() {
		select {
		case <-flushed:
		case <-timer.C():
			cancel()
		}
	})
	return s.Flush(ctx)
}

func (s *Store) logChanges(results [Shards]result, failing *[Shards]bool) {
	for n, r := range results {
		object := klog.KRef(s.options.Namespace, s.shards[n].name)
		switch {
		case r.err != nil && !failing[n]:
			s.log.Error(r.err, "the checkpoint is not up to date, trying again", "configMap", object)
			failing[n] = true
		case r.err == nil && r.wrote && failing[n]:
			s.log.Info("the checkpoint is up to date again", "configMap", object)
			failing[n] = false
		}
	}
}

// flush writes the dirty shards that are due, or all of them. At a conflict it
// stops: an engine that is no longer the leader must not write.
func (s *Store) flush(ctx context.Context, all bool) (results [Shards]result, err error) {
	giveBack, err := s.take(ctx)
	if err != nil {
		return results, fmt.Errorf("flush the checkpoint: %w", err)
	}
	defer giveBack()
	var problems []error
	for n, sh := range s.shards {
		if !sh.loaded {
			return results, errNotLoaded
		}
		resting := s.clock.Now().Before(sh.rest) && (sh.refused || !all)
		if resting || !sh.dirty() {
			continue
		}
		results[n] = s.write(ctx, sh)
		if results[n].err != nil {
			problems = append(problems, results[n].err)
		}
		if errors.Is(results[n].err, ErrConflict) || ctx.Err() != nil {
			break
		}
	}
	return results, errors.Join(problems...)
}

// write brings the ConfigMap of a shard up to date. The turn is held.
func (s *Store) write(ctx context.Context, sh *shard) result {
	r := s.attempt(ctx, sh)
	if apierrors.IsConflict(r.err) {
		// The other writer may have changed only labels.
		r = s.attempt(ctx, sh)
	}
	if refusal(r.err) {
		sh.refuse(s.clock.Now())
	}
	return r
}

func (s *Store) attempt(ctx context.Context, sh *shard) result {
	if sh.stale {
		if err := s.reread(ctx, sh); err != nil {
			return result{err: err}
		}
	}
	return s.update(ctx, sh)
}

// update replaces the ConfigMap, provided that it is as it was last seen.
func (s *Store) update(ctx context.Context, sh *shard) result {
	records, leftOut, changes := sh.snapshot(s.selector)
	now := s.clock.Now()
	stored := encode(header{shard: sh.number, key: s.key, writer: s.writer, flushes: sh.flushes + 1, written: now}, records)

	object := *sh.object // shallow: only BinaryData is replaced
	object.BinaryData = maps.Clone(object.BinaryData)
	if object.BinaryData == nil {
		object.BinaryData = map[string][]byte{}
	}
	object.BinaryData[storedEntry] = stored
	updated, err := s.client.Update(ctx, &object, metav1.UpdateOptions{FieldManager: fieldManager})
	if err != nil {
		// Even when it failed the write may have gone through.
		sh.stale = true
		return result{err: fmt.Errorf("write ConfigMap %s/%s: %w", s.options.Namespace, sh.name, err)}
	}
	sh.object, sh.written, sh.flushes, sh.refused = strip(updated), changes, sh.flushes+1, false
	sh.rest = now.Add(time.Duration(len(stored)/restSize) * s.options.FlushInterval)
	r := result{wrote: true}
	if leftOut != sh.leftOut {
		sh.leftOut = leftOut
		s.reportLeftOut()
	}
	if leftOut > 0 {
		r.err = fmt.Errorf("write ConfigMap %s/%s: %d of %d sources do not fit", s.options.Namespace, sh.name, leftOut, leftOut+len(records))
	}
	return r
}

// reportLeftOut reports what all shards leave out. The turn is held.
func (s *Store) reportLeftOut() {
	sum := 0
	for _, sh := range s.shards {
		sum += sh.leftOut
	}
	s.options.LeftOut(sum)
}

// reread reads a ConfigMap that may have been changed by another writer, or by our
// own write whose answer was lost.
func (s *Store) reread(ctx context.Context, sh *shard) error {
	f, err := s.read(ctx, sh)
	if err != nil {
		return err
	}
	// What a shard held that could not be read at the Load is no news.
	first := sh.object == nil
	rival := !first && s.isRival(sh, &f)
	if !first && !rival && (f.blank || f.flaw != nil) {
		s.log.Info("checkpoint was damaged by another writer, rewriting it",
			"configMap", klog.KRef(s.options.Namespace, sh.name), "empty", f.blank)
	}
	sh.take(&f)
	if rival {
		return fmt.Errorf("write ConfigMap %s/%s: %w", s.options.Namespace, sh.name, ErrConflict)
	}
	return nil
}

// isRival reports whether another engine wrote the shard since it was last read.
func (s *Store) isRival(sh *shard, f *found) bool {
	if f.blank || f.hash == sh.seen || f.header.writer == s.writer {
		return false
	}
	return f.flaw == nil || errors.Is(f.flaw, errOtherKey) || errors.Is(f.flaw, errOtherFormat)
}
