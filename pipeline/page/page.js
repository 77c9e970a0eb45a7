"use strict";
// The table of scores and the choice of plots. What comes from the data is only ever put in as text.
const data = JSON.parse(document.getElementById("data").textContent);
const MISSING = "-", IDENTICAL = "identical";

const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") node.addEventListener("click", value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
};

// Metric `index` of `scores` (in the order of data.metrics) as text.
const text = (index, scores) => {
  const metric = data.metrics[index], value = scores ? scores[index] : null;
  if (value == null) return metric.key === "psnr" && scores && scores[0] === 0 ? IDENTICAL : MISSING;
  return value.toFixed(metric.digits);
};

// For ordering: null is no value; the PSNR of identical images is infinite.
const order = (index, scores) => {
  if (!scores) return null;
  return scores[index] == null && text(index, scores) === IDENTICAL ? Infinity : scores[index];
};

// The best among `list` of scores, for each metric; null where there is nothing to choose.
const bestOf = (list) => data.metrics.map((metric, index) => {
  const values = list.map((scores) => order(index, scores)).filter((value) => value != null);
  const low = Math.min(...values), high = Math.max(...values);
  return values.length > 1 && low < high ? (metric.better === "low" ? low : high) : null;
});

// `best` is null for scores that are not compared.
const cell = (index, scores, best, extra) => {
  const value = order(index, scores);
  const wins = value != null && best != null && value === best[index];
  return el("td", { class: wins ? "best" : null, title: wins ? "best of this column" : null }, text(index, scores), extra);
};

const byValue = (key, down) => (a, b) => {
  const x = key(a), y = key(b);
  if (x == null || y == null) return (x == null) - (y == null);
  const sign = x < y ? -1 : x > y ? 1 : 0;
  return down ? -sign : sign;
};

// What the page shows stands in its address, so that it can be linked to: #table.region=cloudy&gallery.sort=psnr
const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
const remember = (name, value) => {
  if (value == null) state.delete(name); else state.set(name, value);
  try { history.replaceState(null, "", "#" + state.toString()); } catch { /* an address that may not change: nothing is lost but the link */ }
};

// A select for each of `choices` ({name, label, options: [[value, label]], start}); calls `changed` when one is chosen.
const pickers = (place, prefix, choices, changed) => {
  const chosen = {};
  for (const { name, label, options, start } of choices) {
    const wanted = state.get(`${prefix}.${name}`);
    chosen[name] = options.some(([value]) => value === wanted) ? wanted : start;
    const select = el("select", { name }, ...options.map(([value, shown]) => el("option", { value, selected: value === chosen[name] }, shown)));
    select.addEventListener("change", () => {
      chosen[name] = select.value;
      remember(`${prefix}.${name}`, select.value);
      changed();
    });
    place.append(el("label", { hidden: options.length < 2 }, label, select));
  }
  place.addEventListener("submit", (event) => event.preventDefault());
  return chosen;
};
const unique = (values) => [...new Set(values)];
const EVERY = "every";
const withEvery = (values, every, name = (value) => value) => [[EVERY, every], ...values.map((value) => [value, name(value)])];

// ---- the table -------------------------------------------------------------------------------------------------------
const FIELDS = ["protocol", "bands", "cover", "sky", "ground", "region", "method"];
const rows = data.rows.map((row) => {
  const read = { scores: {} };
  FIELDS.forEach((name, i) => { read[name] = data.fields[name][row[i]] || "any"; });
  [read.images, read.groups, read.notFinite, read.identical, read.undefined] = row.slice(7, 12);
  [read.scores.mean, read.scores.low, read.scores.high, read.scores.pooled] = row.slice(12);
  return read;
});

const bandsName = (bands) => (/^\d+$/.test(bands) ? `${bands} bands` : bands);
const regionName = (region) => data.regions[region] || region;
const blockName = (row) => [
  row.protocol, bandsName(row.bands), regionName(row.region),
  ...["cover", "ground", "sky"].filter((name) => row[name] !== "any").map((name) => (name === "sky" ? row.sky : `${name} ${row[name]}`)),
].join(" · ");

const MOST_BLOCKS = 60;
const drawTable = (chosen, sort) => {
  const used = rows.filter((row) => ["protocol", "bands", "region", "cover", "sky", "ground"].every((name) => chosen[name] === EVERY || row[name] === chosen[name]));
  const blocks = new Map();
  for (const row of used) {
    const name = blockName(row);
    if (!blocks.has(name)) blocks.set(name, []);
    blocks.get(name).push(row);
  }
  const keys = {
    method: (row) => data.methods.indexOf(row.method), images: (row) => row.images,
    ...Object.fromEntries(data.metrics.map((metric, i) => [metric.key, (row) => order(i, row.scores[chosen.value])])),
  };
  const head = (key, label, unit) => el("th", { scope: "col", "aria-sort": sort.key === key ? (sort.down ? "descending" : "ascending") : null },
    el("button", { type: "button", onclick: () => {
      const better = data.metrics.find((metric) => metric.key === key)?.better;
      sort.down = sort.key === key ? !sort.down : better === "high" || key === "images";
      sort.key = key;
      remember("table.sort", key + (sort.down ? "-" : ""));
      drawTable(chosen, sort);
      document.querySelector("#table-place [aria-sort] button").focus();
    } }, label), unit ? el("small", {}, unit) : null);
  const table = el("table", {}, el("thead", {}, el("tr", {}, head("method", "Method"), head("images", "Images", "of ROIs"),
    ...data.metrics.map((metric) => head(metric.key, metric.name, metric.unit || " ")), el("th", { scope: "col" }, "Not counted", el("small", {}, "in the means")))));
  const pooled = chosen.value === "pooled";
  for (const [name, block] of [...blocks].slice(0, MOST_BLOCKS)) {
    // A method that has nothing to say of some images is scored on the others, the easy ones: it comes last and is not compared.
    const images = (block.find((row) => row.method === data.methods[0]) || { images: Math.max(...block.map((row) => row.images)) }).images;
    const whole = (row) => row.images >= images;
    const best = bestOf(block.filter(whole).map((row) => row.scores[chosen.value]));
    const key = Object.hasOwn(keys, sort.key) ? keys[sort.key] : keys.rmse;
    const body = el("tbody", {}, el("tr", { class: "block" }, el("th", { colspan: 10, scope: "rowgroup" }, name)));
    for (const row of [...block].sort((a, b) => whole(b) - whole(a) || byValue(key, sort.down)(a, b))) {
      const left = [[row.notFinite, "not finite"], [row.identical, "identical"], [row.undefined, "undefined"]].filter(([count]) => count);
      body.append(el("tr", { class: row.method === data.methods[0] ? "subject" : null }, el("th", { scope: "row" }, row.method),
        el("td", { class: whole(row) ? null : "fewer" }, whole(row) ? String(row.images) : `only ${row.images}`, el("small", {}, `${row.groups} ROI${row.groups === 1 ? "" : "s"}`)),
        ...data.metrics.map((metric, i) => {
          const low = row.scores.low[i], high = row.scores.high[i];
          const extra = pooled || low == null || high == null ? null : el("small", {}, `${low.toFixed(metric.digits)} to ${high.toFixed(metric.digits)}`);
          return cell(i, row.scores[chosen.value], whole(row) ? best : null, extra);
        }),
        el("td", { class: "none" }, left.map(([count, what]) => `${count} ${what}`).join(", ") || MISSING)));
    }
    if (block[0].protocol === data.seed) {
      const anchors = data.anchors[chosen.value];
      const shown = (metric) => (anchors[metric.key] == null ? MISSING : anchors[metric.key].toFixed(Math.min(metric.digits, 3)));
      body.append(el("tr", { class: "anchor" }, el("th", { scope: "row" }, "student reproduction (published)"), el("td", {}, "14"),
        ...data.metrics.filter((metric) => metric.key !== "ssim_valid").map((metric) => metric.key === "ssim_same"
          ? el("td", { colspan: 2 }, anchors.ssim == null ? MISSING : `${anchors.ssim.toFixed(3)} (variant not said)`) : el("td", {}, shown(metric))),
        el("td", { class: "none" }, "other protocol: all pixels, RGB")));
    }
    table.append(body);
  }
  document.getElementById("table-place").replaceChildren(table);
  document.getElementById("table-note").textContent = used.length
    ? (pooled ? "Pooled: every pixel counts the same, over all images." : "Mean of the images, below it the interval of 95 % (drawn by ROI).") + " Best of a column in bold with a dot; methods with a result for only some of the images come last and are not compared."
      + (blocks.size > MOST_BLOCKS ? ` Only the first ${MOST_BLOCKS} of ${blocks.size} parts are drawn: choose fewer.` : "")
    : "No row for this choice.";
};

{
  const choice = (name, label, every, start, shown) => {
    const values = unique(rows.map((row) => row[name]));
    return { name, label, options: withEvery(values, every, shown), start: start.find((value) => values.includes(value)) || EVERY };
  };
  const own = rows.find((row) => row.method === data.methods[0]) || rows[0];
  const [key, down] = (state.get("table.sort") || "rmse").split(/(?=-$)/);
  const sort = { key, down: down === "-" };
  const chosen = pickers(document.getElementById("table-pickers"), "table", [
    choice("protocol", "Protocol", "every protocol", []),
    choice("bands", "Bands", "every band set", own ? [own.bands] : [], bandsName),
    choice("region", "Pixels", "every region", ["cloudy", "all"], regionName),
    choice("cover", "Cloud cover", "every class", ["any"]),
    choice("ground", "Ground", "every ground", ["any"]),
    choice("sky", "Kind of cloud", "every kind", ["any"]),
    { name: "value", label: "Value", options: [["mean", "mean of images"], ["pooled", "pooled over pixels"]], start: "mean" },
  ], () => drawTable(chosen, sort));
  drawTable(chosen, sort);
}

// ---- which plots are seen --------------------------------------------------------------------------------------------
{
  const plots = [...document.querySelectorAll("#plots [data-protocol]")];
  const options = (name) => unique(plots.map((plot) => plot.dataset[name])).map((value) => [value, name === "region" ? regionName(value) : name === "bands" ? bandsName(value) : value]);
  const show = () => {
    for (const plot of plots) plot.hidden = !["protocol", "bands", "region"].every((name) => plot.dataset[name] === chosen[name]);
  };
  const first = plots[0]?.dataset || {};
  const chosen = pickers(document.getElementById("plot-pickers"), "plots", [
    { name: "protocol", label: "Protocol", options: options("protocol"), start: first.protocol },
    { name: "bands", label: "Bands", options: options("bands"), start: first.bands },
    { name: "region", label: "Pixels", options: options("region"), start: first.region },
  ], show);
  show();
}
