package podrunner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// eager is how often a container is probed that has not passed yet: nobody
// wants to wait for the whole period in a test.
const eager = 200 * time.Millisecond

// prober sends the requests of probes.
type prober struct{ client *http.Client }

func newProber() *prober {
	return &prober{client: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// watchHealth keeps the container's health up to date. It returns why the
// container has to be restarted, or nil when ctx ends.
func (c *container) watchHealth(ctx context.Context) error {
	if probe := c.spec.StartupProbe; probe != nil {
		if err := c.awaitStartup(ctx, probe); err != nil || ctx.Err() != nil {
			return err
		}
	}
	c.setHealth(true, c.spec.ReadinessProbe == nil)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	if c.spec.ReadinessProbe != nil {
		wg.Go(func() { c.watchReadiness(ctx, c.spec.ReadinessProbe) })
	}
	var err error
	if c.spec.LivenessProbe != nil {
		err = c.watchLiveness(ctx, c.spec.LivenessProbe)
	} else {
		<-ctx.Done()
	}
	cancel()
	wg.Wait()
	return err
}

func (c *container) awaitStartup(ctx context.Context, probe *corev1.Probe) error {
	sleep(ctx, seconds(probe.InitialDelaySeconds))
	deadline := time.Now().Add(seconds(probe.PeriodSeconds) * time.Duration(probe.FailureThreshold))
	for {
		err := c.probe(ctx, probe)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the container is being stopped
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("startup probe: %w", err)
		}
		sleep(ctx, min(eager, seconds(probe.PeriodSeconds)))
	}
}

func (c *container) watchLiveness(ctx context.Context, probe *corev1.Probe) error {
	failures := int32(0)
	for wait := seconds(probe.InitialDelaySeconds); sleep(ctx, wait); wait = seconds(probe.PeriodSeconds) {
		err := c.probe(ctx, probe)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the container is being stopped
		case err == nil:
			failures = 0
		default:
			failures++
		}
		if failures >= probe.FailureThreshold {
			return fmt.Errorf("liveness probe: %w", err)
		}
	}
	return nil
}

func (c *container) watchReadiness(ctx context.Context, probe *corev1.Probe) {
	failures, ready := int32(0), false
	for wait := seconds(probe.InitialDelaySeconds); sleep(ctx, wait); {
		err := c.probe(ctx, probe)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failures, ready = 0, true
		} else if failures++; failures >= probe.FailureThreshold {
			ready = false
		}
		c.setHealth(true, ready)
		wait = seconds(probe.PeriodSeconds)
		if !ready {
			wait = min(eager, wait)
		}
	}
}

// probe returns nil for a container that passes.
func (c *container) probe(ctx context.Context, probe *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, seconds(max(1, probe.TimeoutSeconds)))
	defer cancel()
	switch {
	case probe.HTTPGet != nil:
		return c.probeHTTP(ctx, probe.HTTPGet)
	case probe.TCPSocket != nil:
		address, err := c.target(probe.TCPSocket.Host, probe.TCPSocket.Port)
		if err != nil {
			return err
		}
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	default:
		return errors.New("only httpGet and tcpSocket probes are supported")
	}
}

func (c *container) probeHTTP(ctx context.Context, get *corev1.HTTPGetAction) error {
	address, err := c.target(get.Host, get.Port)
	if err != nil {
		return err
	}
	if get.Scheme == corev1.URISchemeHTTPS {
		return errors.New("probes over HTTPS are not supported: a kubelet does not verify them")
	}
	url := "http://" + address + "/" + strings.TrimPrefix(get.Path, "/")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "kube-probe/reloader-cluster")
	for _, header := range get.HTTPHeaders {
		if strings.EqualFold(header.Name, "Host") {
			request.Host = header.Value
		}
		request.Header.Set(header.Name, header.Value)
	}
	response, err := c.probes.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusOK && response.StatusCode < http.StatusBadRequest {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 256))
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %s: %s", url, response.Status, body)
}

func (c *container) target(host string, port intstr.IntOrString) (string, error) {
	if host == "" {
		host = c.pod.address()
	}
	number, ok := portNumber(port, []corev1.Container{*c.spec})
	if !ok {
		return "", fmt.Errorf("container %s has no port named %s", c.spec.Name, port.StrVal)
	}
	return net.JoinHostPort(host, strconv.Itoa(int(number))), nil
}

// portNumber resolves the name of a TCP port.
func portNumber(port intstr.IntOrString, containers []corev1.Container) (int32, bool) {
	if port.Type == intstr.Int {
		return port.IntVal, true
	}
	for i := range containers {
		for _, p := range containers[i].Ports {
			if p.Name == port.StrVal {
				return p.ContainerPort, true
			}
		}
	}
	return 0, false
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }
