package podrunner

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
)

// services makes Services reachable: it listens on ClusterIP:port while there
// is a ready pod behind it, and passes each connection to one, in turn. Without
// a ready pod a connection is refused, as kube-proxy does.
type services struct {
	runner *Runner
	store  cache.Store
	// changed has one element when listeners may be out of date.
	changed chan struct{}
	wg      sync.WaitGroup
	// listeners by ClusterIP:port; used by run alone.
	listeners map[string]*forwarder
	// refused remembers what was logged about an address; used by run alone.
	refused map[string]string
}

// forwarder listens on one address of a Service.
type forwarder struct {
	listener net.Listener
	next     atomic.Uint32
	// service is replaced when the Service changes.
	service atomic.Pointer[servicePort]
}

type servicePort struct {
	service *corev1.Service
	port    corev1.ServicePort
}

func newServices(r *Runner, store cache.Store) *services {
	return &services{
		runner: r, store: store,
		changed:   make(chan struct{}, 1),
		listeners: map[string]*forwarder{},
		refused:   map[string]string{},
	}
}

// touch has the listeners looked at again.
func (s *services) touch() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// run keeps the listeners up to date until ctx ends; then it closes them and
// every connection.
func (s *services) run(ctx context.Context) {
	defer s.wg.Wait()
	for {
		select {
		case <-ctx.Done():
			for address := range s.listeners {
				s.close(address)
			}
			return
		case <-s.changed:
			s.reconcile(ctx)
		}
	}
}

func (s *services) reconcile(ctx context.Context) {
	wanted := map[string]*servicePort{}
	for _, object := range s.store.List() {
		service, ok := object.(*corev1.Service)
		if !ok || len(service.Spec.Selector) == 0 || net.ParseIP(service.Spec.ClusterIP) == nil {
			continue
		}
		for _, port := range service.Spec.Ports {
			target := &servicePort{service: service, port: port}
			if port.Protocol == corev1.ProtocolTCP && len(s.endpoints(target)) > 0 {
				wanted[net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(port.Port)))] = target
			}
		}
	}
	for address := range s.listeners {
		if wanted[address] == nil {
			s.close(address)
		}
	}
	for address, target := range wanted {
		if f := s.listeners[address]; f != nil {
			f.service.Store(target)
			continue
		}
		s.open(ctx, address, target)
	}
}

func (s *services) open(ctx context.Context, address string, target *servicePort) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		if s.refused[address] != err.Error() && ctx.Err() == nil {
			s.refused[address] = err.Error()
			s.runner.logf("Service %s/%s is not reachable: %v", target.service.Namespace, target.service.Name, err)
		}
		return
	}
	delete(s.refused, address)
	f := &forwarder{listener: listener}
	f.service.Store(target)
	s.listeners[address] = f
	s.wg.Go(func() { s.accept(ctx, f) })
}

// close ends the listener; connections that were accepted go on.
func (s *services) close(address string) {
	if err := s.listeners[address].listener.Close(); err != nil {
		s.runner.logf("close %s: %v", address, err)
	}
	delete(s.listeners, address)
}

func (s *services) accept(ctx context.Context, f *forwarder) {
	for {
		conn, err := f.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.runner.logf("accept on %s: %v", f.listener.Addr(), err)
			return
		}
		s.wg.Go(func() {
			defer conn.Close()
			endpoints := s.endpoints(f.service.Load())
			// The first that answers: one that has just died is not known yet.
			for range endpoints {
				endpoint := endpoints[int(f.next.Add(1))%len(endpoints)]
				var dialer net.Dialer
				if target, err := dialer.DialContext(ctx, "tcp", endpoint); err == nil {
					pipe(ctx, conn, target)
					return
				}
			}
		})
	}
}

// endpoints are the addresses of the ready pods that the Service selects.
func (s *services) endpoints(target *servicePort) []string {
	selector := labels.SelectorFromSet(target.service.Spec.Selector)
	var endpoints []string
	for _, p := range s.runner.snapshot() {
		if p.object.Namespace != target.service.Namespace || !selector.Matches(p.labelSet()) {
			continue
		}
		if !p.ready() {
			continue
		}
		if port, ok := portNumber(target.port.TargetPort, p.object.Spec.Containers); ok {
			endpoints = append(endpoints, net.JoinHostPort(p.address(), strconv.Itoa(int(port))))
		}
	}
	// In a fixed order, or taking turns would mean nothing.
	slices.Sort(endpoints)
	return endpoints
}

func (p *pod) labelSet() labels.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.labels
}

// pipe copies both ways until both sides are done or ctx ends.
func pipe(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() {
		a.Close()
		b.Close()
	})
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { passOn(a, b) })
	wg.Go(func() { passOn(b, a) })
	wg.Wait()
	a.Close()
	b.Close()
}

// passOn copies until the source ends and tells the destination so. An error
// means that one side went away; both are closed then.
func passOn(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(*net.TCPConn)
	if err != nil || !ok || half.CloseWrite() != nil {
		to.Close()
		from.Close()
	}
}
