{{/*
Refuses values that cannot work together, all of them at once, each with what to
do about it. What is wrong with a value by itself, values.schema.json refuses.
*/}}
{{- define "reloader.check" -}}
{{- $problems := list -}}
{{- with .Values.reloader -}}
{{- if and .ignoreSecrets .ignoreConfigMaps -}}
{{- $problems = append $problems "reloader.ignoreSecrets and reloader.ignoreConfigMaps together leave nothing to do: set at most one of them" -}}
{{- end -}}
{{- if and (gt (int .deployment.replicas) 1) (not .enableHA) -}}
{{- $problems = append $problems "reloader.deployment.replicas above 1 needs reloader.enableHA: true, so that one engine works and the others stand by" -}}
{{- end -}}
{{- $namespaces := include "reloader.names" (default list .namespaces) -}}
{{- if and $namespaces .watchGlobally -}}
{{- $problems = append $problems "reloader.namespaces has no effect while all namespaces are watched: set reloader.watchGlobally: false, or leave reloader.namespaces out" -}}
{{- end -}}
{{- range splitList "," (include "reloader.names" (default list .ignoreNamespaces)) -}}
{{- if and . (has . (splitList "," $namespaces)) -}}
{{- $problems = append $problems (printf "the namespace %s is in reloader.namespaces and in reloader.ignoreNamespaces: take it out of one of them" .) -}}
{{- end -}}
{{- end -}}
{{- if and .namespaceSelector (not .watchGlobally) -}}
{{- $problems = append $problems "reloader.namespaceSelector selects among all namespaces: set reloader.watchGlobally: true, or name the namespaces in reloader.namespaces instead" -}}
{{- end -}}
{{- if and .serviceMonitor.enabled (not .service) -}}
{{- $problems = append $problems "reloader.serviceMonitor needs a Service: set reloader.service.port: 9090, or use reloader.podMonitor, which needs none" -}}
{{- end -}}
{{- if and .podDisruptionBudget.enabled (not (empty (toString .podDisruptionBudget.minAvailable))) (not (empty (toString .podDisruptionBudget.maxUnavailable))) -}}
{{- $problems = append $problems "reloader.podDisruptionBudget.minAvailable and maxUnavailable exclude each other: set one of them" -}}
{{- end -}}
{{- end -}}
{{- range list "reloader.imageProblems" "reloader.envProblems" "reloader.certificateProblems" -}}
{{- $problems = concat $problems (include . $ | fromYamlArray) -}}
{{- end -}}
{{- with $problems -}}
{{- fail (join "; " .) -}}
{{- end -}}
{{- end -}}

{{/* An image that a values file of Stakater's chart names has another program, which knows other flags. */}}
{{- define "reloader.imageProblems" -}}
{{- $problems := list -}}
{{- $remedy := "leave image.* out of your values, or name a copy of this chart's image" -}}
{{- with .Values.image -}}
{{- range $name, $value := dict "image.repository" .repository "image.name" .name -}}
{{- if regexMatch "(^|/)stakater/reloader$" (toString $value) -}}
{{- $problems = append $problems (printf "%s %s is Stakater's program, which this chart cannot run: %s" $name $value $remedy) -}}
{{- end -}}
{{- end -}}
{{- if and (not $problems) (regexMatch "^v?[01]\\.[0-9]" (toString .tag)) -}}
{{- $problems = append $problems (printf "image.tag %s is a version of Stakater's program, which this chart cannot run: %s" .tag $remedy) -}}
{{- end -}}
{{- end -}}
{{- toYaml $problems -}}
{{- end -}}

{{/* The API server refuses a variable that is set twice, in words that do not lead to the values. */}}
{{- define "reloader.envProblems" -}}
{{- $problems := list -}}
{{- $seen := dict -}}
{{- range include "reloader.engineEnv" . | fromYamlArray -}}
{{- if hasKey $seen .name -}}
{{- $problems = append $problems (printf "the environment variable %s in reloader.deployment.env is set twice, or is one that the chart sets itself: take it out" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- toYaml $problems -}}
{{- end -}}

{{/* There is one certificate, and one who makes it. */}}
{{- define "reloader.certificateProblems" -}}
{{- $problems := list -}}
{{- with .Values.certificates -}}
{{- if and .certManager.enabled (or .secretName .caBundle) -}}
{{- $problems = append $problems "certificates.certManager.enabled and certificates.secretName (or caBundle) exclude each other: cert-manager makes the Secret, or you do" -}}
{{- end -}}
{{- if and .caBundle (not .secretName) -}}
{{- $problems = append $problems "certificates.caBundle belongs to a certificate of your own: set certificates.secretName to the Secret that holds it" -}}
{{- end -}}
{{- if and $.Values.webhook.enabled .certManager.enabled (not ($.Capabilities.APIVersions.Has "cert-manager.io/v1")) -}}
{{- $problems = append $problems "certificates.certManager.enabled needs cert-manager, which this cluster does not have: install it first, or leave the value false, and the webhook makes its own certificate (to render without a cluster, add --api-versions cert-manager.io/v1)" -}}
{{- end -}}
{{- end -}}
{{- toYaml $problems -}}
{{- end -}}
