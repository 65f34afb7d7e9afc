package podrunner

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// tokenLifetime is what a kubelet asks for too.
const tokenLifetime = time.Hour

// writeKubeconfig writes a kubeconfig whose token stands in a file of its own:
// client-go reads that file again, so a renewed token reaches the program.
func (p *pod) writeKubeconfig() error {
	server := p.runner.options.Config
	config := clientcmdapi.NewConfig()
	config.Clusters["local"] = &clientcmdapi.Cluster{Server: server.Host, CertificateAuthorityData: server.CAData}
	config.AuthInfos["pod"] = &clientcmdapi.AuthInfo{TokenFile: p.tokenFile()}
	config.Contexts["local"] = &clientcmdapi.Context{Cluster: "local", AuthInfo: "pod", Namespace: p.object.Namespace}
	config.CurrentContext = "local"
	if err := clientcmd.WriteToFile(*config, p.kubeconfig()); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	return nil
}

// renewToken asks for a token that is bound to the pod and puts it in place.
func (p *pod) renewToken(ctx context.Context) error {
	seconds := int64(tokenLifetime / time.Second)
	account := p.object.Spec.ServiceAccountName
	answer, err := p.runner.client.CoreV1().ServiceAccounts(p.object.Namespace).CreateToken(ctx, account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: &seconds,
			BoundObjectRef: &authenticationv1.BoundObjectReference{
				APIVersion: corev1.SchemeGroupVersion.Version, Kind: "Pod", Name: p.object.Name, UID: p.object.UID,
			},
		}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("request a token of ServiceAccount %s: %w", account, err)
	}
	partial := p.tokenFile() + ".new"
	if err := os.WriteFile(partial, []byte(answer.Status.Token), 0o600); err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	if err := os.Rename(partial, p.tokenFile()); err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	return nil
}

// keepToken renews the token at four fifths of its life until ctx ends.
func (p *pod) keepToken(ctx context.Context) {
	wait := tokenLifetime * 4 / 5
	for sleep(ctx, wait) {
		wait = tokenLifetime * 4 / 5
		if err := p.renewToken(ctx); err != nil && ctx.Err() == nil {
			p.runner.logf("pod %s/%s: %v", p.object.Namespace, p.object.Name, err)
			wait = 10 * time.Second
		}
	}
}

func (p *pod) tokenFile() string { return filepath.Join(p.dir, "token") }

func (p *pod) kubeconfig() string { return filepath.Join(p.dir, "kubeconfig") }

// sleep says whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
