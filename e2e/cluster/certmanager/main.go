package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmscheme "github.com/cert-manager/cert-manager/pkg/client/clientset/versioned/scheme"
	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/controller/cainjector"
	"github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	"github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	"github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	"github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	"github.com/cert-manager/cert-manager/pkg/controller/issuers"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	// An issuer signs only if its package has registered itself.
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
)

// workers is how many objects each controller looks at at a time.
const workers = 2

func main() {
	// Flags of its own: controller-runtime takes --kubeconfig from the others.
	flags := flag.NewFlagSet("cert-manager", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", os.Getenv("KUBECONFIG"), "file that says how to reach the API server, as an administrator")
	_ = flags.Parse(os.Args[1:]) // ends the process if it fails
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig); err != nil {
		fmt.Fprintln(os.Stderr, "certmanager: "+err.Error())
		os.Exit(1)
	}
}

// run returns when ctx ends, or when one of the two halves does by itself.
func run(ctx context.Context, kubeconfig string) error {
	ctx = logf.NewContext(ctx, klog.Background())
	ctrl.SetLogger(klog.Background())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var halves sync.WaitGroup
	for _, half := range []func(context.Context, string) error{runControllers, runInjector} {
		halves.Go(func() {
			if err := half(ctx, kubeconfig); err != nil {
				cancel(err)
			}
		})
	}
	<-ctx.Done()
	halves.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil // asked to end
}

// controllers are those that make a Certificate of an Issuer of kind SelfSigned
// or CA come true.
func controllers() []string {
	return []string{
		issuers.ControllerName,
		clusterissuers.ControllerName,
		approver.ControllerName,
		ca.CRControllerName,
		selfsigned.CRControllerName,
		issuing.ControllerName,
		keymanager.ControllerName,
		readiness.ControllerName,
		requestmanager.ControllerName,
		revisionmanager.ControllerName,
		trigger.ControllerName,
	}
}

func runControllers(ctx context.Context, kubeconfig string) error {
	factory, err := controller.NewContextFactory(ctx, controller.ContextOptions{
		Kubeconfig:         kubeconfig,
		KubernetesAPIQPS:   500,
		KubernetesAPIBurst: 1000,
		IssuerOptions:      controller.IssuerOptions{ClusterResourceNamespace: "cert-manager"},
		CertificateOptions: controller.CertificateOptions{
			// A request that failed is made again soon: tests make some fail.
			CertificateRequestMinimumBackoffDuration: time.Second,
			CertificateRequestMaximumBackoffDuration: time.Minute,
		},
	})
	if err != nil {
		return fmt.Errorf("set up the controllers: %w", err)
	}
	shared, err := factory.Build()
	if err != nil {
		return fmt.Errorf("set up the clients: %w", err)
	}
	known := controller.Known()
	var running []controller.Interface
	for _, name := range controllers() {
		construct, ok := known[name]
		if !ok {
			return fmt.Errorf("cert-manager has no controller %s, only %v", name, slices.Sorted(maps.Keys(known)))
		}
		c, err := construct(factory)
		if err != nil {
			return fmt.Errorf("set up %s: %w", name, err)
		}
		running = append(running, c)
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	shared.HTTP01ResourceMetadataInformersFactory.Start(ctx.Done())

	errs := make(chan error, len(running))
	for _, c := range running {
		go func() { errs <- c.Run(workers, ctx) }()
	}
	for range running {
		if err := <-errs; err != nil && ctx.Err() == nil {
			return fmt.Errorf("run the controllers: %w", err)
		}
	}
	return nil
}

func runInjector(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.QPS = -1
	config.UserAgent = "cainjector"
	types := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(types), cmscheme.AddToScheme(types)); err != nil {
		return fmt.Errorf("register the types: %w", err)
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  types,
		Metrics: ctrlmetrics.Options{BindAddress: "0"},
		// The injector watches Secrets as metadata, so it must not read them
		// from that cache.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		return fmt.Errorf("set up the injector: %w", err)
	}
	err = cainjector.RegisterAllInjectors(ctx, manager, cainjector.SetupOptions{
		EnableCertificatesDataSource: true,
		EnabledReconcilersFor: map[string]bool{
			cainjector.MutatingWebhookConfigurationName:   true,
			cainjector.ValidatingWebhookConfigurationName: true,
		},
	})
	if err != nil {
		return fmt.Errorf("set up the injector for %s: %w", certmanagerv1.WantInjectAnnotation, err)
	}
	if err := manager.Start(ctx); err != nil {
		return fmt.Errorf("run the injector: %w", err)
	}
	return nil
}
