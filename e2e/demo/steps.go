package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s-reloader/e2e/cluster"
	"k8s-reloader/e2e/fixture"
	"k8s-reloader/e2e/install"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/annotation"
	"k8s-reloader/reloader/record"
)

//go:embed manifests
var manifests embed.FS

const (
	namespace = "demo"
	// patience is how long anything may take that is not a build.
	patience = time.Minute
)

// shop is the app of manifests/app.yaml.
func shop() reloader.Workload {
	return reloader.Workload{Kind: reloader.Deployment, Namespace: namespace, Name: "shop"}
}

// step is a part of the demo. do fails if it does not do what what says.
type step struct {
	title, what string
	do          func(context.Context) error
}

func (d *demo) steps() []step {
	return []step{
		{
			"Build Reloader", "Compiles ./cmd/reloader of this checkout.",
			d.build,
		},
		{
			"Start a cluster", "etcd, API server, controller manager, scheduler, and kwok in place of nodes.\n" +
				"The first time they are built, which takes minutes.",
			d.start,
		},
		{
			"Install Reloader", "Installs charts/reloader with Helm: a webhook and an engine, as two Deployments\n" +
				"under two ServiceAccounts. Their pods are processes on this machine.",
			d.install,
		},
		{
			"Deploy an app", "A Deployment with three pods that uses a ConfigMap and a Secret, and opts in with\n" +
				"one annotation. The webhook notes on it what it references.",
			d.deploy,
		},
		{
			"Edit the ConfigMap", "The engine finds the Deployment in its index, reads the ConfigMap once and changes\n" +
				"the pod template with one PATCH. The rollout is Kubernetes' own.",
			func(ctx context.Context) error {
				return d.edit(ctx, reloader.ConfigMap, "shop-settings",
					"patch", "configmap", "shop-settings", "-p", `{"data":{"greeting":"Good evening"}}`)
			},
		},
		{
			"Edit the Secret", "The same. What is written derives from the content by a key of the cluster's own,\n" +
				"so that nobody can test guesses of a password with it.",
			func(ctx context.Context) error {
				return d.edit(ctx, reloader.Secret, "shop-database",
					"patch", "secret", "shop-database", "-p", `{"stringData":{"password":"second"}}`)
			},
		},
		{
			"Apply annotations that contradict each other", "They are admitted, with a warning for each that will not do what it says.",
			d.conflicting,
		},
		{
			"Apply an annotation that cannot work", "It is denied, and the message says what to write instead.",
			d.bad,
		},
	}
}

func (d *demo) build(ctx context.Context) (err error) {
	d.program, err = install.Build(ctx, install.BuildOptions{Log: d.quote()})
	return err
}

func (d *demo) start(ctx context.Context) (err error) {
	d.cluster, err = cluster.Start(ctx, cluster.Options{
		Images: map[string]string{install.Image: d.program},
		Log:    d.quote(),
	})
	return err
}

func (d *demo) install(ctx context.Context) (err error) {
	d.release, err = install.Chart(ctx, d.cluster, install.ChartOptions{Log: d.quote()})
	if err != nil {
		return err
	}
	_, err = d.kubectl(ctx, "get", "pods", "-n", d.release.Namespace, "-o", "wide")
	return err
}

func (d *demo) deploy(ctx context.Context) error {
	if _, err := d.kubectl(ctx, "create", "namespace", namespace); err != nil {
		return err
	}
	if _, err := d.apply(ctx, "app.yaml"); err != nil {
		return err
	}
	if _, err := d.kubectl(ctx, "rollout", "status", "deployment/shop", "-n", namespace, "--timeout", patience.String()); err != nil {
		return err
	}
	state, err := fixture.Read(ctx, d.cluster.Client(), shop())
	if err != nil {
		return err
	}
	return d.showRecord(state)
}

// showRecord prints the index record and checks it.
func (d *demo) showRecord(state fixture.State) error {
	key := annotation.DefaultKeys().Index
	text := state.Meta.Annotations[key]
	r, err := record.Decode(text)
	if err != nil {
		return fmt.Errorf("the webhook wrote no record: %w", err)
	}
	if len(r.References) != 2 {
		return fmt.Errorf("the record has %d references instead of 2", len(r.References))
	}
	d.say("The webhook has written %s (%d bytes), which reads:", key, len(text))
	q := d.quote()
	fmt.Fprintf(q, "made for    %s %s/%s, generation %d\n", reloader.Deployment, r.Namespace, r.Name, r.Generation)
	for _, ref := range r.References {
		keys := "all keys"
		if len(ref.Keys) > 0 {
			keys = "key " + strings.Join(ref.Keys, ", ")
		}
		fmt.Fprintf(q, "references  %-9s %-14s as %s in container %s, %s\n", ref.Kind, ref.Name, ref.How, ref.Container, keys)
	}
	return nil
}

// edit changes a source by kubectl and follows what comes of it.
func (d *demo) edit(ctx context.Context, of reloader.SourceKind, name string, args ...string) error {
	before, err := fixture.Read(ctx, d.cluster.Client(), shop())
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := d.kubectl(ctx, append(args, "-n", namespace)...); err != nil {
		return err
	}
	mark := reloader.EnvName(of, name)
	after := before
	if err := eventually(ctx, func() (bool, error) {
		after, err = fixture.Read(ctx, d.cluster.Client(), shop())
		return err == nil && after.Env(mark) != before.Env(mark), err
	}); err != nil {
		return fmt.Errorf("the pod template does not change: %w", err)
	}
	d.say("the pod template has changed %s after the edit began (1 s of it to let further edits join):", seconds(time.Since(began)))
	fmt.Fprintf(d.quote(), "%s=%s\n", mark, after.Env(mark))
	if _, err := d.kubectl(ctx, "rollout", "status", "deployment/shop", "-n", namespace, "--timeout", patience.String()); err != nil {
		return err
	}
	if err := d.cluster.WaitForDeployment(ctx, namespace, shop().Name); err != nil {
		return err
	}
	d.say("all three pods are new %s after the edit began", seconds(time.Since(began)))
	if after.Meta.Generation != before.Meta.Generation+1 {
		return fmt.Errorf("one edit changed the Deployment %d times", after.Meta.Generation-before.Meta.Generation)
	}
	return d.showEvent(ctx, of, name)
}

func (d *demo) showEvent(ctx context.Context, of reloader.SourceKind, name string) error {
	if err := eventually(ctx, func() (bool, error) {
		events, err := d.cluster.Client().CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=Reloaded"})
		if err != nil {
			return false, err
		}
		for i := range events.Items {
			if strings.Contains(events.Items[i].Message, string(of)+" "+namespace+"/"+name) {
				return true, nil
			}
		}
		return false, nil
	}); err != nil {
		return fmt.Errorf("no event tells of the reload: %w", err)
	}
	_, err := d.kubectl(ctx, "events", "-n", namespace, "--for", "deployment/shop")
	return err
}

func (d *demo) conflicting(ctx context.Context) error {
	out, err := d.apply(ctx, "conflicting.yaml")
	if err != nil {
		return err
	}
	if strings.Count(out, "Warning: ") != 2 {
		return errors.New("there are not two warnings")
	}
	return nil
}

func (d *demo) bad(ctx context.Context) error {
	out, err := d.apply(ctx, "bad.yaml")
	switch {
	case err == nil:
		return errors.New("it is not denied")
	case !strings.Contains(out, "denied the request: "):
		return err
	}
	return nil
}

// apply applies one of the embedded manifests.
func (d *demo) apply(ctx context.Context, name string) (output string, err error) {
	text, err := manifests.ReadFile("manifests/" + name)
	if err != nil {
		return "", err
	}
	// From a file, as people do: kubectl names it in what it says.
	path := filepath.Join(d.cluster.Dir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", err
	}
	return d.kubectlIn(ctx, d.cluster.Dir(), "apply", "-n", namespace, "-f", name)
}

// kubectl shows a command, runs it, and shows and returns what it prints.
func (d *demo) kubectl(ctx context.Context, args ...string) (output string, err error) {
	return d.kubectlIn(ctx, d.cluster.Dir(), args...)
}

func (d *demo) kubectlIn(ctx context.Context, dir string, args ...string) (output string, err error) {
	d.say("$ kubectl %s", quoted(args))
	q := d.quote()
	cmd := exec.CommandContext(ctx, d.cluster.Program("kubectl"), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "KUBECONFIG="+d.cluster.Kubeconfig(), "KUBECACHEDIR="+filepath.Join(d.cluster.Dir(), "kubectl-cache"))
	cmd.Stdout, cmd.Stderr = q, q
	if err := cmd.Run(); err != nil {
		return q.text.String(), fmt.Errorf("kubectl %s: %w", args[0], err)
	}
	return q.text.String(), nil
}

// quoted is a command line as it could be typed.
func quoted(args []string) string {
	shown := make([]string, len(args))
	for i, arg := range args {
		if strings.ContainsAny(arg, " {}\"") {
			arg = "'" + arg + "'"
		}
		shown[i] = arg
	}
	return strings.Join(shown, " ")
}

// eventually returns when the condition holds, or with its last error when
// patience has run out.
func eventually(ctx context.Context, condition func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := condition()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-ticker.C:
		}
	}
}
