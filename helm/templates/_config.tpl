{{/* What the chart itself reads in gateway.yaml: ports, the batch path, the time a drain takes. */}}

{{- define "batch-gateway.listenPort" -}}
{{- dig "listen" "port" 8207 .Values.config | int64 }}
{{- end }}

{{- define "batch-gateway.adminPort" -}}
{{- dig "admin" "port" 9207 .Values.config | int64 }}
{{- end }}

{{- define "batch-gateway.batchPath" -}}
{{- dig "batch" "path" "/batch" .Values.config }}
{{- end }}

{{/* A duration in milliseconds, from the gateway's own spelling (250ms, 30s, 5m, 1h30m). Takes {key, value}. */}}
{{- define "batch-gateway.milliseconds" -}}
{{- $text := toString .value }}
{{- if not (regexMatch "^([0-9]{1,9}(d|h|m|s|ms))+$" $text) }}
{{- fail (printf "config.%s: %s is no duration; write it with its unit, such as \"5s\" or \"1m30s\"" .key $text) }}
{{- end }}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+(ms|d|h|m|s)" $text -1 }}
{{- $unit := regexFind "[a-z]+" . }}
{{- $sum = add $sum (mul (trimSuffix $unit .) (get (dict "d" 86400000 "h" 3600000 "m" 60000 "s" 1000 "ms" 1) $unit)) }}
{{- end }}
{{- $sum }}
{{- end }}

{{/* From TERM to the last answer, in whole seconds: the delay while endpoints lag, then what is running. */}}
{{- define "batch-gateway.drainSeconds" -}}
{{- $sum := 999 }}
{{- range $word, $default := dict "delay" "5s" "timeout" "25s" }}
{{- $value := dig "drain" $word $default $.Values.config }}
{{- $sum = add $sum (include "batch-gateway.milliseconds" (dict "key" (printf "drain.%s" $word) "value" $value)) }}
{{- end }}
{{- div $sum 1000 }}
{{- end }}

{{/* Whether each Pod keeps batches on record for itself, as far as the chart can see. */}}
{{- define "batch-gateway.keepsAlone" -}}
{{- $ledger := dig "async" "ledger" "" .Values.config }}
{{- range .Values.extraEnv }}
{{- if eq .name "BATCH_GATEWAY__ASYNC__LEDGER" }}
{{- $ledger = "theirs" }}
{{- end }}
{{- end }}
{{- if and (not .Values.existingConfigMap) (regexMatch "^(sqlite:.*)?$" $ledger) }}yes{{ end }}
{{- end }}

{{/* Whether the Pod has a volume for state; a worker's ledger is never its own. */}}
{{- define "batch-gateway.keepsState" -}}
{{- if and .Values.state.enabled (ne .Values.mode "worker") }}yes{{ end }}
{{- end }}

{{/* What the schema cannot say, since it takes two values or the cluster's version. */}}
{{- define "batch-gateway.check" -}}
{{- if and .Values.config.upstream .Values.config.upstreams }}
{{- fail "config.upstreams: the gateway takes either upstream or upstreams; remove the chart's default by config.upstream: null" }}
{{- end }}
{{- $least := add (include "batch-gateway.drainSeconds" .) 2 }}
{{- if lt (int64 .Values.terminationGracePeriodSeconds) $least }}
{{- fail (printf "terminationGracePeriodSeconds: %d is shorter than a drain; config.drain.delay + config.drain.timeout + 2 = %d, so set it to %d or more, or shorten the drain" (int64 .Values.terminationGracePeriodSeconds) $least $least) }}
{{- end }}
{{- if and (eq .Values.mode "worker") (include "batch-gateway.keepsAlone" .) }}
{{- fail "mode: a worker runs the batches that gateways put into a Redis; set config.async.ledger and config.async.key as theirs are, or the environment by extraEnv" }}
{{- end }}
{{- if include "batch-gateway.keepsState" . }}
{{- range .Values.extraVolumeMounts }}
{{- if eq (trimSuffix "/" .mountPath) "/var/lib/batch-gateway" }}
{{- fail "extraVolumeMounts: /var/lib/batch-gateway is the mount of state; set state.enabled to false, or state.claim to your volume's claim" }}
{{- end }}
{{- end }}
{{- if and .Values.state.claim (eq .Values.mode "standalone") (gt (int64 .Values.replicas) 1) }}
{{- fail (printf "state.claim: %d replicas cannot share one ledger file; let them share a Redis by config.async.ledger, with state.claim empty, or set replicas to 1" (int64 .Values.replicas)) }}
{{- end }}
{{- end }}
{{- if and (eq .Values.mode "sidecar") .Values.nativeSidecar (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "nativeSidecar: Kubernetes %s does not know native sidecars (1.29 does); set nativeSidecar to false" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}
