package engine

import (
	"context"
	"errors"
	"net"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

// errLeaseOver is a write that was held back because another leader may have
// begun.
var errLeaseOver = errors.New("the lease has run out")

// A fence holds back the writes of a process that may not lead any more. One
// that was frozen goes on where it was stopped, be it between a look at the
// lease and the request, or in the middle of it. So the lease is looked at
// where nothing of ours comes after it: at each write to the connection.
type fence struct {
	lease Lease
	clock clock.PassiveClock
}

// left returns how long writing is allowed, at least and from now on; 0 if it
// is not. Both clocks have to agree: the monotonic one stands still while a
// machine is suspended, the other one may be set back.
func (f fence) left() time.Duration {
	now, until := f.clock.Now(), f.lease.Until()
	return max(0, min(until.Sub(now), until.Round(0).Sub(now.Round(0))))
}

// around returns a copy of the configuration whose connections carry nothing
// to the API server once the lease has run out. They are not shared with others.
func (f fence) around(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	dial := config.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return fencedConn{conn, f}, nil
	}
	return config
}

type fencedConn struct {
	net.Conn
	fence fence
}

// Write implements net.Conn. A connection that was refused a write is closed:
// half a request must not be completed later.
func (c fencedConn) Write(b []byte) (int, error) {
	if c.fence.left() == 0 {
		_ = c.Close()
		return 0, errLeaseOver
	}
	return c.Conn.Write(b)
}
