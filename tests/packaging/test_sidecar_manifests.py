"""The sidecar manifests: valid by their own schemas, and consistent with the gateway's settings."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it ships no types
import pytest
import yaml

from gateway.errors import SettingsError
from gateway.settings import Settings
from gateway.settings.sources import load_settings

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
MANIFESTS = ROOT / "docs" / "sidecar"

RESOURCES: dict[str, Any] = {
    f"{file.stem}/{resource['kind']}": resource
    for file in sorted(MANIFESTS.glob("kubernetes*.yaml"))
    for resource in yaml.safe_load_all(file.read_text())
}
POD: dict[str, Any] = RESOURCES["kubernetes/Deployment"]["spec"]["template"]["spec"]
[SIDECAR] = POD["initContainers"]
[APPLICATION] = POD["containers"]
SERVICES: dict[str, Any] = yaml.safe_load((MANIFESTS / "compose.yaml").read_text())["services"]

IN_IMAGE = dict(re.findall(r"\b(GATEWAY_\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))
IN_POD = {variable["name"]: variable["value"] for variable in SIDECAR["env"]}
IN_COMPOSE: dict[str, str] = SERVICES["gateway"]["environment"]


def seconds(written: str) -> int:
    """Return a compose duration of whole seconds, such as ``45s``."""
    assert re.fullmatch(r"\d+s", written)
    return int(written[:-1])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings that a pod runs with: of the image, of the ConfigMap, of its environment."""
    return load(IN_POD, tmp_path)


def load(environ: dict[str, str], folder: Path, **more: str) -> Settings:
    """Load the settings file of the manifests, with ``environ``'s secrets moved to ``folder``."""
    secret = folder / "secret"
    secret.write_text("hunter2\n")
    moved = {
        name: str(secret) if name.endswith("_FILE") else value for name, value in environ.items()
    }
    return load_settings(MANIFESTS / "gateway.toml", environ=IN_IMAGE | moved | more, flags={})


# --- valid by their own schemas


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("name", RESOURCES)
def test_kubernetes_takes_the_resource(name: str, version: str) -> None:
    """Each resource is valid, without an unknown field, in the oldest and the newest version."""
    assert kubernetes_validate.validate(RESOURCES[name], version, strict=True) == version


def test_compose_takes_the_file() -> None:
    """The compose file is valid by the Compose specification's JSON schema."""
    checked = subprocess.run(
        [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
        check=False,
        cwd=MANIFESTS,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


# --- the settings


def test_the_configmap_is_the_settings_file() -> None:
    """The ConfigMap holds the file that stands beside it, and compose mounts that file."""
    assert RESOURCES["kubernetes/ConfigMap"]["data"] == {
        "gateway.toml": (MANIFESTS / "gateway.toml").read_text()
    }


@pytest.mark.parametrize("environ", [IN_POD, IN_COMPOSE], ids=["kubernetes", "compose"])
def test_the_gateway_takes_the_settings(environ: dict[str, str], tmp_path: Path) -> None:
    """File and environment are settings that the gateway knows; the password is the secret's."""
    settings = load(environ, tmp_path)
    assert settings.store.password is not None
    assert settings.store.password.get_secret_value() == "hunter2"
    assert (settings.listen.host, settings.admin.host) == ("0.0.0.0", "127.0.0.1")


def test_service_links_are_better_off(tmp_path: Path) -> None:
    """A Service's variables can be taken for settings, so the pod is spared them."""
    assert POD["enableServiceLinks"] is False
    load(IN_POD, tmp_path, GATEWAY_PORT="tcp://10.0.0.1:80")
    with pytest.raises(SettingsError, match="GATEWAY__EU_PORT"):
        load(IN_POD, tmp_path, GATEWAY__EU_PORT="tcp://10.0.0.1:80")


def test_files_are_where_the_gateway_looks() -> None:
    """Settings and secret are mounted, whole directories, where image and environment say."""
    kinds = {volume["name"]: set(volume) - {"name"} for volume in POD["volumes"]}
    mounted = {
        (mount["mountPath"], *kinds[mount["name"]], mount["readOnly"], "subPath" in mount)
        for mount in SIDECAR["volumeMounts"]
    }
    config = Path(IN_IMAGE["GATEWAY_CONFIG"])
    secret = Path(IN_POD["GATEWAY_STORE__PASSWORD_FILE"])
    assert mounted == {
        (str(config.parent), "configMap", True, False),
        (str(secret.parent), "secret", True, False),
    }
    assert SERVICES["gateway"]["configs"] == [{"source": config.name, "target": str(config)}]
    assert SERVICES["gateway"]["secrets"] == [Path(IN_COMPOSE["GATEWAY_STORE__PASSWORD_FILE"]).name]


# --- the network


def test_nothing_goes_around_the_gateway(settings: Settings) -> None:
    """The application listens on loopback, where every route leads; only 8080 is served."""
    [listening] = [arg for arg in APPLICATION["args"] if arg.startswith("-listen=")]
    address = listening.removeprefix("-listen=")
    assert {f"http://{address}"} == {route.upstream for route in settings.routes}
    assert address.startswith("127.0.0.1:")
    assert "ports" not in APPLICATION
    assert SERVICES["orders"]["command"] == APPLICATION["args"]
    assert SERVICES["orders"]["network_mode"] == "service:gateway"
    assert "ports" not in SERVICES["orders"]


def test_the_ports_agree(settings: Settings) -> None:
    """Service, policies and publications name the ports that the settings say."""
    traffic, admin = settings.listen.port, settings.admin.port
    ingress = {
        name: [port["port"] for rule in resource["spec"]["ingress"] for port in rule["ports"]]
        for name, resource in RESOURCES.items()
        if resource["kind"] == "NetworkPolicy"
    }
    assert ingress == {
        "kubernetes/NetworkPolicy": [traffic],
        "kubernetes-metrics/NetworkPolicy": [admin],
    }
    assert [port["containerPort"] for port in SIDECAR["ports"]] == [traffic]
    assert [port["targetPort"] for port in RESOURCES["kubernetes/Service"]["spec"]["ports"]] == [
        traffic
    ]
    assert SERVICES["gateway"]["ports"] == [f"127.0.0.1:{traffic}:{traffic}"]


def test_probes_of_the_application_need_no_token(settings: Settings) -> None:
    """The kubelet reaches the application through a public route of the gateway."""
    probe = APPLICATION["readinessProbe"]["httpGet"]
    public = [route.path for route in settings.routes if route.public]
    assert public == [probe["path"]]
    assert probe["port"] == settings.listen.port


# --- the times


def test_the_drain_has_time(settings: Settings) -> None:
    """The pod's grace period leaves 25 s for the application and all it takes for the drain."""
    drain = (settings.listen.drain_grace + settings.listen.drain_timeout).total_seconds()
    before = APPLICATION["lifecycle"]["preStop"]["sleep"]["seconds"] + 25
    assert POD["terminationGracePeriodSeconds"] > before + drain
    assert seconds(SERVICES["gateway"]["stop_grace_period"]) > drain


def test_readiness_outlasts_an_outage_as_the_cache_does(settings: Settings) -> None:
    """While Redis is away a pod stays ready for as long as it may serve what it knows."""
    probe = SIDECAR["readinessProbe"]
    patience = probe["periodSeconds"] * probe["failureThreshold"]
    assert patience == settings.cache.max_age.total_seconds()
    assert probe["exec"]["command"] == SERVICES["gateway"]["healthcheck"]["test"][1:]


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe"])
def test_redis_neither_starts_nor_kills_a_pod(probe: str) -> None:
    """Start-up and liveness ask for the process alone."""
    assert SIDECAR[probe]["exec"]["command"] == ["gateway", "healthcheck"]


# --- what a container may do


@pytest.mark.parametrize("container", [SIDECAR, APPLICATION], ids=["gateway", "application"])
def test_pod_containers_may_do_little(container: dict[str, Any]) -> None:
    """Each container meets the restricted pod security standard, on a read-only file system."""
    allowed = container["securityContext"]
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert allowed["runAsUser"] > 0
    assert allowed["readOnlyRootFilesystem"] is True
    assert allowed["allowPrivilegeEscalation"] is False
    assert allowed["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["limits"]) == {"memory"}


@pytest.mark.parametrize("name", SERVICES)
def test_compose_containers_may_do_little(name: str) -> None:
    """Each service runs on a read-only file system, without capabilities, and bounded."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service


def test_the_gateway_is_a_native_sidecar_of_the_image_s_user() -> None:
    """It starts before the application and stops after it, under the user of the Dockerfile."""
    assert SIDECAR["restartPolicy"] == "Always"
    user = SIDECAR["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in (ROOT / "Dockerfile").read_text()
    assert POD["securityContext"]["fsGroup"] == user["runAsGroup"]
