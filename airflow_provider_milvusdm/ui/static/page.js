"use strict";
// The Migration page. Whatever comes from a source is text: it is only ever set as textContent.

const POLL_MS = 2000; // between two answers, at least
const SHARE = 10; // the server is asked for at most a tenth of the time
const PAGE = 50;
const STEPS = {
  inspect_source: "Inspect",
  resolve_ids: "Resolve",
  plan: "Plan",
  approve_plan: "Approve",
  create_collection: "Create",
  units: "Units",
  load_partitions: "Load",
  export_partitions: "Export",
  check_source: "Recheck",
  verify_counts: "Verify",
  publish_assets: "Publish",
  report: "Report",
};
const JOBS = {
  M2M: "Milvus 1.x → Milvus 2.x",
  H2M: "HDF5 → Milvus 2.x",
  F2M: "Faiss → Milvus 2.x",
  M2H: "Milvus 1.x → HDF5",
};
const CURE = "What to do: "; // stands before the cure in the text of a fault
const ENDED = ["success", "failed"];
const SVG = "http://www.w3.org/2000/svg";

const wanted = { group: null, search: "", status: "", offset: 0, open: new Set() };
let timer = null;
let asked = 0;

const find = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en-US");
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

// An element with attributes and children; strings become text.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

// The lines of a fault, each with its cure below it.
function faultLines(text) {
  return text.split("\n").flatMap((line) => {
    const start = line.lastIndexOf(CURE);
    if (start < 0) return [make("p", { class: "fault" }, line)];
    const cure = make("p", { class: "cure" }, make("b", {}, CURE), line.slice(start + CURE.length));
    return [make("p", { class: "fault" }, line.slice(0, start).trimEnd()), cure];
  });
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Shows data in an element if it has changed; what has the focus keeps it.
const shown = new Map();
function show(id, data, render) {
  const text = JSON.stringify(data);
  if (shown.get(id) === text) return;
  shown.set(id, text);
  const focused = document.activeElement?.dataset?.key;
  find(id).replaceChildren(...render(data));
  if (focused && !document.activeElement?.dataset?.key) {
    [...find(id).querySelectorAll("[data-key]")].find((element) => element.dataset.key === focused)?.focus();
  }
}

function percent(part, whole) {
  if (!whole) return 0;
  return part >= whole ? 100 : Math.min(99, Math.floor((100 * part) / whole));
}

function bar(rows, loaded, verified, live = rows) {
  const label = `${number.format(live)} rows in the source, ${number.format(loaded)} loaded, ${number.format(verified)} verified`;
  const made = make("div", { class: "bar", role: "img", "aria-label": label, title: label });
  for (const [name, part] of [["loaded", loaded], ["verified", verified]]) {
    const fill = make("span", { class: name });
    fill.style.width = `${percent(part, Math.max(live, rows))}%`;
    made.append(fill);
  }
  return made;
}

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

const clock = (time) => new Date(time).toLocaleTimeString("en-GB");
const day = (time) => new Date(time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const plural = (count, word) => `${number.format(count)} ${word}${count === 1 ? "" : "s"}`;

function showHeadline(run, migration) {
  const facts = { ...run, job: migration.job, target: migration.target, version: migration.version };
  show("headline", facts, () => {
    const began = run.started ? `started ${day(run.started)} by ${run.started_by}` : `queued by ${run.started_by}`;
    const took = run.ended ? `, took ${duration((Date.parse(run.ended) - Date.parse(run.started)) / 1000)}` : "";
    const where = migration.target ? `Target: ${migration.target}` : "";
    return [
      make("h1", {}, JOBS[migration.job] ?? "Migration", make("span", { class: `chip ${run.state}` }, run.state)),
      make("div", { class: "facts" }, `${run.dag_id} · ${run.run_id}`),
      make("div", { class: "facts" }, began + took),
      make("div", { class: "facts" }, where),
    ];
  });
}

function showFaults(migration) {
  const { faults, tasks, totals } = migration;
  const section = find("faults");
  section.hidden = !faults.count && !tasks.silent.length;
  show("faults", [faults, tasks.silent, totals.statuses.failed, totals.collections], () => {
    const failed = totals.statuses.failed ?? 0;
    const retried = faults.listed.length && faults.listed.every((fault) => fault.is_retried);
    const title = failed
      ? `${number.format(failed)} of ${plural(totals.collections, "collection")} failed`
      : retried ? "Being retried" : "The run failed";
    const items = faults.listed.map((fault) =>
      make("li", { class: fault.is_retried ? "retried" : null },
        make("strong", {}, fault.collection || (STEPS[fault.step] ?? fault.step)),
        fault.is_retried ? make("span", { class: "chip retrying" }, "will be retried") : null,
        ...faultLines(fault.text)));
    const silent = tasks.silent.map((task) =>
      make("li", {},
        make("strong", {}, `${task.task}${task.label ? ` ${task.label}` : ""}`),
        make("p", { class: "fault" }, "The task ended without a message, for example because its worker was killed. Its log may say more.")));
    const more = faults.count - faults.listed.length;
    return [
      make("h2", { id: "faults-title" }, title),
      make("ul", { tabindex: "0", "aria-label": "Faults" }, ...items, ...silent),
      more > 0 ? make("p", { class: "caption" }, `and ${number.format(more)} more: filter the collections below by “failed”`) : "",
    ].filter(Boolean);
  });
}

function showTotals(totals) {
  show("totals", totals, () => {
    const verified = totals.statuses.verified ?? 0;
    const facts = [
      ["Collections", number.format(totals.collections), `${number.format(verified)} verified, ${plural(totals.partitions, "partition")}`],
      ["Source rows", compact.format(totals.live), totals.deleted ? `${compact.format(totals.deleted)} more are deleted` : "live rows"],
      ["Loaded", `${percent(totals.loaded, totals.rows)} %`, `${number.format(totals.loaded)} rows`],
      ["Verified", `${percent(totals.verified, totals.rows)} %`, totals.compared ? `${number.format(totals.compared)} compared bit for bit` : `${number.format(totals.verified)} rows`],
      ["Left out by policy", number.format(totals.excluded), totals.excluded ? "rows, see the notes of the collections" : "rows"],
    ];
    return facts.map(([title, value, more]) => make("div", {}, make("dt", {}, title), make("dd", {}, value, make("small", {}, more))));
  });
  show("overall", [totals.rows, totals.loaded, totals.verified, totals.live], () => [bar(totals.rows, totals.loaded, totals.verified, totals.live)]);
}

function showSteps(steps) {
  show("steps", steps, () => steps.map((step) => {
    const { done = 0, skipped = 0, failed = 0, working = 0, waiting = 0 } = step;
    const total = done + skipped + failed + working + waiting;
    const kind = failed ? "failed" : working || (waiting && done) ? "working" : waiting ? "waiting" : done ? "done" : "skipped";
    const words = { skipped: "skipped", failed: `${number.format(failed)} of ${number.format(total)} failed`, working: `${number.format(done)} of ${number.format(total)}`, done: total > 1 ? `${number.format(total)} tasks` : "done", waiting: "waiting" };
    return make("li", { class: kind, title: step.task }, make("b", {}, STEPS[step.task] ?? step.task), make("small", {}, words[kind]));
  }));
}

function showSpeed(speed, state) {
  find("columns").hidden = !speed && ENDED.includes(state);
  show("speed", [speed, find("speed").clientWidth], () => {
    if (!speed) return [make("p", { class: "quiet" }, "Nothing has been loaded yet.")];
    const width = find("speed").clientWidth || 640;
    const height = 170, left = 46, bottom = 18, top = 8;
    const bins = speed.loaded.length;
    const peak = Math.max(1, ...speed.loaded, ...speed.verified);
    const x = (bin) => left + ((width - left - 6) * bin) / bins;
    const y = (value) => height - bottom - ((height - bottom - top) * value) / peak;
    const steps = (values) => values.map((value, bin) => `${x(bin)},${y(value)} ${x(bin + 1)},${y(value)}`).join(" ");
    const plot = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
    const end = speed.start + bins * speed.seconds;
    const summary = `Up to ${number.format(Math.max(...speed.loaded))} rows loaded and ${number.format(Math.max(...speed.verified))} verified per second, from ${clock(speed.start * 1000)} to ${clock(end * 1000)}`;
    plot.setAttribute("aria-label", summary);
    for (const share of [0, 0.5, 1]) {
      plot.append(draw("line", { class: "grid", x1: left, x2: width - 6, y1: y(peak * share), y2: y(peak * share) }));
      plot.append(draw("text", { x: left - 6, y: y(peak * share) + 4, "text-anchor": "end" }, compact.format(peak * share)));
    }
    for (const name of ["loaded", "verified"]) {
      const points = steps(speed[name]);
      plot.append(draw("polygon", { class: `area ${name}`, points: `${x(0)},${y(0)} ${points} ${x(bins)},${y(0)}` }));
      plot.append(draw("polyline", { class: `line ${name}`, points }));
    }
    plot.append(draw("text", { x: left, y: height - 3 }, clock(speed.start * 1000)));
    plot.append(draw("text", { x: width - 6, y: height - 3, "text-anchor": "end" }, clock(end * 1000)));
    return [plot, make("p", { class: "caption" }, summary)];
  });
}

function showWork(tasks, state) {
  const ended = ENDED.includes(state);
  find("working").hidden = ended;
  find("columns").classList.toggle("ended", ended);
  show("work", tasks, () => {
    if (!tasks.working) return [make("p", { class: "quiet" }, "Nothing: Airflow starts the next tasks.")];
    const items = tasks.listed.map((task) =>
      make("li", {},
        make("span", {}, `${STEPS[task.task] ?? task.task} ${task.label}`),
        make("small", {}, task.started ? `since ${clock(task.started)}` : ""),
        task.state === "running" ? null : make("small", {}, task.state.replaceAll("_", " ")),
        task.try > 1 ? make("small", {}, `try ${task.try}`) : null));
    const more = tasks.working - tasks.listed.length;
    return [make("ul", {}, ...items), more > 0 ? make("p", { class: "caption" }, `and ${plural(more, "more task")}`) : ""].filter(Boolean);
  });
}

function showStatuses(totals) {
  show("statuses", [totals.statuses, wanted.status], () =>
    ["", ...Object.keys(totals.statuses)].map((status) => {
      const count = status ? totals.statuses[status] : totals.collections;
      const press = () => { wanted.status = status; wanted.offset = 0; ask(); };
      return make("button", { type: "button", "aria-pressed": String(wanted.status === status), "data-key": `status ${status}`, onclick: press }, `${status || "all"} ${number.format(count)}`);
    }));
}

function partitionRow(part) {
  return make("tr", {},
    make("th", { scope: "row" }, part.partition, part.target && part.target !== part.partition ? make("small", {}, `→ ${part.target}`) : null),
    make("td", { class: "wide" }, bar(part.rows, part.loaded, part.verified, part.live)),
    make("td", { class: "number" }, number.format(part.live)),
    make("td", { class: "number" }, number.format(part.excluded)),
    make("td", { class: "number" }, number.format(part.loaded)),
    make("td", { class: "number" }, part.counted === null ? "–" : number.format(part.counted)));
}

function detailsOf(row) {
  const found = row.details;
  const facts = [
    ["Target", row.target],
    ["Action", row.action],
    ["Metric", found.target_metric ? `${found.metric} → ${found.target_metric}` : found.metric],
    ["Index", found.target_index ? `${found.index} → ${found.target_index}` : found.index],
    ["Verification", found.verification],
    ["Search", found.search],
    ["Speed", row.rows_per_second === null ? "" : `${number.format(row.rows_per_second)} rows/s`],
  ].filter(([, value]) => value);
  const heads = ["Partition", "Rows", "Source", "Left out", "Loaded", "In the target"];
  const more = row.partitions - found.partitions.length;
  return make("td", { colspan: "6" },
    ...found.faults.flatMap(faultLines),
    make("dl", {}, ...facts.flatMap(([title, value]) => [make("dt", {}, title), make("dd", {}, value)])),
    found.notes.length ? make("ul", { "aria-label": "Notes" }, ...found.notes.map((note) => make("li", {}, note))) : null,
    found.partitions.length
      ? make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head, place) => make("th", { scope: "col", class: place > 1 ? "number" : null }, head)))), make("tbody", {}, ...found.partitions.map(partitionRow)))
      : null,
    more > 0 ? make("p", { class: "caption" }, `and ${plural(more, "more partition")}: the report has all`) : null);
}

function collectionRows(row) {
  const isOpen = wanted.open.has(row.number) && row.details !== undefined;
  const press = () => {
    if (!wanted.open.delete(row.number)) wanted.open.add(row.number);
    if (wanted.open.size > 20) wanted.open.delete(wanted.open.values().next().value);
    ask();
  };
  const about = [row.target && row.target !== row.name ? `→ ${row.target}` : "", row.partitions > 1 ? plural(row.partitions, "partition") : ""].filter(Boolean).join(" · ");
  const rows = [make("tr", {},
    make("th", { scope: "row" },
      make("button", { type: "button", "aria-expanded": String(isOpen), "data-key": `open ${row.number}`, title: row.name, onclick: press }, row.name),
      about ? make("small", {}, about) : null),
    make("td", {}, make("span", { class: `chip ${row.status}` }, row.status)),
    make("td", { class: "wide" }, bar(row.rows, row.loaded, row.verified, row.live)),
    make("td", { class: "number" }, number.format(row.live)),
    make("td", { class: "number" }, number.format(row.loaded)),
    make("td", { class: "number" }, number.format(row.verified)))];
  if (isOpen) rows.push(make("tr", { class: "details" }, detailsOf(row)));
  return rows;
}

function showCollections(collections, state) {
  const none = wanted.search || wanted.status
    ? "No collection matches."
    : ENDED.includes(state) ? "The run found no collections." : "No collections are known yet: they are listed once the source is inspected.";
  show("rows", [collections.rows, [...wanted.open], none], () =>
    collections.rows.length
      ? collections.rows.flatMap(collectionRows)
      : [make("tr", {}, make("td", { colspan: "6", class: "quiet" }, none))]);
  show("pages", [collections.matching, collections.offset, collections.rows.length], () => {
    if (collections.matching <= PAGE && !collections.offset) return [];
    const turn = (offset) => () => { wanted.offset = Math.max(0, offset); ask(); };
    const last = collections.offset + collections.rows.length;
    return [
      make("span", {}, `${number.format(collections.rows.length ? collections.offset + 1 : 0)}–${number.format(last)} of ${number.format(collections.matching)}`),
      make("button", { type: "button", "data-key": "previous", disabled: collections.offset === 0, onclick: turn(collections.offset - PAGE) }, "Previous"),
      make("button", { type: "button", "data-key": "next", disabled: last >= collections.matching, onclick: turn(collections.offset + PAGE) }, "Next"),
    ];
  });
}

function showParams(migration) {
  show("params", [migration.params, migration.version], () => {
    const list = (params) => make("dl", {}, ...params.flatMap((param) => [
      make("dt", {}, param.title),
      make("dd", {}, typeof param.value === "string" ? param.value : JSON.stringify(param.value)),
    ]));
    const policies = migration.params.filter((param) => param.is_policy);
    const others = migration.params.filter((param) => !param.is_policy);
    if (!migration.params.length) return [make("p", { class: "quiet" }, "They are known once the first task has checked them.")];
    return [
      list(policies),
      make("details", {}, make("summary", {}, "Other params"), list(others)),
      make("p", { class: "caption" }, `airflow-provider-milvusdm ${migration.version}`),
    ];
  });
}

function showGroups(run) {
  find("groups").hidden = run.groups.length < 2;
  show("group", run.groups, () => run.groups.map((group) => make("option", { value: group }, group.replace(/\.$/, "") || "(none)")));
  find("group").value = run.group;
}

function showDownloads(group) {
  for (const form of ["html", "csv", "json"]) {
    find(`download-${form}`).href = `report.${form}?${new URLSearchParams({ group })}`;
  }
}

function sayStatus(run, totals) {
  const failed = totals.statuses.failed ? `, ${plural(totals.statuses.failed, "collection")} failed` : "";
  const text = `The run is ${run.state}${failed}.`;
  if (find("status").textContent !== text) find("status").textContent = text;
}

function showAnswer(run) {
  const { migration } = run;
  find("main").setAttribute("aria-busy", "false");
  find("message").hidden = true;
  find("empty").hidden = migration !== null;
  find("migration").hidden = migration === null;
  document.title = `Migration · ${run.run_id}`;
  if (migration === null) return;
  showGroups(run);
  showDownloads(run.group);
  showHeadline(run, migration);
  showFaults(migration);
  showTotals(migration.totals);
  showSteps(migration.steps);
  showWork(migration.tasks, run.state);
  showSpeed(migration.speed, run.state);
  showStatuses(migration.totals);
  showCollections(migration.collections, run.state);
  showParams(migration);
  sayStatus(run, migration.totals);
}

function complain(text) {
  find("main").setAttribute("aria-busy", "false");
  find("message").textContent = text;
  find("message").hidden = false;
}

const PROBLEMS = {
  401: "You are not logged in any more. Log in to Airflow, and open this page again.",
  403: "You may not read the runs and XComs of this DAG.",
  404: "This run does not exist any more.",
};

// Asks for what is wanted now; an answer that was overtaken by a later question is ignored.
async function ask() {
  clearTimeout(timer);
  const question = ++asked;
  const query = new URLSearchParams({ search: wanted.search, status: wanted.status, offset: wanted.offset, limit: PAGE });
  if (wanted.group !== null) query.set("group", wanted.group);
  for (const opened of wanted.open) query.append("open", opened);
  const began = performance.now();
  let again = true;
  try {
    const answer = await fetch(`migration?${query}`, { credentials: "same-origin" });
    if (question !== asked) return;
    if (answer.ok) {
      const run = await answer.json();
      if (question !== asked) return;
      showAnswer(run);
      again = !ENDED.includes(run.state);
    } else {
      complain(PROBLEMS[answer.status] ?? `Airflow answered with an error (${answer.status}); asking again.`);
      again = !(answer.status in PROBLEMS);
    }
  } catch {
    if (question !== asked) return;
    complain("Airflow can't be reached; asking again.");
  }
  const took = performance.now() - began;
  if (again) timer = setTimeout(ask, Math.max(POLL_MS, SHARE * took));
}

// Airflow's dark mode is a class of its own document; alone in a window, the page follows the browser.
function followTheme() {
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const outer = window.parent === window ? null : window.parent.document.documentElement;
  const apply = () => {
    const isDark = outer ? outer.classList.contains("dark") : preferred.matches;
    document.documentElement.classList.toggle("dark", isDark);
  };
  apply();
  preferred.addEventListener("change", apply);
  if (outer) new MutationObserver(apply).observe(outer, { attributes: true, attributeFilter: ["class"] });
}

let typing = null;
find("search").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => { wanted.search = event.target.value; wanted.offset = 0; ask(); }, 250);
});
find("group").addEventListener("change", (event) => { wanted.group = event.target.value; wanted.offset = 0; wanted.open.clear(); ask(); });
followTheme();
ask();
