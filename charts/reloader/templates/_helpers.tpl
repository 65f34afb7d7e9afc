{{/* What all names begin with. 54 characters leave room for what follows within the 63 of a Service's name or a label. */}}
{{- define "reloader.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (default .Chart.Name .Values.nameOverride) | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Also the name of a Service, where a dot would begin another domain. */}}
{{- define "reloader.webhookName" -}}
{{- printf "%s-webhook" (include "reloader.fullname" . | replace "." "-") -}}
{{- end -}}

{{- define "reloader.certificateSecret" -}}
{{- printf "%s-certificate" (include "reloader.webhookName" .) -}}
{{- end -}}

{{- define "reloader.keySecret" -}}
{{- printf "%s-fingerprint-key" (include "reloader.fullname" .) -}}
{{- end -}}

{{- define "reloader.checkpoint" -}}
{{- printf "%s-checkpoint" (include "reloader.fullname" .) -}}
{{- end -}}

{{/* The labels of every object. Called with the root and the name of the part. */}}
{{- define "reloader.labels" -}}
{{ include "reloader.selectorLabels" . }}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The labels that select pods. A Deployment's selector cannot be changed: these stay as they are. */}}
{{- define "reloader.selectorLabels" -}}
app: {{ .name }}
release: {{ .root.Release.Name | quote }}
{{- end -}}

{{- define "reloader.image" -}}
{{- $registry := default .Values.image.registry .Values.global.imageRegistry -}}
{{- $image := printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- if $registry -}}
{{- printf "%s/%s" (trimSuffix "/" $registry) $image -}}
{{- else -}}
{{- $image -}}
{{- end -}}
{{- end -}}

{{- define "reloader.imagePullSecrets" -}}
{{- range .Values.global.imagePullSecrets }}
- name: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ .name }}{{ end }}
{{- end }}
{{- end -}}

{{/* The labels of the engine's Deployment and pods: the user's, too, but not in place of ours. */}}
{{- define "reloader.engineLabels" -}}
{{- $ours := include "reloader.labels" (dict "root" . "name" (include "reloader.fullname" .)) | fromYaml -}}
{{- toYaml (merge $ours (deepCopy .Values.reloader.deployment.labels)) -}}
{{- end -}}

{{/* The flags of what is reloaded: the same for engine and webhook, or they would not agree on who depends on what. */}}
{{- define "reloader.settingsFlags" -}}
- --auto-reload-all={{ .Values.reloader.autoReloadAll }}
{{- if .Values.reloader.ignoreConfigMaps }}
- --resources-to-ignore=configmaps
{{- else if .Values.reloader.ignoreSecrets }}
- --resources-to-ignore=secrets
{{- end }}
{{- with .Values.reloader.logFormat }}
- --log-format={{ . }}
{{- end }}
- --log-level={{ .Values.reloader.logLevel }}
{{- end -}}

{{/* The environment of both parts: who and where they are. */}}
{{- define "reloader.podEnv" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: RELOADER_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end -}}

{{- define "reloader.containerSecurityContext" -}}
{{- $context := dict "readOnlyRootFilesystem" .Values.reloader.readOnlyRootFileSystem -}}
{{- toYaml (mergeOverwrite $context (deepCopy .Values.reloader.deployment.containerSecurityContext)) -}}
{{- end -}}

{{/* Probes of both parts: alive as long as the process answers, ready when it says so. */}}
{{- define "reloader.probes" -}}
livenessProbe:
  httpGet:
    path: /live
    port: http
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 5
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: 3
  timeoutSeconds: 2
  # More than one, since a CA that somebody overwrote is back within a second.
  failureThreshold: 3
{{- end -}}
