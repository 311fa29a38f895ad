"""The machine's network: its address, its ports, and the traces that a cluster leaves in it."""

from __future__ import annotations

import errno
import json
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.cluster.commands import find_program, run, succeeds
from dev.cluster.settings import API_PORT_VARIABLE, BRIDGE, CNI_NETWORK, ClusterError

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
IPTABLES_TABLES = ("raw", "mangle", "nat", "filter")


@dataclass(frozen=True, kw_only=True)
class Port:
    """Something that a component listens on."""

    number: int
    address: str
    udp: bool = False
    variable: str = ""

    def __str__(self) -> str:
        return f"{self.number}/{'udp' if self.udp else 'tcp'}"


def node_address() -> str:
    """The first global IPv4 address that belongs to no bridge of a container network."""
    shown = run(
        ["ip", "-json", "-4", "address", "show", "scope", "global", "up"], doing="Reading the machine's address"
    )
    for link in json.loads(shown):
        if re.match(r"cni|docker|br-|veth|virbr", link.get("ifname", "")):
            continue
        for address in link.get("addr_info", []):
            return str(address["local"])
    raise ClusterError("This machine has no IPv4 address besides 127.0.0.1: the cluster's node needs one.")


def is_free(port: Port) -> bool:
    kind = socket.SOCK_DGRAM if port.udp else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as trial:
        if not port.udp:  # a connection that still times out does not matter
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((port.address, port.number))
        except OSError as error:
            return error.errno not in {errno.EADDRINUSE, errno.EACCES}
    return True


def taken_sentence(port: Port, *, component: str) -> str:
    remedy = "Stop the program that uses it"
    if port.variable:
        remedy += f", or set {port.variable} to another port"
    return f"Port {port} on {port.address}, which {component} needs, is taken by another program. {remedy}."


def check_ports(ports: Sequence[Port], *, component: str) -> None:
    for port in ports:
        if not is_free(port):
            raise ClusterError(taken_sentence(port, component=component))


def api_server_port(number: int) -> Port:
    return Port(number=number, address="0.0.0.0", variable=API_PORT_VARIABLE)  # noqa: S104 - pods reach it too


def prepare() -> None:
    """Routing between pods and the machine, and bridged packets through the Service rules."""
    IP_FORWARD.write_text("1")
    if not BRIDGE_FILTER.exists():
        succeeds(["modprobe", "br_netfilter"])
    if BRIDGE_FILTER.exists():
        BRIDGE_FILTER.write_text("1")


def cleanup_script(saved: str, *, network: str) -> str:
    """Turn one table of iptables-save into the input of iptables-restore that removes a cluster's chains.

    Deleted are the chains of kube-proxy and the kubelet, those that CNI made for pods of this network, and CNI's
    shared port mapping chains once no other network uses them. Rules of others stay.
    """
    chains = re.findall(r"^:(\S+) ", saved, flags=re.MULTILINE)
    rules = [line for line in saved.splitlines() if line.startswith("-A ")]
    doomed = {chain for chain in chains if chain.startswith("KUBE-")} | _pod_chains(rules, network=network)
    if not any(re.match(r"CNI-DN-", chain) and chain not in doomed for chain in chains):
        doomed |= {chain for chain in chains if chain.startswith("CNI-HOSTPORT-")}
    doomed &= set(chains)
    if not doomed:
        return ""
    table = re.search(r"^\*(\S+)$", saved, flags=re.MULTILINE)
    lines = [f"*{table[1] if table else 'filter'}"]
    lines += [f":{chain} - [0:0]" for chain in sorted(doomed)]
    lines += [f"-D {rule[3:]}" for rule in rules if _jumps_into(rule, doomed)]
    lines += [f"-X {chain}" for chain in sorted(doomed)]
    return "\n".join([*lines, "COMMIT", ""])


def _pod_chains(rules: Sequence[str], *, network: str) -> set[str]:
    pattern = re.compile(rf'name: \\?"{re.escape(network)}\\?".* -j (CNI-\S+)')
    return {found[1] for rule in rules if (found := pattern.search(rule))}


def _jumps_into(rule: str, doomed: set[str]) -> bool:
    """A rule of a surviving chain; the rules inside a doomed chain vanish with it."""
    target = re.search(r" -[jg] (\S+)", rule)
    return rule.split()[1] not in doomed and target is not None and target[1] in doomed


def remove_rules() -> None:
    for family in ("", "6"):
        save, restore = find_program(f"ip{family}tables-save"), find_program(f"ip{family}tables-restore")
        if save is None or restore is None:
            continue
        for table in IPTABLES_TABLES:
            _remove_rules_of(table, save=save, restore=restore)


def _remove_rules_of(table: str, *, save: str, restore: str) -> None:
    try:
        saved = run([save, "-t", table], doing=f"Reading the {table} rules")
    except ClusterError:
        return  # the kernel has no such table: nothing can be left in it
    script = cleanup_script(saved, network=CNI_NETWORK)
    if script:
        run([restore, "--noflush", "--wait"], stdin=script, doing=f"Removing the cluster's {table} rules")


def remove_bridge() -> None:
    """The pods' ends of their links vanish with their namespaces; the bridge stays unless it is deleted."""
    if (Path("/sys/class/net") / BRIDGE).exists():
        succeeds(["ip", "link", "delete", BRIDGE])
