package answer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	// mostBytes is the longest page of a list that is kept.
	mostBytes = 8 << 20
	// mostOfOne is the longest answer that is kept of one object. etcd by default
	// accepts none of more than 1.5 MiB, but in JSON a byte can take six: < is
	// \u003c. So an object alone fits.
	mostOfOne = 10 << 20
	// freeBytes is what an answer may have without waiting for its turn.
	freeBytes = 64 << 10
	// turns is how many longer answers are in memory at the same time.
	turns = 4
	// patience is how long an answer may take. An API server ends such requests
	// after a minute, so that only one that is stuck takes longer: it must not
	// keep its turn.
	patience = 2 * time.Minute
	// mostObjects is the limit of the longest page, as client-go's pager has it.
	mostObjects = 500
)

var (
	// ErrUndecodable does not say what is wrong with an answer, because that
	// would quote it.
	ErrUndecodable = errors.New("the API server's answer cannot be decoded")
	// ErrTooLong is an answer of more than 10 MiB that cannot be divided.
	ErrTooLong = errors.New("the API server's answer is longer than 10 MiB, even for one object")
)

// Reader reads answers. All that share one share its bounds. It is safe for
// concurrent use.
type Reader struct {
	turns   chan struct{}
	bodies  sync.Pool
	patient time.Duration
	log     logr.Logger
}

// New returns a reader.
func New(log logr.Logger) *Reader {
	return &Reader{
		turns:   make(chan struct{}, turns),
		bodies:  sync.Pool{New: func() any { return new(body) }},
		patient: patience,
		log:     log,
	}
}

// Object makes a request and hands its answer, one object, to use. What use needs
// of the object it copies, and it makes no request: others may wait for its end.
func (r *Reader) Object(ctx context.Context, request *rest.Request, use func(Object) error) error {
	b, whole, err := r.read(ctx, request, mostOfOne)
	if err != nil {
		return err
	}
	defer r.release(b)
	if !whole {
		return ErrTooLong
	}
	return b.object(use)
}

// List makes the requests of a list, each for at most limit objects from the
// place next on, and hands every object to use, which has to be as that of Object.
// The first page asks for at most first objects. After each page more is called,
// unless it is nil; it may make requests. List returns the resource version of
// the first page.
//
// If a page fails, some objects have been handed on. A list whose continue token
// has expired fails as well, and has to start anew.
func (r *Reader) List(ctx context.Context, first int64, request func(limit int64, next string) *rest.Request, use func(Object) error, more func()) (version string, err error) {
	limit, next := min(first, mostObjects), ""
	for {
		most := mostBytes
		if limit == 1 {
			most = mostOfOne
		}
		p, err := r.page(ctx, request(limit, next), most, use)
		switch {
		case err != nil:
			return "", err
		case !p.whole && limit > 1:
			// The objects that have come say how many fit.
			limit = max(1, min(limit/2, p.objects))
			continue
		case !p.whole && (p.objects > 0 || p.meta.Continue == "" && next == "" || p.meta.Continue == next && next != ""):
			// The server ignores limits, or does not say how to go on. One that has
			// divided the list before does: this is the last object.
			return "", ErrTooLong
		case !p.whole:
			r.log.Error(ErrTooLong, "skipped an object of a list")
		}
		if version == "" {
			version = p.meta.ResourceVersion
		}
		if more != nil {
			more()
		}
		if p.meta.Continue == "" {
			return version, nil
		}
		limit, next = p.following(limit), p.meta.Continue
	}
}

// page is what was read of one page.
type page struct {
	meta metav1.ListMeta
	// objects is how many there are, or have come until it was given up.
	objects int64
	bytes   int64
	// whole is false if it was too long. None of its objects was handed on then.
	whole bool
}

// following returns the limit of the page after this one: as many objects of
// the same size as fill half of what a page may have, and not many more than
// this time.
func (p page) following(limit int64) int64 {
	fits := mostBytes / 2 * p.objects / max(1, p.bytes)
	return max(1, min(fits, 2*limit, mostObjects))
}

func (r *Reader) page(ctx context.Context, request *rest.Request, most int, use func(Object) error) (p page, err error) {
	b, whole, err := r.read(ctx, request, most)
	if err != nil {
		return page{}, err
	}
	defer r.release(b)
	p.whole, p.bytes = whole, int64(len(b.bytes))
	p.meta, err = b.list(func(o Object) error {
		p.objects++
		if !whole {
			return nil
		}
		return use(o)
	})
	if !whole {
		err = nil // it breaks off somewhere
	}
	return p, err
}

// body is an answer as it was sent.
type body struct {
	bytes []byte
	// turn is true if it has taken one.
	turn bool
}

// read makes a request and reads its answer. It is not whole if it was longer
// than most. The body has to be released, unless there is an error.
func (r *Reader) read(ctx context.Context, request *rest.Request, most int) (b *body, whole bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.patient)
	defer cancel()
	stream, err := request.Stream(ctx)
	if err != nil {
		return nil, false, err
	}
	// Before its end, this ends the request.
	defer func() { _ = stream.Close() }()
	b = r.bodies.Get().(*body)
	if whole, err = r.fill(ctx, b, stream, most); err != nil {
		r.release(b)
		return nil, false, fmt.Errorf("read the API server's answer: %w", err)
	}
	return b, whole, nil
}

func (r *Reader) fill(ctx context.Context, b *body, stream io.Reader, most int) (whole bool, err error) {
	for {
		if len(b.bytes) == cap(b.bytes) {
			if err := r.grow(ctx, b, most); err != nil {
				return false, err
			}
		}
		n, err := stream.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case errors.Is(err, io.EOF):
			return true, nil
		case err != nil:
			return false, err
		case len(b.bytes) > most:
			return false, nil
		}
	}
}

// grow makes room for more of a body, after it has waited for its turn.
func (r *Reader) grow(ctx context.Context, b *body, most int) error {
	if len(b.bytes) >= freeBytes && !b.turn {
		select {
		case r.turns <- struct{}{}:
			b.turn = true
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	room := min(max(2*cap(b.bytes), freeBytes/8), most+1)
	b.bytes = append(make([]byte, 0, room), b.bytes...)
	return nil
}

// release gives back what a body has taken. Long ones are not kept: they are
// rare, and would be most of the memory of an engine at rest.
func (r *Reader) release(b *body) {
	if b.turn {
		<-r.turns
		return
	}
	b.bytes = b.bytes[:0]
	r.bodies.Put(b)
}
