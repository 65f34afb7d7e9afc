package metainfo

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/retry"
)

// Name, LabelKey and LabelValue are how tools find the ConfigMap.
const (
	Name       = "reloader-meta-info"
	LabelKey   = "reloader.stakater.com/meta-info"
	LabelValue = "reloader"
)

// Info is what runs.
type Info struct {
	Build Build
	// Options are the flags by name, without secrets.
	Options    map[string]string
	Deployment Deployment
}

// Build identifies a build. Unknown fields are empty.
type Build struct {
	Version string `json:"version"`
	// ReleaseVersion is Version, under the name that today's readers know.
	ReleaseVersion string `json:"releaseVersion"`
	GoVersion      string `json:"goVersion"`
	CommitHash     string `json:"commitHash,omitempty"`
	// CommitTime is in RFC 3339.
	CommitTime string `json:"commitTime,omitempty"`
}

// Deployment is where the engine runs.
type Deployment struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// Publish writes the ConfigMap, and creates it if it is missing. One that says
// the same already is left alone.
func Publish(ctx context.Context, configMaps typedcorev1.ConfigMapInterface, info Info, fieldManager string) error {
	data, err := info.data()
	if err != nil {
		return err
	}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		present, err := configMaps.Get(ctx, Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err := configMaps.Create(ctx, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: Name, Labels: map[string]string{LabelKey: LabelValue}},
				Data:       data,
			}, metav1.CreateOptions{FieldManager: fieldManager})
			return err
		}
		if err != nil {
			return err
		}
		if maps.Equal(present.Data, data) && present.Labels[LabelKey] == LabelValue {
			return nil
		}
		present.Data = data
		metav1.SetMetaDataLabel(&present.ObjectMeta, LabelKey, LabelValue)
		_, err = configMaps.Update(ctx, present, metav1.UpdateOptions{FieldManager: fieldManager})
		return err
	})
	if err != nil {
		return fmt.Errorf("write ConfigMap %s: %w", Name, err)
	}
	return nil
}

func (i Info) data() (map[string]string, error) {
	data := map[string]string{}
	for key, value := range map[string]any{
		"buildInfo":       i.Build,
		"reloaderOptions": i.Options,
		"deploymentInfo":  i.Deployment,
	} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", key, err)
		}
		data[key] = string(text)
	}
	return data, nil
}
