"""Configuration files of the components, written before each start; the file names are used by the component table."""

from __future__ import annotations

import json
from typing import Any

import yaml

from dev.cluster.commands import write_file
from dev.cluster.settings import (
    BRIDGE,
    CLUSTER_DOMAIN,
    CNI_NETWORK,
    NODE_NAME,
    NODE_POD_CIDR,
    POD_CIDR,
    Settings,
)

CONTAINERD = "containerd.toml"
CNI = "cni/10-dbt-operator.conflist"
KUBELET = "kubelet.yaml"
KUBE_PROXY = "kube-proxy.yaml"
COREDNS = "Corefile"


def _containerd(settings: Settings, *, pause_image: str, cni_plugins: str) -> str:
    """Own root, state and socket: a containerd of the distribution or of Docker is never touched."""
    return f"""\
version = 2
root = "{settings.containerd_root}"
state = "{settings.containerd_state}"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]

[grpc]
  address = "{settings.containerd_socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{settings.containerd_root}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  # Without CAP_SYS_RESOURCE no score lower than containerd's own can be set.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{cni_plugins}"
  conf_dir = "{(settings.configuration / CNI).parent}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  Root = "{settings.containerd_state}/runc"
  SystemdCgroup = false
"""


def _cni(settings: Settings) -> str:
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(settings.cni_state),
            "ranges": [[{"subnet": NODE_POD_CIDR}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "0.4.0", "name": CNI_NETWORK, "plugins": plugins}, indent=2)


def _kubelet(settings: Settings, *, node_address: str) -> dict[str, Any]:
    """No garbage collection of images and no eviction for a full disk: imported images cannot be pulled again.

    Logs are looked at as often as is allowed, so that one that grows too large is rotated while its pod is alive.
    """
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node_address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(settings.certificates / "ca.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{settings.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "clusterDNS": [node_address],
        "clusterDomain": CLUSTER_DOMAIN,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi"},
        "maxPods": 250,
        "serializeImagePulls": False,
        "containerLogMonitorInterval": "3s",
        "podLogsDir": str(settings.pod_logs),
        "volumePluginDir": str(settings.kubelet_root / "volume-plugins"),
        "shutdownGracePeriod": "0s",
    }


def _kube_proxy(settings: Settings) -> dict[str, Any]:
    """The connection tracking table is the machine's own affair: zero leaves its limits alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(settings.kubeconfigs / "kube-proxy.yaml")},
        "hostnameOverride": NODE_NAME,
        "mode": "iptables",
        "clusterCIDR": POD_CIDR,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _coredns(settings: Settings, *, node_address: str) -> str:
    """Answers about the cluster are not cached: a Service must be found as soon as it exists."""
    return f"""\
.:53 {{
    bind {node_address}
    errors
    health 127.0.0.1:10254
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {settings.kubeconfigs / "admin.yaml"}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }}
    forward . /etc/resolv.conf
    cache 30 {{
        disable success {CLUSTER_DOMAIN}
        disable denial {CLUSTER_DOMAIN}
    }}
}}
"""


def write(settings: Settings, *, node_address: str, pause_image: str, cni_plugins: str) -> None:
    """Unchanged files stay as they are: containerd watches the folder of its network configuration."""
    files = {
        CONTAINERD: _containerd(settings, pause_image=pause_image, cni_plugins=cni_plugins),
        CNI: _cni(settings),
        KUBELET: yaml.safe_dump(_kubelet(settings, node_address=node_address)),
        KUBE_PROXY: yaml.safe_dump(_kube_proxy(settings)),
        COREDNS: _coredns(settings, node_address=node_address),
    }
    for name, content in files.items():
        path = settings.configuration / name
        if not path.exists() or path.read_text() != content:
            write_file(path, content)
