{{/*
The gateway's container, defined once. Another chart that has this one as a dependency takes its sidecar by

    initContainers:
      {{- include "batch-gateway.sidecar" (index .Subcharts "batch-gateway") | nindent 6 }}
    volumes:
      {{- include "batch-gateway.volumes" (index .Subcharts "batch-gateway") | nindent 6 }}

(with nativeSidecar: false it goes under containers). Everything that Pod security asks for stands on the container,
because the Pod around a sidecar is somebody else's.
*/}}

{{/* A list of one container. */}}
{{- define "batch-gateway.sidecar" -}}
- {{ include "batch-gateway.container" . | nindent 2 | trim }}
  {{- if .Values.nativeSidecar }}
  restartPolicy: Always
  {{- end }}
{{- end }}

{{/* A list of the volumes that the container mounts. */}}
{{- define "batch-gateway.volumes" -}}
- name: batch-gateway-config
  configMap:
    name: {{ include "batch-gateway.configMapName" . }}
- name: batch-gateway-tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if include "batch-gateway.keepsState" . }}
- name: batch-gateway-state
  {{- with .Values.state.claim }}
  persistentVolumeClaim:
    claimName: {{ . }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .Values.state.sizeLimit }}
  {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The key of a Pod under which the sidecar goes. */}}
{{- define "batch-gateway.sidecarKey" -}}
{{- ternary "initContainers" "containers" .Values.nativeSidecar }}
{{- end }}

{{- define "batch-gateway.container" -}}
name: batch-gateway
image: {{ include "batch-gateway.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [{{ ternary "work" "serve" (eq .Values.mode "worker") }}, --config, /etc/batch-gateway/gateway.yaml]
env:
  # Probes and Prometheus come from outside the Pod; the file's default is loopback.
  - name: BATCH_GATEWAY__ADMIN__HOST
    value: 0.0.0.0
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  {{- if ne .Values.mode "worker" }}
  - name: batch
    containerPort: {{ include "batch-gateway.listenPort" . }}
    protocol: TCP
  {{- end }}
  - name: batch-admin
    containerPort: {{ include "batch-gateway.adminPort" . }}
    protocol: TCP
startupProbe:
  httpGet:
    path: /livez
    port: {{ include "batch-gateway.adminPort" . }}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /livez
    port: {{ include "batch-gateway.adminPort" . }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
# Twice 2 s is within config.drain.delay (5 s): endpoints are gone before the gateway stops listening.
readinessProbe:
  httpGet:
    path: /readyz
    port: {{ include "batch-gateway.adminPort" . }}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
# The drain begins with the Pod's end, while the app's preStop still keeps the app alive; TERM then finds it done. A
# native sidecar is sent TERM only once the app has ended.
lifecycle:
  preStop:
    exec:
      command: [batch-gateway, drain, --config, /etc/batch-gateway/gateway.yaml]
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
# No runAsUser: the image's own number (65532) decides, or the one that OpenShift assigns.
securityContext:
  runAsNonRoot: true
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
volumeMounts:
  # The whole folder: a file mounted by subPath would never see a change of the ConfigMap.
  - name: batch-gateway-config
    mountPath: /etc/batch-gateway
    readOnly: true
  - name: batch-gateway-tmp
    mountPath: /tmp
  {{- if include "batch-gateway.keepsState" . }}
  - name: batch-gateway-state
    mountPath: /var/lib/batch-gateway
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
