package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// idler opens connections and leaves them idle after one request.
type idler struct {
	net.Conn

	answers *bufio.Reader
}

func (r *running) idle(t *testing.T, from string) *idler {
	t.Helper()
	dialer := tls.Dialer{
		NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}},
		Config:    &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}},
	}
	conn, err := dialer.DialContext(t.Context(), "tcp", r.address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	i := &idler{conn, bufio.NewReader(conn)}
	require.NoError(t, i.ask())
	return i
}

// ask sends a request and reads the answer.
func (i *idler) ask() error {
	if _, err := io.WriteString(i, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	answer, err := http.ReadResponse(i.answers, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// from returns a client that comes from a loopback address of its own.
func (r *running) from(t *testing.T, address string) *running {
	t.Helper()
	transport, ok := r.client.Transport.(*http.Transport)
	require.True(t, ok)
	transport = transport.Clone()
	transport.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext
	t.Cleanup(transport.CloseIdleConnections)
	other := *r
	other.client = &http.Client{Transport: transport}
	return &other
}

func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	r := start(t, Options{Linger: -1, MaxConnections: 8}, hello)
	server := r.from(t, "127.0.0.3")
	got, err := server.get(t)
	require.NoError(t, err)
	require.Equal(t, "hello", got.body)

	var idlers []*idler
	for range 40 {
		idlers = append(idlers, r.idle(t, "127.0.0.2"))
	}
	got, err = server.get(t)
	require.NoError(t, err)
	assert.True(t, got.reused, "its connection is still there")
	got, err = r.from(t, "127.0.0.4").get(t)
	require.NoError(t, err, "a new one has place")
	require.Equal(t, "hello", got.body)
	require.Error(t, idlers[0].ask(), "the first of the many have been closed")
	require.NoError(t, idlers[39].ask())
}

// Where all come from one address, what is in use stays.
func TestWhatIsInUseIsClosedLast(t *testing.T) {
	r := start(t, Options{Linger: -1, MaxConnections: 4}, hello)
	used := r.idle(t, "127.0.0.2")
	for range 40 {
		r.idle(t, "127.0.0.2")
		require.NoError(t, used.ask())
	}
}

func TestConnectionsThatSayNothingMakeWay(t *testing.T) {
	r := start(t, Options{Linger: -1, MaxConnections: 4}, hello)
	for range 20 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
	}
	got, err := r.get(t)
	require.NoError(t, err)
	assert.Equal(t, "hello", got.body)
}

// peer is a connection as far as it is counted.
type peer struct {
	net.Conn

	address string
}

func (p *peer) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(p.address), Port: 1} }

func TestWhichConnectionGivesWay(t *testing.T) {
	a, b, other := "10.0.0.1", "10.0.0.2", "10.0.0.3"
	type step struct {
		conn  int
		state http.ConnState
	}
	tests := map[string]struct {
		peers []string // the last one is one too many
		steps []step   // before that
		want  int
	}{
		"the oldest of the address with the most": {[]string{b, a, a, a, other}, nil, 1},
		"an idle one before an active one":        {[]string{a, a, a, b}, []step{{0, http.StateActive}, {1, http.StateActive}, {2, http.StateActive}, {1, http.StateIdle}}, 1},
		"the one that is active the longest":      {[]string{a, a, b}, []step{{1, http.StateActive}, {0, http.StateActive}}, 1},
		"its own, if it has the most itself":      {[]string{b, a, a}, nil, 1},
		"one that was used lately stays":          {[]string{a, a, a}, []step{{0, http.StateActive}, {0, http.StateIdle}}, 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newConnections(len(tc.peers) - 1)
			var conns []*peer
			for _, address := range tc.peers[:len(tc.peers)-1] {
				conns = append(conns, &peer{address: address})
				assert.Nil(t, c.note(conns[len(conns)-1], http.StateNew))
			}
			for _, s := range tc.steps {
				assert.Nil(t, c.note(conns[s.conn], s.state))
			}
			excess := c.note(&peer{address: tc.peers[len(tc.peers)-1]}, http.StateNew)
			assert.Same(t, conns[tc.want], excess)
			assert.Nil(t, c.note(excess, http.StateClosed), "it is counted once")
			for conn := range c.open {
				c.note(conn, http.StateClosed)
			}
			assert.Empty(t, c.addresses)
		})
	}
}

func TestHeadersAreBounded(t *testing.T) {
	r := start(t, Options{Linger: -1}, hello)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.address+"/", http.NoBody)
	require.NoError(t, err)
	for i := range 64 {
		request.Header.Set(fmt.Sprint("X-", i), fmt.Sprintf("%01000d", i))
	}
	response, err := r.client.Do(request)
	if err == nil {
		assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, response.StatusCode)
		require.NoError(t, response.Body.Close())
	}
	_, err = r.get(t)
	require.NoError(t, err)
}
