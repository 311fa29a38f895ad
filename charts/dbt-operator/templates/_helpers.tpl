{{- define "dbt-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "dbt-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "dbt-operator.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "dbt-operator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "dbt-operator.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "dbt-operator.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- define "dbt-operator.toolsImage" -}}
{{- .Values.toolsImage | default (printf "%s-tools:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion)) -}}
{{- end -}}

{{- define "dbt-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "dbt-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dbt-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "dbt-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- /* What the operator does in a namespace. It has no right on Secrets: pods refer to them, the operator never reads one. */ -}}
{{- define "dbt-operator.rules" -}}
- apiGroups: [dbt-operator.io]
  resources: [dbtruns]
  verbs: [get, list, watch, delete] # delete: once a run is not to be kept any longer
- apiGroups: [dbt-operator.io]
  resources: [dbtconnections]
  verbs: [get] # those that runs name
- apiGroups: [dbt-operator.io]
  resources: [dbtmodels]
  verbs: [get, list, watch, create, deletecollection] # deletecollection: with a run that is not to be kept any longer
- apiGroups: [dbt-operator.io]
  resources: [dbtruns/status, dbtmodels/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch] # patch: a pod is scheduled once it is known to be the only one of its attempt
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
# The runner, the record of each attempt, and dbt's artifacts, beside each run. All are found by their names:
# ConfigMaps of others are not looked at, hence no list and no watch.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch, delete] # delete: what a run has for its attempts only, when it has ended
# Read as well: why a pod cannot be created, or a volume not mounted, is told in events only.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end -}}
