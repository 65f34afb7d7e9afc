package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// connections bounds the number of open connections. At the limit, the address with
// the most connections loses one: the one without activity for the longest time,
// idle connections first. So a client that opens idle connections loses its own.
type connections struct {
	limit int

	mu sync.Mutex
	// All fields below need mu.
	open      map[net.Conn]*connection
	addresses map[string]int
	changes   uint64
}

type connection struct {
	address string
	active  bool
	changed uint64 // when it last became active or idle, in changes
}

func newConnections(limit int) *connections {
	return &connections{limit: limit, open: make(map[net.Conn]*connection), addresses: make(map[string]int)}
}

// changed is http.Server's ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if excess := c.note(conn, state); excess != nil {
		// Without the farewell of TLS, which may have to wait for the client.
		if secure, ok := excess.(*tls.Conn); ok {
			excess = secure.NetConn()
		}
		_ = excess.Close()
	}
}

// note takes down the state of a connection, and returns the one to close; nil
// if there are not too many.
func (c *connections) note(conn net.Conn, state http.ConnState) (excess net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	switch state {
	case http.StateNew:
		address, _, err := net.SplitHostPort(conn.RemoteAddr().String())
		if err != nil {
			address = conn.RemoteAddr().String()
		}
		c.open[conn] = &connection{address: address, changed: c.changes}
		c.addresses[address]++
		if len(c.open) > c.limit {
			excess = c.excessLocked()
			c.dropLocked(excess)
		}
	case http.StateActive, http.StateIdle:
		if known, ok := c.open[conn]; ok {
			known.active, known.changed = state == http.StateActive, c.changes
		}
	case http.StateClosed, http.StateHijacked:
		c.dropLocked(conn)
	}
	return excess
}

func (c *connections) dropLocked(conn net.Conn) {
	known, ok := c.open[conn]
	if !ok {
		return
	}
	delete(c.open, conn)
	if c.addresses[known.address]--; c.addresses[known.address] == 0 {
		delete(c.addresses, known.address)
	}
}

func (c *connections) excessLocked() net.Conn {
	most := 0
	for _, n := range c.addresses {
		most = max(most, n)
	}
	var conn net.Conn
	var oldest *connection
	for other, o := range c.open {
		if c.addresses[o.address] < most {
			continue
		}
		if oldest == nil || oldest.active && !o.active || oldest.active == o.active && o.changed < oldest.changed {
			conn, oldest = other, o
		}
	}
	return conn
}
