// ---- the gallery -----------------------------------------------------------------------------------------------------
const pictures = JSON.parse(document.getElementById("pictures").textContent);
const source = (card, name) => `data:image/webp;base64,${pictures[card.pics[name]]}`;
const CAPTIONS = { confidence: "expected error" };
const caption = (name) => CAPTIONS[name] || name;
const BATCH = 20;
const percent = (share) => (share == null ? MISSING : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`);
const scoresOf = (card, method, region) => card.scores[data.methods.indexOf(method)]?.[region] || null;
const own = (card, region) => scoresOf(card, data.methods[0], region);

// The baseline with the lowest RMSE on this very image: nobody could have known which one it is.
const bestBaseline = (card, region) => data.baselines.filter((method) => method !== data.first_guess && scoresOf(card, method, region)?.[0] != null)
  .sort(byValue((method) => scoresOf(card, method, region)[0]))[0];
const reference = (card, region) => data.first_guess || bestBaseline(card, region);
// Share of the error of the first guess (of the best baseline, where no first guess was scored) that the model takes away.
const gain = (card, region) => {
  const mine = own(card, region)?.[0], other = scoresOf(card, reference(card, region), region)?.[0];
  return mine == null || !other ? null : 1 - mine / other;
};
const gainText = (value, name) => {
  const node = el("span", { class: `gain ${value > 0 ? "up" : "down"}` }, `${value > 0 ? "" : "+"}${(-100 * value).toFixed(1)} %`);
  return el("span", {}, node, ` RMSE against ${name}`);
};

const thumbs = (card, open) => el("div", { class: "thumbs" }, ...Object.keys(card.pics).map((name) =>
  el("button", { type: "button", "aria-label": `${caption(name)} of ${card.id}, enlarge`, onclick: () => open(card, name) },
    el("img", { src: source(card, name), alt: "", loading: "lazy", decoding: "async" }), caption(name))));

// Scores of a card: of `regions`, each with its own `methods(region)`, the best of each column marked.
const scoreTable = (card, regions, methods, wide) => {
  const titled = regions.length > 1;
  const head = data.metrics.map((metric) => el("th", { scope: "col", title: metric.unit || null }, metric.name, wide ? el("small", {}, metric.unit) : null));
  const table = el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, titled ? "Method" : regionName(regions[0])), ...head)));
  for (const region of regions) {
    const named = methods(region), list = named.map((method) => scoresOf(card, method, region)), best = bestOf(list);
    table.append(el("tbody", {}, titled ? el("tr", { class: "block" }, el("th", { colspan: data.metrics.length + 1, scope: "rowgroup" }, regionName(region))) : null,
      ...named.map((method, i) => el("tr", { class: method === data.methods[0] ? "subject" : null }, el("th", { scope: "row" }, method), ...data.metrics.map((_, index) => cell(index, list[i], best))))));
  }
  return table;
};

const protocolsOf = (card) => [card.protocol, ...(card.also || [])];
const factsOf = (card) => [protocolsOf(card).join(", "), card.bands ? bandsName(card.bands) : null, card.cover == null ? null : `cover ${percent(card.cover)} (${card.cover_class})`, card.sky || null,
  typeof card.ground === "string" && card.ground !== "any" ? card.ground : null, card.group ? `ROI ${card.group}` : null, card.chip && card.chip !== card.id ? `chip ${card.chip}` : null].filter(Boolean).join(" · ");

const viewer = (() => {
  const dialog = document.getElementById("viewer"), image = document.getElementById("viewer-image"), tabs = document.getElementById("viewer-tabs");
  let card = null, list = [], shown = null;
  const show = (name) => {
    shown = name;
    image.src = source(card, name);
    image.alt = `${caption(name)} of ${card.id}`;
    for (const tab of tabs.children) tab.setAttribute("aria-pressed", String(tab.dataset.name === name));
  };
  const flip = () => {
    const cycle = ["input", "prediction", "truth"].filter((name) => card.pics[name]);
    if (cycle.length) show(cycle[(cycle.indexOf(shown) + 1) % cycle.length]);
  };
  const step = (by) => {
    const names = Object.keys(card.pics);
    show(names[(names.indexOf(shown) + by + names.length) % names.length]);
  };
  const load = (next, name) => {
    card = next;
    remember("image", card.id);
    document.getElementById("viewer-title").textContent = card.id;
    document.getElementById("viewer-facts").textContent = factsOf(card);
    tabs.replaceChildren(...Object.keys(card.pics).map((pic, i) => el("button", { type: "button", "data-name": pic, onclick: () => show(pic) }, `${i + 1} ${caption(pic)}`)));
    const regions = unique(Object.values(card.scores).flatMap(Object.keys));
    document.getElementById("viewer-scores").replaceChildren(scoreTable(card, regions, (region) => data.methods.filter((method) => scoresOf(card, method, region)), false));
    if (Object.keys(card.pics).length) show(card.pics[name] ? name : Object.keys(card.pics)[0]);
    else { image.removeAttribute("src"); image.alt = "no pictures"; }
  };
  const move = (by) => {
    const next = list[list.indexOf(card) + by];
    if (next) load(next, shown);
  };
  document.getElementById("viewer-flip").addEventListener("click", flip);
  document.getElementById("viewer-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => remember("image", null));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), ArrowUp: () => move(-1), ArrowDown: () => move(1) };
    const digit = Object.keys(card.pics)[Number(event.key) - 1];
    // Space on a button is a click on it: of the picture that flips as well, of the others it means them.
    const flips = event.key === " " && !(event.target instanceof HTMLButtonElement);
    if (!keys[event.key] && !digit && !flips) return;
    event.preventDefault();
    if (flips) flip(); else if (digit) show(digit); else keys[event.key]();
  });
  return (next, name, among) => {
    list = among;
    load(next, name);
    if (!dialog.open) dialog.showModal();
    document.getElementById("viewer-flip").focus();
  };
})();

{
  const INDEX = Object.fromEntries(data.metrics.map((metric, i) => [metric.key, i]));
  const first = data.first_guess || "the best baseline";
  // Key of an image, and whether its worst end is the high one.
  const SORTS = {
    rmse: ["RMSE", (card, region) => order(INDEX.rmse, own(card, region)), true],
    psnr: ["PSNR", (card, region) => order(INDEX.psnr, own(card, region)), false],
    ssim: ["SSIM valid", (card, region) => order(INDEX.ssim_valid, own(card, region)), false],
    sam: ["SAM", (card, region) => order(INDEX.sam, own(card, region)), true],
    gain: [`gain over ${first}`, gain, false],
    cover: ["cloud cover", (card) => card.cover, true],
  };
  const cards = document.getElementById("cards"), more = document.getElementById("more"), note = document.getElementById("gallery-note");
  const values = (name) => unique(data.cards.map((card) => card[name]).filter((value) => typeof value === "string" && value !== "" && value !== "any"));
  const regions = unique(data.cards.flatMap((card) => Object.keys(card.scores[0] || {})));
  let list = [], shown = 0;

  const article = (card) => {
    const better = gain(card, chosen.region), baseline = bestBaseline(card, chosen.region);
    const methods = unique([data.methods[0], data.first_guess, baseline].filter(Boolean)).filter((method) => scoresOf(card, method, chosen.region));
    return el("article", { class: "card", "data-index": card.index }, el("h3", {}, card.id), el("p", { class: "facts" }, factsOf(card)),
      thumbs(card, (it, name) => viewer(it, name, list)),
      methods.length ? el("div", { class: "wide" }, scoreTable(card, [chosen.region], () => methods, true)) : el("p", { class: "note" }, `No score over ${regionName(chosen.region)}.`),
      better == null ? null : el("p", { class: "note" }, gainText(better, reference(card, chosen.region)), baseline ? `; the best baseline of this image is ${baseline}` : ""));
  };
  const add = () => {
    const next = list.slice(shown, shown + BATCH);
    cards.append(...next.map(article));
    shown += next.length;
    more.hidden = shown >= list.length;
    more.textContent = `Show ${Math.min(BATCH, list.length - shown)} more`;
    return next.length;
  };
  const draw = () => {
    const [, key, high] = SORTS[chosen.sort];
    list = data.cards.filter((card) => (!chosen.protocol || chosen.protocol === EVERY || protocolsOf(card).includes(chosen.protocol)) && ["bands", "cover_class", "sky", "ground"].every((name) => !chosen[name] || chosen[name] === EVERY || card[name] === chosen[name]))
      .sort(byValue((card) => key(card, chosen.region), (chosen.end === "worst") === high));
    cards.replaceChildren();
    shown = 0;
    add();
    note.textContent = `${list.length} of the ${data.cards.length} images in this page` + (data.images > data.cards.length ? `; ${data.images - data.cards.length} more were scored and are not shown: see report.json.` : ".");
  };
  const chosen = pickers(document.getElementById("gallery-pickers"), "gallery", [
    { name: "sort", label: "Order by", options: Object.entries(SORTS).map(([name, [label]]) => [name, label]), start: "rmse" },
    { name: "end", label: "Begin with", options: [["worst", "the worst"], ["best", "the best"]], start: "worst" },
    { name: "region", label: "Scores over", options: regions.map((region) => [region, regionName(region)]), start: regions.includes("cloudy") ? "cloudy" : regions[0] },
    { name: "protocol", label: "Protocol", options: withEvery(unique(data.cards.flatMap(protocolsOf)), "every protocol"), start: EVERY },
    { name: "bands", label: "Bands", options: withEvery(values("bands"), "every band set", bandsName), start: EVERY },
    { name: "cover_class", label: "Cloud cover", options: withEvery(values("cover_class"), "every class"), start: EVERY },
    { name: "ground", label: "Ground", options: withEvery(values("ground"), "every ground"), start: EVERY },
    { name: "sky", label: "Kind of cloud", options: withEvery(values("sky"), "every kind"), start: EVERY },
  ], draw);
  more.addEventListener("click", () => {
    const from = shown;
    add();
    cards.children[from]?.querySelector("button")?.focus();
  });
  draw();

  for (const place of document.querySelectorAll("[data-scene]")) {
    const scene = data.scenes[Number(place.dataset.scene)];
    place.append(thumbs(scene, (it, name) => viewer(it, name, data.scenes)));
  }
  document.getElementById("plots").addEventListener("click", (event) => {
    const card = data.cards.find((one) => String(one.index) === event.target.dataset?.key);
    if (card && Object.keys(card.pics).length) viewer(card, "prediction", [card]);
  });
  const asked = [...data.cards, ...data.scenes].find((card) => card.id === state.get("image"));
  if (asked) viewer(asked, "prediction", data.cards.includes(asked) ? list : data.scenes);
}
