"""Writes the Grafana dashboards next to this file. `make docs` runs it; tests compare them and query Prometheus.

Names of series come from the code. `job` is service.name; `host_name` and `torch_distributed_rank` are labels if
the configuration of the collector or of Prometheus makes them labels, as those in collector-config/ do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from dashboards.job_overview import JOB_OVERVIEW
from dashboards.model import JOB, Dashboard, Panel
from dashboards.network import NETWORK
from dashboards.telemetry_health import HEALTH
from otel_netmon import semconv

FOLDER: Final = Path(__file__).parent
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
ALL: Final = (JOB_OVERVIEW, NETWORK, HEALTH)


def _variables(dashboard: Dashboard) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    ]
    for name, label, metric in (("job", "job", semconv.MONITOR_SUCCESS), *dashboard.variables):
        series = metric.prometheus_name + ("_count" if metric.kind == "histogram" else "")
        where = "" if name == "job" else f"{{{JOB}}}"
        found.append(
            {
                "name": name,
                "type": "query",
                "datasource": _DATASOURCE,
                "query": {"query": f"label_values({series}{where}, {label})", "refId": name},
                "refresh": 2,
                "includeAll": True,
                "multi": True,
                "allValue": ".*",
                "current": {"text": ["All"], "value": ["$__all"]},
            }
        )
    return found


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    one_value = panel.kind != "timeseries"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {
            **({} if one_value else {"tooltip": {"mode": "multi", "sort": "desc"}}),
            **({"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal"} if one_value else {}),
        },
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATASOURCE,
                "expr": expr,
                "legendFormat": legend,
                "instant": one_value,
                "range": not one_value,
            }
            for index, (expr, legend) in enumerate(panel.queries)
        ],
    }


def render(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana imports."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in dashboard.rows:
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "gridPos": place,
                "collapsed": False,
                "panels": [],
            }
        )
        for index, panel in enumerate(row):
            panels.append(_panel(panel, len(panels) + 1, 12 * (index % 2), y + 1 + 8 * (index // 2)))
        y += 1 + 8 * ((len(row) + 1) // 2)
    return {
        "uid": f"otel-netmon-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["otel-netmon"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": _variables(dashboard)},
        "links": [
            {
                "type": "dashboards",
                "tags": ["otel-netmon"],
                "title": "otel-netmon",
                "asDropdown": True,
                "keepTime": True,
            }
        ],
        "panels": panels,
    }


def path(dashboard: Dashboard) -> Path:
    """The file that the dashboard is written to."""
    return FOLDER / f"{dashboard.name}.json"


if __name__ == "__main__":
    for each in ALL:
        path(each).write_text(json.dumps(render(each), indent=1) + "\n")
