{{/* What all names begin with; as in Stakater's chart, since it is part of the Deployment's selector. */}}
{{- define "reloader.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (default .Chart.Name .Values.nameOverride) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/*
What the names of the webhook's objects begin with. Also the name of a Service, so
it has no dot, which would begin another domain, and at most 63 characters; of a
longer one a hash stands for the rest.
*/}}
{{- define "reloader.webhookName" -}}
{{- $base := include "reloader.fullname" . | replace "." "-" -}}
{{- if gt (len $base) 55 -}}
{{- $base = printf "%s-%s" ($base | trunc 46 | trimSuffix "-") (sha256sum $base | trunc 8) -}}
{{- end -}}
{{- printf "%s-webhook" $base -}}
{{- end -}}

{{/*
The same for those of its objects that are in no namespace: releases of one name
may stand in several, if each watches its own.
*/}}
{{- define "reloader.webhookClusterName" -}}
{{- include "reloader.webhookName" . -}}
{{- if not .Values.reloader.watchGlobally -}}
{{- printf ".%s" .Release.Namespace -}}
{{- end -}}
{{- end -}}

{{/* The policy that pins what the webhook may change in its configurations. */}}
{{- define "reloader.pinName" -}}
{{- printf "%s-ca-only" (include "reloader.webhookClusterName" .) -}}
{{- end -}}

{{/* What is done about mistakes. YAML takes off without quotes for false. */}}
{{- define "reloader.webhookMode" -}}
{{- eq (toString .Values.webhook.mode) "false" | ternary "off" .Values.webhook.mode -}}
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

{{/* The engine's ServiceAccount. */}}
{{- define "reloader.serviceAccountName" -}}
{{- if .Values.reloader.serviceAccount.create -}}
{{- default (include "reloader.fullname" .) .Values.reloader.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.reloader.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The labels of every object. Called with the root and the name of the part. */}}
{{- define "reloader.labels" -}}
{{ include "reloader.selectorLabels" . }}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The labels that select pods. A Deployment's selector cannot be changed: these stay as they are. */}}
{{- define "reloader.selectorLabels" -}}
app: {{ .name | quote }}
release: {{ .root.Release.Name | quote }}
{{- end -}}

{{/* The global registry stands in place of every other; where repository names one itself, name is what comes behind it. */}}
{{- define "reloader.image" -}}
{{- $registry := default .Values.image.registry .Values.global.imageRegistry -}}
{{- $image := ternary (default .Values.image.repository .Values.image.name) .Values.image.repository (not (empty .Values.global.imageRegistry)) -}}
{{- with $registry -}}
{{- $image = printf "%s/%s" (trimSuffix "/" .) $image -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $image .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "reloader.imagePullSecrets" -}}
{{- range .Values.global.imagePullSecrets }}
- name: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ .name }}{{ end }}
{{- end }}
{{- end -}}

{{/* The flags of what is reloaded: the same for engine and webhook, or they would not agree on who depends on what. */}}
{{- define "reloader.settingsFlags" -}}
- --auto-reload-all={{ .Values.reloader.autoReloadAll }}
{{- if .Values.reloader.ignoreConfigMaps }}
- --resources-to-ignore=configmaps
{{- else if .Values.reloader.ignoreSecrets }}
- --resources-to-ignore=secrets
{{- end }}
{{- if .Values.reloader.enableCSIIntegration }}
- --enable-csi-integration
{{- end }}
{{- if .Values.reloader.followAllReferences }}
- --follow-all-references
{{- end }}
{{- $flags := dict
  "auto" "auto-annotation" "configmap_auto" "configmap-auto-annotation" "secret_auto" "secret-auto-annotation"
  "configmap" "configmap-annotation" "secret" "secret-annotation"
  "search" "auto-search-annotation" "match" "search-match-annotation" "ignore" "ignore-annotation"
  "pausePeriod" "pause-deployment-annotation" "pauseTime" "pause-deployment-time-annotation" }}
{{- range $name, $annotation := .Values.reloader.custom_annotations }}
{{- if $annotation }}
- {{ printf "--%s=%s" (get $flags $name) $annotation | quote }}
{{- end }}
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

{{/* OpenShift gives each namespace users of its own, and refuses a pod that asks for the one that is the default here. */}}
{{- define "reloader.podSecurityContext" -}}
{{- $context := deepCopy (default dict .Values.reloader.deployment.securityContext) -}}
{{- if .Values.reloader.isOpenshift -}}
{{- range list "runAsUser" "runAsGroup" -}}
{{- if eq (toString (get $context .)) "65532" -}}
{{- $context = omit $context . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{- define "reloader.containerSecurityContext" -}}
{{- $context := dict "readOnlyRootFilesystem" .Values.reloader.readOnlyRootFileSystem -}}
{{- toYaml (mergeOverwrite $context (deepCopy (default dict .Values.reloader.deployment.containerSecurityContext))) -}}
{{- end -}}

{{/* Probes of both parts: alive as long as the process answers, ready when it says so. */}}
{{- define "reloader.probes" -}}
{{- include "reloader.timedProbes" (dict "liveness" dict "readiness" dict) -}}
{{- end -}}

{{/* The same, with timings of the user's. */}}
{{- define "reloader.timedProbes" -}}
{{- $live := dict "httpGet" (dict "path" "/live" "port" "http") "periodSeconds" 10 "timeoutSeconds" 5 "failureThreshold" 5 -}}
{{- /* More than one, since a CA that somebody overwrote is back within a second. */ -}}
{{- $ready := dict "httpGet" (dict "path" "/readyz" "port" "http") "periodSeconds" 3 "timeoutSeconds" 2 "failureThreshold" 3 -}}
livenessProbe:
  {{- toYaml (mergeOverwrite $live (deepCopy .liveness)) | nindent 2 }}
readinessProbe:
  {{- toYaml (mergeOverwrite $ready (deepCopy .readiness)) | nindent 2 }}
{{- end -}}

{{/* A list, or names separated by commas, as names separated by commas. */}}
{{- define "reloader.names" -}}
{{- $names := list -}}
{{- range (kindIs "string" . | ternary (splitList "," (toString .)) .) -}}
{{- with trim . -}}
{{- $names = append $names . -}}
{{- end -}}
{{- end -}}
{{- $names | uniq | join "," -}}
{{- end -}}

{{/* Namespaces that the engine has Roles in, separated by commas; empty: it has a ClusterRole. */}}
{{- define "reloader.watchedNamespaces" -}}
{{- if not .Values.reloader.watchGlobally -}}
{{- default .Release.Namespace (include "reloader.names" (default list .Values.reloader.namespaces)) -}}
{{- end -}}
{{- end -}}

{{/*
Whether an object that is not only ours by its name is the chart's to make: "yes"
unless it is there, and not this release's. Stakater's Reloader makes such objects
itself, and Helm would refuse to take them over. Without a cluster: yes.
Called with root, apiVersion, kind and name.
*/}}
{{- define "reloader.ownsObject" -}}
{{- $there := lookup .apiVersion .kind .root.Release.Namespace .name -}}
{{- $annotations := dict -}}
{{- with $there -}}
{{- $annotations = default dict .metadata.annotations -}}
{{- end -}}
{{- if or (not $there) (eq (toString (get $annotations "meta.helm.sh/release-name")) .root.Release.Name) -}}
yes
{{- end -}}
{{- end -}}
