"""Debian's Prometheus scrapes the real daemon at work, and every panel and every alert finds what it asks for.

What this cannot show, since no Grafana is packaged for Debian: how the panels are drawn.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from station.adapters.records import Database, Span

pytestmark = pytest.mark.prometheus

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules" / "station.yml"
DASHBOARDS = tuple((DEPLOY / "grafana" / "dashboards").glob("*.json"))
DOCUMENT = DEPLOY.parent / "docs" / "metrics.md"
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
SCRAPE_INTERVAL = "500ms"
PATIENCE_S = 90.0
# Boards enough to keep the bench at work while Prometheus looks; a board that never boots, a programmer that turns deaf, and
# a link that is bad, so that reasons, findings and baud fallbacks have something to show. What is found at once, as an
# empty programmer is, could happen before the first scrape and would then be in no rate.
WORK = ("--slots=4", "--boards=400", "--pace=0.1", "--seed=7")
TROUBLE = ("--fault=A2:no_boot", "--fault=A3:adapter_deaf", "--fault=A4:noise@0.0005")


def panels() -> list[tuple[str, dict[str, Any]]]:
    """Return every panel of every dashboard with the dashboard's name."""
    return [(path.stem, panel) for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]


def queries() -> list[tuple[str, str]]:
    """Return every query of every panel as Grafana would send it for all stations and one quarter of an hour."""
    sent = []
    for name, panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$__range", "15m")
            sent.append((f"{name}: {panel['title']} {target['refId']}", expression.replace("$station", ".+")))
    return sent


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, timeout_s: float = 30.0) -> str:
    """Return the body at `url`."""
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - loopback only
        return str(answer.read().decode())


class Prometheus:
    """A running Prometheus on loopback."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """Return `data` of one API call; a refused query fails with Prometheus' own words."""
        try:
            answer = get(f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        except urllib.error.HTTPError as error:
            with error:
                pytest.fail(f"{path} {parameters}: {error.read().decode()}")
        return json.loads(answer)["data"]

    def series(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that a query finds now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found


@pytest.fixture(scope="module")
def scrape_target() -> str:
    """HOST:PORT where the station will be."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def prometheus(scrape_target: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that watches the real daemon on the virtual bench, at work as long as the tests of this file take.

    Prometheus is there first: what happens before the first scrape is in no rate.
    """
    with (
        _running_prometheus(scrape_target, tmp_path_factory.mktemp("prometheus")) as server,
        _bench_at_work(scrape_target, tmp_path_factory.mktemp("station")),
    ):
        yield server


@contextlib.contextmanager
def _bench_at_work(address: str, directory: Path) -> Iterator[None]:
    log = directory / "log"
    port = address.rpartition(":")[2]
    with Database.open(f"sqlite:///{directory}/db", station_id="demo") as records:
        records.numbers.grant(Span(pool="sensors", first=1, last=99), "Ada", "so that a pool has something to show")
    command = [
        sys.executable,
        "-m",
        "station",
        "demo",
        *WORK,
        *TROUBLE,
        f"--port={port}",
        f"--db=sqlite:///{directory}/db",
    ]
    with log.open("wb") as log_file, subprocess.Popen(command, stdout=log_file, stderr=log_file) as demo:
        try:
            yield
            assert demo.poll() is None, f"the bench stopped too early: {log.read_text(errors='replace')[-4000:]}"
        finally:
            demo.send_signal(signal.SIGTERM)
            demo.wait(60)


@contextlib.contextmanager
def _running_prometheus(target: str, directory: Path) -> Iterator[Prometheus]:
    """The shipped configuration and rules, pointed at `target` and with shorter intervals."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL}
    config["rule_files"] = [str(RULES)]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    log = directory / "log"
    with log.open("wb") as log_file, subprocess.Popen(command, stdout=log_file, stderr=log_file) as server:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not _is_ready(port):
                assert server.poll() is None, log.read_text(errors="replace")
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield Prometheus(f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
            server.wait(60)


def _is_ready(port: int) -> bool:
    try:
        return "Ready" in get(f"http://127.0.0.1:{port}/-/ready")
    except OSError:
        return False


def _await_station(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not prometheus.series("station_ready == 1"):
        assert time.monotonic() < deadline, "Prometheus does not get at the station"
        time.sleep(0.2)


def test_every_panel_query_finds_series(prometheus):
    """Each query of each panel is accepted and finds at least one series with a number, from a bench at work."""
    waiting = dict(queries())
    assert len(waiting) == len(queries()) > 20
    deadline = time.monotonic() + PATIENCE_S
    while waiting and time.monotonic() < deadline:
        for name, expression in list(waiting.items()):
            if any(series["value"][1] != "NaN" for series in prometheus.series(expression)):
                del waiting[name]
        time.sleep(1)
    assert waiting == {}


def test_every_panel_query_draws_a_range(prometheus):
    """Each query is also good over a range, as a graph asks for it."""
    _await_station(prometheus)
    now = time.time()
    for name, expression in queries():
        found = prometheus.ask("query_range", query=expression, start=str(now - 60), end=str(now), step="5")
        assert found["resultType"] == "matrix", name


def test_every_metric_of_panels_and_rules_exists(prometheus, scrape_target):
    """No panel and no rule asks for a metric, a label or a value of a closed label that the station does not have."""
    _await_station(prometheus)
    scraped = get(f"http://{scrape_target}/metrics")
    # What has no samples yet, such as numbers left in pools before any is granted, has a type all the same.
    known = set(re.findall(r"^(?:# TYPE )?(\w+)[{ ]", scraped, flags=re.MULTILINE)) | {"up"}
    for name, expression in [*queries(), *((rule["alert"], rule["expr"]) for rule in ALERTS)]:
        asked = set(re.findall(r"\b(?:station|process)_\w+|\bup\b", expression))
        assert asked, name
        assert asked <= known, name
        for label, value in re.findall(r'(\w+)!?="(\w+)"', expression):
            assert f'{label}="{value}"' in scraped or label == "job", name
    assert {series["metric"]["job"] for series in prometheus.series("up")} == {"station"}


def test_the_station_variable_offers_the_station(prometheus, scrape_target):
    """The dashboard's choice of stations finds the station that is scraped."""
    _await_station(prometheus)
    found = prometheus.ask("label/instance/values", **{"match[]": "station_build_info"})
    assert found == [scrape_target]


def test_the_rules_run_and_a_working_bench_is_left_alone(prometheus):
    """Prometheus evaluates every alert without an error, and those for a bench that stands still are calm."""
    _await_station(prometheus)
    standing_still = {"StationDown", "StationNotReady", "StationPlugsUnheard", "StationRecordsUnwritable"}
    deadline = time.monotonic() + PATIENCE_S
    unwell: dict[str, str] = {"no rules": "yet"}
    while unwell and time.monotonic() < deadline:
        (group,) = prometheus.ask("rules")["groups"]
        unwell = {rule["name"]: rule.get("lastError", "") for rule in group["rules"] if rule["health"] != "ok"}
        unwell |= {
            rule["name"]: rule["state"]
            for rule in group["rules"]
            if rule["name"] in standing_still and rule["state"] != "inactive"
        }
        time.sleep(0.5)
    assert unwell == {}
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in ALERTS]


def test_dashboards_are_fit_for_provisioning():
    """Dashboards have a fixed uid and no id, panels differ in id and place, and every query names the chosen Prometheus."""
    assert DASHBOARDS
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        assert board["id"] is None
        assert board["uid"] == "flashing-station-bench"
        variables = {variable["name"]: variable for variable in board["templating"]["list"]}
        assert variables["datasource"]["type"] == "datasource"
        assert variables["station"]["definition"] == "label_values(station_build_info, instance)"
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        places = [panel["gridPos"] for panel in board["panels"]]
        cells = [
            (x, y)
            for at in places
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        ]
        assert len(set(cells)) == len(cells)
        assert max(x for x, _ in cells) == 23
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for name, panel in panels():
        assert panel["datasource"] == chosen, (name, panel["title"])
        assert panel["fieldConfig"]["defaults"]["unit"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
        for target in panel["targets"]:
            assert target["datasource"] == chosen
            assert 'instance=~"$station"' in target["expr"], panel["title"]


def test_provisioning_points_at_what_is_shipped():
    """The provisioning files are those of Grafana's format version 1 and name a Prometheus and a folder of dashboards."""
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://127.0.0.1:9090")
    shipped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == shipped["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "flashing-station.yml").read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"]


def promtool(*arguments: str | Path) -> None:
    """Run promtool; its complaint is the failure."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_configuration_and_rules():
    """Prometheus' own tool accepts the shipped configuration with its rules."""
    promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    promtool("check", "rules", RULES)


def test_the_rules_pass_their_own_tests():
    """Every alert fires when it must and stays silent when it must."""
    tests = DEPLOY / "prometheus" / "tests" / "station.yml"
    promtool("test", "rules", tests)
    tested = {
        test["alertname"]
        for each in yaml.safe_load(tests.read_text())["tests"]
        for test in each.get("alert_rule_test", [])
        if test["exp_alerts"]
    }
    assert tested == {rule["alert"] for rule in ALERTS}


def test_every_alert_says_what_to_do():
    """Every alert names its severity, says what is wrong and what to do, and stands in the documentation."""
    documented = re.findall(r"^\| `(Station\w+)` \|", DOCUMENT.read_text(), flags=re.MULTILINE)
    assert documented == sorted(documented, key=[rule["alert"] for rule in ALERTS].index)
    assert set(documented) == {rule["alert"] for rule in ALERTS}
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"]
