"use strict";
// The full-screen view of a scene: before and after behind one slider, and a layer over both.
const scenes = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const viewer = $("viewer"), frame = $("frame"), handle = $("handle"), layerTabs = [...$("layer-tabs").querySelectorAll("button")];
const parsed = new Map();
let shown = -1, share = 50, layer = "", opener = null;

function pictures(number) {
  // Each scene's pictures are text until somebody looks at them.
  if (!parsed.has(number)) parsed.set(number, JSON.parse($("pictures-" + number).textContent));
  return parsed.get(number);
}

function slide(to) {
  share = Math.min(100, Math.max(0, to));
  handle.style.left = share + "%";
  $("picture-before").style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  $("side-before").hidden = share < 12;
  $("side-after").hidden = share > 88;
  handle.setAttribute("aria-valuenow", String(Math.round(share)));
  handle.setAttribute("aria-valuetext", `${Math.round(share)} % before, ${Math.round(100 - share)} % after`);
}

function lay(name) {
  const there = shown >= 0 && scenes[shown].layers.includes(name);
  if (there || !name) layer = name;
  const now = there ? name : "";
  const image = $("picture-layer");
  image.hidden = !now;
  frame.classList.toggle("layered", Boolean(now));
  if (now) image.src = pictures(shown)[now]; else image.removeAttribute("src");
  for (const button of layerTabs) button.setAttribute("aria-pressed", String(button.dataset.layer === now));
  for (const part of document.querySelectorAll("#layer-keys [data-layer]")) part.hidden = part.dataset.layer !== now;
  $("strength-label").hidden = !now;
}

function show(number) {
  if (!scenes[number]) return;
  shown = number;
  const scene = scenes[number], images = pictures(number);
  $("viewer-title").textContent = scene.title;
  $("viewer-facts").textContent = scene.facts;
  frame.style.setProperty("--ratio", String(scene.width / scene.height));
  frame.classList.toggle("single", !images.before);
  $("picture-after").src = images.after;
  $("picture-after").alt = `${scene.title}, after`;
  $("picture-before").hidden = !images.before;
  if (images.before) $("picture-before").src = images.before; else $("picture-before").removeAttribute("src");
  $("picture-before").alt = images.before ? `${scene.title}, before` : "";
  for (const button of layerTabs) button.disabled = Boolean(button.dataset.layer) && !scene.layers.includes(button.dataset.layer);
  $("viewer-before").disabled = number === 0;
  $("viewer-after").disabled = number === scenes.length - 1;
  lay(layer);
  slide(share);
  // A button that has just been switched off keeps no focus, and no key would arrive any more.
  if (document.activeElement?.disabled) handle.focus({ preventScroll: true });
  if (!viewer.open) viewer.showModal();
  history.replaceState(null, "", "#scene=" + encodeURIComponent(scene.id));
}

function move(event) {
  const box = frame.getBoundingClientRect();
  slide(((event.clientX - box.left) / box.width) * 100);
}

frame.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || frame.classList.contains("single")) return;
  event.preventDefault();
  frame.setPointerCapture(event.pointerId);
  handle.focus({ preventScroll: true });
  move(event);
});
frame.addEventListener("pointermove", (event) => { if (frame.hasPointerCapture(event.pointerId)) move(event); });

viewer.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const inRange = event.target === $("strength");
  const step = event.shiftKey ? 10 : 2;
  const keys = {
    ArrowLeft: () => slide(share - step), ArrowRight: () => slide(share + step), Home: () => slide(0), End: () => slide(100),
    PageDown: () => slide(share - 20), PageUp: () => slide(share + 20), ArrowUp: () => show(shown - 1), ArrowDown: () => show(shown + 1),
  };
  const layers = { p: "provenance", c: "confidence", m: "cloudmask", 0: "" };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (keys[key] && !inRange) keys[key]();
  else if (key in layers) lay(layers[key] === layer ? "" : layers[key]);
  else return;
  event.preventDefault();
});

for (const button of layerTabs) button.addEventListener("click", () => lay(button.dataset.layer));
$("strength").addEventListener("input", (event) => { $("picture-layer").style.opacity = event.target.value / 100; });
$("picture-layer").style.opacity = $("strength").value / 100;
$("viewer-before").addEventListener("click", () => show(shown - 1));
$("viewer-after").addEventListener("click", () => show(shown + 1));
$("viewer-close").addEventListener("click", () => viewer.close());
viewer.addEventListener("close", () => {
  history.replaceState(null, "", location.pathname + location.search);
  if (opener) opener.focus();
});

function open(id, from) {
  const number = scenes.findIndex((scene) => scene.id === id);
  if (number < 0) return false;
  opener = from;
  show(number);
  handle.focus({ preventScroll: true });
  return true;
}

document.addEventListener("click", (event) => {
  const from = event.target.closest("[data-open]");
  // A scene without pictures has at least its numbers.
  if (from && !open(from.dataset.open, from)) $("product-" + from.dataset.open)?.scrollIntoView();
});

function fromAddress() {
  const match = /^#scene=(.*)$/.exec(location.hash);
  if (!match) return;
  try { open(decodeURIComponent(match[1]), null); } catch (error) { if (!(error instanceof URIError)) throw error; }
}
addEventListener("hashchange", fromAddress);
fromAddress();
