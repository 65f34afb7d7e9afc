package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"k8s-reloader/e2e/cluster/binaries"
)

// definitionPrefix begins the references within Kubernetes' OpenAPI document.
const definitionPrefix = "#/definitions/"

// writeSchemas makes a JSON schema for each kind that the chart may render, in
// the form and under the names that kubeconform looks for.
func writeSchemas(ctx context.Context, root, dir string) error {
	text, err := openAPI(ctx, root)
	if err != nil {
		return err
	}
	var document struct {
		Definitions map[string]map[string]any
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return fmt.Errorf("read the API of Kubernetes: %w", err)
	}
	definitions := map[string]any{}
	for name, definition := range document.Definitions {
		definitions[name] = closed(adjusted(name, definition))
	}
	// One file has all the definitions; a kind's own only refers to it.
	if err := write(dir, "definitions", map[string]any{"definitions": definitions}); err != nil {
		return err
	}
	for name, definition := range document.Definitions {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 {
			continue // helpers such as DeleteOptions, which are of every group
		}
		kind, ok := kinds[0].(map[string]any)
		if !ok {
			return fmt.Errorf("read the API of Kubernetes: %s has no kind", name)
		}
		file := strings.ToLower(fmt.Sprintf("%s-%s", kind["kind"], kind["version"]))
		if group, _ := kind["group"].(string); !shipped(group) {
			continue
		}
		if err := write(dir, file, map[string]any{"$ref": "definitions.json" + definitionPrefix + name}); err != nil {
			return err
		}
	}
	return writeCustom(root, dir)
}

// shipped says whether the chart has objects of the group. Others have kinds of
// the same names, such as Event.
func shipped(group string) bool {
	switch group {
	case "", "apps", "policy", "rbac.authorization.k8s.io", "coordination.k8s.io", "networking.k8s.io", "admissionregistration.k8s.io":
		return true
	}
	return false
}

// openAPI is the document in the module that the local cluster is built from.
func openAPI(ctx context.Context, root string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", "k8s.io/kubernetes")
	cmd.Dir = filepath.Join(root, binaries.Kubernetes().Dir)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("find the module of Kubernetes: %w", err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return nil, fmt.Errorf("find the module of Kubernetes: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(module.Dir, "api/openapi-spec/swagger.json"))
	if err != nil {
		return nil, fmt.Errorf("read the API of Kubernetes: %w", err)
	}
	return text, nil
}

// adjusted are the types that the document describes otherwise than manifests
// write them.
func adjusted(name string, definition map[string]any) any {
	switch name {
	case "io.k8s.apimachinery.pkg.util.intstr.IntOrString":
		return map[string]any{"type": []any{"string", "integer"}}
	case "io.k8s.apimachinery.pkg.api.resource.Quantity":
		return map[string]any{"type": []any{"string", "number"}}
	}
	return definition
}

// closed refuses fields that a type does not have.
func closed(node any) any {
	switch n := node.(type) {
	case map[string]any:
		result := make(map[string]any, len(n)+1)
		for key, value := range n {
			result[key] = closed(value)
		}
		_, open := n["x-kubernetes-preserve-unknown-fields"]
		if _, ok := n["properties"].(map[string]any); ok && n["additionalProperties"] == nil && !open {
			result["additionalProperties"] = false
		}
		return result
	case []any:
		result := make([]any, len(n))
		for i, value := range n {
			result[i] = closed(value)
		}
		return result
	}
	return node
}

// writeCustom makes the schemas of what CustomResourceDefinitions define.
func writeCustom(root, dir string) error {
	files, err := filepath.Glob(filepath.Join(root, "charts/testdata/crds/*.yaml"))
	if err != nil || len(files) == 0 {
		return errors.Join(err, errors.New("find the CustomResourceDefinitions in charts/testdata/crds"))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read a CustomResourceDefinition: %w", err)
		}
		var crd struct {
			Spec struct {
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct{ OpenAPIV3Schema map[string]any }
				}
			}
		}
		if err := yaml.Unmarshal(text, &crd); err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		for _, version := range crd.Spec.Versions {
			schema := version.Schema.OpenAPIV3Schema
			properties, ok := schema["properties"].(map[string]any)
			if !ok {
				return fmt.Errorf("read %s: version %s has no properties", file, version.Name)
			}
			for name, of := range map[string]string{"apiVersion": "string", "kind": "string", "metadata": "object"} {
				properties[name] = map[string]any{"type": of}
			}
			if err := write(dir, strings.ToLower(crd.Spec.Names.Kind+"-"+version.Name), closed(schema)); err != nil {
				return err
			}
		}
	}
	return nil
}

func write(dir, name string, schema any) error {
	text, err := json.Marshal(schema)
	if err != nil {
		return fmt.Errorf("encode the schema %s: %w", name, err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".json"), text, 0o600); err != nil {
		return fmt.Errorf("write the schema %s: %w", name, err)
	}
	return nil
}
