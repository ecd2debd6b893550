{{/* Names, labels, the image's reference: what every object of the release agrees on. */}}

{{- define "batch-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "batch-gateway.fullname" -}}
{{- $name := include "batch-gateway.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $full .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The Service: beside the app's own in sidecar mode, the release's otherwise. */}}
{{- define "batch-gateway.serviceName" -}}
{{- if eq .Values.mode "sidecar" }}
{{- printf "%s-batch" (.Values.target.name | trunc 57 | trimSuffix "-") }}
{{- else }}
{{- include "batch-gateway.fullname" . }}
{{- end }}
{{- end }}

{{- define "batch-gateway.configMapName" -}}
{{- default (include "batch-gateway.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{- define "batch-gateway.serviceAccountName" -}}
{{- default (ternary (include "batch-gateway.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "batch-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "batch-gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "batch-gateway.labels" -}}
{{ include "batch-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: gateway
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "batch-gateway.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}
