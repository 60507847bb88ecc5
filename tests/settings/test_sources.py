"""Where settings come from, which source wins, and what is no source at all."""

from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.settings import Settings, load_admin, load_settings, misspelt

ROUTES = '[{"path": "/a", "upstream": "http://h"}]'
SERVING = {"GATEWAY_ROUTES": ROUTES}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A settings file that has something to serve, to be written anew by a test."""
    file = tmp_path / "gateway.toml"
    file.write_text('key_manager = { url = "http://h" }\n[cache]\nmax_entries = 1\n')
    return file


def faults(config: Path | None, environ: dict[str, str], flags: dict[str, object]) -> list[str]:
    """Return what is said to be wrong."""
    with pytest.raises(SettingsError) as refusal:
        load_settings(config, environ=environ, flags=flags)
    return list(refusal.value.faults)


@pytest.mark.parametrize(
    ("environ", "flags", "entries"),
    [
        ({}, {}, 1),
        ({"GATEWAY_CACHE__MAX_ENTRIES": "2"}, {}, 2),
        ({"GATEWAY_CACHE__MAX_ENTRIES": "2"}, {"cache.max_entries": "3"}, 3),
        ({}, {"cache.max_entries": 3}, 3),
        ({}, {"cache.max_entries": None}, 1),
    ],
)
def test_the_file_gives_way_to_the_environment_and_that_to_flags(
    config: Path, environ: dict[str, str], flags: dict[str, object], entries: int
) -> None:
    """A flag that wasn't given sets nothing."""
    assert load_settings(config, environ=environ, flags=flags).cache.max_entries == entries


def test_what_no_source_sets_has_its_default(config: Path) -> None:
    """The rest of a section that is set in part, and of the sections that aren't set."""
    config.write_text('key_manager = { url = "http://h" }\n')
    settings = load_settings(config, environ={}, flags={"cache.max_entries": 3})
    default = Settings()
    assert settings.cache == default.cache.model_copy(update={"max_entries": 3})
    assert settings.limits == default.limits


def test_no_file_is_needed() -> None:
    """A container may be set up by its environment alone."""
    environ = {
        **SERVING,
        "GATEWAY_PROXY__TRUSTED_PROXIES": "10.0.0.0/8,::1",
        "GATEWAY_PROXY__PRESERVE_HOST": "false",
    }
    settings = load_settings(None, environ=environ, flags={})
    assert settings.routes[0].path == "/a"
    assert settings.proxy.trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert not settings.proxy.preserve_host


def test_routes_of_the_environment_replace_those_of_the_file(config: Path) -> None:
    """A list is one setting: lists aren't merged."""
    config.write_text('[[routes]]\npath = "/b"\nupstream = "http://h"\n')
    settings = load_settings(config, environ=SERVING, flags={})
    assert [route.path for route in settings.routes] == ["/a"]


@pytest.mark.parametrize(
    "name",
    ["GATEWAY_PORT", "GATEWAY_SERVICE_HOST", "GATEWAY_SERVICE_PORT", "GATEWAY_PORT_8080_TCP",
     "GATEWAY_PORT_8080_TCP_ADDR", "GATEWAY_ADMIN_PORT", "GATEWAY_ADMIN_SERVICE_HOST",
     "GATEWAY_LISTEN", "GATEWAY_CONFIG", "PATH", "OTHER__THING", "gateway_cache__max_age"],
)  # fmt: skip
def test_what_kubernetes_sets_beside_a_service_called_gateway_is_ignored(name: str) -> None:
    """Only a GATEWAY_ name with two underscores is ours, and GATEWAY_ROUTES."""
    environ = {**SERVING, name: "tcp://10.0.0.1:8080"}
    assert load_settings(None, environ=environ, flags={}) == load_settings(
        None, environ=SERVING, flags={}
    )


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("GATEWAY_CACHE_MAX_AGE", "GATEWAY_CACHE__MAX_AGE"),
        ("GATEWAY_STORE_PASSWORD_FILE", "GATEWAY_STORE__PASSWORD_FILE"),
        ("GATEWAYCACHE_MAXAGE", "GATEWAY_CACHE__MAX_AGE"),
        ("gateway_cache__max_age", "GATEWAY_CACHE__MAX_AGE"),
    ],
)
def test_a_variable_with_one_underscore_is_warned_of(name: str, right: str) -> None:
    """It is ignored, as one of Kubernetes's must be, so the right spelling is said; no value is."""
    (warning,) = misspelt({**SERVING, name: "5m"})
    assert warning == f"{name} is ignored: the variable of that setting is {right}"


def test_no_warning_of_what_is_right_or_not_ours() -> None:
    """Nor of what is a fault anyway, nor of what Kubernetes sets."""
    environ = SERVING | {
        "GATEWAY_CACHE__MAX_AGE": "5m",
        "GATEWAY_ADMIN_PORT": "tcp://10.0.0.1:9090",
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
        "GATEWAY_CACHE__MAXAGE": "5m",
        "PATH": "/bin",
    }
    assert list(misspelt(environ)) == []


def test_an_empty_variable_unsets_what_may_be_unset(config: Path) -> None:
    """Over what the file says, too."""
    config.write_text('key_manager = { url = "http://h", token_url = "http://t" }\n')
    environ = {"GATEWAY_KEY_MANAGER__TOKEN_URL": ""}
    settings = load_settings(config, environ=environ, flags={})
    assert settings.key_manager.token_url is None


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_a_file_without_one_newline(tmp_path: Path, end: str) -> None:
    """As editors and `kubectl create secret` leave it; further newlines are the secret's own."""
    secret = tmp_path / "secret"
    secret.write_bytes(f"hunter2\n{end}".encode() if end else b"hunter2")
    environ = {**SERVING, "GATEWAY_STORE__PASSWORD_FILE": str(secret)}
    settings = load_settings(None, environ=environ, flags={})
    assert settings.store.password is not None
    assert settings.store.password.get_secret_value() == ("hunter2\n" if end else "hunter2")


def test_an_empty_variable_does_not_compete_with_a_secret_file(tmp_path: Path) -> None:
    """Compose writes an empty one where none was meant."""
    secret = tmp_path / "secret"
    secret.write_text("memory://\n")
    environ = {
        **SERVING,
        "GATEWAY_STORE__URL": "",
        "GATEWAY_STORE__URL_FILE": str(secret),
        "GATEWAY_STORE__PASSWORD": "hunter2",
        "GATEWAY_STORE__PASSWORD_FILE": "",
    }
    store = load_settings(None, environ=environ, flags={}).store
    assert store.password is not None
    assert [store.url.get_secret_value(), store.password.get_secret_value()] == [
        "memory://",
        "hunter2",
    ]


def test_only_secrets_are_read_from_files(tmp_path: Path) -> None:
    """store.ca_file is a setting of its own; cache.max_age has no _FILE."""
    environ = {**SERVING, "GATEWAY_STORE__CA_FILE": "a", "GATEWAY_CACHE__MAX_AGE_FILE": "a"}
    assert faults(None, environ, {}) == [
        (
            "GATEWAY_CACHE__MAX_AGE_FILE (environment): there is no such setting; "
            "did you mean GATEWAY_CACHE__MAX_AGE?"
        ),
        (
            'store.ca_file = "a" (GATEWAY_STORE__CA_FILE): allowed only where store.url is one '
            "with TLS (rediss)"
        ),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "can't be read: no such file or directory"),
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"\xff", "not UTF-8 text, at byte 0"),
    ],
)
def test_a_secret_file_must_hold_a_secret(tmp_path: Path, content: bytes | None, said: str) -> None:
    """A file that is missing or empty is a mistake, not an empty password."""
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    environ = {**SERVING, "GATEWAY_STORE__PASSWORD_FILE": str(secret)}
    assert faults(None, environ, {}) == [
        f'GATEWAY_STORE__PASSWORD_FILE = "{secret}" (environment): {said}'
    ]


def test_a_secret_is_given_once() -> None:
    """Either itself or by its file; neither value is shown."""
    environ = {
        **SERVING,
        "GATEWAY_STORE__PASSWORD": "hunter2",
        "GATEWAY_STORE__PASSWORD_FILE": "/run/secrets/password",
    }
    assert faults(None, environ, {}) == [
        (
            'store.password = "***" (GATEWAY_STORE__PASSWORD and GATEWAY_STORE__PASSWORD_FILE): '
            "only one of the two is allowed"
        )
    ]


@pytest.mark.parametrize(
    ("environ", "flags", "said"),
    [
        (
            {"GATEWAY_CACHE__MAXAGE": "hunter2"},
            {},
            (
                "GATEWAY_CACHE__MAXAGE (environment): there is no such setting; "
                "did you mean GATEWAY_CACHE__MAX_AGE?"
            ),
        ),
        (
            {"GATEWAY_ROUTES__0__PATH": "/a"},
            {},
            (
                "GATEWAY_ROUTES__0__PATH (environment): there is no such setting; "
                "did you mean GATEWAY_ROUTES?"
            ),
        ),
        (
            {"GATEWAY_QQ__ZZ": "1"},
            {},
            "GATEWAY_QQ__ZZ (environment): there is no such setting",
        ),
        (
            {},
            {"listen.prot": "hunter2"},
            "listen.prot (command line): there is no such setting; did you mean listen.port?",
        ),
        (
            {"GATEWAY_ROUTES": "[{]"},
            {},
            (
                'routes = "[{]" (GATEWAY_ROUTES): a list in JSON is allowed; line 1, column 3: '
                "Expecting property name enclosed in double quotes"
            ),
        ),
        (
            {"GATEWAY_LISTEN__PORT": "http"},
            {"admin.port": "99999"},
            (
                'listen.port = "http" (GATEWAY_LISTEN__PORT): a port number from 0 to 65535 is '
                "allowed\n"
                "admin.port = 99999 (command line): a port number from 0 to 65535 is allowed"
            ),
        ),
    ],
)
def test_a_fault_names_the_source(
    config: Path, environ: dict[str, str], flags: dict[str, object], said: str
) -> None:
    """The variable, or the command line; the value of an unknown setting isn't shown."""
    assert faults(config, environ, flags) == said.splitlines()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[listen\n", "not TOML: Expected ']' at the end of a table declaration (at line 1, "),
        (b"a = 'hunter2\n", "not TOML: "),
        (b"[cache]\nmax_age = '1s'\nmax_age = '2s'\n", "max_age is set twice (at line 3, column "),
        (b"[store.x]\n[store.x]\n", "the table [store.x] stands twice (at line 2, column "),
        (b"\xff", "not UTF-8 text, at byte 0"),
    ],
)
def test_a_file_that_is_not_toml_is_refused_with_its_line(
    config: Path, content: bytes, said: str
) -> None:
    """Without what stands in the line, which may be a secret."""
    config.write_bytes(content)
    (fault,) = faults(config, {}, {})
    assert fault.startswith(f"{config}: {said}")
    assert "hunter2" not in fault


def test_a_byte_order_mark_is_passed_over(config: Path) -> None:
    """Some editors write one."""
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    assert load_settings(config, environ={}, flags={}).cache.max_entries == 1


@pytest.mark.parametrize(
    ("name", "reason"), [("missing.toml", "no such file or directory"), (".", "is a directory")]
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    """With its path as it was given."""
    assert faults(tmp_path / name, {}, {}) == [f"{tmp_path / name}: can't be read: {reason}"]


@pytest.mark.parametrize("content", ["cache = 5", "cache = 'hunter2'", "cache = [1]"])
def test_a_section_that_is_no_table_is_refused_whatever_else_is_set(
    config: Path, content: str
) -> None:
    """What it holds instead isn't shown."""
    config.write_text(content)
    (fault,) = faults(config, {"GATEWAY_CACHE__MAX_AGE": "1s"}, {})
    assert fault.startswith("cache = ")
    assert fault.endswith(f" ({config}): a table is allowed")
    assert "hunter2" not in fault


def test_nothing_to_serve_is_refused() -> None:
    """At least a route, or a key manager."""
    said = "at least one route, or key_manager.url, is needed"
    assert faults(None, {}, {}) == [f"routes = [] (default): {said}"]
    assert faults(None, {"GATEWAY_ROUTES": "[]"}, {}) == [f"routes = [] (GATEWAY_ROUTES): {said}"]


def test_the_admin_port_is_found_in_settings_that_are_otherwise_wrong(config: Path) -> None:
    """A health check must not fail because a file was edited badly after the start."""
    config.write_text('admin = { port = 9191 }\nnonsense = 1\n[cache]\nmax_age = "soon"\n')
    admin = load_admin(config, environ={"GATEWAY_ADMIN__HOST": "::1", "GATEWAY_NON__SENSE": "1"})
    assert (admin.host, admin.port) == ("::1", 9191)
    assert load_admin(None, environ={}).port == 9090


def test_an_admin_port_that_is_wrong_is_refused(config: Path) -> None:
    """By its name in the settings."""
    config.write_text('admin = { port = "x" }\n')
    with pytest.raises(SettingsError, match=r'^admin\.port = "x" \(.*gateway.toml\): a port'):
        load_admin(config, environ={})
