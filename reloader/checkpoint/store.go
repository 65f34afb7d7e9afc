package checkpoint

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"k8s-reloader/reloader"
)

// ErrConflict means that another engine has written the checkpoint since this
// one read it: they cannot both be the leader.
var ErrConflict = errors.New("another engine writes the checkpoint")

// Store is a checkpoint: in memory, and behind it in ConfigMaps. It is safe for
// concurrent use; Lookup, Set, Delete and Retain never wait for the API server.
type Store struct {
	client  ConfigMaps
	options Options
	clock   clock.WithTicker
	log     logr.Logger
	key     [keySize]byte
	writer  [writerSize]byte
	shards  [Shards]*shard
	// decode is the function of that name, but in a test.
	decode func(stored []byte, shard int, key [keySize]byte) (header, map[id]packed, error)
	// selector chooses what a shard leaves out that is full.
	selector selector
	// turn is held by the one Load or Flush that talks to the API server.
	turn chan struct{}
}

// shard is one of the ConfigMaps and the entries that belong there.
type shard struct {
	number int
	name   string

	mu      sync.Mutex // guards the next group
	entries map[id]packed
	// owners are the namespaces of entries, as far as anyone has named their
	// sources.
	owners map[id]owner
	// changes counts the changes since the last Load.
	changes uint64
	// touched are the entries that were set while a Retain is under way;
	// retains counts those.
	touched map[id]struct{}
	retains int

	// The fields below belong to the holder of the turn.

	// loaded is true after the first Load.
	loaded bool
	// written are the changes that the ConfigMap has.
	written uint64
	// object is the ConfigMap as it was last read or written, without the
	// entries; nil if it has never been read.
	object *corev1.ConfigMap
	// seen is a hash of the entries as they were last read.
	seen [32]byte
	// flushes is how often the shard was written by anyone.
	flushes uint64
	// stale is true if object may be older than what the API server has.
	stale bool
	// refused is true if the API server refused the last request for a reason that
	// a user has to fix.
	refused bool
	// leftOut counts the sources that the ConfigMap has no room for.
	leftOut int
	// rest is when the next write is due.
	rest time.Time
}

// New returns an empty Store. Nothing is written before a Load.
func New(client ConfigMaps, o Options) (*Store, error) {
	if client == nil {
		return nil, errors.New("checkpoint: no client")
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	o = o.withDefaults()
	s := &Store{client: client, decode: decode, options: o, clock: o.Clock, log: o.Log, key: keyOf(o.KeyID), turn: make(chan struct{}, 1), selector: newSelector()}
	// crypto/rand.Read never fails; it ends the process instead.
	_, _ = rand.Read(s.writer[copy(s.writer[:], writerTag):])
	for i := range s.shards {
		s.shards[i] = &shard{number: i, name: fmt.Sprintf("%s-%d", o.Name, i), entries: map[id]packed{}, owners: map[id]owner{}}
	}
	return s, nil
}

// Lookup returns the entry of a source.
func (s *Store) Lookup(source reloader.Source) (Entry, bool) {
	i := idOf(source)
	sh := s.shards[i.shard()]
	sh.mu.Lock()
	p, ok := sh.entries[i]
	if ok {
		sh.owners[i] = s.selector.owner(source.Namespace)
	}
	sh.mu.Unlock()
	if !ok {
		return Entry{}, false
	}
	return p.unpack(), true
}

// Set replaces the entry of a source. One whose fingerprint is of an unknown
// form cannot be kept: the source is forgotten, and adopted at the next start.
func (s *Store) Set(source reloader.Source, e Entry) {
	p, ok := pack(e)
	if !ok {
		s.log.Info("a fingerprint of unknown form is not kept in the checkpoint", "source", source.String())
		s.Delete(source)
		return
	}
	i := idOf(source)
	sh := s.shards[i.shard()]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.touched != nil {
		sh.touched[i] = struct{}{}
	}
	if sh.entries[i] != p {
		sh.entries[i] = p
		sh.owners[i] = s.selector.owner(source.Namespace)
		sh.changes++
	}
}

// Delete forgets a source.
func (s *Store) Delete(source reloader.Source) {
	i := idOf(source)
	sh := s.shards[i.shard()]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.drop(i)
}

// Retain forgets all sources but the live ones and those that are set before it
// returns. It reports how many it forgot.
func (s *Store) Retain(live iter.Seq[reloader.Source]) (forgotten int) {
	for _, sh := range s.shards {
		sh.beginRetain()
	}
	var keep [Shards][]id
	for source := range live {
		i := idOf(source)
		keep[i.shard()] = append(keep[i.shard()], i)
	}
	for n, sh := range s.shards {
		slices.SortFunc(keep[n], compareIDs)
		forgotten += sh.endRetain(keep[n])
	}
	return forgotten
}

func (sh *shard) beginRetain() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.retains++
	if sh.touched == nil {
		sh.touched = map[id]struct{}{}
	}
}

func (sh *shard) endRetain(keep []id) (forgotten int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for i := range sh.entries {
		_, touched := sh.touched[i]
		_, found := slices.BinarySearchFunc(keep, i, compareIDs)
		if !touched && !found {
			sh.drop(i)
			forgotten++
		}
	}
	sh.retains--
	if sh.retains == 0 {
		sh.touched = nil
	}
	return forgotten
}

func compareIDs(a, b id) int { return bytes.Compare(a[:], b[:]) }

// drop forgets an entry. sh.mu is held.
func (sh *shard) drop(i id) {
	if _, ok := sh.entries[i]; ok {
		delete(sh.entries, i)
		delete(sh.owners, i)
		sh.changes++
	}
}

// snapshot returns the entries that a ConfigMap has room for, how many it has
// none for, and the changes that they contain.
func (sh *shard) snapshot(s selector) (records []record, leftOut int, changes uint64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	records, leftOut = s.fit(recordsOf(sh.entries), sh.owners, maxEntries)
	return records, leftOut, sh.changes
}

// dirty reports whether the ConfigMap lacks changes. The turn is held.
func (sh *shard) dirty() bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.changes != sh.written
}

// replace discards the entries in memory. The turn is held.
func (sh *shard) replace(entries map[id]packed, dirty bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.entries, sh.owners, sh.changes, sh.written = entries, map[id]owner{}, 0, 0
	if dirty {
		sh.changes = 1
	}
}

// take waits for the turn and returns what gives it back.
func (s *Store) take(ctx context.Context) (giveBack func(), err error) {
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
