package podrunner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// addresses hands out the loopback addresses of one /24 below 127.97.0.0/16.
// The network is this process's as long as it listens on a port of its first
// address: runners of several processes do not meet.
type addresses struct {
	network int
	claim   net.Listener

	mu sync.Mutex
	// used are the last numbers of the addresses in use; guarded by mu.
	used map[int]bool
	// last was given out most recently: the next one is above it, so that a new
	// pod is not reached by what still connects to an old one. Guarded by mu.
	last int
}

func newAddresses(ctx context.Context) (*addresses, error) {
	var config net.ListenConfig
	var errs []error
	for _, network := range rand.Perm(256) {
		claim, err := config.Listen(ctx, "tcp", fmt.Sprintf("127.97.%d.1:29797", network))
		if err == nil {
			return &addresses{network: network, claim: claim, used: map[int]bool{}, last: 1}, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("claim a network for pods: %w", errors.Join(errs[0], errs[len(errs)-1]))
}

func (a *addresses) take() (string, error) {
	const first, count = 2, 253
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range count {
		number := first + (a.last+1-first+i)%count
		if !a.used[number] {
			a.used[number] = true
			a.last = number
			return fmt.Sprintf("127.97.%d.%d", a.network, number), nil
		}
	}
	return "", fmt.Errorf("all %d addresses for pods are in use", count)
}

func (a *addresses) release(address string) {
	var number int
	if _, err := fmt.Sscanf(address, "127.97.%d.%d", new(int), &number); err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.used, number)
}

func (a *addresses) close() { a.claim.Close() }
