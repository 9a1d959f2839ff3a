// The annotation page: a list of domains, the chosen one's prefixes, the chosen prefix's sample pages; and the keys.

import { Saving, request } from "./saving.js";
import { MARKS, bar, connect, element, isVisible, number, percent, prefixRow, sampleCard, voteLines } from "./tree.js";

const ROW_PX = 52; // a domain's; page.css has the same
const WAIT_MS = 60; // before what is moved over quickly is fetched
const OPEN_ROWS = 40; // a tree of more rows starts closed below its first folders

const $ = (id) => document.getElementById(id);
const page = {
  overview: null,
  shown: [], // the domains that the filter leaves
  at: 0, // index into shown
  open: null, // the domain whose prefixes are shown
  rows: [], // its prefixes
  row: null,
  loading: false, // the prefixes are on their way
  queue: [], // keys that wait for them: somebody who types ahead decides on what is coming
  closed: new Set(), // prefixes whose folders are not shown
  pane: "domains", // or "prefixes": what j and k move in
};
const saving = new Saving(applySaved, showSaving);

// Domains

const domain = () => page.shown[page.at];
const isDecided = (one) => one.accepted + one.rejected > 0 && one.conflicts === 0;

function showProgress() {
  const all = page.overview.domains;
  const decided = all.filter(isDecided).length;
  const conflicts = all.filter((one) => one.conflicts).length;
  $("progress-text").textContent = `decided ${number(decided)} of ${number(all.length)} domains`
    + (conflicts ? `, ${number(conflicts)} in conflict` : "");
  $("progress-bar").max = all.length || 1;
  $("progress-bar").value = decided;
}

function filterDomains() {
  const chosen = domain();
  const words = $("filter").value.trim().toLowerCase();
  page.shown = page.overview.domains.filter((one) => one.domain.toLowerCase().includes(words));
  page.at = Math.max(0, page.shown.indexOf(chosen));
  showDomainsNote();
  showDomains();
  if (domain() && domain() !== page.open) openDomain();
}

function showDomainsNote() {
  const count = page.shown.length;
  $("domains-note").textContent = count
    ? `${number(count)} domain${count > 1 ? "s" : ""}, most pages to gain first`
    : "No domain has this in its name.";
  $("domains-space").style.height = `${count * ROW_PX}px`;
}

// Only what is in sight is drawn: there may be thousands.
function showDomains() {
  const list = $("domains");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW_PX) - 5);
  const last = Math.min(page.shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW_PX) + 5);
  const rows = [];
  for (let index = first; index < last; index += 1) rows.push(domainRow(page.shown[index], index));
  $("domains-space").replaceChildren(...rows);
  list.setAttribute("aria-activedescendant", domain() ? `domain-${page.at}` : "");
}

function domainRow(one, index) {
  const row = element("div", "domain row");
  row.id = `domain-${index}`;
  row.style.top = `${index * ROW_PX}px`;
  row.setAttribute("role", "option");
  row.setAttribute("aria-selected", index === page.at);
  row.setAttribute("aria-posinset", index + 1);
  row.setAttribute("aria-setsize", page.shown.length);
  const line = element("div", "domain-line");
  line.append(element("span", "domain-name", one.domain), domainMarks(one));
  const facts = element("div", "domain-line quiet small");
  facts.append(element("span", "figures", `+${number(one.pages - one.collected)} to gain`), element("span", "grow"),
    bar(one.collected, one.pages), element("span", "figures", `${percent(one.collected, one.pages)} of ${number(one.pages)}`));
  row.append(line, facts);
  row.addEventListener("click", () => { setPane("domains"); selectDomain(index); });
  return row;
}

function domainMarks(one) {
  const marks = element("span", "marks");
  for (const [name, count] of [["accepted", one.accepted], ["rejected", one.rejected], ["conflict", one.conflicts]]) {
    if (!count) continue;
    const mark = element("span", name, `${MARKS[name]}${count > 1 ? count : ""}`);
    mark.title = `${count} ${name === "conflict" ? "in conflict" : name}`;
    marks.append(mark);
  }
  return marks;
}

function selectDomain(index) {
  if (index < 0 || index >= page.shown.length || index === page.at) return;
  page.at = index;
  const list = $("domains");
  const top = index * ROW_PX;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW_PX > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW_PX - list.clientHeight;
  showDomains();
  openDomain();
}

function nextUndecided() {
  for (let step = 1; step <= page.shown.length; step += 1) {
    const index = (page.at + step) % page.shown.length;
    if (!isDecided(page.shown[index]) && index !== page.at) return selectDomain(index);
  }
  const open = domain() && !isDecided(domain());
  return notify(open ? "This is the only undecided domain in the list." : "Every domain in the list is decided.");
}

// Prefixes

const later = {}; // what is fetched next for each pane: quick moves fetch once

function forget(pane) {
  clearTimeout(later[pane]?.timer);
  delete later[pane];
}

function fetchSoon(pane, path, use, failed) {
  forget(pane);
  const order = { timer: setTimeout(async () => {
    const answer = await request(path).then((value) => ({ value }), (error) => ({ error }));
    if (later[pane] !== order) return;
    if (!answer.error) use(answer.value);
    else failed(answer.error.message);
  }, WAIT_MS) };
  later[pane] = order;
}

function showFailure(pane, message) {
  $(pane).replaceChildren(element("p", "hint error", message));
}

function openDomain(prefix) {
  const one = domain();
  page.open = one;
  page.rows = [];
  page.row = null;
  page.loading = true;
  $("domain-name").textContent = one.domain;
  $("domain-facts").textContent = `${number(one.collected)} of ${number(one.pages)} pages collected, ${number(one.words)} words; `
    + `${number(one.pages - one.collected)} to gain`;
  $("prefixes").replaceChildren();
  forget("samples");
  showPrefix();
  fetchSoon("prefixes", `/api/domain?${new URLSearchParams({ domain: one.domain })}`, (value) => showTree(one, value, prefix), (message) => {
    showFailure("prefixes", message);
    if (page.queue.length) notify(`Nothing was decided: ${message}`);
    page.queue = [];
    page.loading = false;
  });
}

function showTree(one, value, prefix) {
  page.rows = value.prefixes;
  connect(page.rows);
  Object.assign(one, value.marks);
  const start = page.rows.find((row) => row.prefix === prefix) ?? page.rows[0] ?? null;
  closeFolders(start);
  showDomains();
  showProgress();
  selectPrefix(start);
  page.loading = false;
  runQueue();
}

function closeFolders(start) {
  const many = page.rows.length > OPEN_ROWS;
  page.closed = new Set(page.rows.filter((row) => many && row.depth > 0 && row.children).map((row) => row.prefix));
  for (let one = start?.parent; one; one = one.parent) page.closed.delete(one.prefix);
}

const visibleRows = () => page.rows.filter((row) => isVisible(row, page.closed));

function showPrefixes() {
  const rows = visibleRows().map((row) => {
    const decision = saving.waiting.get(row.prefix);
    const waiting = decision ? { accept: decision.accept, failed: saving.error !== "" } : null;
    const made = prefixRow(row, {
      index: page.rows.indexOf(row), isSelected: row === page.row, isClosed: page.closed.has(row.prefix), waiting, by: page.overview.by,
    });
    made.addEventListener("click", (event) => {
      setPane("prefixes");
      if (event.target.className === "twist") toggle(row);
      selectPrefix(row);
    });
    return made;
  });
  const none = element("p", "hint", "This domain has no counted prefixes.");
  $("prefixes").replaceChildren(...(page.rows.length ? rows : [none]));
  $("prefixes").setAttribute("aria-activedescendant", page.row ? `prefix-${page.rows.indexOf(page.row)}` : "");
  $(`prefix-${page.rows.indexOf(page.row)}`)?.scrollIntoView({ block: "nearest" });
}

function toggle(row) {
  if (!row.children) return;
  if (!page.closed.delete(row.prefix)) page.closed.add(row.prefix);
  if (page.row && !isVisible(page.row, page.closed)) selectPrefix(row);
  else showPrefixes();
}

function selectPrefix(row) {
  page.row = row;
  showPrefixes();
  showPrefix();
  remember();
  if (!row) return;
  const query = new URLSearchParams({ domain: page.open.domain, prefix: row.prefix });
  fetchSoon("samples", `/api/samples?${query}`, showSamples, (message) => showFailure("samples", message));
}

function showPrefix() {
  $("prefix-name").textContent = page.row?.prefix ?? "";
  $("votes").replaceChildren(...(page.row ? voteLines(page.row, page.overview.by) : []));
  if (page.row && $("samples").dataset.prefix === page.row.prefix) return;
  delete $("samples").dataset.prefix;
  $("samples").replaceChildren();
  $("samples-note").textContent = "";
}

function showSamples({ samples, sampled }) {
  const missing = samples.filter((one) => !one.kept).length;
  $("samples").dataset.prefix = page.row.prefix;
  $("samples-note").textContent = samples.length
    ? `${number(samples.length)} of the domain's ${number(sampled)} sampled pages, those not collected (${number(missing)}) first`
    : "";
  const none = element("p", "hint", sampled
    ? `None of the domain's ${number(sampled)} sampled pages is under this prefix.`
    : "No page of this domain was sampled.");
  $("samples").replaceChildren(...(samples.length ? samples.map(sampleCard) : [none]));
  $("samples").scrollTop = 0;
}

// Decisions

function decide(accept) {
  const row = page.row;
  if (!row) return;
  const own = row.votes.find((vote) => vote.by === page.overview.by);
  if (accept === null && !own && !saving.waiting.has(row.prefix)) {
    const others = row.votes.map((vote) => vote.by).join(", ");
    notify(`Nothing of yours to undo here${others ? `: the decision is by ${others}` : ""}.`);
    return;
  }
  saving.add({ domain: page.open.domain, prefix: row.prefix, accept });
}

function applySaved(answer, name) {
  const row = page.rows.find((one) => one.prefix === answer.prefix);
  if (row) Object.assign(row, { verdict: answer.verdict, votes: answer.votes });
  Object.assign(page.overview.domains.find((one) => one.domain === name), answer.marks);
  showDomains();
  showProgress();
  showPrefix();
}

function showSaving() {
  $("saving").textContent = saving.text();
  $("saving").className = saving.waiting.size && saving.error ? "error" : "saved";
  if (page.overview) showPrefixes();
}

// Where the page is, so that a reload comes back to it

function remember() {
  const place = new URLSearchParams({ domain: page.open.domain, prefix: page.row?.prefix ?? "", pane: page.pane });
  history.replaceState(null, "", `#${place}`);
}

function setPane(name) {
  page.pane = name;
  document.body.dataset.pane = name;
  $(name).focus({ preventScroll: true });
  if (page.open) remember();
}

let hiding;

function notify(text) {
  clearTimeout(hiding);
  $("notice").textContent = text;
  $("notice").hidden = false;
  hiding = setTimeout(() => { $("notice").hidden = true; }, 5000);
}

// Keys

function act(action, needsPrefix) {
  if (page.queue.length || (page.loading && needsPrefix)) page.queue.push([action, needsPrefix]);
  else action();
}

function runQueue() {
  while (page.queue.length && !(page.loading && page.queue[0][1])) page.queue.shift()[0]();
}

function move(step) {
  if (page.pane === "domains") return selectDomain(page.at + step);
  const rows = visibleRows();
  const next = rows[rows.indexOf(page.row) + step];
  return next && selectPrefix(next);
}

function open(key) {
  if (page.pane === "domains") return setPane("prefixes");
  if (!page.row?.children) return undefined;
  if (key === "Enter" || page.closed.has(page.row.prefix)) return toggle(page.row);
  return move(1);
}

function close() {
  const row = page.row;
  if (page.pane === "domains" || !row) return setPane("domains");
  if (row.children && !page.closed.has(row.prefix)) return toggle(row);
  return row.parent ? selectPrefix(row.parent) : setPane("domains");
}

function scrollSamples(back) {
  $("samples").scrollBy({ top: (back ? -0.85 : 0.85) * $("samples").clientHeight });
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  Enter: () => open("Enter"),
  ArrowRight: () => open("ArrowRight"),
  ArrowLeft: close,
  Escape: () => setPane("domains"),
  a: () => decide(true),
  r: () => decide(false),
  u: () => decide(null),
  n: nextUndecided,
  " ": (event) => scrollSamples(event.shiftKey),
  "/": () => $("filter").focus(),
  "?": () => $("help").showModal(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("panes").hidden) return;
  const target = event.target;
  if ($("help").open) {
    if (event.key === "?") $("help").close();
    return;
  }
  if (target === $("filter")) {
    if (["Enter", "Escape", "ArrowDown"].includes(event.key)) setPane("domains");
    return;
  }
  if ((target.tagName === "BUTTON" || target.tagName === "A") && ["Enter", " "].includes(event.key)) return;
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  act(() => action(event), page.pane === "prefixes" || "aru".includes(event.key));
}

function showEmpty(title, text) {
  $("empty").hidden = false;
  $("empty-title").textContent = title;
  $("empty-text").textContent = text;
}

function restore() {
  const place = new URLSearchParams(location.hash.slice(1));
  page.at = Math.max(0, page.shown.findIndex((one) => one.domain === place.get("domain")));
  $("domains").scrollTop = Math.max(0, (page.at - 3) * ROW_PX);
  showDomains();
  openDomain(place.get("prefix"));
  setPane(place.get("pane") === "prefixes" ? "prefixes" : "domains");
}

async function start() {
  try {
    page.overview = await request("/api/overview");
  } catch (error) {
    showEmpty("The candidates cannot be read", error.message);
    return;
  }
  const { run, iteration, by, domains } = page.overview;
  $("run").textContent = `${run}, iteration ${iteration}, as ${by}`;
  if (!domains.length) {
    showEmpty("No domain was discovered", `In iteration ${iteration} no domain had enough of its pages collected to count as mathematical. `
      + "Give more seed pages, or let the loop keep more (keep_tokens, keep_share), mine again, and reload this page.");
    return;
  }
  $("panes").hidden = false;
  $("progress").hidden = false;
  page.shown = domains;
  showDomainsNote();
  showProgress();
  restore();
}

$("filter").addEventListener("input", filterDomains);
$("domains").addEventListener("scroll", () => requestAnimationFrame(showDomains));
window.addEventListener("resize", () => page.overview && showDomains());
$("domains").addEventListener("focus", () => { if (page.pane !== "domains") setPane("domains"); });
$("prefixes").addEventListener("focus", () => { if (page.pane !== "prefixes") setPane("prefixes"); });
$("accept").addEventListener("click", () => act(() => decide(true), true));
$("reject").addEventListener("click", () => act(() => decide(false), true));
$("undo").addEventListener("click", () => act(() => decide(null), true));
$("help-button").addEventListener("click", () => $("help").showModal());
document.addEventListener("keydown", onKey);
start();
