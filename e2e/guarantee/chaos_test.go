package guarantee

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"k8s-reloader/e2e/fixture"
	"k8s-reloader/reloader"
	"k8s-reloader/reloader/kind"
)

// chaos makes random changes, and knows what exists by now. Its writes go to
// the API server directly, and are repeated until they work.
type chaos struct {
	*world
	sources []string
	apps    map[string]fixture.App
	// next makes names and contents new.
	next int
}

// chaos makes that many sources and apps to begin with.
func (w *world) chaos(sources, apps int) *chaos {
	w.t.Helper()
	c := &chaos{world: w, apps: map[string]fixture.App{}}
	for i := range sources {
		name := fmt.Sprintf("source-%02d", i)
		c.sources = append(c.sources, name)
		c.write(name)
	}
	for range apps {
		c.createApp()
	}
	return c
}

// unique is a content or a part of a name that was never there before.
func (c *chaos) unique() string {
	c.next++
	return strconv.Itoa(c.next)
}

// isSecret: every third source is a Secret.
func (c *chaos) isSecret(name string) bool { return slices.Index(c.sources, name)%3 == 2 }

func (c *chaos) source() string { return c.sources[c.random.IntN(len(c.sources))] }

func (c *chaos) app() (fixture.App, bool) {
	names := slices.Sorted(maps.Keys(c.apps))
	if len(names) == 0 {
		return fixture.App{}, false
	}
	return c.apps[names[c.random.IntN(len(names))]], true
}

func (c *chaos) write(name string) {
	c.writeValue(name, c.unique())
}

func (c *chaos) writeValue(name, value string) {
	c.t.Helper()
	data := map[string]string{"value": value}
	c.eventually("write "+name, func(ctx context.Context) error {
		if c.isSecret(name) {
			return fixture.SetSecret(ctx, c.client, c.world.apps, name, data)
		}
		return fixture.SetConfigMap(ctx, c.client, c.world.apps, name, data)
	})
}

// change changes the data of a source, and now and then takes it back.
func (c *chaos) change() { c.write(c.source()) }

// recreate deletes a source and creates it again with other data.
func (c *chaos) recreate() {
	c.t.Helper()
	name := c.source()
	c.eventually("delete "+name, func(ctx context.Context) error {
		if c.isSecret(name) {
			return ignoreNotFound(c.client.CoreV1().Secrets(c.world.apps).Delete(ctx, name, metav1.DeleteOptions{}))
		}
		return ignoreNotFound(c.client.CoreV1().ConfigMaps(c.world.apps).Delete(ctx, name, metav1.DeleteOptions{}))
	})
	if c.random.IntN(2) == 0 {
		c.wait(c.upTo(window))
	}
	c.write(name)
}

// relabelSource changes no data.
func (c *chaos) relabelSource() {
	c.t.Helper()
	name, patch := c.source(), []byte(`{"metadata":{"labels":{"edit":"`+c.unique()+`"}}}`)
	c.eventually("relabel "+name, func(ctx context.Context) (err error) {
		if c.isSecret(name) {
			_, err = c.client.CoreV1().Secrets(c.world.apps).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		} else {
			_, err = c.client.CoreV1().ConfigMaps(c.world.apps).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		}
		return err
	})
}

func (c *chaos) createApp() {
	c.t.Helper()
	kinds := []reloader.WorkloadKind{reloader.Deployment, reloader.Deployment, reloader.StatefulSet, reloader.DaemonSet}
	app := c.world.app("app-" + c.unique())
	app.Kind = kinds[c.random.IntN(len(kinds))]
	for _, i := range c.random.Perm(len(c.sources))[:1+c.random.IntN(3)] {
		if name := c.sources[i]; c.isSecret(name) {
			app.Secrets = append(app.Secrets, name)
		} else {
			app.ConfigMaps = append(app.ConfigMaps, name)
		}
	}
	c.eventually("create "+app.Name, func(ctx context.Context) error {
		_, err := app.Create(ctx, c.client)
		return ignoreExists(err)
	})
	c.apps[app.Name] = app
}

func (c *chaos) deleteApp() {
	c.t.Helper()
	app, ok := c.app()
	if !ok {
		return
	}
	c.eventually("delete "+app.Name, func(ctx context.Context) error {
		return ignoreNotFound(c.on(app, c.client.AppsV1().RESTClient().Delete()).Do(ctx).Error())
	})
	delete(c.apps, app.Name)
}

// patchApp merges a patch into an app.
func (w *world) patchApp(app fixture.App, patch string) {
	w.t.Helper()
	w.eventually("patch "+app.Name, func(ctx context.Context) error {
		return w.on(app, w.client.AppsV1().RESTClient().Patch(types.StrategicMergePatchType)).Body([]byte(patch)).Do(ctx).Error()
	})
}

// on points a request at an app.
func (w *world) on(app fixture.App, request *rest.Request) *rest.Request {
	k, ok := kind.BuiltIn().ByName(app.Workload().Kind)
	require.True(w.t, ok)
	return request.Namespace(app.Namespace).Resource(k.Resource.Resource).Name(app.Name)
}

// relabelApp changes no template.
func (c *chaos) relabelApp() {
	c.t.Helper()
	if app, ok := c.app(); ok {
		c.patchApp(app, `{"metadata":{"labels":{"edit":"`+c.unique()+`"}}}`)
	}
}

// editApp rolls an app out as its owner would.
func (c *chaos) editApp() {
	c.t.Helper()
	if app, ok := c.app(); ok {
		c.patchApp(app, `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"registry.example/app:`+c.unique()+`"}]}}}}`)
	}
}

// any makes one random change, mostly of the data of a source.
func (c *chaos) any() {
	c.t.Helper()
	switch n := c.random.IntN(20); {
	case n < 10:
		c.change()
	case n < 12:
		c.recreate()
	case n < 14:
		c.relabelSource()
	case n < 15:
		c.relabelApp()
	case n < 17:
		c.editApp()
	case n < 19 && len(c.apps) < 60:
		c.createApp()
	default:
		c.deleteApp()
	}
}

// settled returns when what was set up has been seen.
func (c *chaos) settled() {
	c.t.Helper()
	c.quiet(1500 * time.Millisecond)
	require.NotEmpty(c.t, c.apps)
}
