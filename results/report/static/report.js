"use strict";
// Draws the report from the data in the page. Text from the data only ever becomes text
// (textContent, attributes made for text); nothing is parsed as HTML.

let D, rows, byId;
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const BATCH = 100, PLOTTED = 40;
const tips = new WeakMap();

function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null));
  return made;
}

function svg(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const fixed = (value, digits) => (typeof value === "number" ? value.toFixed(digits) : "");
const words = (name) => name.replaceAll("_", " ");
const time = (seconds) => (seconds === null ? "" : new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC");

function text(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(6)));
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function pairs(entries, className = "facts") {
  return el("dl", { class: className }, entries.map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, className === "commands" ? el("code", {}, value) : value))));
}

// Data

function take(data) {
  D = data;
  const pooled = new Set(["status", "stage", "label", "variant", "backbone", "dataset", "axes", "metric_names", "cost_names"]);
  rows = D.runs.map((values) => {
    const run = {};
    D.columns.forEach((name, at) => { run[name] = pooled.has(name) ? D.pool[values[at]] : values[at]; });
    return run;
  });
  byId = new Map(rows.filter((run) => run.run_id !== null).map((run) => [run.run_id, run]));
}

const unpooled = (list) => list.map(([name, value]) => [D.pool[name], D.pool[value]]);

function attemptsOf(run) {
  const pooled = new Set(["how", "error", "evidence", "environment", "decision"]);
  return run.attempts.map((values) => {
    const attempt = {};
    D.attempt_columns.forEach((name, at) => {
      attempt[name] = pooled.has(name) && values[at] !== null ? D.pool[values[at]] : values[at];
    });
    return attempt;
  });
}

// Tables that sort and filter

function sortValue(cell) {
  const number = parseFloat(cell.replaceAll(",", ""));
  return Number.isNaN(number) ? null : number;
}

// columns: [{name, right}]; fill(wanted, select) gives lines: [{cells: [text], node: (text) -> Node or null}]
class DataTable {
  constructor(place, { label, caption, what, onchange }) {
    Object.assign(this, { what, onchange, sort: null, down: false, limit: BATCH, chosen: "" });
    this.filter = el("input", { type: "search", autocomplete: "off", oninput: () => this.again() });
    this.select = el("select", { onchange: () => this.again() });
    this.choice = el("label", { hidden: true }, "Status", this.select);
    this.shown = el("p", { class: "shown", role: "status" });
    this.head = el("tr", {});
    this.body = el("tbody", {});
    this.caption = caption ? el("caption", {}) : null;
    this.more = el("button", { type: "button", class: "more", onclick: () => { this.limit += 5 * BATCH; this.draw(); } }, "Show more");
    place.replaceChildren(
      el("div", { class: "controls" }, el("label", {}, label, this.filter), this.choice, this.shown),
      el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `${what}, table` },
        el("table", {}, this.caption, el("thead", {}, this.head), this.body)),
      this.more);
  }

  again() { this.limit = BATCH; this.draw(); }

  set(columns, lines, { caption, choices } = {}) {
    const named = JSON.stringify(columns);
    if (named !== this.named) {
      this.named = named; this.sort = null;
      this.heads = columns.map((column, at) => {
        const arrow = el("span", { "aria-hidden": "true" }, "");
        const button = el("button", { type: "button", onclick: () => this.by(at) }, column.name, arrow);
        return el("th", { scope: "col", class: column.right ? "right" : null }, button);
      });
      this.head.replaceChildren(...this.heads);
    }
    this.columns = columns; this.lines = lines;
    if (this.caption) this.caption.textContent = caption;
    if (choices) {
      const was = this.select.value;
      this.select.replaceChildren(el("option", { value: "" }, "all"), ...choices.map((each) => el("option", { value: each }, each)));
      this.select.value = choices.includes(was) ? was : "";
      this.choice.hidden = choices.length < 2;
    }
    this.draw();
  }

  by(at) {
    // Numbers from the largest, text from A; then the other way round; then as it came.
    const first = this.columns[at].right;
    if (this.sort !== at) { this.sort = at; this.down = first; }
    else if (this.down === first) this.down = !first;
    else this.sort = null;
    this.again();
  }

  visible() {
    const parts = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = this.lines.filter((line) => {
      if (this.select.value && line.choice !== this.select.value) return false;
      const all = line.cells.join(" ").toLowerCase();
      return parts.every((part) => all.includes(part));
    });
    if (this.sort === null) return kept;
    const { right } = this.columns[this.sort], sign = this.down ? -1 : 1;
    const key = (line) => (right ? sortValue(line.cells[this.sort]) : line.cells[this.sort] || null);
    // What has no value stands last, whichever way it is sorted.
    return kept.map((line) => [key(line), line]).sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (right ? a - b : a.localeCompare(b, "en", { numeric: true }));
    }).map(([, line]) => line);
  }

  draw() {
    const kept = this.visible(), link = document.activeElement;
    const focused = this.body.contains(link) ? link.getAttribute("href") : null;
    this.heads.forEach((head, at) => {
      const on = this.sort === at;
      head.setAttribute("aria-sort", on ? (this.down ? "descending" : "ascending") : "none");
      head.querySelector("span").textContent = on ? (this.down ? "\u25BC" : "\u25B2") : "\u2195";
    });
    this.body.replaceChildren(...kept.slice(0, this.limit).map((line) => el("tr", {}, line.cells.map((cell, at) => {
      const child = at === 0 && line.href ? el("a", { href: line.href }, cell) : cell;
      return at === 0 ? el("th", { scope: "row" }, child) : el("td", { class: this.columns[at].right ? "right" : null }, child);
    }))));
    if (focused) for (const each of this.body.querySelectorAll("a")) if (each.getAttribute("href") === focused) each.focus();
    this.more.hidden = kept.length <= this.limit;
    const part = kept.length > this.limit ? `, the first ${this.limit} are shown` : "";
    this.shown.textContent = `${kept.length} of ${this.lines.length} ${this.what}${part}`;
    if (this.onchange) this.onchange(kept);
  }
}

// Figures

function tip(node, said) { tips.set(node, said); return node; }

function showTip(event) {
  const node = event.target instanceof Element ? event.target.closest("[data-tip]") : null, box = $("tip");
  box.hidden = !node;
  if (!node) return;
  box.textContent = tips.get(node);
  const at = node.getBoundingClientRect();
  const left = Math.min(at.left + at.width / 2 + 10, innerWidth - box.offsetWidth - 8);
  const above = at.top - box.offsetHeight - 6;
  box.style.left = `${Math.max(8, left)}px`;
  box.style.top = `${above > 4 ? above : at.bottom + 6}px`;
}

function ticks(low, high, count) {
  const step = 10 ** Math.floor(Math.log10((high - low) / count || 1));
  const wide = [1, 2, 5, 10].map((factor) => factor * step).find((each) => (high - low) / each <= count);
  const found = [];
  for (let value = Math.ceil(low / wide - 1e-9) * wide; value <= high + wide * 1e-6; value += wide) found.push(Number(value.toPrecision(10)));
  return found;
}

function bounds(values, room) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low === high) { low -= 0.5 * (Math.abs(low) || 1) * 0.1; high += 0.5 * (Math.abs(high) || 1) * 0.1; }
  const more = (high - low) * room;
  return [low - more, high + more];
}

const brief = (words) => (words.length > 34 ? `${words.slice(0, 33)}\u2026` : words);

function dotPlot(dataset, order) {
  const at = D.board.datasets.indexOf(dataset), drawn = order.slice(0, PLOTTED);
  const scored = new Map(drawn.map((place) => [D.board.labels[place], []]));
  for (const run of rows) {
    if (run.stage !== "tune" && run.score !== null && (at < 0 || run.dataset === dataset) && scored.has(run.label)) scored.get(run.label).push(run);
  }
  const lines = drawn.map((place) => {
    const label = D.board.labels[place], cell = at < 0 ? null : D.board.cells[place][at];
    let [mean, range] = at < 0 ? D.board.means[place] : [cell && cell[0], null];
    if (cell && cell[1] !== null) range = [mean - cell[1], mean + cell[1]];
    return { label, mean, range, runs: scored.get(label) };
  });
  // Beside a mean over data sets single runs would only show how the data sets differ.
  const dots = at >= 0 || D.board.datasets.length === 1;
  const numbers = lines.flatMap((line) => [line.mean, ...(line.range || []), ...(dots ? line.runs.map((run) => run.score) : [])]).filter((value) => typeof value === "number");
  const what = at < 0 ? "the mean over data sets with its 95 % interval" : `${dataset}: mean and sample standard deviation over seeds${dots ? ", and every run" : ""}`;
  const caption = el("figcaption", {}, `${D.metric}, ${what}, for the rows of the leaderboard as they stand there` +
    (order.length > PLOTTED ? `, the first ${PLOTTED}` : "") + ". Rows without a complete mean have no circle.");
  if (!numbers.length) return el("figure", {}, el("p", {}, "No score to show here yet."), caption);
  const left = 250, width = 900, top = 10, step = 24, height = top + step * lines.length + 34;
  const [low, high] = bounds(numbers, 0.05), x = (value) => left + ((value - low) / (high - low)) * (width - left - 30);
  const plot = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `${D.metric}: ${what}` });
  for (const value of ticks(low, high, 7)) {
    plot.append(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: height - 30 }),
      svg("text", { class: "quiet", x: x(value), y: height - 12, "text-anchor": "middle" }, text(value)));
  }
  lines.forEach((line, row) => {
    const y = top + step * row + step / 2;
    const said = `${line.label}\n${line.mean === null ? "no complete mean" : `mean ${fixed(line.mean, 4)}`}` +
      (line.range ? `\n${at < 0 ? "95 %" : "\u00B1 std"}: ${fixed(line.range[0], 4)} to ${fixed(line.range[1], 4)}` : "") + `\n${line.runs.length} runs with a score`;
    const group = tip(svg("g", { "data-tip": "", tabindex: "0", role: "img", "aria-label": said.replaceAll("\n", ", ") }), said);
    group.append(svg("rect", { class: "hit", x: 0, y: y - step / 2, width, height: step }),
      svg("text", { x: left - 12, y: y + 4, "text-anchor": "end" }, brief(line.label)));
    if (line.range) group.append(svg("line", { class: "range", x1: x(line.range[0]), x2: x(line.range[1]), y1: y, y2: y }));
    if (typeof line.mean === "number") group.append(svg("circle", { class: "mean", cx: x(line.mean), cy: y, r: 5.5 }));
    plot.append(group);
    if (dots) for (const run of line.runs) {
      const dot = svg("circle", { class: "dot", "data-tip": "", cx: x(run.score), cy: y, r: 3.5 });
      plot.append(tip(dot, `${line.label}\n${run.dataset}, seed ${run.seed}: ${fixed(run.score, 4)}\nrun ${run.run_id}`));
    }
  });
  plot.append(svg("line", { class: "axis", x1: left, x2: width - 30, y1: height - 30, y2: height - 30 }));
  return el("figure", {}, el("div", { class: "scroll" }, plot), caption);
}

function curveChart(title, series, best) {
  const points = series.flatMap((each) => each.points);
  if (!points.length) return null;
  const left = 60, right = 70, width = 520, height = 260, top = 14, base = height - 38;
  let [low, high] = bounds(points.map(([, value]) => value), 0.06);
  const epochs = points.map(([epoch]) => epoch), first = Math.min(...epochs), last = Math.max(...epochs);
  const x = (epoch) => left + (last === first ? 0.5 : (epoch - first) / (last - first)) * (width - left - right);
  const y = (value) => base - ((value - low) / (high - low)) * (base - top);
  const plot = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${title} by epoch: ` + series.map((each) => `${each.name} from ${text(each.points[0][1])} to ${text(each.points.at(-1)[1])}`).join("; ") });
  for (const value of ticks(low, high, 5)) {
    plot.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      svg("text", { class: "quiet", x: left - 8, y: y(value) + 4, "text-anchor": "end" }, text(value)));
  }
  for (const value of ticks(first, Math.max(last, first + 1), 7)) {
    if (Number.isInteger(value) && value <= last) plot.append(svg("text", { class: "quiet", x: x(value), y: base + 17, "text-anchor": "middle" }, text(value)));
  }
  if (best) plot.append(svg("line", { class: "axis", x1: x(best), x2: x(best), y1: top, y2: base }),
    svg("text", { class: "quiet", x: x(best), y: top - 3, "text-anchor": "middle" }, "scored"));
  const ends = [];
  series.forEach((each, at) => {
    plot.append(svg("polyline", { class: `s${at % 3}`, points: each.points.map(([epoch, value]) => `${x(epoch)},${y(value)}`).join(" ") }));
    for (const [epoch, value] of each.points) {
      plot.append(tip(svg("circle", { class: `p${at % 3}`, "data-tip": "", cx: x(epoch), cy: y(value), r: each.points.length > 60 ? 2 : 3.5 }), `${each.name}, epoch ${epoch}\n${title}: ${text(value)}`));
    }
    ends.push({ name: each.name, at, y: y(each.points.at(-1)[1]) + 4 });
  });
  ends.sort((a, b) => a.y - b.y).forEach((end, place) => {
    if (place) end.y = Math.max(end.y, ends[place - 1].y + 13);
    plot.append(svg("text", { class: `p${end.at % 3}`, x: width - right + 10, y: end.y }, end.name));
  });
  plot.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: base, y2: base }),
    svg("text", { class: "quiet", x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }, "epoch"));
  return el("figure", {}, plot, el("figcaption", {}, title));
}

// Views

function state() {
  const total = D.planned || 1, bar = svg("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  let from = 0;
  for (const [status, count] of Object.entries(D.counts)) {
    bar.append(svg("rect", { class: `st-${status}`, x: (from / total) * 1000, y: 0, width: (count / total) * 1000, height: 10 }));
    from += count;
  }
  const stages = Object.entries(D.stages).map(([stage, count]) => `${count} ${stage}`).join(", ");
  $("state-body").replaceChildren(
    el("p", {}, `${D.planned} runs planned (${stages}).` + (D.last_ended ? ` The last attempt ended ${D.last_ended}.` : "")),
    el("div", { class: "bar" }, bar),
    el("ul", { class: "counts" }, Object.entries(D.counts).map(([status, count]) => el("li", {}, el("b", {}, String(count)), ` ${status}`))),
    ...D.bad_files.map((file) => el("p", { class: "error" }, `Set aside: ${file}`)));
}

let boardTable, runsTable, remarks, order = [];
const dataset = el("select", { onchange: () => scores() });

function board() {
  if (!D.board) { $("board-body").replaceChildren(el("p", {}, `No leaderboard: ${D.why_no_board}`)); boardTable = null; return; }
  if (!boardTable) {
    boardTable = new DataTable($("board-body"), { label: "Filter rows", caption: true, what: "rows", onchange: (kept) => { order = kept.map((line) => line.place); scores(); } });
    remarks = el("ul", { class: "remarks" });
    $("board-body").append(remarks);
  }
  remarks.replaceChildren(...D.board.remarks.map((remark) => el("li", {}, remark)));
  const was = dataset.value, several = D.board.datasets.length > 1;
  dataset.replaceChildren(...(several ? [el("option", { value: "" }, "mean over data sets")] : []), ...D.board.datasets.map((name) => el("option", { value: `=${name}` }, name)));
  if ([...dataset.options].some((option) => option.value === was)) dataset.value = was;
  const columns = D.board.header.map((name, at) => ({ name, right: D.board.right[at] }));
  const lines = D.board.rows.map((cells, place) => ({ cells, place, href: `#runs=${encodeURIComponent(D.board.labels[place])}` }));
  boardTable.set(columns, lines, { caption: D.board.caption });
}

function scores() {
  if (!D.board) { $("scores-body").replaceChildren(el("p", {}, "No scores: there is no leaderboard.")); return; }
  if (!$("scores-body").contains(dataset)) $("scores-body").replaceChildren(el("div", { class: "controls" }, el("label", {}, "Data set", dataset)), el("div", { id: "plot" }));
  $("plot").replaceChildren(dotPlot(dataset.value.slice(1), order));
}

function failures() {
  const kinds = new Map();
  for (const run of rows) {
    if (run.status !== "failed") continue;
    const last = attemptsOf(run).at(-1), key = JSON.stringify([last.how.failure_kind || "unknown", last.error || ""]);
    kinds.set(key, [...(kinds.get(key) || []), run]);
  }
  const groups = [...kinds].sort(([, a], [, b]) => b.length - a.length);
  $("failures-body").replaceChildren(...(groups.length ? groups.slice(0, 50).map(([key, runs]) => {
    const [kind, error] = JSON.parse(key);
    return el("div", { class: "attempt failed" }, el("b", {}, `${runs.length} ${runs.length === 1 ? "run" : "runs"}: ${words(kind)}`), el("p", { class: "error" }, error),
      el("p", {}, runs.slice(0, 10).flatMap((run) => [el("a", { href: `#run=${run.run_id}` }, `${run.label}, ${run.dataset}, seed ${run.seed}`), el("br", {})]), runs.length > 10 ? `and ${runs.length - 10} more: choose the status below` : ""));
  }) : [el("p", {}, "No run failed.")]));
}

function runs() {
  runsTable = runsTable || new DataTable($("runs-body"), { label: "Filter runs", what: "runs" });
  const columns = ["run", "variant", "data set", "seed", "stage", "status", D.metric, "epoch s", "attempts"].map((name, at) => ({ name, right: [3, 6, 7, 8].includes(at) }));
  const lines = rows.map((run) => {
    const seconds = run.cost_names ? run.costs[run.cost_names.indexOf("epoch_seconds")] : null;
    return {
      cells: [run.run_id || "not known yet", run.label, run.dataset || "", run.seed === null ? "" : String(run.seed), run.stage, run.status, fixed(run.score, 4), fixed(seconds, 2), String(run.attempts.length)],
      href: run.run_id ? `#run=${run.run_id}` : null, choice: run.status,
    };
  });
  runsTable.set(columns, lines, { choices: [...new Set(rows.map((run) => run.status))].sort() });
}

function environment(values) {
  const { versions, ...rest } = values;
  return [...Object.entries(rest).map(([name, value]) => [words(name), text(value)]), ["versions", Object.entries(versions || {}).map(([name, version]) => `${name} ${version}`).join(", ")]].filter(([, value]) => value !== "");
}

function reproduce() {
  const places = D.environments.map(({ runs: count, ...rest }) => [el("h4", {}, `${count} successful ${count === 1 ? "run" : "runs"}`), pairs(environment(rest))]);
  $("reproduce-body").replaceChildren(pairs(D.commands, "commands"), el("h3", {}, "Where it comes from"), pairs(Object.entries(D.provenance)),
    ...(places.length ? [el("h3", {}, "Where the runs ran"), ...places.slice(0, 20).flat()] : []));
}

function attempt(each) {
  const facts = [["started", time(each.started_at)], ["ended", time(each.ended_at)], ["seconds", text(each.wall_seconds)], ["went on from a checkpoint after epoch", text(each.resumed_from_epoch)],
    ["log", each.log_path || ""], ...Object.entries(each.how).filter(([name]) => !["status", "failure_kind"].includes(name)).map(([name, value]) => [words(name), text(value)]), ...environment(each.environment)];
  const kind = each.how.failure_kind ? `: ${words(each.how.failure_kind)}` : "";
  return el("div", { class: `attempt ${each.how.status === "failed" ? "failed" : each.how.status === "succeeded" ? "succeeded" : ""}` },
    el("h4", {}, `Attempt ${each.attempt}: ${each.how.status}${kind}`),
    each.error ? el("p", { class: "error" }, each.error) : null,
    each.decision ? el("p", {}, `Then: ${each.decision}`) : null,
    each.evidence ? el("details", {}, el("summary", {}, "Evidence"), el("pre", { tabindex: "0" }, each.evidence)) : null,
    pairs(facts.filter(([, value]) => value !== "")));
}

function runView(run) {
  const curve = run.curve.map(([split, epochs, losses, accuracies]) => ({ name: D.pool[split], epochs: D.pool[epochs], losses, accuracies }));
  const facts = unpooled(run.facts), best = (facts.find(([name]) => name === "best_epoch") || [])[1];
  const lines = (values, scale) => curve.map((each) => ({ name: each.name, points: each.epochs.map((epoch, at) => [epoch, each[values][at]]).filter(([, value]) => typeof value === "number").map(([epoch, value]) => [epoch, value / scale]) })).filter((each) => each.points.length);
  const charts = [curveChart("Loss (nats per image)", lines("losses", 1), best), curveChart("Accuracy (fraction)", lines("accuracies", 10000), best)].filter(Boolean);
  const attempts = attemptsOf(run);
  const named = (names, values) => names.map((name, at) => [words(name), text(values[at])]);
  const same = rows.filter((other) => other !== run && other.run_id && other.label === run.label && other.dataset === run.dataset && other.stage === run.stage).slice(0, 12);
  const spec = Object.fromEntries(unpooled(run.spec));
  return [
    el("p", {}, el("a", { href: "#runs" }, "All runs")),
    el("h2", { id: "run-title", tabindex: "-1" }, `${run.label} on ${run.dataset}, seed ${text(run.seed)}`),
    pairs([["run", run.run_id], ["status", run.status], ["stage", run.stage], ["backbone", text(run.backbone)], [D.metric, fixed(run.score, 4)], ...Object.entries(run.axes || {}).map(([name, value]) => [`axis ${name}`, text(value)]), ["selected from", run.selected_from || ""]].filter(([, value]) => value !== "")),
    el("h3", {}, "Learning curve"),
    charts.length ? el("div", { class: "curves" }, charts) : el("p", {}, "No epoch of it is in the store."),
    D.stride > 1 && charts.length ? el("p", { class: "shown" }, `One epoch in ${D.stride} is shown, the scored and the last one besides; the command below gives all.`) : null,
    el("h3", {}, "Scores"), run.metrics.length ? pairs(named(run.metric_names, run.metrics)) : el("p", {}, "None."),
    el("h3", {}, "Costs"), run.costs.length ? pairs(named(run.cost_names, run.costs)) : el("p", {}, "None."),
    el("h3", {}, "Attempts"), ...(attempts.length ? attempts.map(attempt) : [el("p", {}, "None yet.")]),
    D.texts_left_out && attempts.some((each) => each.error) ? el("p", { class: "shown" }, "Some evidence is left out to keep this file small; `peftgrid explain` shows it.") : null,
    el("h3", {}, "Identity"), pairs(facts.map(([name, value]) => [words(name), text(value)])),
    el("details", {}, el("summary", {}, "Specification, which the run's identity is the hash of"), el("pre", { tabindex: "0" }, JSON.stringify(spec, null, 2))),
    el("h3", {}, "Commands"), pairs(D.run_commands.map(([what, command]) => [what, command.replaceAll("RUN_ID", run.run_id)]), "commands"),
    ...(same.length ? [el("h3", {}, "Other seeds"), el("ul", {}, same.map((other) => el("li", {}, el("a", { href: `#run=${other.run_id}` }, `seed ${text(other.seed)}: ${other.score === null ? other.status : fixed(other.score, 4)}`))))] : []),
  ].filter((node) => node !== null);
}

function route(moved) {
  let hash = "";
  try { hash = decodeURIComponent(location.hash.slice(1)); } catch { hash = ""; }
  if (hash === "main") return;
  const id = hash.startsWith("run=") ? hash.slice(4) : null;
  $("overview").hidden = id !== null;
  $("run").hidden = id === null;
  document.title = `${id === null ? D.suite : `${id}, ${D.suite}`}: peftgrid report`;
  if (id !== null) {
    const run = byId.get(id);
    $("run").replaceChildren(...(run ? runView(run) : [el("h2", { id: "run-title", tabindex: "-1" }, "No such run in this report"), el("p", {}, el("a", { href: "#runs" }, "All runs"))]));
    if (moved) { scrollTo(0, 0); $("run-title").focus({ preventScroll: true }); }
    return;
  }
  $("run").replaceChildren();
  if (moved && hash.startsWith("runs=")) { runsTable.filter.value = hash.slice(5); runsTable.again(); }
  const target = moved && hash ? $(hash.startsWith("runs=") ? "runs" : hash) : null;
  if (target) { target.setAttribute("tabindex", "-1"); target.focus({ preventScroll: true }); target.scrollIntoView(); }
}

function drawAll() { state(); board(); if (!D.board) scores(); failures(); runs(); reproduce(); route(false); }

// A server's page asks for newer data; a file never does.
let tag = null;
async function poll() {
  try {
    const answer = await fetch(document.body.dataset.poll, { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
    if (answer.status === 200) {
      tag = answer.headers.get("ETag");
      const held = await answer.text();
      if (held !== poll.held) { poll.held = held; const y = scrollY; take(JSON.parse(held)); drawAll(); scrollTo(0, y); }
    }
    const said = answer.ok || answer.status === 304 ? "Live: this page follows the store." : "The server cannot read the store at the moment.";
    if ($("live").textContent !== said) $("live").textContent = said;
  } catch {
    $("live").textContent = "The server does not answer; the page shows what it knew last.";
  }
  setTimeout(poll, 2000);
}

take(JSON.parse($("data").textContent));
for (const kind of ["mouseover", "focusin"]) document.addEventListener(kind, showTip);
document.addEventListener("focusout", () => { $("tip").hidden = true; });
// What is scrolled to by the keyboard keeps its tip; what is under the mouse moves away from it.
document.addEventListener("scroll", () => { if (!$("tip").hidden) showTip({ target: document.activeElement }); }, { passive: true });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") $("tip").hidden = true; });
addEventListener("hashchange", () => route(true));
drawAll();
if (location.hash) route(true);
if (document.body.dataset.poll) { poll.held = $("data").textContent; poll(); }
