// The page around the charts. It shows the block of JSON; live, it asks for newer ones.

const app = document.getElementById("app");
const root = document.documentElement;
const kept = { rtt: null, table: null, charts: {}, trials: { sort: null, up: true, text: "", choices: {}, shown: 50 }, ranks: {} };
const SYMBOLS = { "+": "up", "-": "down", "~": "same", "??": "open" };
const ICONS = { good: "✓", bad: "✗", unknown: "??" };
const RANKS_SHOWN = 10;
const QUESTIONS_SHOWN = 5;
const POLL_MS = 1500;

// --- small parts --------------------------------------------------------------------------

function copyButton(text, label, name) {
  const button = h("button", { type: "button", class: name, click: async () => {
    const done = await copy(text);
    button.textContent = done ? "Copied" : "Copying is not allowed here";
    say(button.textContent);
    setTimeout(() => { button.textContent = label; }, 2000);
  } }, label);
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "unseen", readonly: true });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** A command that breaks between its options, not within them. */
const command = (text) => h("div", { class: "command" },
  h("pre", {}, text.split(/ (?=-)/).flatMap((part) => [h("span", {}, part), " "])), copyButton(text, "Copy", "small"));
const list = (texts, name) => h("ul", { class: name }, texts.map((text) => h("li", {}, text)));

function section(id, title, lead, ...children) {
  return h("section", { id, "aria-labelledby": `${id}-title` },
    h("h2", { id: `${id}-title` }, title), lead && h("p", { class: "lead" }, lead), children);
}

function scroller(label, table) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, table);
}

// --- theme --------------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");
const remembered = (() => { try { return localStorage.getItem("batchbench-theme"); } catch { return null; } })();
if (remembered === "light" || remembered === "dark") root.dataset.theme = remembered;

function themeButton() {
  const isDark = () => (root.dataset.theme === "auto" ? dark.matches : root.dataset.theme === "dark");
  const label = () => (isDark() ? "☀ Light" : "☾ Dark");
  const button = h("button", { type: "button", class: "theme", "aria-label": "Switch between light and dark",
    click: () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("batchbench-theme", root.dataset.theme); } catch { /* from disk */ }
      button.textContent = label();
    } }, label());
  dark.addEventListener("change", () => { button.textContent = label(); });
  return button;
}

// --- findings -----------------------------------------------------------------------------

function firstCard(line, foot) {
  const [seen, rest] = [line.details.slice(0, 3), line.details.slice(3)];
  return h("article", { class: `card first ${line.status}` },
    h("p", { class: "question" }, line.question, h("span", { class: "badge" }, `${ICONS[line.status]} ${line.verdict}`)),
    h("p", { class: "answer" }, line.answer),
    seen.length > 0 && list(seen),
    rest.length > 0 && h("details", {}, h("summary", {}, `${rest.length} more`), list(rest)),
    foot && h("div", { class: "foot" }, foot));
}

function findings(report) {
  const { passed, change, trust } = report.first;
  return h("section", { id: "findings", "aria-label": "Findings" },
    h("div", { class: "cards" },
      firstCard(passed), firstCard(change, report.env && copyButton(report.env, "Copy the .env", "main copy-env")), firstCard(trust)),
    report.warnings.length > 0 && h("div", { class: "warn", role: "note" }, list(report.warnings)));
}

function interval(gain, span) {
  if (gain.ratio === null || gain.low === null) return null;
  const place = (ratio) => 80 + clamp(Math.log(ratio) / span, -1, 1) * 74;
  return s("svg", { width: 160, height: 18, "aria-hidden": "true" },
    s("rect", { x: place(0.98), width: place(1.02) - place(0.98), y: 0, height: 18, fill: "var(--sunk)" }),
    s("path", { class: "base", d: "M80 0V18" }),
    s("g", { class: "hue0" }, s("path", { class: "line", d: `M${place(gain.low)} 9H${place(gain.high)}` }),
      s("circle", { class: "dot", cx: place(gain.ratio), cy: 9, r: 4 })));
}

function changes(report) {
  const span = Math.max(0.1, ...report.gains.flatMap((g) => [g.low, g.high]).filter(Boolean).map((r) => Math.abs(Math.log(r)))) * 1.05;
  const gains = h("table", { class: "flow" },
    h("thead", {}, h("tr", {}, ["table", "current settings", "recommended", "gain in rows/s", ""].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, report.gains.map((gain) => h("tr", {},
      h("th", { scope: "row" }, gain.table), h("td", { "data-head": "current" }, gain.current), h("td", { "data-head": "recommended" }, gain.recommended),
      h("td", { "data-head": "gain", class: `keep ${SYMBOLS[gain.symbol] || ""}` }, gain.symbol === "~" ? `~ ${gain.text}` : gain.text), h("td", {}, interval(gain, span))))));
  const values = h("table", { class: "flow" },
    h("thead", {}, h("tr", {}, ["variable", "current", "recommended", "why"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, report.values.map((value) => h("tr", { class: value.effective === value.recommended ? "same" : null },
      h("td", { class: "mono keep" }, value.variable),
      h("td", { "data-head": "current", class: "mono keep" }, value.current, value.effective && value.effective !== value.current && ` (${value.effective})`),
      h("td", { "data-head": "recommended", class: "mono keep" }, value.recommended, value.effective !== value.recommended && h("span", { class: "tag chosen" }, "change")),
      h("td", { class: "why" }, value.reason)))));
  return section("change", "What to change", "Recommended against the settings that the run was started with. Each difference comes with its 95% interval; the grey band is what counts as equivalent (2%).",
    h("div", { class: "stack" }, scroller("Gain by table", gains), scroller("Values", values),
      h("details", {}, h("summary", {}, "The .env as it is copied"), h("pre", { class: "env" }, report.env))));
}

// --- one table ----------------------------------------------------------------------------

function ranking(report, table) {
  const told = report.rank_columns.map((_, index) => table.ranking.some((one) => one.cells[index] !== ""));
  const numeric = (index) => (index >= 2 && index !== 6 ? "num" : null);
  const row = (one) => h("tr", { class: one.failed ? "failed" : one.chosen ? "chosen" : null },
    one.cells.map((cell, index) => told[index] && h("td", { class: [numeric(index), index > 0 && index < 4 && "roomy", index === 6 && { slower: "down", faster: "up", "??": "open", failed: "down" }[cell]].filter(Boolean).join(" ") || null },
      cell,
      index === 0 && h("span", { class: "narrow" }, `${one.cells[1]}, ${one.cells[2]} × ${one.cells[3]}`),
      index === 0 && one.chosen && h("span", { class: "tag chosen" }, "recommended"),
      index === 0 && one.current && h("span", { class: "tag" }, "current"))));
  const body = h("tbody");
  const more = h("button", { type: "button", class: "small", click: () => { kept.ranks[table.table] = true; fill(); } });
  const fill = () => {
    const all = kept.ranks[table.table] || table.ranking.length <= RANKS_SHOWN + 2;
    const rows = all ? table.ranking : table.ranking.filter((one, index) => index < RANKS_SHOWN || one.chosen || one.current);
    body.replaceChildren(...rows.map(row));
    more.textContent = `Show all ${table.ranking.length}`;
    more.hidden = all;
  };
  fill();
  return h("div", {}, scroller(`Ranking of ${table.table}`, h("table", {},
    h("thead", {}, h("tr", {}, report.rank_columns.map((name, index) => told[index] && h("th", { scope: "col", class: [numeric(index), index > 0 && index < 4 && "roomy"].filter(Boolean).join(" ") || null }, name)))), body)),
  h("div", { class: "after" }, more, h("span", {}, "~ equivalent to the fastest, ?? cannot tell; values are medians ± standard deviation, ratios have 95% intervals, each by itself: of many, some mislead.")));
}

function perTable(report) {
  const table = report.tables.find((one) => one.table === kept.table) || report.tables[0];
  const many = report.tables.length > 1;
  const suffix = many ? ` of ${table.table}` : "";
  const draw = (charts) => {
    const wide = (chart) => chart.id === "throughput" || chart.kind === "bars";
    const halves = charts.filter((chart) => !wide(chart));
    const last = halves.length % 2 === 1 ? halves.at(-1) : null;
    return h("div", { class: "grid" }, charts.map((chart) =>
      chartFigure(chart, kept.charts, wide(chart) || chart === last)));
  };
  return [
    section("speed", `Speed${suffix}: the knee and the wall`, null, list(table.shape, "facts"), draw(table.speed_charts)),
    section("cost", many ? `What ${table.table} costs` : "What it costs", table.subject && `The recommended setting: ${table.subject}.`, list(table.cost, "facts"), draw(table.cost_charts)),
    section("ranking", `Ranking${suffix}`, null, h("div", { class: "stack" }, ranking(report, table))),
  ];
}

// --- the rest -----------------------------------------------------------------------------

function openQuestions(report) {
  if (!report.undecided.length) return section("open", "What was not decided", "Nothing that this report knows how to ask.");
  const card = (one) => h("article", { class: "card question-card" },
    h("h3", {}, one.question), h("p", { class: "note" }, one.why), command(one.command));
  const [seen, rest] = [report.undecided.slice(0, QUESTIONS_SHOWN), report.undecided.slice(QUESTIONS_SHOWN)];
  return section("open", "What was not decided", "Each question with the command that would decide it.",
    h("div", { class: "stack" }, seen.map(card),
      rest.length > 0 && h("details", {}, h("summary", {}, `${rest.length} more`), h("div", { class: "stack" }, rest.map(card)))));
}

function baseline(report) {
  const base = report.baseline;
  if (!base) return null;
  return section("baseline", `Against ${base.run_id}`, `Rows a second, this run over the baseline. ${base.unmatched} configurations are in this run only, or failed.`,
    base.doubts.length > 0 && h("div", { class: "warn", role: "note" }, list(base.doubts)),
    base.rows.length > 0 && h("div", { class: "stack" }, scroller("Against the baseline", h("table", {},
      h("thead", {}, h("tr", {}, ["configuration", "before", "now", "change"].map((name, i) => h("th", { scope: "col", class: i ? "num" : null }, name)))),
      h("tbody", {}, base.rows.map((row) => h("tr", {}, h("td", {}, row.name), h("td", { class: "num" }, row.before), h("td", { class: "num" }, row.after),
        h("td", { class: `num ${SYMBOLS[row.symbol] || ""}` }, row.symbol === "~" ? `~ ${row.text}` : row.text))))))));
}

function trials(report) {
  const { columns, rows, left_out: leftOut } = report.trials;
  const mine = kept.trials;
  const body = h("tbody");
  const count = h("span", { id: "trial-count", "aria-live": "polite" });
  const more = h("button", { type: "button", class: "small", click: () => { mine.shown += 200; fill(); } }, "Show more");
  const number = (value) => (value === null ? "" : typeof value === "number" ? value.toLocaleString("en-US", { maximumSignificantDigits: 5 }) : value);
  const matches = (row) => {
    const text = mine.text.trim().toLowerCase();
    if (text && !row.some((cell) => cell !== null && String(cell).toLowerCase().includes(text))) return false;
    return columns.every((column, index) => !mine.choices[column.name] || row[index] === mine.choices[column.name]);
  };
  const compare = (index, up) => (a, b) => {
    const [x, y] = [a[index], b[index]];
    if (x === y) return 0;
    if (x === null || y === null) return x === null ? 1 : -1;
    return (x < y ? -1 : 1) * (up ? 1 : -1);
  };
  const fill = () => {
    const found = rows.filter(matches);
    const index = columns.findIndex((column) => column.name === mine.sort);
    if (index >= 0) found.sort(compare(index, mine.up));
    body.replaceChildren(...found.slice(0, mine.shown).map((row) => h("tr", {},
      row.map((cell, i) => h("td", { class: columns[i].numeric ? "num" : null }, number(cell))))));
    count.textContent = `${Math.min(found.length, mine.shown)} of ${found.length} trials that match, ${rows.length} in all`;
    more.hidden = found.length <= mine.shown;
    heads.forEach((head, i) => {
      const sorted = i === index;
      head.setAttribute("aria-sort", sorted ? (mine.up ? "ascending" : "descending") : "none");
      head.querySelector("span").textContent = sorted ? (mine.up ? "▲" : "▼") : "";
    });
  };
  const heads = columns.map((column) => h("th", { scope: "col", class: column.numeric ? "num" : null },
    h("button", { type: "button", click: () => {
      mine.up = mine.sort === column.name ? !mine.up : !column.numeric;
      mine.sort = column.name;
      fill();
    } }, column.name, h("span", { "aria-hidden": "true" }))));
  const filters = columns.filter((column) => column.choices.length > 1).map((column) => h("label", {}, column.name,
    h("select", { "data-filter": column.name, change: (event) => { mine.choices[column.name] = event.target.value; mine.shown = 50; fill(); } },
      h("option", { value: "" }, "all"),
      column.choices.map((name) => h("option", { value: name, selected: mine.choices[column.name] === name }, name)))));
  const search = h("input", { type: "search", id: "trial-search", placeholder: "any column", input: (event) => { mine.text = event.target.value; mine.shown = 50; fill(); } });
  search.value = mine.text;
  fill();
  return section("trials", "Every trial", `Warm-ups are left out. ${leftOut ? `${leftOut} more are in trials.ndjson: a page has room for ${rows.length}.` : ""}`,
    h("div", { class: "filters" }, h("label", {}, "search", search), filters),
    h("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Every trial" },
      h("table", { id: "trial-table" }, h("thead", {}, h("tr", {}, heads)), body)),
    h("div", { class: "after" }, more, count));
}

function surroundings(report) {
  return section("environment", "Environment, and how to repeat", "The command that made this run; a server's address is never stored.",
    command(report.repeat),
    h("div", { class: "places" }, Object.entries(report.environment).map(([name, facts]) => h("div", { class: "card" },
      h("h3", {}, name), h("dl", {}, Object.entries(facts).flatMap(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]))))));
}

// --- the whole ----------------------------------------------------------------------------

function navigation(data, report, redraw) {
  const links = [["findings", "Findings"], report.env && ["change", "Change"], ["speed", "Speed"], ["cost", "Cost"], ["ranking", "Ranking"], ["open", "Not decided"],
    report.baseline && ["baseline", "Baseline"], ["trials", "Trials"], ["environment", "Environment"]].filter(Boolean);
  const many = report.tables.length > 1;
  const choose = (event) => {
    kept.rtt = Number(event.target.value);
    render(data);
    document.getElementById("rtt-choice").focus({ preventScroll: true });
  };
  return h("nav", { class: "parts", "aria-label": "Parts of the report" }, h("div", { class: "wide" },
    h("ul", {}, links.map(([id, name]) => h("li", {}, h("a", { href: `#${id}` }, name)))),
    data.reports.length > 1 && h("label", {}, "round trips", h("select", { id: "rtt-choice", change: choose },
      data.reports.map((one) => h("option", { value: one.rtt_ms, selected: one === report }, `+${one.rtt_ms} ms`)))),
    many && h("label", {}, "table", h("select", { id: "table-choice", change: (event) => { kept.table = event.target.value; redraw(); } },
      report.tables.map((one) => h("option", { value: one.table, selected: one.table === kept.table }, one.table))))));
}

function liveLine(live) {
  if (!live) return null;
  const text = live.finished ? `Finished: ${live.done} loads.` : `Measuring: ${live.done} of ${live.planned || "?"} loads. This page follows.`;
  return h("div", { class: "live", role: "status" }, live.planned > 0 && h("progress", { max: live.planned, value: live.done, "aria-label": "loads done" }), text);
}

function render(data) {
  const { live } = data;
  const report = data.reports.find((one) => one.rtt_ms === kept.rtt) || data.reports[0];
  if (!report) {
    app.replaceChildren(h("main", { class: "plain" }, h("h1", {}, "batchbench"), liveLine(live), h("p", {}, live && live.note)));
    return;
  }
  const tables = h("div", {});
  const trialCount = report.trials.rows.length + report.trials.left_out;
  const redraw = () => tables.replaceChildren(...perTable(report));
  kept.table = report.tables.some((one) => one.table === kept.table) ? kept.table : report.tables[0].table;
  redraw();
  app.replaceChildren(
    h("header", { class: "top" }, h("div", { class: "wide" },
      h("div", {}, h("p", { class: "brand" }, "batchbench report"), h("h1", {}, report.run_id),
        h("p", { class: "meta" }, `${report.server} · ${report.created.replace("T", " ").replace("+00:00", " UTC")} · ${trialCount === 1 ? "1 trial" : `${trialCount} trials`}${data.reports.length > 1 ? ` with round trips of ${report.rtt_ms} ms more` : ""}`)),
      themeButton())),
    navigation(data, report, redraw),
    h("main", { id: "main", class: "wide" }, liveLine(live), findings(report), report.env && changes(report), tables,
      openQuestions(report), baseline(report), trials(report), surroundings(report)),
    h("footer", { class: "wide" }, `Made by batchbench ${report.batchbench} from measured trials only.`));
}

const first = JSON.parse(document.getElementById("data").textContent);
render(first);

if (root.dataset.mode === "live") {
  let version = first.live.version;
  const poll = async () => {
    try {
      const answer = await fetch(`data.json?after=${version}`, { cache: "no-store" });
      if (answer.status === 200) {
        const data = await answer.json();
        const busy = document.activeElement && ["INPUT", "SELECT"].includes(document.activeElement.tagName);
        if (!busy) {
          const y = scrollY;
          render(data);
          scrollTo(0, y);
          version = data.live.version;
          if (data.live.finished) return;
        }
      }
    } catch {
      say("The sweep does not answer any more.");
      return;
    }
    setTimeout(poll, POLL_MS);
  };
  if (!first.live.finished) setTimeout(poll, POLL_MS);
}
