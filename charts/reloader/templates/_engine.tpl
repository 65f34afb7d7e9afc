{{/* The labels of the engine's objects. */}}
{{- define "reloader.engineObjectLabels" -}}
{{- include "reloader.labels" (dict "root" . "name" (include "reloader.fullname" .)) -}}
{{- end -}}

{{/* The labels that select the engine's pods: the user's, too, but not in place of ours. */}}
{{- define "reloader.engineSelectorLabels" -}}
{{- $ours := include "reloader.selectorLabels" (dict "root" . "name" (include "reloader.fullname" .)) | fromYaml -}}
{{- toYaml (merge $ours (tpl (toYaml (default dict .Values.reloader.matchLabels)) . | fromYaml)) -}}
{{- end -}}

{{/* The labels of the engine's Deployment and pods: the user's, too, but not in place of ours. */}}
{{- define "reloader.engineLabels" -}}
{{- $ours := include "reloader.engineObjectLabels" . | fromYaml -}}
{{- $selecting := include "reloader.engineSelectorLabels" . | fromYaml -}}
{{- toYaml (merge $ours $selecting (tpl (toYaml (default dict .Values.reloader.deployment.labels)) . | fromYaml)) -}}
{{- end -}}

{{/* The flags of the engine alone. What is not asked for is left out. */}}
{{- define "reloader.engineFlags" -}}
{{- with .Values.reloader -}}
- --reload-strategy={{ eq .reloadStrategy "default" | ternary "env-vars" .reloadStrategy }}
{{- if .isArgoRollouts }}
- --is-Argo-Rollouts=true
{{- end }}
{{- $ignored := list }}
{{- if .ignoreJobs }}{{ $ignored = append $ignored "jobs" }}{{ end }}
{{- if .ignoreCronJobs }}{{ $ignored = append $ignored "cronjobs" }}{{ end }}
{{- /* It would find them on any OpenShift, and ask for what it has no right to. */}}
{{- if not .isOpenshift }}{{ $ignored = append $ignored "deploymentconfigs" }}{{ end }}
{{- with $ignored }}
- --ignored-workload-types={{ join "," . }}
{{- end }}
{{- if .reloadOnCreate }}
- --reload-on-create=true
{{- end }}
{{- if .reloadOnDelete }}
- --reload-on-delete=true
{{- end }}
{{- if .syncAfterRestart }}
- --sync-after-restart
{{- end }}
{{- if .rerunFinishedJobs }}
- --rerun-finished-jobs
{{- end }}
{{- if not .watchGlobally }}
{{- with include "reloader.names" (default list .namespaces) }}
- {{ printf "--namespaces=%s" . | quote }}
{{- end }}
{{- end }}
{{- with include "reloader.names" (default list .ignoreNamespaces) }}
- {{ printf "--namespaces-to-ignore=%s" . | quote }}
{{- end }}
{{- with .namespaceSelector }}
- {{ printf "--namespace-selector=%s" . | quote }}
{{- end }}
{{- with .resourceLabelSelector }}
- {{ printf "--resource-label-selector=%s" . | quote }}
{{- end }}
{{- with .webhookUrl }}
- {{ printf "--webhook-url=%s" . | quote }}
{{- end }}
{{- with .coalesceWindow }}
- {{ printf "--coalesce-window=%s" . | quote }}
{{- end }}
{{- with .verifyInterval }}
- {{ printf "--verify-interval=%s" . | quote }}
{{- end }}
{{- with .maxReloadsPerSecond }}
- --max-reloads-per-second={{ . }}
{{- end }}
{{- with .maxConcurrentRollouts }}
- --max-concurrent-rollouts={{ int . }}
{{- end }}
{{- with .breakerReloads }}
- --breaker-reloads={{ int . }}
{{- end }}
{{- if .enablePProf }}
- --enable-pprof
{{- with .pprofAddr }}
- {{ printf "--pprof-addr=%s" . | quote }}
{{- end }}
{{- end }}
{{- if .enableHA }}
- --enable-ha
{{- end }}
{{- end }}
- --fingerprint-key-secret={{ include "reloader.keySecret" . }}
- --checkpoint={{ include "reloader.checkpoint" . }}
- {{ printf "--listen-address=%s:9090" .Values.listenHost | quote }}
{{- end -}}

{{/* The environment of the engine, the user's last. */}}
{{- define "reloader.engineEnv" -}}
{{ include "reloader.podEnv" . }}
- name: RELOADER_DEPLOYMENT_NAME
  value: {{ include "reloader.fullname" . | quote }}
{{- with .Values.reloader }}
{{- if and (not .watchGlobally) (not (include "reloader.names" (default list .namespaces))) }}
- name: KUBERNETES_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end }}
{{- if .enableMetricsByNamespace }}
- name: METRICS_COUNT_BY_NAMESPACE
  value: enabled
{{- end }}
{{- with .deployment }}
- name: GOMAXPROCS
  {{- include "reloader.goLimit" (dict "override" .gomaxprocsOverride "resource" "limits.cpu") | nindent 2 }}
- name: GOMEMLIMIT
  {{- include "reloader.goLimit" (dict "override" .gomemlimitOverride "resource" "limits.memory") | nindent 2 }}
{{- range $name, $value := .env.open }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- range $name, $value := .env.secret }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ include "reloader.fullname" $ | quote }}
      key: {{ $name }}
{{- end }}
{{- range $name, $path := .env.field }}
- name: {{ $name }}
  valueFrom:
    fieldRef:
      fieldPath: {{ $path }}
{{- end }}
{{- range $secret, $keys := .env.existing }}
{{- range $name, $key := $keys }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Go knows no limit of a container by itself but that of the CPU; without one, these are the node's. */}}
{{- define "reloader.goLimit" -}}
{{- if and .override (eq (toString .override) "0") (eq .resource "limits.memory") -}}
# Go takes 0 for a limit of nothing at all.
value: "off"
{{- else if .override -}}
value: {{ .override | toString | quote }}
{{- else -}}
valueFrom:
  resourceFieldRef:
    resource: {{ .resource }}
    divisor: "1"
{{- end -}}
{{- end -}}
