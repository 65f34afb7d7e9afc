package cluster

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sigs.k8s.io/yaml"
)

// AuditEvent is one request to the API server.
type AuditEvent struct {
	// Verb is the API's: get, list, watch, create, update, patch, delete,
	// deletecollection; for other paths than resources the HTTP method's.
	Verb, User string
	// Group, Resource, Subresource, Namespace and Name are empty where they do
	// not apply.
	Group, Resource, Subresource, Namespace, Name string
	RequestURI, UserAgent                         string
	// Code is the HTTP status of the answer.
	Code int
	// Time is when the request arrived.
	Time time.Time
}

// AuditMark is a moment in the audit log.
type AuditMark int64

// AuditLog is the path of the audit log: JSON lines of audit.k8s.io/v1 Events.
func (c *Cluster) AuditLog() string { return c.file("audit.log") }

// AuditMark is now: AuditSince returns what is answered later. Requests that
// have been answered are in the log already, except for watches that run.
func (c *Cluster) AuditMark() (AuditMark, error) {
	file, err := os.Open(c.AuditLog())
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the audit log: %w", err)
	}
	defer file.Close()
	end, err := endOfLines(file)
	if err != nil {
		return 0, fmt.Errorf("read the audit log: %w", err)
	}
	return AuditMark(end), nil
}

// endOfLines is where the last complete line ends: one may be half written.
func endOfLines(file *os.File) (int64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	const longest = 1 << 20
	from := max(0, info.Size()-longest)
	tail := make([]byte, info.Size()-from)
	if _, err := file.ReadAt(tail, from); err != nil {
		return 0, err
	}
	return from + int64(bytes.LastIndexByte(tail, '\n')) + 1, nil
}

// AuditSince returns the requests answered since the mark, in the order of
// their answers; mark 0 is the start of the cluster. A watch counts once, when
// it begins.
func (c *Cluster) AuditSince(mark AuditMark) ([]AuditEvent, error) {
	if !c.audited() {
		return nil, errors.New("read the audit log: the cluster was started without audit users or policy")
	}
	file, err := os.Open(c.AuditLog())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	defer file.Close()
	if _, err := file.Seek(int64(mark), io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	events, err := readAudit(file)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return events, nil
}

// auditLine is the part of audit.k8s.io/v1 Event that AuditEvent is made from.
type auditLine struct {
	Stage      string
	Verb       string
	RequestURI string
	UserAgent  string
	User       struct{ Username string }
	ObjectRef  struct {
		APIGroup, Resource, Subresource, Namespace, Name string
	}
	ResponseStatus struct{ Code int }
	Received       time.Time `json:"requestReceivedTimestamp"`
}

func readAudit(r io.Reader) ([]AuditEvent, error) {
	var events []AuditEvent
	reader := bufio.NewReaderSize(r, 1<<16)
	for {
		text, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			// A line without its end is still being written.
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		var line auditLine
		if err := json.Unmarshal(text, &line); err != nil {
			return nil, err
		}
		counted := "ResponseComplete"
		if line.Verb == "watch" {
			counted = "ResponseStarted"
		}
		if line.Stage != counted {
			continue
		}
		events = append(events, AuditEvent{
			Verb:        line.Verb,
			User:        line.User.Username,
			Group:       line.ObjectRef.APIGroup,
			Resource:    line.ObjectRef.Resource,
			Subresource: line.ObjectRef.Subresource,
			Namespace:   line.ObjectRef.Namespace,
			Name:        line.ObjectRef.Name,
			RequestURI:  line.RequestURI,
			UserAgent:   line.UserAgent,
			Code:        line.ResponseStatus.Code,
			Time:        line.Received,
		})
	}
}

func (c *Cluster) audited() bool {
	return c.options.AuditPolicy != "" || len(c.options.AuditUsers) > 0
}

func (c *Cluster) writeAuditPolicy() error {
	policy := []byte(c.options.AuditPolicy)
	if len(policy) == 0 {
		var err error
		policy, err = yaml.Marshal(map[string]any{
			"apiVersion": "audit.k8s.io/v1",
			"kind":       "Policy",
			"omitStages": []string{"RequestReceived"},
			"rules": []map[string]any{
				{"level": "Metadata", "users": c.options.AuditUsers},
				{"level": "None"},
			},
		})
		if err != nil {
			return fmt.Errorf("write the audit policy: %w", err)
		}
	}
	if err := os.WriteFile(c.file("audit-policy.yaml"), policy, 0o600); err != nil {
		return fmt.Errorf("write the audit policy: %w", err)
	}
	return nil
}
