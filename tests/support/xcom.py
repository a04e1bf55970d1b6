"""Steps of a chain run one after another with an XCom in memory, as Airflow does it: references pulled, JSON kept."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_milvusdm.operators.base import MigrationOperator
from airflow_provider_milvusdm.operators.group import RESULT, GroupOperator
from tests.support.peak_memory import Store

RETURNED = "return_value"


@dataclass
class XComs:
    values: dict[tuple[str, int, str], str] = field(default_factory=dict)
    """JSON by task, map index and key."""
    pulled: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Bytes that each task pulled."""
    stores: dict[tuple[str, int], Store] = field(default_factory=lambda: defaultdict(Store))
    """The task state of each task."""

    def run(
        self, operator: MigrationOperator, try_number: int = 1, map_index: int = -1, max_tries: int | None = None
    ) -> Any:
        """Render the operator's fields and execute it; the references that it returned, or left as its result."""
        for place in [place for place in self.values if place[:2] == (operator.task_id, map_index)]:
            del self.values[place]
        limit = operator.retries or 0 if max_tries is None else max_tries
        instance = TaskInstance(self, operator.task_id, map_index, try_number, limit)
        context: Any = {"ti": instance, "task_state_store": self.stores[operator.task_id, map_index]}
        operator.render_template_fields(context)
        instance.xcom_push(RETURNED, operator.execute(context))
        key = RESULT if isinstance(operator, GroupOperator) else RETURNED
        return json.loads(self.values[operator.task_id, map_index, key])

    def run_mapped(self, upstream: str, make: Callable[[Any], MigrationOperator]) -> list[Any]:
        """Run a mapped step: each of its tasks pulls all that `upstream` returned, and is made of one of these."""
        items = json.loads(self.values[upstream, -1, RETURNED])
        results = []
        for number, item in enumerate(items):
            operator = make(item)
            self.pulled[operator.task_id, number] += len(self.values[upstream, -1, RETURNED])
            results.append(self.run(operator, map_index=number))
        return results

    def given(self, task: MigrationOperator, map_index: int, upstream: str, key: str = RETURNED) -> Any:
        """What `task` pulls of all that `upstream` pushed under a key: a list where that is mapped."""
        found = {place: text for place, text in self.values.items() if place[0] == upstream and place[2] == key}
        self.pulled[task.task_id, map_index] += sum(map(len, found.values()))
        return [json.loads(text) for _, text in sorted(found.items())]

    def manifests(self, *references: Any) -> list[Any]:
        """What references stand for."""
        places = [(reference["task"], reference.get("map_index", -1), reference["xcom"]) for reference in references]
        return [manifest for place in places for manifest in json.loads(self.values[place])]


@dataclass
class TaskInstance:
    """The part of Airflow's that steps use."""

    xcoms: XComs
    task_id: str
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    dag_id = run_id = "test"

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms.values[self.task_id, self.map_index, key] = json.dumps(value)

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        text = self.xcoms.values.get((task_ids, map_indexes, key))
        self.xcoms.pulled[self.task_id, self.map_index] += len(text or "")
        return text and json.loads(text)
