package fault

import (
	"errors"
	"net"
	"sync"
)

// weather is the state of the network.
type weather int

const (
	whole weather = iota
	refused
	silenced
)

// network is a listener whose connections can be cut or go silent.
type network struct {
	net.Listener

	mu sync.Mutex
	// state is guarded by mu.
	state weather
	// conns by the client's address; guarded by mu.
	conns map[string]*conn
	// count is how many clients have connected; guarded by mu.
	count int
}

func newNetwork(l net.Listener) *network {
	return &network{Listener: l, conns: map[string]*conn{}}
}

// Accept waits for the next client that is not refused.
func (n *network) Accept() (net.Conn, error) {
	for {
		raw, err := n.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := n.admit(raw); c != nil {
			return c, nil
		}
		_ = raw.Close()
	}
}

func (n *network) admit(raw net.Conn) *conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count++
	if n.state == refused {
		return nil
	}
	c := &conn{Conn: raw, network: n, lost: n.state == silenced, closed: make(chan struct{})}
	n.conns[raw.RemoteAddr().String()] = c
	return c
}

func (n *network) accepted() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.count
}

func (n *network) set(to weather) {
	n.mu.Lock()
	n.state = to
	var ended []*conn
	for _, c := range n.conns {
		if to == silenced {
			c.lost = true
			continue
		}
		// What has lost bytes is good for nothing any more.
		if to == refused || c.lost {
			ended = append(ended, c)
		}
	}
	n.mu.Unlock()
	for _, c := range ended {
		_ = c.Close()
	}
}

// cut closes the connection of one client.
func (n *network) cut(address string) {
	n.mu.Lock()
	c := n.conns[address]
	n.mu.Unlock()
	if c != nil {
		_ = c.Close()
	}
}

// conn is one client's connection.
type conn struct {
	net.Conn
	network *network
	// lost is true once the network went silent: nothing passes any more;
	// guarded by network.mu.
	lost      bool
	closeOnce sync.Once
	closed    chan struct{}
}

var errLost = errors.New("the network has lost the connection")

// Read hands over what came, unless the network has gone silent.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.isLost() {
		// What came meanwhile is lost; the client hears nothing of that.
		<-c.closed
		return 0, errLost
	}
	return n, err
}

// Write sends, unless the network has gone silent.
func (c *conn) Write(b []byte) (int, error) {
	if c.isLost() {
		<-c.closed
		return 0, errLost
	}
	return c.Conn.Write(b)
}

func (c *conn) isLost() bool {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	return c.lost
}

// Close closes it, silent or not.
func (c *conn) Close() error {
	c.closeOnce.Do(func() {
		close(c.closed)
		c.network.mu.Lock()
		delete(c.network.conns, c.RemoteAddr().String())
		c.network.mu.Unlock()
	})
	return c.Conn.Close()
}
