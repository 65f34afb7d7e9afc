package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/install"
	"k8s-reloader/reloader/policy"
)

const (
	admissions = 500
	// unseen is a namespace that the webhook never sees.
	unseen = "kube-system"
	// calls that the API server makes to the webhook for one create.
	calls = 2
)

// admission measures creates of a Deployment, dry-run so that nothing is
// stored: in a namespace that the webhook sees and, in turn, in one that it
// does not. A call of the webhook is at least a round trip over loopback and
// TLS, which is measured, too.
func admission(ctx context.Context, b *bench) error {
	return b.withCluster(ctx, cluster.Options{Images: map[string]string{install.Image: b.program}}, func(c *cluster.Cluster) error {
		if err := createNamespace(ctx, c); err != nil {
			return err
		}
		release, err := install.Chart(ctx, c, install.ChartOptions{Log: os.Stderr})
		if err != nil {
			return err
		}
		seen, floor, err := b.creates(ctx, c)
		if err != nil {
			return err
		}
		trip, err := roundTrips(ctx, c, release)
		if err != nil {
			return err
		}
		b.table.duration("admission of a Deployment, p50", quantile(seen, 0.5), quantile(floor, 0.5), "")
		b.table.duration("admission of a Deployment, p99", quantile(seen, 0.99), quantile(floor, 0.99), "")
		overhead := quantile(seen, 0.99) - quantile(floor, 0.99)
		b.table.duration("overhead of the webhook's two calls, p99, beside two round trips", overhead, calls*quantile(trip, 0.99), "3 ms beyond")
		return nil
	})
}

func (b *bench) creates(ctx context.Context, c *cluster.Cluster) (seen, floor []time.Duration, err error) {
	b.say("%d admissions each", admissions)
	app := fixture.App{
		Name: "app", ConfigMaps: []string{"settings"}, Secrets: []string{"password"},
		Annotations: map[string]string{policy.DefaultKeys().Auto: "true"},
	}
	create := func(in string) (time.Duration, error) {
		app.Namespace = in
		started := time.Now()
		_, err := c.Client().AppsV1().Deployments(in).Create(ctx, app.Deployment(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return time.Since(started), err
	}
	for range admissions {
		with, err := create(namespace)
		if err != nil {
			return nil, nil, err
		}
		without, err := create(unseen)
		if err != nil {
			return nil, nil, err
		}
		seen, floor = append(seen, with), append(floor, without)
	}
	return seen, floor, nil
}

// roundTrips measures requests to the webhook that it has nothing to do for,
// over the connection and with the verification that the API server uses.
func roundTrips(ctx context.Context, c *cluster.Cluster, r *install.Release) ([]time.Duration, error) {
	service, err := c.Client().CoreV1().Services(r.Namespace).Get(ctx, r.Webhook, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("find the webhook's Service: %w", err)
	}
	configuration, err := c.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, r.Webhook, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("find the webhook's configuration: %w", err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(configuration.Webhooks[0].ClientConfig.CABundle) {
		return nil, errors.New("the webhook's configuration carries no CA")
	}
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		RootCAs:    trusted,
		ServerName: r.Webhook + "." + r.Namespace + ".svc",
		MinVersion: tls.VersionTLS13,
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var took []time.Duration
	for range admissions {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))+"/nothing", nil)
		if err != nil {
			return nil, err
		}
		started := time.Now()
		answer, err := client.Do(request)
		if err != nil {
			return nil, fmt.Errorf("reach the webhook: %w", err)
		}
		_, err = io.Copy(io.Discard, answer.Body)
		if err := errors.Join(err, answer.Body.Close()); err != nil {
			return nil, err
		}
		took = append(took, time.Since(started))
	}
	return took, nil
}
