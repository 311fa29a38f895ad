"""The credentials of the operator's client, for kopf: it knows neither exec plugins nor a kubeconfig that is given."""

import kopf
from kubernetes.aio.client.configuration import Configuration

from dbt_operator.kube.session import load_credentials, proxy_for


async def connection_info(*, kubeconfig: str | None) -> kopf.ConnectionInfo:
    """What kopf needs to connect. Raises kubernetes' ConfigException when there are no credentials."""
    configuration = Configuration()
    await load_credentials(configuration, kubeconfig=kubeconfig)
    header = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    scheme, _, token = (header or "").strip().rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        username=configuration.username or None,
        password=configuration.password or None,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy or proxy_for(configuration.host),
    )
