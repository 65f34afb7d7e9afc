package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Etcd is the HTTP side of an etcd, by its URL.
type Etcd string

type etcdHeader struct {
	Revision int64 `json:"revision,string"`
}

type etcdEvent struct {
	// Type is DELETE, or empty for a write.
	Type string
	KV   struct {
		Key         []byte
		Value       []byte
		ModRevision int64 `json:"mod_revision,string"`
	}
}

// Revision is that of the newest write.
func (e Etcd) Revision(ctx context.Context) (int64, error) {
	var answer struct{ Header etcdHeader }
	if err := e.call(ctx, "kv/range", map[string]any{"key": []byte("/"), "count_only": true}, &answer); err != nil {
		return 0, err
	}
	return answer.Header.Revision, nil
}

// Compact forgets every version before that revision, for all readers.
func (e Etcd) Compact(ctx context.Context, revision int64) error {
	return e.call(ctx, "kv/compaction", map[string]any{"revision": revision, "physical": true}, &struct{}{})
}

func (e Etcd) call(ctx context.Context, method string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	body, err := e.open(ctx, method, in)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("etcd: %s: %w", method, err)
	}
	return nil
}

// watch calls visit for every write from that revision on, in their order,
// until ctx is done or the connection ends.
func (e Etcd) watch(ctx context.Context, from int64, first, last string, visit func(etcdEvent)) error {
	body, err := e.open(ctx, "watch", map[string]any{"create_request": map[string]any{
		"key": []byte(first), "range_end": []byte(last), "start_revision": from,
	}})
	if err != nil {
		return err
	}
	defer body.Close()
	decoder := json.NewDecoder(body)
	for {
		var message struct {
			Result struct {
				Canceled bool
				Events   []etcdEvent
			}
		}
		if err := decoder.Decode(&message); err != nil {
			return fmt.Errorf("etcd: watch: %w", err)
		}
		if message.Result.Canceled {
			return errCompacted
		}
		for _, event := range message.Result.Events {
			visit(event)
		}
	}
}

// errCompacted means that versions are missing: the story has a hole.
var errCompacted = errors.New("etcd: versions that were not read yet have been compacted")

func (e Etcd) open(ctx context.Context, method string, in any) (io.ReadCloser, error) {
	content, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("etcd: %s: %w", method, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, string(e)+"/v3/"+method, bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("etcd: %s: %w", method, err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("etcd: %s: %w", method, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("etcd: %s: %s", method, answer.Status), answer.Body.Close())
	}
	return answer.Body, nil
}
